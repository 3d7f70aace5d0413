from __future__ import annotations

import ipaddress

import pytest

from secure_net.identity.names import address, is_host_name, is_name, issuer, spiffe_id


@pytest.mark.parametrize("name", ["a", "0", "reports", "db-1.eu_west", "a" * 64, "a."])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", ".a", "-a", "_a", "A", "ä", "a b", "a\n", "a/b", "a:b", "a" * 65, "../x", "a\0", "\u0661"]
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize(
    "name", ["localhost", "db.example.org", "xn--bcher-kva.example", "1.example", "a" * 63]
)
def test_host_names(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "LOCALHOST",
        "a..b",
        ".a",
        "a.",
        "*.example.org",
        "-a",
        "a-",
        "a_b",
        "bücher.example",
        "10.0.0.1",
        "::1",
        "1.2.3",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        "a\n",
    ],
)
def test_what_is_no_host_name(name: str) -> None:
    assert not is_host_name(name)


def test_addresses() -> None:
    assert address("127.0.0.1") == ipaddress.ip_address("127.0.0.1")
    assert address("::1") == ipaddress.ip_address("::1")
    for text in ("localhost", "127.1", "fe80::1%eth0", "127.0.0.01", ""):
        assert address(text) is None


def test_uris() -> None:
    assert spiffe_id("example.org", "reports") == "spiffe://example.org/reports"
    assert issuer("example.org") == "spiffe://example.org"
