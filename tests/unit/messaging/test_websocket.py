from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from secure_net.errors import NotPermittedError, Refusal, RemoteProtocolError
from secure_net.http.head import Head, parse_head
from secure_net.http.protocol import Request
from secure_net.http.response import NOT_FOUND
from secure_net.limits import HTTPLimits
from secure_net.messaging.websocket import (
    LOOSE_FRAMES,
    SUBPROTOCOL,
    WebSocketMachine,
    WebSocketReader,
    close_code,
    close_frame,
    encode,
    encode_many,
    handshake,
)
from tests.support.http import machine as http_machine
from tests.support.http import octets
from tests.support.websocket import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Parrot,
    close,
    frame,
    frames_in,
    upgrade,
)

LARGEST = 65_536
ORIGINS = frozenset({"https://localhost:8446"})


def read(
    pieces: list[bytes], largest: int = LARGEST, most: int = 64
) -> tuple[list[bytes], RemoteProtocolError | None]:
    """What comes out of a fresh reader, and the error that ends it."""
    reader, payloads = WebSocketReader(largest), []
    try:
        for piece in pieces:
            reader.receive(piece)
            while batch := reader.next_batch(most):
                assert len(batch) <= most
                payloads += batch
    except RemoteProtocolError as error:
        assert reader.buffered == 0
        return payloads, error
    return payloads, None


def head_of(raw: bytes) -> Head:
    return parse_head(raw, HTTPLimits())


# --- out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
def test_a_message_is_read_by_another_implementation(length: int) -> None:
    client = ClientProtocol(parse_uri("wss://localhost/"), state=State.OPEN)
    client.receive_data(encode(b"x" * length))
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, len(event.data), event.fin) == (TEXT, length, True)


def test_many_messages_and_a_close() -> None:
    assert frames_in(encode_many([b"a", b"bc", b""])) == [(TEXT, b"a"), (TEXT, b"bc"), (TEXT, b"")]
    assert encode_many([]) == b""
    assert frames_in(close_frame(1012, "draining")) == [(CLOSE, b"\x03\xf4draining")]


def test_every_refusal_has_a_close_code() -> None:
    codes = {reason: close_code(RemoteProtocolError(reason)) for reason in Refusal}
    assert codes[Refusal.DRAINING] == 1012
    assert codes[Refusal.REVOKED] == codes[Refusal.IDLE] == 1008
    assert set(codes.values()) <= {1002, 1003, 1008, 1009, 1011, 1012, 1013}
    assert close_code(RemoteProtocolError(Refusal.MALFORMED, "", 1007)) == 1007
    assert close_code(RemoteProtocolError(Refusal.MALFORMED, "", 400)) == 1002


# --- in ---------------------------------------------------------------------------------------------------

HELLO = frame(b"hello")
FRAGMENTED = (
    frame(b"he", fin=False)
    + frame(b"", PING)
    + frame(b"l", CONTINUATION, fin=False)
    + frame(b"lo", CONTINUATION)
)
LETTERS = frame("gr\u00fc\u00df".encode())
SPLIT_LETTER = frame(b"\xc3", fin=False) + frame(b"\xbc", CONTINUATION)
SOUND = {
    HELLO: [b"hello"],
    FRAGMENTED: [b"hello"],
    LETTERS: ["gr\u00fc\u00df".encode()],
    SPLIT_LETTER: ["\u00fc".encode()],
    frame(b""): [b""],
    frame(b"x" * 200): [b"x" * 200],
    frame(b"!", PONG): [],
    frame(b"?", PING): [],
}

# What a client may not send, the reason that is counted, and the close code.
WRONG = {
    "unmasked": (frame(b"a", mask=False), Refusal.MALFORMED, 1002),
    "reserved bit (compressed)": (frame(b"a", rsv=4), Refusal.MALFORMED, 1002),
    "reserved opcode": (frame(b"a", 3), Refusal.MALFORMED, 1002),
    "reserved control opcode": (frame(b"a", 0xB), Refusal.MALFORMED, 1002),
    "continuation of nothing": (frame(b"a", CONTINUATION), Refusal.MALFORMED, 1002),
    "message within a message": (frame(b"a", fin=False) + frame(b"b"), Refusal.MALFORMED, 1002),
    "fragmented ping": (frame(b"a", PING, fin=False), Refusal.MALFORMED, 1002),
    "ping of 126 bytes": (frame(b"a" * 126, PING), Refusal.MALFORMED, 1002),
    "close of one byte": (frame(b"a", CLOSE), Refusal.MALFORMED, 1002),
    "close with a code nobody may send": (close(1005), Refusal.MALFORMED, 1002),
    "close within a message": (frame(b"a", fin=False) + close(), Refusal.MALFORMED, 1002),
    "close whose reason is not UTF-8": (close(1000, b"\xff"), Refusal.MALFORMED, 1007),
    "binary": (frame(b"a", BINARY), Refusal.UNSUPPORTED, 1003),
    "binary, in fragments": (frame(b"a", BINARY, fin=False), Refusal.UNSUPPORTED, 1003),
    "not UTF-8": (frame(b"\xff"), Refusal.MALFORMED, 1007),
    "a surrogate": (frame(b"\xed\xa0\x80"), Refusal.MALFORMED, 1007),
    "cut in a letter": (frame(b"a\xc3"), Refusal.MALFORMED, 1007),
    "not UTF-8 over fragments": (
        frame(b"\xc3", fin=False) + frame(b"a", CONTINUATION),
        Refusal.MALFORMED,
        1007,
    ),
    "too long": (frame(b"a" * (LARGEST + 1)), Refusal.TOO_LARGE, 1009),
    "too long, by its header": (b"\x81\xff" + b"\x7f" + b"\xff" * 7, Refusal.TOO_LARGE, 1009),
    "too long in fragments": (
        frame(b"a" * LARGEST, fin=False) + frame(b"a", CONTINUATION),
        Refusal.TOO_LARGE,
        1009,
    ),
    "a bomb of fragments": (
        frame(b"a", fin=False) + frame(b"", CONTINUATION, fin=False) * LOOSE_FRAMES,
        Refusal.TOO_LARGE,
        1008,
    ),
    "pings within a message": (
        frame(b"a", fin=False) + frame(b"", PING) * LOOSE_FRAMES,
        Refusal.TOO_LARGE,
        1008,
    ),
    "pings before the first message": (frame(b"", PING) * (LOOSE_FRAMES + 1), Refusal.TOO_LARGE, 1008),
}


@pytest.mark.parametrize("data", SOUND)
def test_whole_and_byte_by_byte(data: bytes) -> None:
    assert read([data]) == read(octets(data)) == (SOUND[data], None)


@pytest.mark.parametrize("name", WRONG)
def test_what_breaks_the_rules(name: str) -> None:
    data, reason, code = WRONG[name]
    pieces = octets(data) if len(data) < 1000 else [data[at : at + 777] for at in range(0, len(data), 777)]
    before = [] if "before the first message" in name else [HELLO]
    for parts in ([b"".join([*before, data, HELLO])], [*before, *pieces]):
        payloads, error = read(parts)
        assert payloads == [b"hello"] * len(before)
        assert error is not None
        assert (error.reason, error.status) == (reason, code)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([*SOUND, *(data for data, _, _ in WRONG.values() if len(data) < 1000)]), max_size=6
    ),
    st.lists(st.integers(0, 1000), max_size=8),
    st.integers(1, 3),
)
def test_any_split_gives_the_same(parts: list[bytes], cuts: list[int], most: int) -> None:
    data = b"".join(parts)
    edges = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    payloads, error = read([data[begin:end] for begin, end in itertools.pairwise(edges)], most=most)
    whole, first = read([data])
    assert payloads == whole
    assert (error and (error.reason, error.status)) == (first and (first.reason, first.status))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    read([HELLO + data])


def test_what_the_protocol_owes_the_peer() -> None:
    reader = WebSocketReader(LARGEST)
    reader.receive(HELLO + frame(b"are you there?", PING) + frame(b"", PONG) + close(1001, b"bye") + HELLO)
    assert reader.next_batch() == [b"hello"]
    assert reader.closed
    assert frames_in(b"".join(reader.control)) == [(PONG, b"are you there?"), (CLOSE, b"\x03\xe9bye")]
    reader.receive(HELLO)
    assert (reader.next_batch(), reader.buffered, reader.alive) == ([], 0, 4)


def test_no_close_frame_of_the_library_s_own_words() -> None:
    reader = WebSocketReader(LARGEST)
    reader.receive(frame(b"a", mask=False))
    with pytest.raises(RemoteProtocolError, match="incorrect masking"):
        reader.next_batch()
    assert reader.control == []


def test_pings_after_the_first_message_are_no_offence() -> None:
    payloads, error = read([HELLO + frame(b"", PING) * (LOOSE_FRAMES * 2) + HELLO])
    assert (payloads, error) == ([b"hello"] * 2, None)


def test_what_is_buffered() -> None:
    reader = WebSocketReader(LARGEST)
    assert reader.buffered == 0
    reader.receive(HELLO[:5])
    assert (reader.buffered, reader.next_batch(), reader.buffered) == (5, [], 5)
    reader.receive(HELLO[5:])
    assert (reader.next_batch(), reader.buffered) == ([b"hello"], 0)
    reader = WebSocketReader(LARGEST)
    reader.receive(HELLO * 3 + frame(b"par", fin=False) + frame(b"t", CONTINUATION)[:3])
    assert reader.next_batch(1) == [b"hello"]
    assert reader.buffered == 5 + 5 + 3 + 3
    assert reader.next_batch() == [b"hello"] * 2
    assert reader.buffered == 3 + 3
    for length in (125, 126, 65_535, 65_536):
        reader = WebSocketReader(LARGEST)
        data = frame(b"x" * length)
        reader.receive(data[:-1])
        assert (reader.next_batch(), reader.buffered) == ([], len(data) - 1)
        reader.receive(data[-1:])
        assert (reader.next_batch(), reader.buffered) == ([b"x" * length], 0)


def test_a_length_in_more_bytes_than_it_needs_is_not_held_whole() -> None:
    reader = WebSocketReader(LARGEST)
    reader.receive(b"\x81\xfe\x00\x01" + b"\0\0\0\0" + b"a")
    assert (reader.next_batch(), reader.buffered) == ([b"a"], 2)


def test_nothing_waits_at_the_end_of_a_batch() -> None:
    reader = WebSocketReader(LARGEST)
    reader.receive(b"")
    assert reader.next_batch() == []


def test_messages_wait_unparsed_until_they_are_asked_for() -> None:
    reader = WebSocketReader(LARGEST)
    reader.receive(HELLO * 10_000)
    assert reader.next_batch() == [b"hello"] * 64
    assert len(reader._frames) < 500
    assert reader.buffered > 9000 * len(HELLO)


def test_a_fault_of_the_library_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(ServerProtocol, "recv_frame", fail)
    reader = WebSocketReader(LARGEST)
    reader.receive(HELLO)
    with pytest.raises(RuntimeError, match="boom"):
        reader.next_batch()


# --- the handshake ----------------------------------------------------------------------------------------


def test_the_handshake_of_the_rfc() -> None:
    assert handshake(head_of(upgrade()), ORIGINS).split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + ACCEPT,
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(b"other, secure-net.chat.v1", SUBPROTOCOL.encode()), (b"other", None), (b"secure-net.chat.v2", None)],
)
def test_the_subprotocol_is_optional(offered: bytes, chosen: bytes | None) -> None:
    answer = handshake(head_of(upgrade(b"Sec-WebSocket-Protocol: " + offered)), ORIGINS)
    found = re.search(rb"Sec-WebSocket-Protocol: (.*)\r\n", answer)
    assert (found and found[1]) == chosen


def test_no_compression() -> None:
    answer = handshake(head_of(upgrade(b"Sec-WebSocket-Extensions: permessage-deflate")), ORIGINS)
    assert b"xtensions" not in answer


@pytest.mark.parametrize(
    "origin",
    [
        None,
        b"null",
        b"https://localhost",
        b"https://localhost:8447",
        b"http://localhost:8446",
        b"https://localhost:8446.evil.example",
        b"https://localhost:8446/",
        b"https://LOCALHOST:8446",
        b"https://localhost:8446, https://evil.example",
        b"",
    ],
)
def test_another_origin(origin: bytes | None) -> None:
    with pytest.raises(NotPermittedError):
        handshake(head_of(upgrade(origin=origin)), ORIGINS)


@pytest.mark.parametrize(
    "raw",
    [
        upgrade(line=b"POST /socket HTTP/1.1"),
        upgrade(line=b"GET /socket HTTP/1.0"),
        upgrade(key=None),
        upgrade(key=b"short"),
        upgrade(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        upgrade(version=None),
        upgrade(version=b"8"),
        upgrade().replace(b"Upgrade: websocket\r\n", b""),
        upgrade().replace(b"Upgrade: websocket", b"Upgrade: irc"),
        upgrade().replace(b"keep-alive, Upgrade", b"keep-alive"),
        upgrade(b"Sec-WebSocket-Protocol: ,,\x20;"),
    ],
)
def test_what_is_no_handshake(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        handshake(head_of(raw), ORIGINS)
    assert (caught.value.reason, caught.value.status) == (Refusal.MALFORMED, 400)


# --- the machine ------------------------------------------------------------------------------------------


def opened(behind: bytes = b"") -> WebSocketMachine:
    """A machine that has just become a WebSocket; `behind` came in one segment with the request."""
    server = WebSocketMachine(http_machine())
    server.receive_data(upgrade() + behind)
    request = server.next_event()
    assert isinstance(request, Request)
    reader = WebSocketReader(LARGEST)
    server.switch(handshake(request.head, ORIGINS), reader, Parrot(reader))
    return server


def sent(server: WebSocketMachine) -> list[tuple[int, bytes]]:
    while (event := server.next_event()) is not None:
        server._stage.answer(event)  # type: ignore[attr-defined]
    return frames_in(server.data_to_send())


def test_http_before_the_switch() -> None:
    server = WebSocketMachine(http_machine())
    assert (server.allowance, server.allowance_reason) == (HTTPLimits().http_headers_seconds, Refusal.IDLE)
    assert not server.is_websocket
    server.receive_data(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET")
    assert isinstance(server.next_event(), Request)
    server.http.respond(NOT_FOUND)
    assert server.next_event() is None
    assert server.data_to_send().startswith(b"HTTP/1.1 404 ")
    assert (server.allowance_reason, server.buffered) == (Refusal.READ_DEADLINE, 3)
    with pytest.raises(RemoteProtocolError) as caught:
        server.deadline_passed()
    assert server.farewell(caught.value).startswith(b"HTTP/1.1 408 ")


def test_what_the_machine_in_charge_keeps_is_known_between_events() -> None:
    http = http_machine()
    server = WebSocketMachine(http)
    assert server.buffered == 0
    http.buffered = 7
    assert server.buffered == 7


def test_a_connection_that_is_idle_before_the_switch_is_drained_at_once() -> None:
    server = WebSocketMachine(http_machine())
    server.drain()
    assert server.finished


def test_the_switch_and_what_came_behind_the_request() -> None:
    server = opened(frame(b"first"))
    head, _, rest = server.data_to_send().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert frames_in(rest) == [(TEXT, b"hello")]
    assert server.is_websocket
    assert sent(server) == [(TEXT, b"first")]
    server.receive_data(frame(b"second") + frame(b"!", PING) + frame(b"third"))
    assert sent(server) == [(TEXT, b"second"), (TEXT, b"third"), (PONG, b"!")]
    assert not server.finished


def test_a_phase_of_its_own_begins_with_the_switch() -> None:
    server = WebSocketMachine(http_machine())
    server.receive_data(upgrade())
    request = server.next_event()
    before = server.phase
    reader = WebSocketReader(LARGEST)
    server.switch(handshake(request.head, ORIGINS), reader, Parrot(reader))
    assert server.next_event() is None
    assert server.phase > before


def test_who_says_nothing_after_the_switch() -> None:
    server = opened()
    sent_before = server.next_event(), server.data_to_send()
    assert sent_before[0] is None
    assert (server.allowance, server.allowance_reason) == (10.0, Refusal.AUTHENTICATION_DEADLINE)
    phase = server.phase
    server.receive_data(frame(b"", PING))
    sent(server)
    assert server.phase == phase  # pings do not put it off
    with pytest.raises(RemoteProtocolError) as caught:
        server.deadline_passed()
    assert caught.value.reason is Refusal.AUTHENTICATION_DEADLINE
    assert frames_in(server.farewell(caught.value)) == [
        (TEXT, b"sorry"),
        (CLOSE, b"\x03\xf0authentication_deadline"),
    ]


def test_once_it_is_known_who_it_is_a_ping_is_a_sign_of_life() -> None:
    server = opened()
    server.data_to_send()
    server.receive_data(frame(b"hello"))
    sent(server)
    assert (server.allowance, server.allowance_reason) == (None, Refusal.IDLE)
    for data in (frame(b"", PING), frame(b"", PONG), frame(b"words")):
        phase = server.phase
        server.receive_data(data)
        sent(server)
        assert server.phase > phase


def test_a_message_must_become_whole_and_pings_do_not_put_that_off() -> None:
    server = opened()
    server.receive_data(frame(b"hello") + frame(b"part", fin=False))
    assert server.next_event() == [b"hello"]
    assert server.next_event() is None
    phase = server.phase
    assert (server.allowance, server.allowance_reason, server.buffered) == (10.0, Refusal.READ_DEADLINE, 4)
    server.receive_data(frame(b"", PING))
    assert server.next_event() is None
    assert server.phase == phase
    with pytest.raises(RemoteProtocolError) as caught:
        server.deadline_passed()
    assert caught.value.reason is Refusal.READ_DEADLINE


def test_the_peer_closes() -> None:
    server = opened()
    server.data_to_send()
    server.receive_data(frame(b"last") + close(1000))
    assert sent(server) == [(TEXT, b"last"), (CLOSE, b"\x03\xe8")]
    assert server.finished
    assert server.farewell(RemoteProtocolError(Refusal.INTERNAL)) == encode(b"sorry")


def test_we_close() -> None:
    server = opened()
    server.data_to_send()
    server.receive_data(frame(b"quit"))
    assert sent(server) == [(TEXT, b"quit"), (CLOSE, b"\x03\xe8")]
    assert server.finished
    assert sent(server) == []  # it is said once


def test_draining_says_when_to_come_back() -> None:
    server = opened()
    server.data_to_send()
    server.drain()
    assert sent(server) == [(TEXT, b"draining"), (CLOSE, b"\x03\xf4")]
    assert server.finished


def test_a_drain_between_the_request_and_the_switch() -> None:
    server = WebSocketMachine(http_machine())
    server.receive_data(upgrade())
    request = server.next_event()
    server.drain()
    assert not server.finished
    reader = WebSocketReader(LARGEST)
    server.switch(handshake(request.head, ORIGINS), reader, Parrot(reader))
    assert server.next_event() is None
    assert server.data_to_send().endswith(encode(b"hello") + encode(b"draining") + b"\x88\x02\x03\xf4")


@pytest.mark.parametrize("name", WRONG)
def test_a_broken_rule_ends_with_its_code(name: str) -> None:
    data, reason, code = WRONG[name]
    server = opened()
    server.data_to_send()
    server.receive_data(data)
    with pytest.raises(RemoteProtocolError) as caught:
        sent(server)
    assert caught.value.reason is reason
    (said, closing) = frames_in(server.farewell(caught.value))
    assert said == (TEXT, b"sorry")
    assert closing == (CLOSE, code.to_bytes(2, "big") + reason.value.encode())


def test_the_end_without_a_close_frame() -> None:
    server = opened()
    server.next_event()
    server.receive_eof(clean=True)
    assert server.next_event() is None
    server = opened(frame(b"cut")[:5])
    server.next_event()
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_eof(clean=True)
    assert caught.value.reason is Refusal.TRUNCATED
