from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.limits import ChatLimits, FrameLimits
from secure_net.messaging.frames import encode
from secure_net.messaging.messages import Hello, Join, Ping, Say
from secure_net.messaging.protocol import ENDED, ChatMachine, Framing, Pull, frame_framing
from secure_net.metrics import ServiceCounters
from tests.support.chat import frames, objects, say_id

HELLO, PING = {"type": "hello"}, {"type": "ping"}
JOIN = {"type": "join", "room": "ops"}
SECONDS = 10.0


def machine(limits: ChatLimits | None = None, frame: FrameLimits | None = None) -> ChatMachine:
    frame = frame or FrameLimits()
    framing = frame_framing(frame, ServiceCounters("chat"))
    return ChatMachine(limits or ChatLimits(), frame, framing, authentication_seconds=SECONDS)


def welcomed(limits: ChatLimits | None = None) -> ChatMachine:
    chat = machine(limits)
    chat.receive_data(frames(HELLO))
    chat.next_event()
    chat.welcome()
    return chat


def events(chat: ChatMachine) -> list[Any]:
    found = []
    while (event := chat.next_event()) is not None:
        found.append(event)
    return found


def requests(chat: ChatMachine) -> list[Any]:
    """All that was asked, however it was batched; errors by their code."""
    batches = [event for event in events(chat) if isinstance(event, list)]
    return [
        json.loads(item)["code"] if isinstance(item, bytes) else item for batch in batches for item in batch
    ]


# ---------------------------------------------------------------------------- in


def test_what_was_asked_comes_in_order_and_errors_in_their_place() -> None:
    chat = machine()
    chat.receive_data(frames(HELLO, PING, b"?", JOIN, PING))
    assert requests(chat) == [Hello(), Ping(), "malformed", Join("ops"), Ping()]
    assert chat.framing.counters.frames_received == 5


def test_a_batch_has_at_most_64() -> None:
    chat = welcomed()
    chat.receive_data(frames(*[PING] * 150))
    assert [len(batch) for batch in events(chat)] == [64, 64, 22]


@pytest.mark.parametrize(
    "first", [PING, JOIN, {"type": "say", "room": "a", "id": say_id(1).decode(), "body": 1}]
)
def test_the_first_object_that_is_one_has_to_be_a_hello(first: dict[str, Any]) -> None:
    for before in ([], [b"?"], [b"", b"[]"]):
        chat = machine()
        chat.receive_data(frames(*before, first, HELLO))
        with pytest.raises(RemoteProtocolError) as caught:
            chat.next_event()
        assert caught.value.reason is Refusal.CREDENTIAL
        assert objects(chat.farewell(caught.value))[0]["code"] == "unauthenticated"


def test_what_is_no_object_of_ours_is_answered_before_the_hello_too() -> None:
    chat = machine()
    chat.receive_data(frames(b"?"))
    assert requests(chat) == ["malformed"]
    assert not chat.greeted
    chat.receive_data(frames(b"?", HELLO))
    assert requests(chat) == ["malformed", Hello()]
    assert chat.greeted


@given(st.data())
def test_any_split_gives_the_same_requests(data: st.DataObject) -> None:
    sent = frames(HELLO, PING, b"?", JOIN, b'{"type":"say"}')
    chat, found, at = machine(), [], 0
    while at < len(sent):
        size = data.draw(st.integers(1, 30))
        chat.receive_data(sent[at : at + size])
        at += size
        found += requests(chat)
    assert found == [Hello(), Ping(), "malformed", Join("ops"), "malformed"]
    assert chat.buffered == 0


def test_byte_by_byte() -> None:
    chat, found = machine(), []
    for byte in frames(HELLO, PING, JOIN):
        chat.receive_data(bytes([byte]))
        found += requests(chat)
    assert found == [Hello(), Ping(), Join("ops")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"99999", Refusal.TOO_LARGE), (b"-0001", Refusal.MALFORMED), (b"1_000", Refusal.MALFORMED)],
)
def test_a_bad_header_ends_the_connection_behind_what_was_good(data: bytes, reason: Refusal) -> None:
    chat = welcomed()
    chat.receive_data(frames(PING) + data)
    assert chat.next_event() == [Ping()]
    with pytest.raises(RemoteProtocolError) as caught:
        chat.next_event()
    assert caught.value.reason is reason
    assert objects(chat.farewell(caught.value))[0]["code"] == reason.value
    assert chat.finished


def test_what_is_kept_is_counted() -> None:
    chat = welcomed()
    chat.receive_data(frames(PING) + b"00")
    assert chat.buffered == len(frames(PING)) + 2
    chat.next_event()
    assert chat.buffered == 2


def test_another_transport_s_reader_takes_the_place_of_frames() -> None:
    class Lines:
        def __init__(self) -> None:
            self.buffered = 0
            self.lines: list[bytes] = []

        def receive(self, data: bytes) -> None:
            self.lines += data.splitlines()
            self.buffered = len(self.lines)

        def next_batch(self, most: int = 64) -> list[bytes]:
            lines, self.lines, self.buffered = self.lines, [], 0
            return lines

    framing = Framing(
        lambda payloads: b"".join(payload + b"\n" for payload in payloads), ServiceCounters("x")
    )
    chat = ChatMachine(ChatLimits(), FrameLimits(), framing, authentication_seconds=SECONDS, reader=Lines())
    chat.receive_data(b'{"type":"hello"}\n{"type":"ping"}\n')
    assert requests(chat) == [Hello(), Ping()]
    chat.answer(b"{}")
    assert chat.data_to_send() == b"{}\n"


def test_a_wider_header_where_frames_may_be_larger() -> None:
    framing = frame_framing(FrameLimits(frame_bytes=1_000_000), ServiceCounters("chat"))
    assert framing.encode(b"{}") == encode(b"{}", 7)


# ---------------------------------------------------------------------------- the past


def test_requests_and_the_past_take_turns() -> None:
    chat = welcomed()
    chat.pulling.extend(["a", "b"])
    chat.receive_data(frames(*[PING] * 130))
    order = []
    while (event := chat.next_event()) is not None:
        order.append(event.room if isinstance(event, Pull) else len(event))
        if isinstance(event, Pull) and event.room == "a" and order.count("a") < 3:
            chat.pulling.append("a")
    assert order == ["a", 64, "b", 64, "a", 2, "a"]


def test_without_requests_the_past_comes_at_once() -> None:
    chat = welcomed()
    assert chat.next_event() is None
    chat.pulling.append("a")
    assert chat.next_event() == Pull("a")
    assert chat.next_event() is None


# ---------------------------------------------------------------------------- deadlines


def test_one_deadline_holds_until_the_hello_is_believed() -> None:
    chat = machine()
    assert (chat.allowance, chat.allowance_reason) == (SECONDS, Refusal.AUTHENTICATION_DEADLINE)
    phase = chat.phase
    for data in (b"00", b"001?", frames(b"[]"), frames(HELLO), b"0"):
        chat.receive_data(data)
        events(chat)
        assert (chat.phase, chat.allowance) == (phase, SECONDS)
    chat.welcome()
    assert (chat.allowance, chat.allowance_reason) == (None, Refusal.IDLE)
    with pytest.raises(RemoteProtocolError):
        machine().deadline_passed()


def test_a_frame_has_its_time_from_its_first_byte() -> None:
    chat = welcomed()
    events(chat)
    idle = chat.phase
    chat.receive_data(b"0")
    events(chat)
    assert (chat.allowance, chat.allowance_reason) == (FrameLimits().frame_seconds, Refusal.READ_DEADLINE)
    begun = chat.phase
    assert begun > idle
    chat.receive_data(b"00")
    events(chat)
    assert chat.phase == begun, "more of it gives it no more time"
    chat.receive_data(frames(PING)[3:-1])
    events(chat)
    assert chat.phase == begun
    chat.receive_data(frames(PING)[-1:])
    assert events(chat) == [[Ping()]]
    assert (chat.allowance, chat.allowance_reason) == (None, Refusal.IDLE)


def test_the_next_frame_has_its_own_time() -> None:
    chat = welcomed()
    whole = frames(PING)
    chat.receive_data(whole[:3])
    events(chat)
    first = chat.phase
    chat.receive_data(whole[3:] + b"0")
    events(chat)
    assert chat.phase > first
    assert chat.allowance_reason is Refusal.READ_DEADLINE
    chat.receive_data(whole[1:])
    events(chat)
    assert chat.allowance_reason is Refusal.IDLE


def test_whoever_asks_is_not_silent() -> None:
    chat = welcomed()
    phase = chat.phase
    chat.receive_data(frames(PING))
    events(chat)
    assert chat.phase > phase


# ---------------------------------------------------------------------------- ends


def test_an_end_within_a_frame_is_truncated() -> None:
    for part in (b"0", b"00016", frames(PING)[:-1]):
        chat = welcomed()
        chat.receive_data(part)
        with pytest.raises(RemoteProtocolError) as caught:
            chat.receive_eof(clean=False)
        assert caught.value.reason is Refusal.TRUNCATED
        assert chat.farewell(caught.value) == b"", "nobody reads it"
        chat = welcomed()
        chat.receive_data(frames(PING) + part)
        chat.receive_eof(clean=True)
        assert chat.next_event() == [Ping()], "what was whole is answered"
        with pytest.raises(RemoteProtocolError):
            chat.next_event()


def test_an_end_between_frames_is_an_end() -> None:
    chat = welcomed()
    chat.receive_data(frames(PING))
    chat.receive_eof(clean=True)
    assert events(chat) == [[Ping()]]
    other = welcomed()
    other.receive_eof(clean=False)
    assert other.next_event() is None


def test_what_was_said_is_waited_for_when_no_more_comes() -> None:
    chat = welcomed()
    chat.said(10)
    chat.receive_eof(clean=True)
    assert chat.next_event() is ENDED
    chat.answered(1, 10)
    assert chat.next_event() is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Refusal.MALFORMED, "malformed"),
        (Refusal.TOO_LARGE, "too_large"),
        (Refusal.CREDENTIAL, "unauthenticated"),
        (Refusal.OUTBOX, "slow_consumer"),
        (Refusal.REVOKED, "revoked"),
        (Refusal.CERTIFICATE_REVOKED, "revoked"),
        (Refusal.EXPIRED, "expired"),
        (Refusal.INTERNAL, "internal"),
        (Refusal.CONNECTIONS_PER_PRINCIPAL, "unavailable"),
    ],
)
def test_the_last_words(reason: Refusal, code: str) -> None:
    (last,) = objects(welcomed().farewell(RemoteProtocolError(reason, "for the log")))
    assert (last["type"], last["code"]) == ("error", code)
    assert "for the log" not in str(last)


@pytest.mark.parametrize(
    "reason", [Refusal.REVOKED, Refusal.EXPIRED, Refusal.CERTIFICATE_PROFILE, Refusal.CREDENTIAL]
)
def test_a_stranger_is_not_told_why(reason: Refusal) -> None:
    assert objects(machine().farewell(RemoteProtocolError(reason)))[0]["code"] == "unauthenticated"


@pytest.mark.parametrize("reason", [Refusal.IDLE, Refusal.READ_DEADLINE, Refusal.WRITE_STALLED])
def test_to_whom_no_last_words_are_owed(reason: Refusal) -> None:
    assert welcomed().farewell(RemoteProtocolError(reason)) == b""


# ---------------------------------------------------------------------------- drain


def test_a_drain_says_so_and_ends() -> None:
    chat = welcomed()
    chat.drain()
    assert chat.finished
    chat.drain()
    assert [item["code"] for item in objects(chat.data_to_send())] == ["draining"]


def test_what_was_said_is_kept_until_it_is_answered() -> None:
    chat = welcomed()
    chat.receive_data(frames(PING) + b"00")
    assert chat.buffered == len(frames(PING)) + 2
    chat.next_event()
    chat.said(10)
    chat.said(20)
    assert chat.buffered == 32
    phase = chat.phase
    assert chat.next_event() is None
    assert (chat.buffered, chat.phase) == (32, phase + 1), "half a frame has its deadline"
    chat.receive_data(b"")
    chat.answered(2, 30)
    assert chat.buffered == 2
    chat = welcomed()
    chat.said(10)
    phase = chat.phase
    assert chat.next_event() is None
    assert (chat.buffered, chat.phase) == (10, phase), "what waits for the disk has none"


def test_a_drain_waits_for_what_was_said_and_reads_no_more() -> None:
    chat = welcomed()
    chat.receive_data(frames(PING) + b"00")
    chat.said(10)
    chat.said(20)
    chat.drain()
    chat.receive_data(frames(PING))
    assert (chat.next_event(), chat.finished, chat.buffered) == (None, False, 30), (
        "what was said, not what was sent"
    )
    chat.answered(1, 10)
    assert not chat.finished
    chat.answered(1, 20)
    assert chat.finished
    chat.receive_eof(clean=False)  # what was left unread is nobody's fault


def test_a_drain_and_the_peer_s_end_still_wait() -> None:
    chat = welcomed()
    chat.said(1)
    chat.drain()
    chat.receive_eof(clean=True)
    assert chat.next_event() is ENDED


# ---------------------------------------------------------------------------- out


def test_an_answer_is_framed_and_counted() -> None:
    chat = welcomed()
    chat.answer(b"{}")
    assert chat.data_to_send() == b"00002{}"
    assert chat.framing.counters.frames_sent == 1


def test_too_much_that_is_not_acknowledged() -> None:
    chat = welcomed(ChatLimits(chat_unacknowledged_count=2, chat_unacknowledged_bytes=100))
    for size, ahead in ((50, False), (50, False), (0, True)):
        chat.said(size)
        assert chat.is_ahead is ahead
    chat.answered(2, 0)
    assert not chat.is_ahead
    chat.said(1)
    assert chat.is_ahead, "101 bytes"


def test_a_say_is_read_to_the_last_byte() -> None:
    chat = welcomed()
    chat.receive_data(frames({"type": "say", "room": "ops", "id": say_id(1).decode(), "body": [1]}))
    assert requests(chat) == [Say("ops", say_id(1), b"[1]")]
