"""The status page's cookie."""

from __future__ import annotations

import secrets

import pytest

from secure_net.http.cookie import NAME, cookie_value, forget_cookie, set_cookie

VALUE = secrets.token_urlsafe(32).encode()


def test_it_is_given_for_this_host_over_tls_and_to_no_script() -> None:
    name, field = set_cookie(VALUE)
    assert name == b"set-cookie"
    pair, *attributes = field.split(b"; ")
    assert pair == b"__Host-secure-net-status=" + VALUE
    assert sorted(attributes) == [b"HttpOnly", b"Path=/", b"SameSite=Strict", b"Secure"]
    assert cookie_value(pair) == VALUE


def test_it_is_taken_back_with_the_same_attributes() -> None:
    _, field = forget_cookie()
    assert field == b"__Host-secure-net-status=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"


@pytest.mark.parametrize(
    "field",
    [
        b"%b=%b" % (NAME, VALUE),
        b"a=b; %b=%b" % (NAME, VALUE),
        b"%b=%b; c=%b" % (NAME, VALUE, VALUE),
        b"a; %b=%b ;" % (NAME, VALUE),
    ],
)
def test_it_is_found_among_others(field: bytes) -> None:
    assert cookie_value(field) == VALUE


@pytest.mark.parametrize(
    "field",
    [
        None,
        b"",
        b";",
        VALUE,
        b"status=" + VALUE,
        b"%b=" % NAME,
        b"%b" % NAME,
        b'%b="%b"' % (NAME, VALUE),
        b"%b=%b=" % (NAME, VALUE),
        b"%b=%b" % (NAME, VALUE[:-1]),
        b"%b=%bA" % (NAME, VALUE),
        b"%b=%b; %b=%b" % (NAME, VALUE, NAME, VALUE),
        b"%b=%b" % (NAME.lower(), VALUE),
        b"%b=%b" % (NAME, b"/" * 43),
    ],
)
def test_what_is_not_ours_is_nothing(field: bytes | None) -> None:
    assert cookie_value(field) is None
