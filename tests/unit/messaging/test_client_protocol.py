"""The client's machine of chat: what it says, and that it believes nothing that was not asked for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.limits import FrameLimits
from secure_net.messaging.client_messages import (
    Ack,
    Event,
    History,
    Joined,
    Left,
    Message,
    Pong,
    Presence,
    PutOut,
    Refused,
    Welcome,
    Who,
)
from secure_net.messaging.client_protocol import PONG_SECONDS, WELCOME_SECONDS, ChatClientMachine
from secure_net.messaging.frames import FrameReader, encode
from secure_net.messaging.messages import Code

LIMITS = {
    "frame_bytes": 65536,
    "body_bytes": 1000,
    "unacknowledged_count": 3,
    "unacknowledged_bytes": 100,
    "page_count": 10,
    "idle_seconds": 30.0,
}
WELCOME = {"type": "welcome", "principal": "demo", "limits": LIMITS}
ID, OTHER_ID = "0" * 31 + "a", "0" * 31 + "b"
INCARNATION = "f" * 32

Request = Callable[[ChatClientMachine], None]


def wire(*objects: object) -> bytes:
    return b"".join(encode(json.dumps(item).encode()) for item in objects)


def machine(**options: Any) -> ChatClientMachine:
    return ChatClientMachine(FrameLimits(), **options)


def said(chat: ChatClientMachine) -> list[Any]:
    """The objects that are queued, and forget them."""
    reader = FrameReader(65536)
    reader.receive(chat.data_to_send())
    return [json.loads(payload) for payload in reader.next_batch()]


def events(chat: ChatClientMachine, data: bytes = b"") -> list[Event]:
    """Everything that comes of it, to the end."""
    chat.receive_data(data)
    found: list[Event] = []
    while (batch := chat.next_event()) is not None:
        found += [event for event, _ in batch]
    return found


def tell(chat: ChatClientMachine, *objects: object) -> list[Event]:
    return events(chat, wire(*objects))


def welcomed(*requests: Request) -> ChatClientMachine:
    chat = machine()
    tell(chat, WELCOME)
    for request in requests:
        request(chat)
    said(chat)
    return chat


def message(seq: int, room: str = "ops", **others: object) -> dict[str, object]:
    return {"type": "message", "room": room, "seq": seq, "from": "demo", "at": 1.5, "body": "x"} | others


def joined(seq: int = 0, first: int = 1, **others: object) -> dict[str, object]:
    return {"type": "joined", "room": "ops", "seq": seq, "first": first, "members": 1} | others


def error(code: str, **others: object) -> dict[str, object]:
    return {"type": "error", "code": code, "reason": "why"} | others


def in_room(after: int | None = None, seq: int = 0) -> ChatClientMachine:
    chat = welcomed(lambda chat: chat.join("ops", after))
    tell(chat, joined(seq))
    return chat


# --- what it says -----------------------------------------------------------------------------------------


def test_hello_comes_first_and_bears_the_token() -> None:
    assert said(machine()) == [{"type": "hello"}]
    assert said(machine(token="abc")) == [{"type": "hello", "token": "abc"}]


REQUESTS: list[tuple[Request, dict[str, object]]] = [
    (lambda chat: chat.join("ops"), {"type": "join", "room": "ops"}),
    (lambda chat: chat.join("ops", 0), {"type": "join", "room": "ops", "after": 0}),
    (lambda chat: chat.leave("ops"), {"type": "leave", "room": "ops"}),
    (lambda chat: chat.history("ops", None, 5), {"type": "history", "room": "ops", "limit": 5}),
    (lambda chat: chat.history("ops", 7, 99), {"type": "history", "room": "ops", "limit": 10, "before": 7}),
    (lambda chat: chat.who("ops"), {"type": "who", "room": "ops"}),
    (lambda chat: chat.who("ops", "a"), {"type": "who", "room": "ops", "after": "a"}),
    (
        lambda chat: chat.say("ops", ID, b'{"a": 1}'),
        {"type": "say", "room": "ops", "id": ID, "body": {"a": 1}},
    ),
    (lambda chat: chat.ping(), {"type": "ping"}),
]


@pytest.mark.parametrize(("request_", "expected"), REQUESTS)
def test_requests(request_: Request, expected: dict[str, object]) -> None:
    chat = welcomed()
    request_(chat)
    assert said(chat) == [expected]


@pytest.mark.parametrize(
    "request_",
    [
        lambda chat: chat.join("Ops"),
        lambda chat: chat.join(""),
        lambda chat: chat.join("a" * 65),
        lambda chat: chat.who("ops\n"),
        lambda chat: chat.say("a/b", ID, b"1"),
        lambda chat: chat.join("ops", -1),
        lambda chat: chat.join("ops", 2**63),
        lambda chat: chat.history("ops", -1, 1),
        lambda chat: chat.history("ops", None, 0),
        lambda chat: chat.say("ops", ID.upper(), b"1"),
        lambda chat: chat.say("ops", ID + "\n", b"1"),
        lambda chat: chat.say("ops", ID, b'"' + b"x" * 999 + b'"'),
    ],
)
def test_what_would_break_the_protocol_is_not_sent(request_: Request) -> None:
    chat = welcomed()
    with pytest.raises(LocalProtocolError):
        request_(chat)
    assert said(chat) == []
    # Nothing is left behind that would stand in the way of a sound one.
    chat.join("ops")
    chat.say("ops", ID, b"1")


@pytest.mark.parametrize("request_", [request for request, _ in REQUESTS[:-1]])
def test_nothing_is_asked_before_the_welcome_nor_of_a_server_that_drains(request_: Request) -> None:
    chat = machine()
    said(chat)
    with pytest.raises(LocalProtocolError):
        request_(chat)
    chat = welcomed()
    tell(chat, error("draining"))
    assert chat.draining
    with pytest.raises(LocalProtocolError):
        request_(chat)
    assert said(chat) == []


def test_one_question_is_open_per_room() -> None:
    chat = welcomed(lambda chat: chat.who("ops"))
    with pytest.raises(LocalProtocolError, match="already"):
        chat.join("ops")
    chat.join("dev")
    tell(chat, {"type": "who", "room": "ops", "members": [], "more": False})
    chat.join("ops")


def test_a_room_is_joined_once() -> None:
    chat = in_room()
    with pytest.raises(LocalProtocolError, match="joined already"):
        chat.join("ops")
    chat.leave("ops")
    tell(chat, {"type": "left", "room": "ops"})
    chat.join("ops")


def test_the_server_says_how_much_may_be_under_way() -> None:
    chat = welcomed()
    assert chat.may_say(1000)  # one goes always
    chat.say("ops", ID, b"1" * 60)
    assert chat.may_say(40)
    assert not chat.may_say(41)
    with pytest.raises(LocalProtocolError, match="free"):
        chat.say("ops", ID, b"1")
    chat.say("ops", OTHER_ID, b"1")
    chat.say("ops", "c" * 32, b"1")
    assert not chat.may_say(1)
    assert tell(chat, {"type": "ack", "id": ID, "seq": 1}) == [Ack(ID, 1)]
    assert chat.may_say(98)
    assert not chat.may_say(99)


# --- what it is told --------------------------------------------------------------------------------------


def test_the_welcome() -> None:
    chat = machine()
    (event,) = tell(chat, WELCOME)
    assert isinstance(event, Welcome)
    assert event is chat.welcome
    assert (event.principal, event.limits.page_count) == ("demo", 10)


def test_a_refusal_may_come_in_place_of_the_welcome() -> None:
    assert tell(machine(), error("unauthenticated")) == [Refused(Code.UNAUTHENTICATED, "why")]


CONVERSATION = [
    WELCOME,
    joined(2, first=1),
    message(1),
    message(2, body={"a": [None]}),
    {"type": "presence", "room": "ops", "member": "ann", "online": True},
    {"type": "ack", "id": ID, "seq": 3},
    message(3),
    error("id_reused", id=OTHER_ID, room="ops"),
    {"type": "pong"},
    {"type": "who", "room": "dev", "members": ["a", "b"], "more": True},
    {
        "type": "history",
        "room": "lab",
        "messages": [
            {"seq": 4, "from": "demo", "at": 1, "body": 1},
            {"seq": 6, "from": "demo", "at": 2.5, "body": ""},
        ],
        "more": False,
    },
    error("not_permitted", room="x"),
    {"type": "left", "room": "y"},
    error("malformed"),
    error("draining"),
]
UNDERSTOOD = [Welcome, Joined, Message, Message, Presence, Ack, Message, Refused, Pong, Who, History]
UNDERSTOOD += [Refused, Left, Refused, Refused]


def ask_all(chat: ChatClientMachine) -> None:
    chat.join("ops", 0)
    chat.say("ops", ID, b"1")
    chat.say("ops", OTHER_ID, b"1")
    chat.ping()
    chat.who("dev")
    chat.history("lab", None, 10)
    chat.join("x")
    chat.leave("y")


def understand(pieces: Iterable[bytes]) -> list[Event]:
    chat = machine()
    found: list[Event] = []
    for piece in pieces:
        before = chat.welcome
        found += events(chat, piece)
        if before is None and chat.welcome is not None:
            ask_all(chat)
    assert chat.buffered == 0
    return found


def test_a_conversation_whole_and_byte_by_byte() -> None:
    hello, rest = wire(WELCOME), wire(*CONVERSATION[1:])
    whole = understand([hello, rest])
    assert list(map(type, whole)) == UNDERSTOOD
    assert whole[3] == Message("ops", 2, "demo", 1.5, {"a": [None]})
    assert understand(bytes([byte]) for byte in hello + rest) == whole


@given(st.lists(st.integers(0, 2000)))
def test_a_conversation_in_any_pieces(cuts: list[int]) -> None:
    hello, rest = wire(WELCOME), wire(*CONVERSATION[1:])
    edges = [0, *sorted(cut % len(rest) for cut in cuts), len(rest)]
    pieces = [rest[begin:end] for begin, end in itertools.pairwise(edges)]
    assert list(map(type, understand([hello, *pieces]))) == UNDERSTOOD


def test_each_comes_with_what_it_took() -> None:
    chat = machine()
    data = wire(WELCOME)
    chat.receive_data(data)
    assert chat.buffered == len(data)
    batch = chat.next_event()
    assert batch is not None
    assert batch[0][1] == len(data) - 5


WRONG: list[tuple[str, list[Request], list[object]]] = [
    ("two welcomes", [], [WELCOME]),
    ("unknown type", [], [{"type": "x"}]),
    ("no type", [], [{}]),
    ("no object", [], [[]]),
    ("unknown field", [lambda chat: chat.ping()], [{"type": "pong", "x": 1}]),
    ("unknown code", [], [error("x")]),
    ("pong nobody asked for", [], [{"type": "pong"}]),
    ("ack nobody asked for", [], [{"type": "ack", "id": ID, "seq": 1}]),
    ("ack of nothing", [lambda chat: chat.say("ops", ID, b"1")], [{"type": "ack", "id": ID, "seq": 0}]),
    ("ack twice", [lambda chat: chat.say("ops", ID, b"1")], [{"type": "ack", "id": ID, "seq": 1}] * 2),
    ("refusal of what was not said", [], [error("id_reused", id=ID)]),
    ("refusal of what was not asked", [], [error("not_permitted", room="ops")]),
    ("a refusal that is none of these", [lambda chat: chat.who("ops")], [error("rooms", room="ops")]),
    ("gap without numbers", [lambda chat: chat.join("ops", 1)], [error("history_gap", room="ops")]),
    ("joined nobody asked for", [], [joined()]),
    ("the answer to another question", [lambda chat: chat.who("ops")], [joined()]),
    ("left nobody asked for", [], [{"type": "left", "room": "ops"}]),
    ("message of another room", [], [message(1)]),
    ("presence of another room", [], [{"type": "presence", "room": "ops", "member": "a", "online": True}]),
    ("joined behind what is not kept", [lambda chat: chat.join("ops", 3)], [joined(9, first=5)]),
    ("joined behind what is not there", [lambda chat: chat.join("ops", 3)], [joined(2)]),
    ("live, and asked to go on", [lambda chat: chat.join("ops", 0)], [joined(incarnation=INCARNATION)]),
    ("bad incarnation", [lambda chat: chat.join("ops")], [joined(incarnation="x")]),
    ("bad room", [lambda chat: chat.join("ops")], [joined(room="ops\n")]),
    ("a gap", [lambda chat: chat.join("ops")], [joined(), message(2)]),
    ("a repetition", [lambda chat: chat.join("ops", 0)], [joined(1), message(1), message(1)]),
    ("bad name", [lambda chat: chat.join("ops")], [joined(), message(1, **{"from": "\u001b[31m"})]),
    ("bad time", [lambda chat: chat.join("ops")], [joined(), message(1, at=-1)]),
    ("bad number", [lambda chat: chat.join("ops")], [joined(), message(1) | {"seq": "1"}]),
    (
        "a page that is too large",
        [lambda chat: chat.history("ops", None, 1)],
        [
            {
                "type": "history",
                "room": "ops",
                "messages": [{"seq": n, "from": "a", "at": 1, "body": 1} for n in (1, 2)],
                "more": False,
            }
        ],
    ),
    (
        "a page from elsewhere",
        [lambda chat: chat.history("ops", 5, 10)],
        [
            {
                "type": "history",
                "room": "ops",
                "messages": [{"seq": 5, "from": "a", "at": 1, "body": 1}],
                "more": False,
            }
        ],
    ),
    (
        "names out of order",
        [lambda chat: chat.who("ops")],
        [{"type": "who", "room": "ops", "members": ["b", "a"], "more": False}],
    ),
    (
        "names again",
        [lambda chat: chat.who("ops", "b")],
        [{"type": "who", "room": "ops", "members": ["b"], "more": False}],
    ),
    (
        "more names than a page has",
        [lambda chat: chat.who("ops")],
        [{"type": "who", "room": "ops", "members": list("abcdefghijk"), "more": False}],
    ),
]


@pytest.mark.parametrize(("requests", "objects"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_was_not_asked_for_is_not_believed(requests: list[Request], objects: list[object]) -> None:
    chat = welcomed(*requests)
    with pytest.raises(RemoteProtocolError) as caught:
        tell(chat, *objects)
    assert caught.value.reason is Refusal.MALFORMED
    assert chat.error is caught.value


@pytest.mark.parametrize("first", [message(1), {"type": "pong"}, joined(), error("internal", room="ops")])
def test_before_the_welcome_there_is_nothing_to_say(first: object) -> None:
    with pytest.raises(RemoteProtocolError, match="before the welcome"):
        tell(machine(), first)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"\xff", b'{"type":"pong"} x', b"[" * 60_000, b'{"type":"welcome","principal":"\xff"}'],
)
def test_what_is_no_json_is_not_believed(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        events(machine(), encode(payload))
    assert caught.value.reason is Refusal.MALFORMED


def test_a_bad_header() -> None:
    chat = machine()
    with pytest.raises(RemoteProtocolError) as caught:
        events(chat, b"99999")
    assert caught.value.reason is Refusal.TOO_LARGE


def test_what_was_sound_before_is_handed_out_first() -> None:
    chat = in_room()
    chat.receive_data(wire(message(1), message(3)))
    batch = chat.next_event()
    assert batch is not None
    assert [event for event, _ in batch] == [Message("ops", 1, "demo", 1.5, "x")]
    for _ in range(2):  # and then there is nothing more to be had
        with pytest.raises(RemoteProtocolError, match="message 3 of ops where 2 was next"):
            chat.next_event()


def test_where_messages_begin() -> None:
    assert tell(in_room(seq=7), message(8))
    assert tell(in_room(after=5, seq=7), message(6))
    chat = welcomed(lambda chat: chat.join("ops"))
    (event, _) = tell(chat, joined(4, first=5, incarnation=INCARNATION), message(5))
    assert isinstance(event, Joined)
    assert event.incarnation == INCARNATION


def test_while_we_leave_messages_still_come() -> None:
    chat = in_room()
    chat.leave("ops")
    assert len(tell(chat, message(1), {"type": "left", "room": "ops"})) == 2
    assert not chat.is_in("ops")


def test_put_out_of_a_room() -> None:
    chat = in_room()
    chat.who("ops")
    refused = Refused(Code.HISTORY_GAP, "why", room="ops", first=3, seq=5)
    assert chat.is_in("ops")
    assert tell(chat, error("history_gap", room="ops", first=3, seq=5)) == [PutOut(refused)]
    assert not chat.is_in("ops")
    # The question was another matter, and is still answered.
    assert tell(chat, {"type": "who", "room": "ops", "members": [], "more": False})


def test_a_refused_question_is_closed() -> None:
    chat = welcomed(lambda chat: chat.join("ops", 1))
    gap = error("history_gap", room="ops", first=5, seq=9)
    assert tell(chat, gap) == [Refused(Code.HISTORY_GAP, "why", None, "ops", 5, 9)]
    chat.join("ops", 4)


# --- silence, and the end ---------------------------------------------------------------------------------


def test_a_server_that_does_not_welcome_us_is_late() -> None:
    chat = machine()
    assert chat.allowance == WELCOME_SECONDS
    with pytest.raises(RemoteProtocolError):
        chat.deadline_passed()
    assert chat.error is not None


def test_whoever_is_silent_pings_and_a_server_that_is_silent_is_gone() -> None:
    chat = welcomed()
    assert (chat.allowance, chat.allowance_reason) == (10.0, Refusal.IDLE)
    phase = chat.phase
    chat.who("ops")  # our silence begins anew
    assert chat.phase > phase
    said(chat)
    phase = chat.phase
    tell(chat, {"type": "who", "room": "ops", "members": [], "more": False})
    assert chat.phase == phase  # what the server says is not what we say
    chat.deadline_passed()
    assert said(chat) == [{"type": "ping"}]
    assert chat.allowance == PONG_SECONDS
    assert tell(chat, {"type": "pong"}) == [Pong()]
    assert chat.allowance == 10.0
    chat.deadline_passed()
    with pytest.raises(RemoteProtocolError, match="silent") as caught:
        chat.deadline_passed()
    assert caught.value.reason is Refusal.IDLE


def test_an_end_within_a_frame_is_truncated() -> None:
    for clean in (True, False):
        chat = welcomed()
        events(chat, b"0000")
        with pytest.raises(RemoteProtocolError) as caught:
            chat.receive_eof(clean=clean)
            chat.next_event()
        assert caught.value.reason is Refusal.TRUNCATED


def test_an_end_between_frames_is_an_end() -> None:
    chat = in_room()
    chat.receive_data(wire(message(1)))
    chat.receive_eof(clean=True)
    assert len(events(chat)) == 1
    assert chat.next_event() is None
    chat.receive_eof(clean=False)


def test_finished() -> None:
    chat = welcomed()
    assert not chat.finished
    chat.drain()
    assert chat.finished
