"""Bodies in pieces, at the machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.http.protocol import BODY_WANTED, HTTPMachine, Request
from secure_net.http.response import Piece, Response, Stream
from tests.support.http import machine

GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n"
CLOSE = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


class NoSource:
    """The machine never asks it."""

    def next_piece(self) -> Piece:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


def stream(length: int) -> Stream:
    return Stream(200, ((b"content-type", b"text/plain"),), length, NoSource())


def begun(raw: bytes, length: int, *, responses: dict[int, int] | None = None) -> HTTPMachine:
    server = machine(responses=responses)
    server.receive_data(raw)
    assert isinstance(server.next_event(), Request)
    server.respond(stream(length))
    return server


def test_a_body_in_pieces() -> None:
    responses: dict[int, int] = {}
    server = begun(GET, 5, responses=responses)
    assert server.streaming
    assert server.data_to_send().endswith(b"\r\ncontent-length: 5\r\n\r\n")
    assert server.next_event() is BODY_WANTED
    assert server.next_event() is BODY_WANTED
    server.send_piece(b"01")
    server.send_piece(memoryview(b"2"))
    assert server.data_to_send() == b"012"
    server.send_piece(b"34")
    assert not server.streaming
    assert server.data_to_send() == b"34"
    assert server.next_event() is None
    assert not server.finished
    assert responses == {200: 1}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_any_split_of_a_body_is_the_same_answer(sizes: list[int]) -> None:
    server = begun(GET, sum(sizes))
    for size in sizes:
        assert server.streaming
        server.send_piece(bytes(size))
    assert not server.streaming
    assert server.data_to_send().endswith(b"content-length: %d\r\n\r\n" % sum(sizes) + bytes(sum(sizes)))


@pytest.mark.parametrize(("raw", "length"), [(HEAD, 5), (GET, 0), (HEAD, 0)])
def test_without_a_body_the_answer_is_whole_at_once(raw: bytes, length: int) -> None:
    server = begun(raw, length)
    assert not server.streaming
    assert server.data_to_send().endswith(b"content-length: %d\r\n\r\n" % length)
    assert server.next_event() is None
    assert not server.finished


@pytest.mark.parametrize("raw", [OLD, CLOSE])
def test_the_connection_ends_behind_the_last_answer(raw: bytes) -> None:
    server = begun(raw, 2)
    assert b"connection: close\r\n" in server.data_to_send()
    assert not server.finished
    server.send_piece(b"01")
    assert server.finished


def test_what_was_pipelined_is_answered_behind_the_body() -> None:
    server = begun(GET + GET, 2)
    assert server.next_event() is BODY_WANTED
    server.send_piece(b"01")
    event = server.next_event()
    assert isinstance(event, Request)
    server.respond(Response(200, (), b"x"))
    assert server.data_to_send().count(b"HTTP/1.1 200 OK") == 2
    assert server.next_event() is None


def test_pieces_nobody_wants() -> None:
    server = begun(GET, 2)
    for piece in (b"", b"012"):
        with pytest.raises(LocalProtocolError):
            server.send_piece(piece)
    server.send_piece(b"01")
    with pytest.raises(LocalProtocolError):
        server.send_piece(b"2")
    with pytest.raises(LocalProtocolError):
        server.respond(stream(2))


def test_in_the_midst_of_a_body_no_other_word_is_said() -> None:
    for error in (RemoteProtocolError(Refusal.INTERNAL, "", 500), RemoteProtocolError(Refusal.REVOKED)):
        server = begun(GET, 2)
        server.data_to_send()
        assert server.farewell(error) == b""
        assert server.finished
        assert not server.streaming


def test_a_peer_that_is_gone_in_the_midst_of_a_body() -> None:
    server = begun(GET, 2)
    with pytest.raises(RemoteProtocolError) as raised:
        server.receive_eof(clean=False)
    assert raised.value.reason is Refusal.TRUNCATED


def test_a_peer_that_says_that_it_sends_no_more_gets_the_rest() -> None:
    server = begun(GET, 2)
    server.receive_eof(clean=True)
    assert server.next_event() is BODY_WANTED
    server.send_piece(b"01")
    assert server.next_event() is None
    assert server.finished


def test_a_drain_waits_for_the_rest_and_then_ends() -> None:
    server = begun(GET + GET, 2)
    server.drain()
    assert not server.finished
    server.send_piece(b"01")
    assert server.finished
    assert server.next_event() is None


def test_the_status_may_have_a_body() -> None:
    server = machine()
    server.receive_data(GET)
    server.next_event()
    with pytest.raises(LocalProtocolError):
        server.respond(Stream(600, (), 1, NoSource()))


def test_a_path_that_cannot_be_is_malformed_unless_the_service_answers_it() -> None:
    raw = GET.replace(b"/a", b"/%00%ff")
    server = machine()
    server.receive_data(raw)
    with pytest.raises(RemoteProtocolError):
        server.next_event()
    lenient = HTTPMachine(server._limits, server._heads, body_bytes=0, any_path=True)
    lenient.receive_data(raw)
    event = lenient.next_event()
    assert isinstance(event, Request)
    assert (event.head.path, event.head.target) == ("", "/%00%ff")
