"""A transport without a socket, and a TLS client without one: what the tests of the shell hold in hand.

`FakeTransport` keeps to what asyncio's socket transport does in 3.11, where the shell can tell: it calls
`pause_writing` from within `write`, `connection_lost` only later, raises when written to behind
`write_eof`, and drops its buffer at `abort`. The test decides what the peer takes (`room`, `take`).

`TLSPeer` is the other end of the stream: it shakes hands, sends and reads, all in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from typing import cast

from secure_net.wire.channel import Channel, State

UNLIMITED = 1 << 62


class FakeTransport(asyncio.Transport):
    """What is written lies in `sent` as far as the peer takes it, and waits in `waiting` above `room`."""

    def __init__(
        self, protocol: Channel, peername: tuple[str, int] = ("127.0.0.1", 50_000), room: int = UNLIMITED
    ) -> None:
        super().__init__({"peername": peername})
        self.protocol = protocol
        self.room = room
        self.sent = bytearray()
        self.waiting = bytearray()
        self.reading = True
        self.closing = self.aborted = self.eof_written = self.lost = False
        self.write_eof_error: OSError | None = None
        self._high, self._low = 64 * 1024, 16 * 1024
        self._writing_paused = False

    def connect(self) -> FakeTransport:
        self.protocol.connection_made(self)
        return self

    # -- the protocol's side --------------------------------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.aborted or self.lost:
            return
        self.waiting += data
        self._flow()
        if len(self.waiting) > self._high and not self._writing_paused:
            self._writing_paused = True
            self.protocol.pause_writing()

    def write_eof(self) -> None:
        if self.write_eof_error is not None:
            raise self.write_eof_error
        self.eof_written = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        assert self.reading or self.closing, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._lose_when_empty()

    def abort(self) -> None:
        self.waiting.clear()
        self.closing = self.aborted = True
        self._lose(None)

    def _lose_when_empty(self) -> None:
        if self.closing and not self.waiting:
            self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        """As asyncio does it: in the loop's next turn, and once."""
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self._call_connection_lost, error)

    def _call_connection_lost(self, error: Exception | None) -> None:
        protocol, self.protocol = self.protocol, cast(Channel, None)  # asyncio lets go of it as well
        protocol.connection_lost(error)

    def _flow(self) -> None:
        count = min(self.room, len(self.waiting))
        self.sent += self.waiting[:count]
        del self.waiting[:count]
        self.room -= count

    # -- the test's side ------------------------------------------------------------------------------

    def feed(self, data: bytes, pieces: Iterable[int] = ()) -> None:
        """The peer's bytes arrive: in these piece sizes, the rest in one read (or several, of 64 KiB)."""
        sizes = iter(pieces)
        while data and not self.lost:
            buffer = self.protocol.get_buffer(-1)
            size = max(1, min(next(sizes, len(buffer)), len(buffer)))
            piece, data = data[:size], data[size:]
            buffer[: len(piece)] = piece
            self.protocol.buffer_updated(len(piece))

    def feed_eof(self) -> None:
        """FIN. As asyncio does it, the transport closes unless the protocol keeps it open."""
        if not self.protocol.eof_received():
            self.close()

    def take(self, count: int = UNLIMITED) -> None:
        """The peer reads `count` more bytes (all there ever will be, unless told)."""
        self.room += count
        self._flow()
        if self._writing_paused and not self.aborted and len(self.waiting) <= self._low:
            self._writing_paused = False
            self.protocol.resume_writing()
        self._lose_when_empty()

    def reset(self) -> None:
        """RST."""
        self.closing = True
        self.waiting.clear()
        self._lose(ConnectionResetError(104, "Connection reset by peer"))

    def taken(self) -> bytes:
        """What reached the peer since this was last asked."""
        data = bytes(self.sent)
        self.sent.clear()
        return data


class TLSPeer:
    """The client's end of the stream, over two memory BIOs."""

    def __init__(
        self, transport: FakeTransport, context: ssl.SSLContext, server_hostname: str | None = "localhost"
    ) -> None:
        self.transport = transport
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_hostname)
        self.closed = False  # the server's close_notify has arrived

    def shake(self, pieces: Callable[[], Iterable[int]] = tuple) -> TLSPeer:
        """Shake hands to the end. Raises `ssl.SSLError` where either side refuses."""
        for _ in range(4):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush(pieces())
                self.incoming.write(self.transport.taken())
            else:
                self.flush(pieces())
                return self
        raise AssertionError("the server does not go on with the handshake")

    def flush(self, pieces: Iterable[int] = ()) -> None:
        self.transport.feed(self.outgoing.read(), pieces)

    def encrypt(self, data: bytes) -> bytes:
        """Records of `data`, not sent yet."""
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data: bytes, pieces: Iterable[int] = ()) -> None:
        self.transport.feed(self.encrypt(data), pieces)

    def close_notify(self) -> bytes:
        """The record that says that nothing more comes, not sent yet."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    def read(self) -> bytes:
        """The plaintext that has arrived by now. Sets `closed`. Raises `ssl.SSLError` at an alert."""
        self.incoming.write(self.transport.taken())
        chunks = []
        while True:
            try:
                chunk = self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                chunk = b""
            if not chunk:
                self.closed = True
                break
            chunks.append(chunk)
        return b"".join(chunks)


async def turns(count: int = 6) -> None:
    """Let the event loop turn: tasks run, lost connections hear of it."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], what: str = "it") -> None:
    """Turn the loop until `condition` holds."""
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{what} does not come true")


def is_gone(channel: Channel) -> bool:
    return channel.state is State.CLOSED
