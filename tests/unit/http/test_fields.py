from __future__ import annotations

import pytest

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.http.fields import Framing, parse_connection, parse_fields, parse_framing


def test_names_are_lowered_and_white_space_around_values_is_dropped() -> None:
    block = b"Host: a\r\nX-One:\t b  c \t\r\nEmpty:\r\nSpaces:   \r\n"
    assert parse_fields(block, 10) == {b"host": b"a", b"x-one": b"b  c", b"empty": b"", b"spaces": b""}


def test_no_fields() -> None:
    assert parse_fields(b"", 10) == {}


def test_lines_of_one_name_are_joined_in_order() -> None:
    assert parse_fields(b"Accept: a\r\nX: 1\r\naccept: b\r\n", 10) == {b"accept": b"a, b", b"x": b"1"}


@pytest.mark.parametrize("name", [b"Host", b"authorization", b"CONTENT-TYPE", b"expect"])
def test_what_decides_may_stand_once(name: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        parse_fields(b"%b: a\r\n%b: a\r\n" % (name, name.lower()), 10)
    assert raised.value.status == 400


def test_too_many_lines_get_431_unless_bare_line_ends_are_among_them() -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        parse_fields(b"X: y\r\n" * 4, 3)
    assert (raised.value.status, raised.value.reason) == (431, Refusal.TOO_LARGE)
    with pytest.raises(RemoteProtocolError) as raised:
        parse_fields(b"X: y\r\n" * 3 + b"Y: z\n", 3)
    assert (raised.value.status, raised.value.reason) == (400, Refusal.MALFORMED)


@pytest.mark.parametrize(
    "block",
    [b"x y: z\r\n", b"junk\r\nX: y\r\n", b"X: y\r\njunk", b"junk\nX: y\r\n", b"X: y\n\r\n", b"\r\n", b"X: y"],
)
def test_what_the_pattern_does_not_cover_is_never_skipped(block: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_fields(block, 10)


def test_framing() -> None:
    assert parse_framing({}, minor=1) == Framing(None, chunked=False)
    assert parse_framing({b"content-length": b"0"}, minor=0) == Framing(0, chunked=False)
    assert parse_framing({b"content-length": b"9" * 18}, minor=1) == Framing(10**18 - 1, chunked=False)
    assert parse_framing({b"transfer-encoding": b"Chunked"}, minor=1) == Framing(None, chunked=True)


@pytest.mark.parametrize(
    ("value", "minor", "stays"),
    [
        (None, 1, True),
        (None, 0, False),
        (b"close", 1, False),
        (b"Close", 1, False),
        (b"x, close", 1, False),
        (b"x ,\tclose", 1, False),
        (b"closed", 1, True),
        (b"keep-alive", 1, True),
        (b"Keep-Alive", 0, True),
        (b"keep-alive, close", 0, False),
        (b"close, keep-alive", 0, False),
        (b"x", 0, False),
    ],
)
def test_connection(value: bytes | None, minor: int, stays: bool) -> None:
    assert parse_connection(value, minor=minor) is stays
