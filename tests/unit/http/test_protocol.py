from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.http.protocol import HTTPMachine, Request, RequestHead
from secure_net.http.response import NOT_FOUND, Response
from secure_net.limits import HTTPLimits
from tests.support.http import ANSWER, Exchange, machine, octets, run
from tests.support.http_attacks import chunked, request

GET = request(line=b"GET /a HTTP/1.1")
LENGTH = request(b"Content-Length: 5", body=b"hello")
CHUNKED = chunked(b"3\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n")
EMPTY = request(b"Content-Length: 0")
HTTP_1_0 = request(b"Connection: keep-alive", line=b"GET /old HTTP/1.0")
REQUESTS = {
    GET: ("GET", "/a", b""),
    LENGTH: ("POST", "/RPC2", b"hello"),
    CHUNKED: ("POST", "/RPC2", b"hello"),
    EMPTY: ("POST", "/RPC2", b""),
    HTTP_1_0: ("GET", "/old", b""),
}


def _waiting(raw: bytes) -> HTTPMachine:
    """A machine with one request under way."""
    server = machine()
    server.receive_data(raw)
    assert server.next_event() is not None
    return server


def _farewell(server: HTTPMachine, reason: Refusal, status: int = 0) -> bytes:
    return server.farewell(RemoteProtocolError(reason, "", status))


@pytest.mark.parametrize("raw", REQUESTS)
def test_whole_and_byte_by_byte(raw: bytes) -> None:
    for pieces in ([raw], octets(raw)):
        exchange = run(pieces)
        assert exchange.requests == [REQUESTS[raw]]
        assert exchange.statuses == [200]
        assert not exchange.server.finished
        assert exchange.server.buffered == 0


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(list(REQUESTS)), min_size=1, max_size=5),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_any_split_of_pipelined_requests_gives_the_same(raws: list[bytes], cuts: list[int]) -> None:
    data = b"".join(raws)
    edges = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    exchange = run([data[begin:end] for begin, end in itertools.pairwise(edges)])
    assert exchange.requests == [REQUESTS[raw] for raw in raws]
    assert exchange.sent == run([data]).sent
    assert exchange.server.buffered == 0


def test_the_answer() -> None:
    exchange = run([GET])
    head, _, body = exchange.sent.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"date: Fri, 15 Jan 2027 08:00:00 GMT",
        b"content-type: text/plain",
        b"cache-control: no-store",
        b"x-content-type-options: nosniff",
        b"content-length: 6",
    ]
    assert body == b"answer"


def test_head_gets_the_length_and_no_body() -> None:
    exchange = run([request(line=b"HEAD / HTTP/1.1") + GET])
    first, second = exchange.sent.split(b"\r\n\r\n", 1)
    assert first.endswith(b"content-length: 6")
    assert second.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("raw", "said", "finished"),
    [
        (request(b"Connection: close"), b"close", True),
        (request(line=b"GET / HTTP/1.0"), b"close", True),
        (HTTP_1_0, b"keep-alive", False),
        (GET, b"", False),
    ],
    ids=["close", "1.0", "1.0-keep-alive", "1.1"],
)
def test_whether_the_connection_stays(raw: bytes, said: bytes, finished: bool) -> None:
    exchange = run([raw])
    assert (b"\r\nconnection: " + said + b"\r\n" in exchange.sent) is bool(said)
    assert exchange.server.finished is finished


def test_requests_behind_a_close_are_not_read() -> None:
    exchange = run([request(b"Connection: close") + GET])
    assert len(exchange.requests) == 1
    assert exchange.feed(GET).statuses == [200]


def test_an_answer_that_closes() -> None:
    exchange = Exchange(machine(), Response(200, (), b"x", close=True)).feed(GET + GET)
    assert exchange.statuses == [200]
    assert exchange.server.finished


def test_answers_without_a_body() -> None:
    assert b"\r\ncontent-length: 0\r\n\r\n" in Exchange(machine(), Response(200)).feed(GET).sent
    sent = Exchange(machine(), Response(204)).feed(GET).sent
    assert b"content-length" not in sent
    assert sent.endswith(b"\r\n\r\n")
    with pytest.raises(LocalProtocolError):
        Exchange(machine(), Response(304, (), b"x")).feed(GET)
    with pytest.raises(LocalProtocolError):
        Exchange(machine(), Response(304, (), b"x")).feed(HTTP_1_0)


def test_the_same_head_is_the_same_object() -> None:
    exchange = run([LENGTH * 2 + LENGTH[:20], LENGTH[20:], *octets(LENGTH)])
    assert len(exchange.heads) == 4
    assert all(head is exchange.heads[0] for head in exchange.heads)


def test_answers_are_counted_last_words_too() -> None:
    responses: dict[int, int] = {}
    Exchange(machine(responses=responses)).feed(GET * 3 + HTTP_1_0 + b"\r\n")
    assert responses == {200: 4, 400: 1}


def test_accept_body_and_respond_need_a_request() -> None:
    server = machine()
    with pytest.raises(LocalProtocolError):
        server.respond(ANSWER)
    with pytest.raises(LocalProtocolError):
        server.accept_body()
    server = _waiting(GET)
    with pytest.raises(LocalProtocolError):
        server.accept_body()
    server.respond(ANSWER)
    with pytest.raises(LocalProtocolError):
        server.respond(ANSWER)
    server.receive_data(request(b"Content-Length: 5"))
    server.next_event()
    server.accept_body()
    with pytest.raises(LocalProtocolError):
        server.respond(ANSWER)


def test_nothing_is_read_while_a_body_is_offered() -> None:
    server = machine()
    server.receive_data(request(b"Content-Length: 5") + b"he")
    offered = server.next_event()
    assert isinstance(offered, RequestHead)
    assert offered.head.content_length == 5
    server.receive_data(b"llo")
    assert server.next_event() is None
    server.accept_body()
    whole = server.next_event()
    assert isinstance(whole, Request)
    assert (whole.head, whole.body) == (offered.head, b"hello")


def test_buffered_is_what_is_kept() -> None:
    server = machine()
    server.receive_data(GET[:10])
    assert server.buffered == 10
    server.next_event()
    server.receive_data(GET[10:] + LENGTH)
    assert isinstance(server.next_event(), Request)
    assert server.buffered == len(LENGTH)
    server.receive_data(b"POST")
    assert server.buffered == len(LENGTH) + 4
    server.respond(ANSWER)
    assert isinstance(server.next_event(), Request)
    assert server.buffered == 4


def test_phases() -> None:
    limits = HTTPLimits()
    server = machine()
    # Who has just connected gets as long as for a head, and no answer.
    assert (server.allowance, server.allowance_reason) == (limits.http_headers_seconds, Refusal.IDLE)
    with pytest.raises(RemoteProtocolError) as raised:
        server.deadline_passed()
    assert (raised.value.reason, raised.value.status) == (Refusal.IDLE, 0)
    server.receive_data(GET)
    server.next_event()
    assert server.allowance is None
    phase = server.phase
    server.respond(ANSWER)
    assert server.phase > phase
    assert (server.allowance, server.allowance_reason) == (limits.http_keep_alive_seconds, Refusal.IDLE)


def test_the_end_between_requests() -> None:
    exchange = run([GET]).end()
    assert exchange.server.finished
    assert exchange.error is None


def test_whole_requests_before_the_end_are_answered() -> None:
    server = _waiting(GET + GET)
    server.receive_eof(clean=True)
    for _ in range(2):
        server.respond(ANSWER)
        server.next_event()
    assert server.finished
    assert server.data_to_send().count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("raw", [GET[:-1], LENGTH[:-1], CHUNKED[:-1]])
def test_the_end_inside_a_request(raw: bytes) -> None:
    exchange = run([raw]).end()
    assert exchange.error is not None
    assert exchange.error.reason is Refusal.TRUNCATED
    assert exchange.statuses == [400]
    # All of it at once, and then the end, before anything was read.
    server = machine()
    server.receive_data(raw)
    server.receive_eof(clean=True)
    with pytest.raises(RemoteProtocolError):
        server.next_event()


def test_a_peer_that_is_gone() -> None:
    for raw in (GET[:-1], LENGTH[:-1]):
        server = machine()
        Exchange(server).feed(raw)
        with pytest.raises(RemoteProtocolError) as raised:
            server.receive_eof(clean=False)
        assert raised.value.reason is Refusal.TRUNCATED
    idle = run([GET]).server
    idle.receive_eof(clean=False)
    assert idle.next_event() is None
    for under_way in (GET, GET + GET[:5]):
        with pytest.raises(RemoteProtocolError):
            _waiting(under_way).receive_eof(clean=False)


def test_drain_ends_an_idle_connection() -> None:
    server = run([GET]).server
    server.drain()
    assert server.finished


def test_drain_finishes_what_is_under_way() -> None:
    server = _waiting(GET + GET)
    server.drain()
    assert not server.finished
    server.respond(ANSWER)
    assert server.finished
    assert server.next_event() is None
    sent = server.data_to_send()
    assert sent.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in sent


def test_drain_within_a_head() -> None:
    exchange = run([GET[:10]])
    exchange.server.drain()
    assert not exchange.server.finished
    exchange.feed(GET[10:])
    assert b"connection: close" in exchange.sent
    assert exchange.server.finished


def test_farewell_says_nothing_where_nobody_waits() -> None:
    server = run([GET]).server
    assert _farewell(server, Refusal.EXPIRED) == b""
    assert server.finished
    assert _farewell(server, Refusal.MALFORMED, 400) == b""


@pytest.mark.parametrize(
    ("reason", "status"), [(Refusal.INTERNAL, b"500"), (Refusal.DRAINING, b"503"), (Refusal.MEMORY, b"503")]
)
def test_farewell_answers_the_request_under_way(reason: Refusal, status: bytes) -> None:
    for raw in (GET, request(b"Content-Length: 5")):
        assert _farewell(_waiting(raw), reason).startswith(b"HTTP/1.1 " + status)
    assert _farewell(_waiting(GET), Refusal.REVOKED) == b""
    assert _farewell(machine(), reason) == b""


def test_farewell_to_head_has_no_body() -> None:
    sent = _farewell(_waiting(request(line=b"HEAD / HTTP/1.1")), Refusal.CREDENTIAL, 401)
    assert sent.startswith(b"HTTP/1.1 401 ")
    assert sent.endswith(b"\r\n\r\n")


def test_constant_answers_are_sent_many_times() -> None:
    exchange = Exchange(machine(), NOT_FOUND).feed(GET * 3)
    assert exchange.statuses == [404] * 3
    assert exchange.sent.count(b"404 Not Found\n") == 3


def test_what_is_kept_is_accounted_for() -> None:
    """`buffered` is what the shell holds against the daemon's budget."""
    server = machine()
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n"
    server.receive_data(head[:20])
    assert server.next_event() is None
    assert server.buffered == 20
    server.receive_data(head[20:] + b"12345")
    assert isinstance(server.next_event(), RequestHead)
    assert server.buffered == 5
    server.accept_body()
    server.receive_data(b"67890" + b"GET")
    assert isinstance(server.next_event(), Request)
    assert server.buffered == 3
    server.receive_data(b" / HTTP/1.1\r\n")
    assert server.buffered == 16


def test_a_connection_that_switches_to_another_protocol() -> None:
    counted: dict[int, int] = {}
    server = machine(responses=counted)
    server.receive_data(GET + b"of the other protocol")
    with pytest.raises(LocalProtocolError):
        server.switch(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")  # it has not been asked to
    assert isinstance(server.next_event(), Request)
    assert server.switch(b"HTTP/1.1 101 Switching Protocols\r\n\r\n") == b"of the other protocol"
    assert server.data_to_send() == b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    assert (counted, server.buffered, server.finished) == ({101: 1}, 0, True)
    server.receive_data(GET)
    assert server.next_event() is None
    with pytest.raises(LocalProtocolError):
        server.switch(b"")
