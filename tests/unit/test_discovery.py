"""Whom a client calls and as whom: what is given, what is configured, what stands beside."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from secure_net import config
from secure_net.discovery import Token, client_configuration, find, own_credential, own_url, parse_url
from secure_net.errors import ConfigurationError
from tests.support.pki import PKI, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


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
        token.text()
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        token.text()
    path.write_text("")
    with pytest.raises(ConfigurationError, match="no access token"):
        token.text()


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
        assert (find("rpc").host, find("rpc").port) == (host, 8443)
    configure(pki, monkeypatch, '[client]\nurl = "https://b.example/x"\n')
    assert (find("rpc").host, find("rpc").path) == ("b.example", "/x")
    configure(pki, monkeypatch, "")
    with pytest.raises(ConfigurationError, match="give a url"):
        find("rpc")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path | None, Path | None]]:
    """What a context was asked for: CA, certificate and key."""
    found: list[tuple[Path, Path | None, Path | None]] = []

    def context(ca: Path, certificate: Path | None, key: Path | None, **_: object) -> ssl.SSLContext:
        found.append((ca, certificate, key))
        return CONTEXT

    monkeypatch.setattr("secure_net.discovery.client_context", context)
    return found


def test_the_credential_is_found_beside_the_configuration(
    pki: PKI, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[Path, Path | None, Path | None]]
) -> None:
    rpc = '[rpc]\nlisten = "127.0.0.1:1"\n'
    configure(pki, monkeypatch, rpc)
    find("rpc")
    assert loaded.pop() == (pki.ca, *pki.client("admin"))
    configure(pki, monkeypatch, rpc + '[client]\ncert = "certs/clients/demo.pem"\nca = "other.pem"\n')
    find("rpc")
    assert loaded.pop() == (pki.directory / "other.pem", *pki.client("demo"))
    configure(pki, monkeypatch, rpc + '[client]\ncert = "a.pem"\nkey = "b.key"\n')
    find("rpc")
    assert loaded.pop()[1:] == (pki.directory / "a.pem", pki.directory / "b.key")
    configure(pki, monkeypatch, rpc + '[client]\ntoken = "abc"\n')
    assert find("rpc").token.text() == "abc"
    assert loaded.pop()[1:] == (None, None)
    (pki.directory / "t").write_text("from.file")
    configure(pki, monkeypatch, rpc + '[client]\ntoken_file = "t"\n')
    assert find("rpc").token.text() == "from.file"
    elsewhere = pki.directory / "elsewhere"
    configure(pki, monkeypatch, rpc + '[tls]\ndirectory = "elsewhere"\n')
    with pytest.raises(ConfigurationError, match="secure-net init"):
        find("rpc")
    elsewhere.mkdir()
    (elsewhere / "ca.pem").touch()
    loaded.clear()
    find("rpc")
    assert loaded.pop() == (elsewhere / "ca.pem", None, None)


def test_what_is_given_is_not_mixed_with_what_is_found(
    pki: PKI, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[Path, Path | None, Path | None]]
) -> None:
    configure(pki, monkeypatch, '[rpc]\nlisten = "127.0.0.1:1"\n[client]\ntoken = "abc"\n')
    # A server that was named gets no credential that was found, only the CA.
    assert find("rpc", "https://a.example").token.text() is None
    assert loaded.pop() == (pki.ca, None, None)
    assert find("rpc", token="mine").token.text() == "mine"


def test_host_and_port_are_shown_a_found_certificate_and_no_found_token(
    pki: PKI, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[Path, Path | None, Path | None]]
) -> None:
    configure(pki, monkeypatch, "")
    found = find("echo", ("a.example", 9800))
    assert (found.host, found.port, found.path, found.token.text()) == ("a.example", 9800, "", None)
    assert loaded.pop() == (pki.ca, *pki.client("admin"))
    configure(pki, monkeypatch, '[client]\ntoken = "abc"\ncert = "certs/clients/demo.pem"\n')
    assert find("echo", ("a.example", 9800)).token.text() is None
    assert loaded.pop() == (pki.ca, *pki.client("demo"))
    assert find("echo", ("a.example", 9800), token="mine").token.text() == "mine"
    assert loaded.pop() == (pki.ca, None, None)
    assert find("rpc", ("a.example", 8443), context=CONTEXT, token="mine").path == "/RPC2"


def test_a_bound_token_is_shown_with_its_certificate(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(pki, monkeypatch, '[client]\ntoken = "abc"\ncert = "c.pem"\n')
    own = own_credential(client_configuration())
    assert own == ("abc", None, (pki.directory / "c.pem", pki.directory / "c.key"))


def test_what_is_given_goes_before_what_is_configured(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(pki, monkeypatch, '[client]\ntoken = "abc"\ncert = "c.pem"\nkey = "k.pem"\n')
    found = client_configuration()
    assert own_credential(found, token_file=Path("t"), certificate=Path("x.pem")) == (
        None,
        Path("t"),
        (Path("x.pem"), Path("x.key")),
    )
    assert own_credential(found, key=Path("y.key")).certificate == (pki.directory / "c.pem", Path("y.key"))


def test_the_environment_can_be_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[Path, Path | None, Path | None]]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="secure-net init"):
        find("rpc")
    with pytest.raises(ConfigurationError, match="secure-net init"):
        find("rpc", "https://a.example")
    monkeypatch.setenv("SECURE_NET_CLIENT__URL", "https://a.example:1/x")
    monkeypatch.setenv("SECURE_NET_CLIENT__CA", "ca.pem")
    found = find("rpc")
    assert (found.host, found.port, found.path) == ("a.example", 1, "/x")
    assert loaded == [(tmp_path / "ca.pem", None, None)]


def test_another_service_s_address_is_not_taken(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(pki, monkeypatch, '[rpc]\n[client]\nurl = "chat://a.example"\n')
    found = client_configuration()
    assert own_url(found, "chat") == "chat://a.example"
    assert own_url(found, "rpc") == "https://127.0.0.1:8443/RPC2"
    with pytest.raises(ConfigurationError, match="no \\[echo\\] table"):
        own_url(found, "echo")


@pytest.mark.parametrize(
    ("service", "url", "parts"),
    [
        ("chat", "chat://a.example", ("a.example", 9802, "")),
        ("chat", "chat://[::1]:1/", ("::1", 1, "")),
        ("echo", "echo://a.example:2", ("a.example", 2, "")),
        ("rpc", "https://a.example:8443", ("a.example", 8443, "/RPC2")),
    ],
)
def test_urls(service: str, url: str, parts: tuple[str, int, str]) -> None:
    assert parse_url(service, url) == parts


@pytest.mark.parametrize(
    "url", ["https://a.example", "chat://", "chat://a:0", "chat://a/x", "chat://u@a", "a.example:9802"]
)
def test_urls_that_do_not_do(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url("chat", url)
    assert caught.value.path == "url"
