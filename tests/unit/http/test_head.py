from __future__ import annotations

import pytest

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.http.head import Head, parse_head, percent_decoded
from secure_net.limits import HTTPLimits
from tests.support.http_attacks import request
from tests.support.http_heads import BROWSER, CURL, OLD

LIMITS = HTTPLimits(http_request_line_bytes=200, http_headers_bytes=300, http_headers_count=5)


def _parse(raw: bytes) -> Head:
    return parse_head(raw, HTTPLimits())


def _status(raw: bytes, limits: HTTPLimits = LIMITS) -> int:
    with pytest.raises(RemoteProtocolError) as raised:
        parse_head(raw, limits)
    return raised.value.status


def test_a_call_by_curl() -> None:
    head = _parse(CURL)
    assert (head.method, head.target, head.path, head.query) == ("POST", "/RPC2", "/RPC2", "")
    assert head.host == "localhost:8443"
    assert head.content_type == b"text/xml"
    assert head.authorization == b"Bearer eyJhbGciOiJFZERTQSJ9.e30.c2ln"
    assert (head.content_length, head.chunked, head.has_body) == (100, False, True)
    assert (head.minor, head.keep_alive, head.expect_continue, head.answer_is_plain) == (1, True, False, True)
    assert head.get(b"user-agent") == b"curl/7.88.1"
    assert head.get(b"user-Agent") is None
    assert head.headers[0] == (b"host", b"localhost:8443")
    assert len(head.headers) == 6


def test_a_page_by_a_browser() -> None:
    head = _parse(BROWSER)
    assert head.path == "/manual/a b/"
    assert head.query == "q=%C3%A9&x=1"
    assert head.segments == ("manual", "a b", "")
    assert (head.content_length, head.has_body) == (None, False)


def test_http_1_0() -> None:
    head = _parse(OLD)
    assert (head.minor, head.keep_alive, head.answer_is_plain) == (0, True, False)
    assert not _parse(request(line=b"GET / HTTP/1.0")).keep_alive


def test_head_has_no_plain_answer() -> None:
    assert not _parse(request(line=b"HEAD / HTTP/1.1")).answer_is_plain


@pytest.mark.parametrize(
    ("target", "path", "segments"),
    [
        (b"/", "/", ("",)),
        (b"/a/../b", "/a/../b", ("a", "..", "b")),
        (b"/%2e%2e/x", "/../x", ("..", "x")),
        (b"/%252e", "/%2e", ("%2e",)),  # once, and once only
        (b"/a%2Fb", "/a/b", ("a/b",)),
        (b"//a", "//a", ("", "a")),
        (b"/%C3%A9%e2%82%ac", "/é€", ("é€",)),
        (b"/a?b?c/d", "/a", ("a",)),
        (b"/a+b;c=d,e:@!$&'()*~_.-", "/a+b;c=d,e:@!$&'()*~_.-", ("a+b;c=d,e:@!$&'()*~_.-",)),
    ],
)
def test_targets(target: bytes, path: str, segments: tuple[str, ...]) -> None:
    head = _parse(request(line=b"GET " + target + b" HTTP/1.1"))
    assert head.target == target.decode()
    assert head.path == path
    assert head.segments == segments


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"LOCALHOST:1", b"a-b.example.org:65535", b"127.0.0.1", b"[::1]", b"[2001:db8::1]:443"],
)
def test_hosts(host: bytes) -> None:
    assert _parse(request(host=host)).host == host.decode()


def test_expectations() -> None:
    assert _parse(request(b"Expect: 100-Continue")).expect_continue
    with pytest.raises(RemoteProtocolError) as raised:
        _parse(request(b"Expect: tea"))
    assert (raised.value.status, raised.value.reason) == (417, Refusal.UNSUPPORTED)


def test_an_upgrade_without_a_body_is_ignored() -> None:
    head = _parse(request(b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET /chat HTTP/1.1"))
    assert head.get(b"upgrade") == b"websocket"
    assert _parse(request(b"Upgrade: websocket", b"Content-Length: 0")).content_length == 0


def test_bounds_hold_to_the_byte() -> None:
    line = b"GET /" + b"a" * (200 - 14) + b" HTTP/1.1"
    assert len(line) == 200
    assert parse_head(request(line=line), LIMITS).method == "GET"
    assert _status(request(line=line.replace(b"/a", b"/aa"))) == 414
    field = b"X: " + b"y" * (300 - len(b"Host: localhost\r\n") - 5)
    assert parse_head(request(field), LIMITS).get(b"x") is not None
    assert _status(request(field + b"y")) == 431
    assert parse_head(request(*[b"X: y"] * 4), LIMITS).get(b"x") == b"y, y, y, y"
    assert _status(request(*[b"X: y"] * 5)) == 431


def test_percent_decoded() -> None:
    assert percent_decoded(b"/a") == "/a"
    assert percent_decoded(b"/%41%2f") == "/A/"
