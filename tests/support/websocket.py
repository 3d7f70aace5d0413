"""The client's half of a WebSocket, frame by frame, and a small machine to put behind one."""

from __future__ import annotations

import struct

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.machine import Machine
from secure_net.messaging.websocket import WebSocketReader, encode

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3, and what has to be answered to it
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MASK = b"\x37\xfa\x21\x3d"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(
    payload: bytes = b"", opcode: int = TEXT, *, fin: bool = True, mask: bool = True, rsv: int = 0
) -> bytes:
    """A frame as a client sends it; `rsv` are the reserved bits, 0 to 7."""
    first, length, masked = (0x80 if fin else 0) | rsv << 4 | opcode, len(payload), 0x80 if mask else 0
    if length < 126:
        head = struct.pack("!BB", first, masked | length)
    elif length < 65_536:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if not mask:
        return head + payload
    return head + MASK + bytes(octet ^ MASK[index % 4] for index, octet in enumerate(payload))


def close(code: int = 1000, reason: bytes = b"") -> bytes:
    return frame(struct.pack("!H", code) + reason, CLOSE)


def upgrade(
    *fields: bytes,
    line: bytes = b"GET /socket HTTP/1.1",
    origin: bytes | None = b"https://localhost:8446",
    key: bytes | None = KEY,
    version: bytes | None = b"13",
) -> bytes:
    """The request that asks for a WebSocket. None leaves a field out."""
    lines = [line, b"Host: localhost:8446", b"Upgrade: websocket", b"Connection: keep-alive, Upgrade"]
    named = ((b"Origin", origin), (b"Sec-WebSocket-Key", key), (b"Sec-WebSocket-Version", version))
    lines += [name + b": " + value for name, value in named if value is not None]
    return b"\r\n".join((*lines, *fields, b"", b""))


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of every frame that a server sent; they are whole, final and unmasked."""
    found, at = [], 0
    while at < len(data):
        assert data[at] & 0xF0 == 0x80
        length, begin = data[at + 1], at + 2
        assert length < 128, "a server does not mask"
        if length >= 126:
            size = 2 if length == 126 else 8
            length, begin = int.from_bytes(data[begin : begin + size], "big"), begin + size
        assert begin + length <= len(data), "the last frame is cut"
        found.append((data[at] & 0x0F, data[begin : begin + length]))
        at = begin + length
    return found


class Parrot(Machine):
    """Events are lists of messages; `answer` says each again. The first has 10 seconds; `quit` ends it."""

    __slots__ = ("_ended", "_reader")

    def __init__(self, reader: WebSocketReader) -> None:
        super().__init__()
        self._reader, self._ended = reader, False
        self.outgoing.append(encode(b"hello"))
        self._enter(10.0, Refusal.AUTHENTICATION_DEADLINE)

    def receive_data(self, data: bytes) -> None:
        self._reader.receive(data)
        self.buffered = self._reader.buffered

    def receive_eof(self, *, clean: bool) -> None:
        self._ended = True
        if self._reader.buffered:
            raise RemoteProtocolError(Refusal.TRUNCATED)

    def next_event(self) -> list[bytes] | None:
        payloads = self._reader.next_batch()
        self.buffered = self._reader.buffered
        if payloads:
            self._enter(None, Refusal.IDLE)
            self.finished = b"quit" in payloads
            return payloads
        if self.buffered and self.allowance_reason is Refusal.IDLE:
            self._enter(10.0, Refusal.READ_DEADLINE)
        return None

    def answer(self, payloads: list[bytes]) -> None:
        self.outgoing += map(encode, payloads)

    def farewell(self, error: RemoteProtocolError) -> bytes:
        return encode(b"sorry")

    def drain(self) -> None:
        self.outgoing.append(encode(b"draining"))
        self.finished = True
