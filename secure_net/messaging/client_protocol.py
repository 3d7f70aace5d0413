"""The client's machine of chat: frames of JSON, and nothing believed of what a server sends.

Theory of operation. The machine says `hello` by itself; after the server's `welcome` it takes requests, and
`next_event` gives lists of what the server said. Every object must be whole, of a known type and expected:

====================================== ===============================================================
`joined`, `left`, `history`, `who`     answer what was asked of that room; one question is open per room
`ack`, and `error` with an `id`        answer a `say` that is open
`message`                              bears the next sequence number of a room that is joined
`error` with a room and no `id`        answers the question that is open there, or puts us out of the room
`error` with neither                   concerns the connection
====================================== ===============================================================

Anything else is a `RemoteProtocolError`, as is a gap or a repetition: what this machine hands out of a room
is in order and without either. It pings by itself when nothing was sent for a while, for a server cuts off
whoever is silent; when no answer comes it says that the server is gone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.limits import FrameLimits
from secure_net.machine import Machine
from secure_net.messaging import client_messages, frames
from secure_net.messaging.client_messages import (
    LARGEST,
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
    ServerLimits,
    Welcome,
    Who,
    is_id,
    is_room,
)
from secure_net.messaging.frames import FrameReader, width_for

WELCOME_SECONDS = 10.0  # what a server may take to say who we are
PONG_SECONDS = 20.0
QUIET_RATIO = 3.0  # silent for this part of what the server allows, we ping

# The codes by which each kind of question is refused. Any other that names a joined room puts us out of it.
_REFUSES: Mapping[type[Event], frozenset[str]] = {
    Joined: frozenset({"not_permitted", "rooms", "history_gap", "no_history", "unavailable", "internal"}),
    Left: frozenset({"not_joined", "internal"}),
    History: frozenset({"not_permitted", "no_history", "unavailable", "internal"}),
    Who: frozenset({"not_permitted", "internal"}),
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Question:
    """What was asked of a room; `place` is its `after` or `before`, `most` how much a page may hold."""

    kind: type[Event]
    place: int | str | None = None
    most: int = 0


class ChatClientMachine(Machine):
    """One connection to a chat server.

    `welcome` is what the server said of itself, None before; `draining` says that it will close, and takes no
    more requests. `error` is what `next_event` raised.
    """

    __slots__ = (
        "_ended",
        "_pings",
        "_questions",
        "_quiet_seconds",
        "_reader",
        "_rooms",
        "_said",
        "_said_bytes",
        "_width",
        "draining",
        "error",
        "welcome",
    )

    def __init__(self, limits: FrameLimits, token: str | None = None) -> None:
        super().__init__()
        self._width = width_for(limits.frame_bytes)
        self._reader = FrameReader(limits.frame_bytes, self._width)
        self._questions: dict[str, _Question] = {}
        self._rooms: dict[str, int] = {}  # the sequence number that is next, of each room that is joined
        self._said: dict[str, int] = {}  # by id: the bytes of what is not acknowledged
        self._said_bytes = self._pings = 0
        self._ended = self.draining = False
        self.welcome: Welcome | None = None
        self.error: RemoteProtocolError | None = None
        self._quiet_seconds = WELCOME_SECONDS
        self._send({"type": "hello"} if token is None else {"type": "hello", "token": token})

    # -- what we ask ----------------------------------------------------------------------------------
    # Each raises `LocalProtocolError` before the welcome, while the server drains, for a room that cannot be
    # one, and while another question to the same room is open.

    def join(self, room: str, after: int | None = None) -> None:
        """Ask to be in `room`; with `after`, to be given every message behind that one first."""
        if room in self._rooms:
            raise LocalProtocolError(f"{room} is joined already")
        request: dict[str, Any] = {"type": "join", "room": room}
        if after is not None:
            request["after"] = _place(after)
        self._ask(room, _Question(Joined, after), request)

    def leave(self, room: str) -> None:
        self._ask(room, _Question(Left), {"type": "leave", "room": room})

    def history(self, room: str, before: int | None, limit: int) -> None:
        """Ask for the newest `limit` messages, or as many as a page holds; `before` is a sequence number."""
        if limit < 1:
            raise LocalProtocolError(f"a page of {limit}")
        limit = min(limit, self._limits().page_count)
        request: dict[str, Any] = {"type": "history", "room": room, "limit": limit}
        if before is not None:
            request["before"] = _place(before)
        self._ask(room, _Question(History, before, limit), request)

    def who(self, room: str, after: str | None = None) -> None:
        """Ask who is there; the next page begins behind the name `after`."""
        request = {"type": "who", "room": room} | ({} if after is None else {"after": after})
        self._ask(room, _Question(Who, after, self._limits().page_count), request)

    def say(self, room: str, id_: str, body: bytes) -> None:
        """Say `body`, which is JSON. The same `id_` may be said again where the answer stayed out."""
        limits = self._limits()
        if len(body) > limits.body_bytes:
            raise LocalProtocolError(f"a body of {len(body)} bytes; the server takes {limits.body_bytes}")
        _check_room(room)
        if not is_id(id_) or id_ in self._said:
            raise LocalProtocolError(f"{id_!r} is no id that is free; ids are 32 hex digits")
        self._send({"type": "say", "room": room, "id": id_, "body": msgspec.Raw(body)})
        self._said[id_] = len(body)
        self._said_bytes += len(body)

    def may_say(self, size: int) -> bool:
        """Whether a body of `size` bytes would be read at once: beyond its limits the server pauses."""
        limits = self._limits()
        if not self._said:
            return True
        return (
            len(self._said) < limits.unacknowledged_count
            and self._said_bytes + size <= limits.unacknowledged_bytes
        )

    def is_in(self, room: str) -> bool:
        """Whether its messages come."""
        return room in self._rooms

    def ping(self) -> None:
        self._pings += 1
        self._send({"type": "ping"})

    def finish(self) -> None:
        """Nothing more is wanted."""
        self.finished = True

    def _limits(self) -> ServerLimits:
        if self.welcome is None or self.draining:
            raise LocalProtocolError("the server takes no requests now")
        return self.welcome.limits

    def _ask(self, room: str, question: _Question, request: dict[str, Any]) -> None:
        self._limits()
        _check_room(room)
        if room in self._questions:
            raise LocalProtocolError(f"{room} was asked something already")
        self._send(request)
        self._questions[room] = question

    def _send(self, request: dict[str, Any]) -> None:
        self.outgoing.append(frames.encode(client_messages.encode(request), self._width))
        self._enter(self._quiet_seconds, Refusal.IDLE)  # the time of our silence begins anew

    # -- what the server says -------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        self._reader.receive(data)
        self.buffered = self._reader.buffered

    def receive_eof(self, *, clean: bool) -> None:
        self._ended = True
        if not clean:
            self._refuse_partial()

    def next_event(self) -> list[tuple[Event, int]] | None:
        """What the server said, each with the bytes that it took, or None.

        Raises `RemoteProtocolError`, once what was sound before it has been given out.
        """
        if self.error is not None:
            raise self.error
        events: list[tuple[Event, int]] = []
        try:
            for payload in self._reader.next_batch():
                event = self._accept(payload)
                events.append((event, len(payload)))
        except RemoteProtocolError as error:
            self.error = error
            if not events:
                raise
        self.buffered = self._reader.buffered
        if self._ended and not events:
            self._refuse_partial()
        return events or None

    def deadline_passed(self) -> None:
        """We were silent for long, or the server is: ping, or raise `RemoteProtocolError`."""
        if self.welcome is None or self._pings:
            self.error = RemoteProtocolError(self.allowance_reason, "the server is silent")
            raise self.error
        self.ping()
        self._enter(PONG_SECONDS, Refusal.IDLE)

    def drain(self) -> None:
        self.finish()

    def _refuse_partial(self) -> None:
        if self._reader.buffered:
            self.error = RemoteProtocolError(Refusal.TRUNCATED, "the end came within a frame")
            raise self.error

    def _accept(self, payload: bytes) -> Event:
        event = client_messages.decode(payload)
        if self.welcome is None:
            if isinstance(event, Welcome):
                self.welcome = event
                self._quiet_seconds = event.limits.idle_seconds / QUIET_RATIO
                self._enter(self._quiet_seconds, Refusal.IDLE)
                return event
            if isinstance(event, Refused) and event.id is event.room is None:
                return event
            raise _unexpected("before the welcome", event)
        return _ACCEPTS[type(event)](self, event) or event

    def _message(self, event: Message) -> None:
        expected = self._rooms.get(event.room)
        if expected is None:
            raise _unexpected("of a room that was not joined", event)
        if event.seq != expected:
            raise RemoteProtocolError(
                Refusal.MALFORMED, f"message {event.seq} of {event.room} where {expected} was next"
            )
        self._rooms[event.room] = expected + 1

    def _presence(self, event: Presence) -> None:
        if event.room not in self._rooms:
            raise _unexpected("of a room that was not joined", event)

    def _ack(self, event: Ack) -> None:
        self._settle(event.id, event)

    def _settle(self, id_: str, event: Event) -> None:
        size = self._said.pop(id_, None)
        if size is None:
            raise _unexpected("for what was not said", event)
        self._said_bytes -= size

    def _joined(self, event: Joined) -> None:
        after = self._answered(event.room, event).place
        if after is None:
            self._rooms[event.room] = event.seq + 1
            return
        if not (isinstance(after, int) and event.first - 1 <= after <= event.seq) or event.incarnation:
            raise RemoteProtocolError(
                Refusal.MALFORMED, f"joined {event.room} behind {after}, which is not kept"
            )
        self._rooms[event.room] = after + 1

    def _left(self, event: Left) -> None:
        self._answered(event.room, event)
        self._rooms.pop(event.room, None)

    def _history(self, event: History) -> None:
        question = self._answered(event.room, event)
        numbers = [message.seq for message in event.messages]
        if question.place is not None:
            numbers.append(int(question.place))
        if len(event.messages) > question.most or not _is_rising(numbers):
            raise _unexpected("other than asked", event)

    def _who(self, event: Who) -> None:
        question = self._answered(event.room, event)
        names = [] if question.place is None else [question.place]
        if len(event.members) > question.most or not _is_rising([*names, *event.members]):
            raise _unexpected("other than asked", event)

    def _answered(self, room: str, event: Event) -> _Question:
        question = self._questions.get(room)
        if question is None or question.kind is not type(event):
            raise _unexpected("nobody asked for", event)
        return self._questions.pop(room)

    def _pong(self, event: Pong) -> None:
        if not self._pings:
            raise _unexpected("nobody asked for", event)
        self._pings -= 1
        self._enter(self._quiet_seconds, Refusal.IDLE)

    def _refused(self, event: Refused) -> PutOut | None:
        if event.id is not None:
            self._settle(event.id, event)
        elif event.room is not None:
            return self._refused_room(event, event.room)
        elif event.code == "draining":
            self.draining = True
        return None

    def _refused_room(self, event: Refused, room: str) -> PutOut | None:
        if event.code == "history_gap" and (event.first is None or event.seq is None):
            raise _unexpected("without its numbers", event)
        question = self._questions.get(room)
        if question is not None and event.code in _REFUSES[question.kind]:
            del self._questions[room]
            return None
        if self._rooms.pop(room, None) is None:
            raise _unexpected("nobody asked for", event)
        return PutOut(event)

    def _second_welcome(self, event: Welcome) -> None:
        raise _unexpected("for the second time", event)


# What each type of object does to the machine, once the welcome is here.
_ACCEPTS: Mapping[type[Event], Callable[[ChatClientMachine, Any], PutOut | None]] = {
    Message: ChatClientMachine._message,
    Ack: ChatClientMachine._ack,
    Presence: ChatClientMachine._presence,
    Joined: ChatClientMachine._joined,
    Left: ChatClientMachine._left,
    History: ChatClientMachine._history,
    Who: ChatClientMachine._who,
    Pong: ChatClientMachine._pong,
    Refused: ChatClientMachine._refused,
    Welcome: ChatClientMachine._second_welcome,
}


def _unexpected(how: str, event: Event) -> RemoteProtocolError:
    return RemoteProtocolError(Refusal.MALFORMED, f"{type(event).__name__.lower()} {how}")


def _is_rising(values: Sequence[Any]) -> bool:
    return all(before < after for before, after in itertools.pairwise(values))


def _check_room(room: str) -> None:
    if not is_room(room):
        raise LocalProtocolError(f"{room!r} is no room; rooms are [a-z0-9._-]{{1,64}}")


def _place(seq: int) -> int:
    if not 0 <= seq <= LARGEST:
        raise LocalProtocolError(f"{seq} is no sequence number")
    return seq
