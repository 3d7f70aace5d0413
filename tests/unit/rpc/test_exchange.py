"""Whom a client calls, and what it shows. What it makes of answers stands in `test_client.py`."""

from __future__ import annotations

import dataclasses
import ssl
from typing import Any

import pytest

from secure_net.errors import ConfigurationError
from secure_net.limits import RPCLimits
from secure_net.rpc.exchange import Target
from tests.support.pki import PKI, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def target(url: str | None, **options: Any) -> Target:
    return Target(url, **options)


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
    headers = target("https://a", context=CONTEXT, token=" abc.def \n").headers()
    assert (b"authorization", b"Bearer abc.def") in headers
    assert b"authorization" not in dict(target("https://a", context=CONTEXT).headers())


def test_a_client_certificate_is_loaded(pki: PKI) -> None:
    certificate = pki.client("demo")
    assert target("https://a", ca=pki.ca, certificate=certificate).context.verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(ConfigurationError):
        target("https://a", ca=pki.ca, certificate=(certificate[0], pki.client("admin")[1]))
    with pytest.raises(ConfigurationError):
        target("https://a", ca=pki.directory / "none.pem")
