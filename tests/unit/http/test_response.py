from __future__ import annotations

import pytest

from secure_net.errors import LocalProtocolError
from secure_net.http.response import REASONS, REFUSALS, Headers, ResponseHeads, constant, method_not_allowed
from tests.support.clock import FakeClock

XML: Headers = ((b"content-type", b"text/xml"),)


def test_the_head_is_prepared_once_a_second() -> None:
    clock = FakeClock(wall=1_800_000_000.0)
    heads = ResponseHeads(clock.wall)
    first = heads.prefix(200, XML)
    assert first == (
        b"HTTP/1.1 200 OK\r\n"
        b"date: Fri, 15 Jan 2027 08:00:00 GMT\r\n"
        b"content-type: text/xml\r\n"
        b"cache-control: no-store\r\n"
        b"x-content-type-options: nosniff\r\n"
        b"content-length: "
    )
    clock.advance(0.9)
    assert heads.prefix(200, XML) is first
    clock.advance(0.1)
    assert b"08:00:01 GMT" in heads.prefix(200, XML)
    clock.jump_wall(-3600)
    assert b"07:00:01 GMT" in heads.prefix(200, XML)


def test_an_answer_may_say_otherwise_about_caching() -> None:
    prefix = ResponseHeads(lambda: 0.0).prefix(200, ((b"cache-control", b"max-age=60"),))
    assert prefix.count(b"cache-control") == 1
    assert b"cache-control: max-age=60\r\n" in prefix


def test_the_prepared_heads_are_bounded() -> None:
    heads = ResponseHeads(lambda: 0.0)
    for number in range(1000):
        heads.prefix(200, ((b"etag", b"%d" % number),))
    assert len(heads._prepared) <= 256


def test_a_head_without_a_length() -> None:
    clock = FakeClock(wall=0.0)
    heads = ResponseHeads(clock.wall)
    assert heads.fresh(304, ((b"etag", b"x"),)).startswith(
        b"HTTP/1.1 304 Not Modified\r\ndate: Thu, 01 Jan 1970"
    )
    assert b"content-length" not in heads.fresh(204, ())
    for status in (204, 304):
        with pytest.raises(LocalProtocolError):
            heads.prefix(status, ())


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (100, ()),
        (299, ()),
        (200, ((b"x", b"y\r\nz: 1"),)),
        (200, ((b"x", b"\xe9"),)),
        (200, ((b"x y", b"z"),)),
        (200, ((b"", b"z"),)),
        (200, ((b"X", b"z"),)),
        (200, ((b"content-length", b"5"),)),
        (200, ((b"connection", b"close"),)),
        (200, ((b"transfer-encoding", b"chunked"),)),
        (200, ((b"date", b"now"),)),
    ],
)
def test_what_would_not_be_one_sound_head_is_our_own_fault(status: int, headers: Headers) -> None:
    with pytest.raises(LocalProtocolError):
        ResponseHeads(lambda: 0.0).prefix(status, headers)


def test_constant_answers() -> None:
    answer = constant(404, (b"x", b"y"))
    assert (answer.status, answer.body, answer.close) == (404, b"404 Not Found\n", False)
    assert answer.headers == ((b"content-type", b"text/plain"), (b"x", b"y"))
    assert method_not_allowed("GET", "HEAD").headers[-1] == (b"allow", b"GET, HEAD")


def test_last_words_are_constant_and_known() -> None:
    heads = ResponseHeads(lambda: 0.0)
    for status, answer in REFUSALS.items():
        assert answer.status == status
        assert REASONS[status] in heads.prefix(status, answer.headers)
        assert heads.prefix(status, answer.headers) is heads.prefix(status, answer.headers)
    assert (b"www-authenticate", b'Bearer error="invalid_token"') in REFUSALS[401].headers
    assert REFUSALS[429].headers[-1][0] == REFUSALS[503].headers[-1][0] == b"retry-after"
