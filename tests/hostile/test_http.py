"""The rows of "HTTP" of the threat list, at the machine's door. Over TLS they come in `tests/interop`."""

from __future__ import annotations

import itertools

import pytest

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.http.protocol import REMEMBERED_HEAD_BYTES, RequestHead
from secure_net.limits import HTTPLimits
from tests.support.http import Exchange, machine, octets, run
from tests.support.http_attacks import ATTACKS, FRAMING, SIZE, SYNTAX, Attack, chunked, good_request, request


def _assert_refused(attack: Attack, exchange: Exchange) -> None:
    assert exchange.requests == []
    assert exchange.statuses == [attack.status]
    assert b"\r\nconnection: close\r\n" in exchange.sent
    assert exchange.server.finished
    assert exchange.server.buffered == 0


@pytest.mark.parametrize("attack", FRAMING, ids=str)
def test_framing_that_two_readers_could_take_differently_gets_400_and_is_closed(attack: Attack) -> None:
    _assert_refused(attack, run([attack.raw]))


@pytest.mark.parametrize("attack", SYNTAX, ids=str)
def test_bare_lf_bare_cr_obs_fold_nul_targets_versions_and_hosts_get_400_and_are_closed(
    attack: Attack,
) -> None:
    _assert_refused(attack, run([attack.raw]))


@pytest.mark.parametrize("attack", SIZE, ids=str)
def test_101_headers_a_64_kib_line_and_foreign_expectations_are_refused_and_closed(attack: Attack) -> None:
    _assert_refused(attack, run([attack.raw]))


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_byte_by_byte_changes_nothing(attack: Attack) -> None:
    _assert_refused(attack, run(octets(attack.raw)))


@pytest.mark.parametrize("attack", FRAMING + SYNTAX, ids=str)
def test_any_split_in_two_changes_nothing(attack: Attack) -> None:
    for cut in range(1, len(attack.raw)):
        _assert_refused(attack, run([attack.raw[:cut], attack.raw[cut:]]))


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_pipelined_good_and_bad_the_good_are_answered_in_order_then_the_bad_is_refused(
    attack: Attack,
) -> None:
    good = good_request(body=b"one") + good_request(body=b"two, longer") + request(line=b"GET /x HTTP/1.1")
    for pieces in ([good + attack.raw + good], octets(good + attack.raw)):
        exchange = run(pieces)
        assert exchange.requests == [
            ("POST", "/RPC2", b"one"),
            ("POST", "/RPC2", b"two, longer"),
            ("GET", "/x", b""),
        ]
        assert exchange.statuses == [200, 200, 200, attack.status]
        assert exchange.server.finished


def test_nothing_of_what_stands_behind_a_bad_request_is_read() -> None:
    exchange = run([request(b"X : y") + good_request()])
    exchange.server.receive_data(good_request())
    assert exchange.server.next_event() is None
    assert exchange.server.buffered == 0
    assert exchange.statuses == [400]


def test_slow_headers_get_408() -> None:
    exchange = run([b"GET / HT"])
    server = exchange.server
    assert server.allowance == HTTPLimits().http_headers_seconds
    phase = server.phase
    # Another byte now and then does not restart the count.
    exchange.feed(*octets(b"TP/1.1\r\nX: yyyyyyy"))
    assert server.phase == phase
    with pytest.raises(RemoteProtocolError) as raised:
        server.deadline_passed()
    assert raised.value.reason is Refusal.READ_DEADLINE
    assert server.farewell(raised.value).startswith(b"HTTP/1.1 408 ")
    assert server.finished


def test_slow_headers_behind_a_good_request_get_408() -> None:
    exchange = run([good_request() + b"POST /RPC2 HTTP/1.1\r\nHost"])
    assert exchange.server.allowance == HTTPLimits().http_headers_seconds
    assert exchange.server.allowance_reason is Refusal.READ_DEADLINE


@pytest.mark.parametrize(
    "head",
    [request(b"Content-Length: 1000"), chunked(b"3e8\r\n"), chunked(b"")],
    ids=["length", "chunk", "no-chunk"],
)
def test_slow_body_gets_408(head: bytes) -> None:
    exchange = run([head])
    server = exchange.server
    assert server.allowance == 5.0
    phase = server.phase
    if not head.endswith(b"\r\n\r\n"):
        exchange.feed(b"x" * 512)
        assert server.allowance == 5.5  # half a KiB buys half a second
    assert server.phase == phase
    with pytest.raises(RemoteProtocolError) as raised:
        server.deadline_passed()
    assert server.farewell(raised.value).startswith(b"HTTP/1.1 408 ")


def test_slow_body_is_not_fed_by_chunk_overhead() -> None:
    exchange = run([chunked(b""), *[b"1\r\nx\r\n"] * 100], body_bytes=1024)
    assert exchange.server.allowance == 5.0 + 100 / 1024


def test_reader_that_never_reads_is_given_one_answer_at_a_time() -> None:
    # The outbox is the shell's; the machine for its part takes no request before the last is answered.
    server = machine()
    server.receive_data(good_request() * 100)
    assert server.next_event() is not None
    assert server.next_event() is None
    assert server.data_to_send() == b""


def test_expect_100_continue_gets_100_and_then_the_answer() -> None:
    exchange = run([request(b"Expect: 100-Continue", b"Content-Length: 5")])
    assert exchange.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    exchange.feed(b"hello")
    assert exchange.statuses == [100, 200]
    assert not exchange.server.finished


def test_expect_is_not_heard_where_the_body_is_there_or_the_client_is_http_1_0() -> None:
    assert run([request(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello")]).statuses == [200]
    old = run([request(b"Expect: x", b"Content-Length: 5", line=b"POST / HTTP/1.0"), b"hello"])
    assert old.statuses == [200]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request(b"Content-Length: 1025"), 413),
        (request(b"Content-Length: 999999999999999999"), 413),
        (chunked(b"401\r\n"), 413),
        (chunked(b"ffffffff\r\n"), 413),
        (chunked(b"400\r\n" + b"x" * 1024 + b"\r\n1\r\n"), 413),
    ],
    ids=["length", "18-digits", "chunk", "8-hex-digits", "sum-of-chunks"],
)
def test_a_body_over_the_bound_gets_413_before_it_is_kept(raw: bytes, status: int) -> None:
    for pieces in ([raw], octets(raw)):
        exchange = run(pieces)
        assert exchange.statuses == [status]
        assert exchange.server.finished


def test_the_search_for_the_end_of_a_head_is_a_straight_line() -> None:
    # Each feed looks at its own bytes and three before them, whatever came earlier.
    class Counting(bytearray):
        searched = 0

        def find(self, mark: bytes, start: int, end: int) -> int:  # type: ignore[override]
            Counting.searched += min(end, len(self)) - start
            return super().find(mark, start, end)

    server = machine()
    server.receive_data(b"GET / HTTP/1.1\r\nX: ")
    assert server.next_event() is None
    server._buffer = Counting(server._buffer)
    for _ in range(3000):
        server.receive_data(b"y")
        assert server.next_event() is None
    assert 0 < Counting.searched <= 4 * 3000


def test_a_large_head_is_not_remembered() -> None:
    head = request(b"X: " + b"y" * REMEMBERED_HEAD_BYTES)
    first, second = run([head + head]).heads
    assert first is not second


def test_a_head_that_differs_in_one_byte_is_parsed_anew() -> None:
    one, two = request(b"Authorization: Bearer a"), request(b"Authorization: Bearer b")
    heads = run([one + one + two + one]).heads
    assert heads[0] is heads[1]
    assert heads[1] is not heads[2]
    assert heads[2] is not heads[3]


def test_a_refusal_while_the_body_is_under_way_ends_the_connection() -> None:
    server = machine()
    server.receive_data(request(b"Content-Length: 5") + b"he")
    assert isinstance(server.next_event(), RequestHead)
    exchange = Exchange(server)
    server.respond(exchange.answer)
    assert b"\r\nconnection: close\r\n" in server.data_to_send()
    server.receive_data(b"llo" + good_request())
    assert server.next_event() is None
    assert server.finished


def test_every_row_names_an_attack_once() -> None:
    names = [attack.name for attack in ATTACKS]
    assert [name for name, group in itertools.groupby(sorted(names)) if len(list(group)) > 1] == []
