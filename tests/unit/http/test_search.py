from __future__ import annotations

import pytest

from secure_net.errors import RemoteProtocolError
from secure_net.http.head import REQUEST_LINE
from secure_net.http.search import HeadSearch
from secure_net.limits import HTTPLimits

LIMITS = HTTPLimits(http_request_line_bytes=20, http_headers_bytes=40)
LINE = b"GET / HTTP/1.1\r\n"


def _find(data: bytes, *, bytewise: bool) -> int:
    """Where the head ends behind two bytes that are not its own, or the status (negative)."""
    search = HeadSearch(REQUEST_LINE, LIMITS)
    try:
        if not bytewise:
            return search.find(b"::" + data, 2)
        for end in range(1, len(data) + 1):
            if (found := search.find(bytearray(b"::" + data[:end]), 2)) >= 0:
                return found
    except RemoteProtocolError as error:
        return -error.status
    return -1


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", -1),
        (LINE, -1),
        (LINE + b"\r\n", 20),
        (LINE + b"X: y\r\n\r\nmore", 26),
        (LINE + b"X: y\r", -1),
        (LINE + b"X: y\r\n\r", -1),
        (b"GET /aaaaaa HTTP/1.1\r\n\r\n", 26),
        (b"GET /aaaaaaa HTTP/1.1\r\n\r\n", -414),
        (b"G" * 20, -1),
        (b"G" * 21, -414),
        (b"G" * 20 + b"\r", -1),
        (b"GET / HTTP/1.1\n\n", -400),
        (b"GET / HTTP/1.1\rX", -400),
        (b"GET /\r\n", -400),
        (b"\r\n", -400),
        (LINE + b"X: " + b"y" * 35 + b"\r\n\r\n", 60),
        (LINE + b"X: " + b"y" * 36 + b"\r\n\r\n", -431),
        (LINE + b"y" * 41, -1),
        (LINE + b"y" * 42, -431),
        (LINE + b"X: y\n", -400),
        (LINE + b"X: y\rz", -400),
        (LINE + b"\n", -400),
        (LINE + b"X\n" + b"y" * 60, -400),  # the bare LF came first
        (LINE + b"y" * 60 + b"\n", -431),  # the size did
    ],
)
def test_where_a_head_ends(data: bytes, end: int, bytewise: bool) -> None:
    assert _find(data, bytewise=bytewise) == end


def test_one_search_finds_head_after_head() -> None:
    search = HeadSearch(REQUEST_LINE, LIMITS)
    head = LINE + b"X: y\r\n\r\n"
    for _ in range(2):
        for end in range(len(head)):
            assert search.find(head[:end], 0) == -1
        assert search.find(head, 0) == len(head)
