"""Chat's JSON as the text messages of a WebSocket (RFC 6455), behind a head that we parsed ourselves.

Theory of operation. A connection begins as HTTP, under the grammar and limits of `secure_net.http`.
`handshake` judges the request that asks for a WebSocket; then `WebSocketMachine` puts another machine in
the place of the HTTP one, which reads messages from a `WebSocketReader` as it would read frames from a
`FrameReader`.

Frames are read by the sans-IO half of `websockets` (decision 0009). What it leaves to its asyncio half is
done here: joining fragments, UTF-8, binary messages, and what may stand in a close frame: a code and a
constant word. What goes to the browser is not masked, so one frame serves every member of a room.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from secure_net.errors import NotPermittedError, Refusal, RemoteProtocolError
from secure_net.http.fields import malformed
from secure_net.http.head import Head
from secure_net.http.protocol import HTTPMachine
from secure_net.machine import Machine
from secure_net.messaging.frames import BATCH

SUBPROTOCOL = "secure-net.chat.v1"
VERSION = (b"sec-websocket-version", b"13")

# RFC 6455 section 7.4.1, and the IANA registry for 1012 and 1013.
NORMAL, PROTOCOL_ERROR, UNSUPPORTED_DATA, INVALID_DATA, POLICY = 1000, 1002, 1003, 1007, 1008
MESSAGE_TOO_BIG, INTERNAL_ERROR, SERVICE_RESTART, TRY_AGAIN_LATER = 1009, 1011, 1012, 1013

# Which code goes with a refusal that is not the reader's own (those bring theirs).
_CODES = {
    Refusal.MALFORMED: PROTOCOL_ERROR,
    Refusal.TOO_LARGE: MESSAGE_TOO_BIG,
    Refusal.UNSUPPORTED: UNSUPPORTED_DATA,
    Refusal.INTERNAL: INTERNAL_ERROR,
    Refusal.DRAINING: SERVICE_RESTART,
    Refusal.MEMORY: TRY_AGAIN_LATER,
    Refusal.OUTBOX: TRY_AGAIN_LATER,
    Refusal.OVERLOAD: TRY_AGAIN_LATER,
    Refusal.CONNECTIONS_PER_PRINCIPAL: TRY_AGAIN_LATER,
}

# Frames that complete no message (fragments, and control frames among them, or before the first message):
# beyond this a peer only keeps us busy.
LOOSE_FRAMES = 1024
_SLICE = 4096  # bytes parsed at once: as long as messages wait to be handed out, no more are made

# Whatever it would say is said by the error that we raise.
_SILENT = logging.getLogger(__name__)
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


# --- out -------------------------------------------------------------------------------------------


def encode(payload: bytes) -> bytes:
    """One text message, as a server sends it: unmasked, whole. `payload` is UTF-8."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    if length < 65_536:
        return struct.pack("!BBH", 0x81, 126, length) + payload
    return struct.pack("!BBQ", 0x81, 127, length) + payload


def encode_many(payloads: Sequence[bytes]) -> bytes:
    """A message for each."""
    return b"".join(map(encode, payloads))


def close_frame(code: int, reason: str = "") -> bytes:
    """The frame that begins, or ends, the closing handshake (RFC 6455 section 5.5.1)."""
    payload = struct.pack("!H", code) + reason.encode("ascii")
    return b"\x88%c%b" % (len(payload), payload)


def close_code(error: RemoteProtocolError) -> int:
    """The code that goes with a refusal; what has none of its own breaks a rule of the house (1008)."""
    return error.status if error.status >= NORMAL else _CODES.get(error.reason, POLICY)


# --- in --------------------------------------------------------------------------------------------


class WebSocketReader:
    """Bytes in, payloads of text messages out; reads as `FrameReader` does.

    `buffered`: bytes that were received and are in no payload given out yet. `control`: what the protocol
    itself owes the peer (pongs, the answer to its close). `closed`: the peer's close frame has arrived.
    `alive`: how many frames of whatever kind have come, so that pings count against silence.
    """

    __slots__ = (
        "_begun",
        "_error",
        "_frames",
        "_in_parser",
        "_input",
        "_is_fresh",
        "_loose",
        "_partial",
        "_protocol",
        "alive",
        "buffered",
        "closed",
        "control",
        "largest",
    )

    def __init__(self, largest: int) -> None:
        """`largest` message in bytes, however many frames it comes in."""
        self.largest = largest
        self._protocol = ServerProtocol(state=State.OPEN, max_size=largest, logger=_SILENT)
        self._input: deque[bytes] = deque()
        self._in_parser = 0  # bytes of a frame that is not whole yet
        self._frames: deque[Frame] = deque()
        self._partial = bytearray()  # of a message that comes in fragments ...
        self._begun: Opcode | None = None  # ... and of which kind it is
        self._is_fresh = True  # no message has come yet
        self._loose = 0
        self._error: RemoteProtocolError | None = None
        self.alive = 0
        self.buffered = 0
        self.closed = False
        self.control: list[bytes] = []

    def receive(self, data: bytes) -> None:
        """Take bytes, in order. What follows the peer's close frame is dropped."""
        if data and not self.closed and self._error is None:
            self._input.append(data)
            self.buffered += len(data)

    def next_batch(self, most: int = BATCH) -> list[bytes]:
        """The next whole messages, `most` at a time; none where more bytes are needed.

        Raises `RemoteProtocolError`, its status the close code, once the messages before it have been given
        out: 1002 for what is no frame from a client, 1003 for a binary message, 1007 for what is not UTF-8,
        1008 for too many fragments, 1009 for a message over `largest`.
        """
        payloads: list[bytes] = []
        while len(payloads) < most and (self._frames or self._parse()):
            try:
                payload = self._take(self._frames.popleft())
            except RemoteProtocolError as error:
                self._fail(error)
                break
            if payload is not None:
                payloads.append(payload)
        self._account()
        if not payloads and self._error is not None:
            raise self._error
        return payloads

    def _parse(self) -> bool:
        """Read on until there are frames. False: there are none, for want of bytes or after an error."""
        protocol = self._protocol
        while self._input and not self._frames and self._error is None and not self.closed:
            piece = self._input.popleft()
            if len(piece) > _SLICE:
                self._input.appendleft(piece[_SLICE:])
                piece = piece[:_SLICE]
            protocol.receive_data(piece)
            frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
            self._frames += frames
            self._in_parser += len(piece) - sum(map(_size, frames))
            owed = [data for data in protocol.data_to_send() if data]
            if protocol.parser_exc is not None:
                self._error = _refusal(protocol.parser_exc)
            else:
                self.control += owed
        return bool(self._frames)

    def _take(self, frame: Frame) -> bytes | None:
        """The payload of the message that `frame` completes, None where it does not."""
        self.alive += 1
        opcode = frame.opcode
        if opcode is Opcode.CLOSE:
            self.closed = True
            self._forget()
            return None
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if opcode is Opcode.BINARY:
                raise RemoteProtocolError(Refusal.UNSUPPORTED, "a binary message", UNSUPPORTED_DATA)
            if frame.fin:
                return self._whole(bytes(frame.data))
            self._begun = opcode
        if opcode is Opcode.TEXT or opcode is Opcode.CONT:
            self._partial += frame.data
            if frame.fin:
                payload, self._begun = bytes(self._partial), None
                self._partial.clear()
                return self._whole(payload)
        if self._begun is not None or self._is_fresh:
            self._loose += 1
            if self._loose > LOOSE_FRAMES:
                raise RemoteProtocolError(Refusal.TOO_LARGE, "too many frames for one message", POLICY)
        return None

    def _whole(self, payload: bytes) -> bytes:
        self._is_fresh, self._loose = False, 0
        if not payload.isascii():
            try:
                payload.decode("utf-8")
            except UnicodeDecodeError:
                raise RemoteProtocolError(
                    Refusal.MALFORMED, "a text message is not UTF-8", INVALID_DATA
                ) from None
        return payload

    def _fail(self, error: RemoteProtocolError) -> None:
        self._error = error
        self._forget()

    def _forget(self) -> None:
        self._input.clear()
        self._frames.clear()
        self._partial.clear()

    def _account(self) -> None:
        if self.closed or self._error is not None:
            self.buffered = 0
            return
        waiting = sum(map(len, self._input)) + sum(len(frame.data) for frame in self._frames)
        self.buffered = waiting + len(self._partial) + self._in_parser


def _size(frame: Frame) -> int:
    """What it took on the wire, its length written in as few bytes as RFC 6455 section 5.2 demands.

    Where a peer wrote more, some of it counts as waiting ever after, and it is closed as too slow.
    """
    length = len(frame.data)
    return 6 + length + (0 if length < 126 else 2 if length < 65_536 else 8)


def _refusal(error: Exception) -> RemoteProtocolError:
    """What the library found, in our words. Anything but these three is a fault of ours."""
    if isinstance(error, PayloadTooBig):
        return RemoteProtocolError(Refusal.TOO_LARGE, "a message over the limit", MESSAGE_TOO_BIG)
    if isinstance(error, UnicodeDecodeError):
        return RemoteProtocolError(Refusal.MALFORMED, "the reason of a close is not UTF-8", INVALID_DATA)
    if isinstance(error, ProtocolError):
        return RemoteProtocolError(Refusal.MALFORMED, f"websocket: {error}", PROTOCOL_ERROR)
    raise error


# --- the handshake -----------------------------------------------------------------------------------


def handshake(head: Head, origins: Collection[str]) -> bytes:
    """The head of the 101 that makes this request's connection a WebSocket (RFC 6455 section 4.2).

    `Origin` has to be there and to be one of `origins`, to the letter: a page from elsewhere, or a file among
    the files we serve on another port, may hold the browser of somebody whom a certificate makes known to us.
    Raises `NotPermittedError` for another origin, `RemoteProtocolError` (400) for what is no handshake.
    """
    origin = (head.get(b"origin") or b"").decode("ascii")
    if origin not in origins:
        raise NotPermittedError(f"origin: {origin or 'none'}")
    headers = Headers([(name.decode("ascii"), value.decode("ascii")) for name, value in head.headers])
    judge = ServerProtocol(
        subprotocols=[Subprotocol(SUBPROTOCOL)], select_subprotocol=_subprotocol, logger=_SILENT
    )
    answer = judge.accept(Handshake(head.path, headers, head.method, protocol=f"HTTP/1.{head.minor}"))
    if judge.handshake_exc is not None:
        raise malformed(f"websocket: {judge.handshake_exc}")
    lines = [f"{name}: {value}\r\n" for name, value in answer.headers.raw_items() if name != "Date"]
    return f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n".encode("ascii")


def _subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Ours where it is offered, none otherwise: who names others only is not turned away for it."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


# --- the machine -------------------------------------------------------------------------------------


class WebSocketMachine(Machine):
    """HTTP until `switch`; then whatever machine was given there, with the rules of a WebSocket around it.

    Its events are those of the machine in charge, which writes to the same `outgoing` and sets the deadlines.
    """

    __slots__ = ("_began", "_draining", "_http", "_reader", "_said_close", "_stage")

    def __init__(self, http: HTTPMachine) -> None:
        super().__init__()
        self._http = http
        self._stage: Machine = http
        self._reader: WebSocketReader | None = None
        self._began = 0  # our phase when the machine in charge was at its phase 0
        self._draining = self._said_close = False
        self.outgoing = http.outgoing
        self._mirror()

    @property
    def http(self) -> HTTPMachine:
        """The machine of the first stage, for whoever answers its requests."""
        return self._http

    @property
    def buffered(self) -> int:
        """Of the machine in charge, at any time: what is acknowledged between two events is kept no more."""
        return self._stage.buffered

    @buffered.setter
    def buffered(self, count: int) -> None:
        """It is the other machine's to say."""

    @property
    def is_websocket(self) -> bool:
        return self._reader is not None

    def switch(self, head: bytes, reader: WebSocketReader, machine: Machine) -> None:
        """Answer the HTTP request under way with `head` (see `handshake`).

        `machine`, which reads from `reader`, takes it from there.
        """
        rest = self._http.switch(head)
        self.outgoing += machine.outgoing
        machine.outgoing = self.outgoing
        self._began = self.phase + 1
        self._stage, self._reader = machine, reader
        machine.receive_data(rest)
        if self._draining:
            machine.drain()

    def receive_data(self, data: bytes) -> None:
        self._stage.receive_data(data)

    def receive_eof(self, *, clean: bool) -> None:
        """A browser that goes without a close frame does no harm; an end within a message is truncated."""
        self._stage.receive_eof(clean=clean)

    def next_event(self) -> Any:
        stage, reader = self._stage, self._reader
        seen = 0 if reader is None else reader.alive
        event = stage.next_event()
        if reader is not None:
            if reader.alive != seen and stage.allowance_reason is Refusal.IDLE:
                self._began += 1  # a ping, too, is a sign of life
            if event is None:
                self._settle(reader, stage)
        self._mirror()
        return event

    def _settle(self, reader: WebSocketReader, stage: Machine) -> None:
        """All messages are answered: now what the protocol itself has to say, in this order."""
        self.outgoing += reader.control
        reader.control.clear()
        if reader.closed:
            self._said_close = True  # the answer to theirs was among it
        elif stage.finished:
            self._say_close(SERVICE_RESTART if self._draining else NORMAL)

    def _say_close(self, code: int) -> None:
        if not self._said_close:
            self._said_close = True
            self.outgoing.append(close_frame(code))

    def _mirror(self) -> None:
        """What the shell reads of a machine, from the one in charge."""
        stage, reader = self._stage, self._reader
        self.phase = self._began + stage.phase
        self.allowance, self.allowance_reason = stage.allowance, stage.allowance_reason
        self.finished = stage.finished or (reader is not None and reader.closed)

    def deadline_passed(self) -> None:
        self._stage.deadline_passed()

    def farewell(self, error: RemoteProtocolError) -> bytes:
        """The last words of the machine in charge, and the close frame that goes with the refusal."""
        words = self._stage.farewell(error)
        if self._reader is None or self._said_close or self._reader.closed:
            return words
        self._said_close = True
        return words + close_frame(close_code(error), error.reason.value)

    def drain(self) -> None:
        """Finish; a WebSocket ends with 1012, by which a page knows to come back soon."""
        self._draining = True
        self._stage.drain()
        self._mirror()
