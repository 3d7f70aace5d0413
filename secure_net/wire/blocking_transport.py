"""A blocking socket behind the face of an asyncio transport, so that a `Channel` need not know which it has.

`write` gives the kernel what it has room for and never waits; what is left over stands in `waiting`, and the
channel is told to pause, as an event loop's transport would. Whoever drives the connection sends it: a thread
by `send`, which blocks, or an event loop by `send_now`. Nothing here takes a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

NOW = socket.MSG_DONTWAIT


class BlockingTransport(asyncio.Transport):
    """`plain` must be blocking and without a timeout: then a `recv` or `send` costs one system call.

    Attributes: `waiting`, what the kernel has not taken; `reading` while the channel wants more and more may
    come; `over` once nothing more is to be read or sent; `error`, what the connection was lost with.
    """

    __slots__ = ("_channel", "_closing", "_eof", "_paused", "_plain", "ended", "error", "over", "waiting")

    def __init__(self, channel: asyncio.BufferedProtocol, plain: socket.socket) -> None:
        super().__init__({"socket": plain})
        self._channel, self._plain = channel, plain
        self.waiting = bytearray()
        self.over = self.ended = False  # `ended`: the peer's FIN has been read
        self.error: OSError | None = None
        self._closing = self._eof = self._paused = False

    # -- the channel's side ---------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.waiting:
            self.waiting += data
            return
        if not data or self.over:
            return
        sent = self._send(data)
        if sent < len(data) and not self.over:
            self.waiting += data[sent:]
            self._channel.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The kernel's buffer is the only one that there is."""

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write_eof(self) -> None:
        """FIN, behind what waits. Raises `OSError` where the peer is gone already."""
        self._eof = True
        if not self.waiting:
            self._plain.shutdown(socket.SHUT_WR)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False

    def is_closing(self) -> bool:
        return self._closing or self.over

    def close(self) -> None:
        """Over, once what waits is sent."""
        self._closing = True
        self.over = self.over or not self.waiting

    def abort(self) -> None:
        """Over. A thread that waits in `receive` or `send` returns."""
        self.over = True
        self.waiting.clear()
        with contextlib.suppress(OSError):  # not connected any more
            self._plain.shutdown(socket.SHUT_RDWR)

    # -- the side of who drives it --------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        return not (self._paused or self.ended or self.over)

    def fileno(self) -> int:
        return self._plain.fileno()

    def receive(self, buffer: memoryview, flags: int = 0) -> int:
        """Wait for bytes; 0 at the end. With `NOW` it does not wait, and raises `BlockingIOError`."""
        return self._plain.recv_into(buffer, 0, flags)

    def send(self, data: bytes) -> int:
        """Wait until the kernel has taken `data`, which is what stands first in `waiting`."""
        return self._plain.send(data)

    def send_now(self) -> int:
        """As much of what waits as the kernel has room for."""
        return self._send(self.waiting)

    def sent(self, count: int) -> None:
        """So much of what waits is on its way. The channel goes on when that is all."""
        del self.waiting[:count]
        if self.waiting or self.over or not count:
            return
        if self._eof:
            self._finish()
        self.over = self.over or self._closing
        self._channel.resume_writing()

    def lost(self, error: OSError) -> None:
        self.error = self.error or error
        self.abort()

    def free(self) -> None:
        """Give the descriptor back. Only once nobody waits in `receive` or `send`."""
        self._plain.close()

    def _finish(self) -> None:
        try:
            self._plain.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.lost(error)

    def _send(self, data: Any) -> int:
        try:
            return self._plain.send(data, NOW)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.lost(error)
            return 0
