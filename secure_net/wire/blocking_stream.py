"""A TLS stream that a thread reads and writes, and that any other thread may abort.

For bulk that is no conversation, such as a file: the thread that has the file also has the stream, and each
piece costs one system call. The TLS is the layer that the connections have, with its gate and its alerts.

Theory of operation. A wait is bounded in two ways: by how long the peer may do nothing (`stall_seconds`), and
by a point on the clock (`ends_at`). The kernel counts either, by the socket's SO_RCVTIMEO and SO_SNDTIMEO, so
that no wait needs a poll before it; they are set anew only when what is left has changed.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import struct
import threading
from collections.abc import Callable

from secure_net.errors import DeadlineExceededError, Refusal, RemoteProtocolError, TransportError
from secure_net.wire.channel import FOREVER, LINGER_SECONDS
from secure_net.wire.tls import SLICE, TLSLayer

RECEIVE_BYTES = 64 * 1024
# Records that leave in one system call.
RECORDS = 4


class BlockingStream:
    """One connected socket, and TLS on it. `handshake` comes first.

    `ends_at`, on the clock that `monotonic` reads, may be set at any time: it holds from the next wait on.
    Every method but `abort` belongs to one thread.
    """

    def __init__(
        self,
        plain: socket.socket,
        layer: TLSLayer,
        monotonic: Callable[[], float],
        *,
        stall_seconds: float,
        buffer: memoryview | None = None,
    ) -> None:
        """The stream closes `plain`. `buffer` is received into; nothing is kept in it across calls."""
        plain.setblocking(True)
        self._plain, self._layer, self._monotonic = plain, layer, monotonic
        self._stall_seconds, self.ends_at = stall_seconds, FOREVER
        self._buffer = buffer or memoryview(bytearray(RECEIVE_BYTES))
        self._armed: dict[int, float] = {}  # socket option: the seconds that it was set to
        self._ahead = b""  # plaintext that came with the end of the handshake
        self._freeing = threading.Lock()
        self._aborted = self._freed = False

    def handshake(self, seconds: float) -> bytes | None:
        """Shake hands within `seconds`; the peer's certificate (DER), verified by OpenSSL, or None.

        Raises `RemoteProtocolError` (the peer has been sent its alert), `DeadlineExceededError`,
        `TransportError`.
        """
        layer, before = self._layer, self.ends_at
        self.ends_at = min(before, self._monotonic() + seconds)
        layer.begin()
        self._send_all(layer.ciphertext())
        while not layer.established:
            received = self._receive()
            if not received:
                raise RemoteProtocolError(Refusal.TRUNCATED, "end within the handshake")
            self._decrypt(received)
        self.ends_at = before
        self._ahead = self._decrypt(b"")
        return layer.peer_certificate()

    def receive(self) -> bytes:
        """The next piece; empty at the peer's close_notify, and from then on.

        Raises `RemoteProtocolError` with TRUNCATED where the end came without it, or by a reset, with RECORD
        where the stream is broken; `DeadlineExceededError`; `TransportError` where it was aborted.
        """
        ahead, self._ahead = self._ahead, b""
        while not ahead and not self._layer.peer_closed:
            received = self._receive()
            if not received:
                raise RemoteProtocolError(Refusal.TRUNCATED, "end without close_notify")
            ahead = self._decrypt(received)
        return ahead

    def send(self, data: bytes | memoryview) -> None:
        """Returns when the kernel has all of it. Raises `DeadlineExceededError`, `TransportError`."""
        view, layer, records = memoryview(data), self._layer, []
        for begin in range(0, len(view), SLICE):
            try:
                layer.send(view[begin : begin + SLICE])
            except ssl.SSLError as error:
                raise TransportError("the stream has ended") from error
            records.append(layer.ciphertext())
            if len(records) == RECORDS:
                self._send_all(b"".join(records))
                records.clear()
        self._send_all(b"".join(records))

    def close(self) -> None:
        """Say that nothing more comes, see it out, and free the socket. Raises nothing: who must know that
        the peer has everything asks the peer."""
        # A peer that is gone, or stays on beyond the moment that it has: either way it is over.
        with contextlib.suppress(TransportError, RemoteProtocolError, OSError):
            self._layer.close()
            self._send_all(self._layer.ciphertext())
            self._plain.shutdown(socket.SHUT_WR)
            self.ends_at = self._monotonic() + LINGER_SECONDS
            # A plain close would answer late input with a reset, which destroys what was not read yet.
            while self._receive():
                pass
        self.free()

    def abort(self) -> None:
        """By any thread: what the stream's own waits in raises `TransportError`."""
        with self._freeing:
            self._aborted = True
            if not self._freed:
                with contextlib.suppress(OSError):  # not connected any more
                    self._plain.shutdown(socket.SHUT_RDWR)

    def free(self) -> None:
        """Give the socket back, without a word to the peer. Harmless when it is done already."""
        with self._freeing:  # the descriptor may be somebody else's by the time of an `abort`
            self._freed = True
            self._plain.close()

    # -- one wait --------------------------------------------------------------------------------------

    def _receive(self) -> memoryview:
        self._arm(socket.SO_RCVTIMEO)
        try:
            count = self._plain.recv_into(self._buffer)
        except BlockingIOError:
            raise DeadlineExceededError("the peer sent nothing in time") from None
        except OSError as error:
            if not self._aborted:
                raise RemoteProtocolError(Refusal.TRUNCATED, error.strerror or "lost") from error
        if self._aborted:
            raise TransportError("aborted")
        return self._buffer[:count]

    def _decrypt(self, data: bytes | memoryview) -> bytes:
        layer = self._layer
        try:
            plaintext = layer.receive(data)
        except RemoteProtocolError:
            self.close()  # with the alert
            raise
        if layer.owes:
            self._send_all(layer.ciphertext())
        return plaintext

    def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._arm(socket.SO_SNDTIMEO)
            try:
                view = view[self._plain.send(view) :]
            except BlockingIOError:
                raise DeadlineExceededError("the peer took nothing in time") from None
            except OSError as error:
                raise TransportError("aborted" if self._aborted else error.strerror or "lost") from error

    def _arm(self, option: int) -> None:
        seconds = self._stall_seconds
        if self.ends_at is not FOREVER:
            seconds = min(seconds, self.ends_at - self._monotonic())
            if seconds <= 0:
                raise DeadlineExceededError("the deadline has passed")
        if seconds != self._armed.get(option):
            whole, part = divmod(math.ceil(seconds * 1e6), 1_000_000)
            self._plain.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, part))
            self._armed[option] = seconds
