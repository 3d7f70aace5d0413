"""Whom a client calls, and what it shows. What it makes of answers stands in `test_client.py`."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path
from typing import Any

import pytest

from secure_net.errors import ConfigurationError
from secure_net.limits import RPCLimits
from secure_net.rpc.exchange import Target, Token
from tests.support.pki import PKI, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def target(url: str | None, **options: Any) -> Target:
    nothing: dict[str, Any] = dict.fromkeys(
        ("ca", "token", "token_file", "certificate", "context", "limits", "deadline_seconds")
    )
    return Target(url, **(nothing | options))


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize(
    ("url", "parts", "host_field"),
    [
        ("https://localhost:8443/RPC2", ("localhost", 8443, "/RPC2"), b"localhost:8443"),
        ("https://localhost", ("localhost", 443, "/RPC2"), b"localhost"),
        ("https://LOCALHOST:1/", ("localhost", 1, "/RPC2"), b"localhost:1"),
        ("https://[::1]:8443/other", ("::1", 8443, "/other"), b"[::1]:8443"),
        ("HTTPS://a.example/RPC2", ("a.example", 443, "/RPC2"), b"a.example"),
    ],
)
def test_urls(url: str, parts: tuple[str, int, str], host_field: bytes) -> None:
    found = target(url, context=CONTEXT)
    assert (found.host, found.port, found.path) == parts
    assert found.host_field == host_field


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/RPC2",
        "localhost:8443",
        "https:///RPC2",
        "https://localhost:99999/RPC2",
        "https://localhost:x/RPC2",
        "https://[::1/RPC2",
        "https://user@localhost/RPC2",
        "https://user:secret@localhost/RPC2",
        "https://localhost/RPC2?token=secret",
        "https://localhost/RPC2#x",
        "https://l\u00f6calhost/RPC2",
    ],
)
def test_urls_that_do_not_do(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        target(url, context=CONTEXT)
    assert caught.value.path == "url"
    assert "secret" not in str(caught.value)


def test_the_deadline_leaves_the_server_time_to_say_its_own() -> None:
    assert target("https://a", context=CONTEXT).deadline_seconds == 35.0
    limits = dataclasses.replace(RPCLimits(), rpc_call_seconds=1.0)
    assert target("https://a", context=CONTEXT, limits=limits).deadline_seconds == 6.0
    assert target("https://a", context=CONTEXT, deadline_seconds=2.5).deadline_seconds == 2.5


def test_a_token_is_sent_as_rfc_6750_says() -> None:
    assert Token(None, None).authorization() is None
    assert Token(" abc.def \n", None).authorization() == b"Bearer abc.def"
    headers = target("https://a", context=CONTEXT, token="abc").headers()
    assert (b"authorization", b"Bearer abc") in headers
    assert b"authorization" not in dict(target("https://a", context=CONTEXT).headers())


@pytest.mark.parametrize("token", ["", " ", "a b", "a\r\nX: y", "\u00e9", "a\x00"])
def test_what_is_no_token_is_not_shown(token: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Token(token, None)
    if token.strip():
        assert token not in str(caught.value)


def test_a_token_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="given twice"):
        Token("a", tmp_path / "token")


def test_a_token_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = Token(None, path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        token.authorization()
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        token.authorization()
    path.write_text("")
    with pytest.raises(ConfigurationError, match="no access token"):
        token.authorization()


def test_a_client_certificate_is_loaded(pki: PKI) -> None:
    certificate = pki.client("demo")
    assert target("https://a", ca=pki.ca, certificate=certificate).context.verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(ConfigurationError):
        target("https://a", ca=pki.ca, certificate=(certificate[0], pki.client("admin")[1]))
    with pytest.raises(ConfigurationError):
        target("https://a", ca=pki.directory / "none.pem")


# --- the discovered configuration -----------------------------------------------------------------------


def configure(pki: PKI, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = pki.directory / "found.toml"
    path.write_text(text)
    monkeypatch.setenv("SECURE_NET_CONFIG", str(path))


def test_addresses_are_found(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    for listen, host in (
        ("127.0.0.1:8443", "127.0.0.1"),
        ("0.0.0.0:8443", "localhost"),
        ("[::1]:8443", "::1"),
    ):
        configure(pki, monkeypatch, f'[server]\nnames = ["localhost"]\n[rpc]\nlisten = "{listen}"\n')
        assert (target(None).host, target(None).port) == (host, 8443)
    configure(pki, monkeypatch, '[client]\nurl = "https://b.example/x"\n')
    assert (target(None).host, target(None).path) == ("b.example", "/x")
    configure(pki, monkeypatch, "")
    with pytest.raises(ConfigurationError, match="give a url"):
        target(None)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path | None, Path | None]]:
    """What a context was asked for: CA, certificate and key."""
    found: list[tuple[Path, Path | None, Path | None]] = []

    def context(ca: Path, certificate: Path | None, key: Path | None, **_: object) -> ssl.SSLContext:
        found.append((ca, certificate, key))
        return CONTEXT

    monkeypatch.setattr("secure_net.rpc.exchange.client_context", context)
    return found


def test_the_credential_is_found_beside_the_configuration(
    pki: PKI, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[Path, Path | None, Path | None]]
) -> None:
    rpc = '[rpc]\nlisten = "127.0.0.1:1"\n'
    configure(pki, monkeypatch, rpc)
    target(None)
    assert loaded.pop() == (pki.ca, *pki.client("admin"))
    configure(pki, monkeypatch, rpc + '[client]\ncert = "certs/clients/demo.pem"\nca = "other.pem"\n')
    target(None)
    assert loaded.pop() == (pki.directory / "other.pem", *pki.client("demo"))
    configure(pki, monkeypatch, rpc + '[client]\ncert = "a.pem"\nkey = "b.key"\n')
    target(None)
    assert loaded.pop()[1:] == (pki.directory / "a.pem", pki.directory / "b.key")
    configure(pki, monkeypatch, rpc + '[client]\ntoken = "abc"\n')
    assert (b"authorization", b"Bearer abc") in target(None).headers()
    assert loaded.pop()[1:] == (None, None)
    (pki.directory / "t").write_text("from.file")
    configure(pki, monkeypatch, rpc + '[client]\ntoken_file = "t"\n')
    assert (b"authorization", b"Bearer from.file") in target(None).headers()
    configure(pki, monkeypatch, rpc + '[tls]\ndirectory = "elsewhere"\n')
    loaded.clear()
    target(None)
    assert loaded.pop() == (pki.directory / "elsewhere" / "ca.pem", None, None)


def test_what_is_given_is_not_mixed_with_what_is_found(
    pki: PKI, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[Path, Path | None, Path | None]]
) -> None:
    configure(pki, monkeypatch, '[rpc]\nlisten = "127.0.0.1:1"\n[client]\ntoken = "abc"\n')
    # A server that was named gets no credential that was found, only the CA.
    assert b"authorization" not in dict(target("https://a.example").headers())
    assert loaded.pop() == (pki.ca, None, None)
    assert (b"authorization", b"Bearer mine") in target(None, token="mine").headers()
