"""Chat's machine: requests out of bytes, answers into bytes.

Theory of operation. A `hello` comes first, within its deadline. From there on the machine gives
out batches: what was asked, in order, and where an object broke the rules the encoded `error` that says so in
its place, so that answers leave in the order of their questions. Between batches it gives out a `Pull` for a
room in `pulling`, whose past is being sent: as the shell asks for events only while the peer takes what it
was sent, the past is read from the store no faster than the peer reads.

A `say` is answered later than what was asked behind it: by its `ack`, or an `error`. How many are outstanding
is counted here (`said`, `answered`), so that a connection that drains, or whose peer sends no more, ends when
the last of them is answered.

How bytes become payloads is the reader's business (frames, or the messages of a WebSocket), how payloads
become bytes the `Framing`'s; the rest of chat knows nothing of either.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.limits import ChatLimits, FrameLimits
from secure_net.machine import Machine
from secure_net.messaging.frames import BATCH, FrameReader, encode_many, width_for
from secure_net.messaging.messages import (
    AnyRequest,
    Code,
    Hello,
    error,
    read_requests,
)

if TYPE_CHECKING:
    from secure_net.metrics import ServiceCounters


class Reader(Protocol):
    """Bytes in, payloads out: `FrameReader`, or one for another transport.

    `buffered`: bytes that were received and are in no payload given out yet.
    """

    buffered: int

    def receive(self, data: bytes) -> None: ...

    def next_batch(self, most: int = BATCH) -> list[bytes]:
        """The next payloads, none where more bytes are needed. Raises `RemoteProtocolError`."""
        ...


class Framing:
    """How payloads become bytes on one service's transport, and where they are counted. Compared by identity:
    members of one framing get the very same bytes."""

    __slots__ = ("counters", "encode_many")

    def __init__(self, encode_many: Callable[[Sequence[bytes]], bytes], counters: ServiceCounters) -> None:
        self.encode_many = encode_many
        self.counters = counters

    def encode(self, payload: bytes) -> bytes:
        return self.encode_many((payload,))


def frame_framing(limits: FrameLimits, counters: ServiceCounters) -> Framing:
    """Frames with a header as wide as `limits` ask for."""
    width = width_for(limits.frame_bytes)

    def encode_frames(payloads: Sequence[bytes]) -> bytes:
        return encode_many(payloads, width=width)

    return Framing(encode_frames, counters)


class Pull(NamedTuple):
    """The peer takes what it is sent: there is room for more of what was said in `room` before."""

    room: str


class Ended(enum.Enum):
    """The peer sends no more, and some of what it said is not answered yet."""

    ENDED = enum.auto()


ENDED = Ended.ENDED

Batch = list[AnyRequest | bytes]
Event = Batch | Pull | Ended

# What a refusal by the shell is called on the wire. For those that are not here nobody reads last words.
_CODES = {
    Refusal.MALFORMED: Code.MALFORMED,
    Refusal.UNSUPPORTED: Code.MALFORMED,
    Refusal.TOO_LARGE: Code.TOO_LARGE,
    Refusal.CREDENTIAL: Code.UNAUTHENTICATED,
    Refusal.AUTHENTICATION_DEADLINE: Code.UNAUTHENTICATED,
    Refusal.NOT_PERMITTED: Code.NOT_PERMITTED,
    Refusal.CERTIFICATE_REVOKED: Code.REVOKED,
    Refusal.REVOKED: Code.REVOKED,
    Refusal.EXPIRED: Code.EXPIRED,
    Refusal.OUTBOX: Code.SLOW_CONSUMER,
    Refusal.DRAINING: Code.DRAINING,
    Refusal.CONNECTIONS_PER_PRINCIPAL: Code.UNAVAILABLE,
    Refusal.MEMORY: Code.UNAVAILABLE,
    Refusal.PENALTY: Code.UNAVAILABLE,
    Refusal.INTERNAL: Code.INTERNAL,
}

# Before the welcome these look like any other credential that is not believed.
_STRANGER = frozenset(
    {Refusal.CERTIFICATE_PROFILE, Refusal.CERTIFICATE_REVOKED, Refusal.REVOKED, Refusal.EXPIRED}
)


class ChatMachine(Machine):
    """One connection of a chat service.

    `pulling` names the rooms whose past is being sent; whoever takes one's `Pull` puts it back while there is
    more. `unacknowledged` and `unacknowledged_bytes` are the `say`s without an answer and their bodies, which
    are part of what is `buffered`: where the disk is slow they are what a publisher costs.
    """

    __slots__ = (
        "_ended",
        "_frame_seconds",
        "_in_frame",
        "_is_pulls_turn",
        "_limits",
        "_reader",
        "draining",
        "framing",
        "greeted",
        "pulling",
        "unacknowledged",
        "unacknowledged_bytes",
        "welcomed",
    )

    def __init__(
        self,
        limits: ChatLimits,
        frame: FrameLimits,
        framing: Framing,
        *,
        authentication_seconds: float,
        reader: Reader | None = None,
    ) -> None:
        """A `hello` has `authentication_seconds`. `reader` is one of frames unless given."""
        super().__init__()
        self._limits, self._frame_seconds = limits, frame.frame_seconds
        self._reader: Reader = reader or FrameReader(frame.frame_bytes)
        self.framing = framing
        self.pulling: deque[str] = deque()
        self.unacknowledged = self.unacknowledged_bytes = 0
        self._in_frame = self._ended = self._is_pulls_turn = False
        self.greeted = self.welcomed = self.draining = False
        self._enter(authentication_seconds, Refusal.AUTHENTICATION_DEADLINE)

    # -- in -------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        if not self.draining:
            self._reader.receive(data)
            self.buffered = self._reader.buffered + self.unacknowledged_bytes

    def receive_eof(self, *, clean: bool) -> None:
        self._ended = True
        if not clean:
            self._refuse_partial()

    def next_event(self) -> Event | None:
        """The next thing to do. Raises `RemoteProtocolError` for a bad frame, and for a first object that is
        not `hello`."""
        if self.draining:
            return self._end()
        pull = self._is_pulls_turn and self._pull()
        if pull:
            return pull
        payloads = self._reader.next_batch()
        self.buffered = self._reader.buffered + self.unacknowledged_bytes
        if payloads:
            self._is_pulls_turn = True
            self.framing.counters.frames_received += len(payloads)
            self._arrived()
            requests = read_requests(payloads, self._limits)
            if not self.greeted:
                self._greet(requests)
            return requests
        self._watch_frame()
        return self._pull() or self._end()

    def _greet(self, requests: Batch) -> None:
        """What breaks the rules of JSON or chat is answered as ever; what does not has to be a `hello`."""
        for request in requests:
            if type(request) is Hello:
                self.greeted = True
                return
            if type(request) is not bytes:
                raise RemoteProtocolError(Refusal.CREDENTIAL, "the first object is not a hello")

    def _pull(self) -> Pull | None:
        """Requests and the past take turns: neither keeps the other waiting."""
        self._is_pulls_turn = False
        return Pull(self.pulling.popleft()) if self.pulling else None

    def _end(self) -> Ended | None:
        if not self._ended:
            return None
        self._refuse_partial()
        return ENDED if self.unacknowledged else None

    def _refuse_partial(self) -> None:
        if self._reader.buffered and not self.draining:
            raise RemoteProtocolError(Refusal.TRUNCATED, "the end came within a frame")

    # -- deadlines ------------------------------------------------------------------------------------

    def welcome(self) -> None:
        """Who the peer is is known: from here on it may be silent, within the shell's bound."""
        self.welcomed = True
        self._arrived()

    def _arrived(self) -> None:
        """Something whole is here: silence, and the time of the next frame, count anew."""
        if self.welcomed:  # before, one deadline holds whatever comes
            self._in_frame = False
            self._enter(None, Refusal.IDLE)

    def _watch_frame(self) -> None:
        if self._reader.buffered and self.welcomed and not self._in_frame:
            self._in_frame = True
            self._enter(self._frame_seconds, Refusal.READ_DEADLINE)

    # -- out ------------------------------------------------------------------------------------------

    def answer(self, payload: bytes) -> None:
        """Queue one object for the peer."""
        self.outgoing.append(self.framing.encode(payload))
        self.framing.counters.frames_sent += 1

    def said(self, size: int) -> None:
        """A `say` with a body of so many bytes was accepted, and will be answered."""
        self.unacknowledged += 1
        self.unacknowledged_bytes += size
        self.buffered += size

    def answered(self, count: int, size: int) -> None:
        """So many of them have their answer in `outgoing`."""
        self.unacknowledged -= count
        self.unacknowledged_bytes -= size
        self.buffered -= size
        if self.draining and not self.unacknowledged:
            self.finished = True

    @property
    def is_ahead(self) -> bool:
        """More was said than may wait for an answer."""
        limits = self._limits
        return (
            self.unacknowledged > limits.chat_unacknowledged_count
            or self.unacknowledged_bytes > limits.chat_unacknowledged_bytes
        )

    def farewell(self, error_: RemoteProtocolError) -> bytes:
        reason = error_.reason
        stranger = not self.welcomed and reason in _STRANGER
        code = Code.UNAUTHENTICATED if stranger else _CODES.get(reason)
        self.finished = True
        return b"" if code is None else self.framing.encode(error(code))

    def drain(self) -> None:
        """Say that we stop; what was said is still answered, what was not read yet is dropped."""
        if not self.draining:
            self.draining = True
            self.buffered = self.unacknowledged_bytes
            self.answer(error(Code.DRAINING))
            self.finished = not self.unacknowledged
