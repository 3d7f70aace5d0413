from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.addresses import Address, listen_addresses
from secure_net.errors import ConfigurationError


def test_one_or_many() -> None:
    assert listen_addresses("127.0.0.1:8443", "rpc.listen") == (Address("127.0.0.1", 8443),)
    assert listen_addresses(("a:0", "[::1]:1"), "x") == (Address("a", 0), Address("::1", 1))
    assert listen_addresses("[fe80::1%eth0]:5", "x") == (Address("fe80::1%eth0", 5),)


def test_an_address_is_written_as_it_is_read() -> None:
    for text in ("127.0.0.1:8443", "[::1]:8443", "host.example:1"):
        (address,) = listen_addresses(text, "x")
        assert str(address) == text


def test_a_wildcard_is_nowhere_to_connect_to() -> None:
    assert Address("0.0.0.0", 1).reachable("host") == Address("host", 1)  # noqa: S104 - compared with
    assert Address("::", 1).reachable("host") == Address("host", 1)
    assert Address("127.0.0.1", 1).reachable("host") == Address("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("listen", "problem"),
    [
        ((), "no address"),
        ("8443", "'8443' is not an address"),
        ("::1:8443", "is not an address"),
        ("a:65536", "there is no port 65536"),
        ("[1:2]:1", "'1:2' is not an IPv6 address"),
        ("a b:1", "is not an address"),
    ],
)
def test_what_is_wrong_is_named(listen: str | tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        listen_addresses(listen, "echo.listen")
    assert caught.value.path == "echo.listen"
    assert problem in caught.value.problem


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        (address,) = listen_addresses(text, "x")
    except ConfigurationError:
        return
    assert 0 <= address.port <= 65_535
