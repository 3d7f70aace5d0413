"""A client's connection on a blocking socket, for programs without an event loop.

A deadline is a point on the monotonic clock and holds for whole operations: a socket's own timeout starts
anew with every byte, so that a slow peer would never be late.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable

from secure_net.errors import DeadlineExceededError, TransportError, VerificationError

RECEIVE_BYTES = 64 * 1024


class BlockingConnection:
    """One verified TLS connection."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        deadline: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect and verify, by `deadline`.

        Raises `VerificationError` where the server is not who it should be, `DeadlineExceededError`,
        `TransportError`; and `TimeoutError` where the deadline had passed before.
        """
        self._monotonic = monotonic
        where = f"{host}:{port}"
        try:
            plain = socket.create_connection((host, port), self._left(deadline))
        except TimeoutError:
            raise DeadlineExceededError(f"{where} did not answer in time") from None
        except OSError as error:
            raise TransportError(f"{where}: {error.strerror or 'cannot be reached'}") from error
        except UnicodeError as error:  # what the codec for names says of a dot alone
            raise TransportError(f"{host!r} is no name of a host") from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(self._left(deadline))
            self._socket = context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)
        except OSError as error:  # before ValueError: a certificate's error is both
            plain.close()
            raise _handshake_error(where, error) from error
        except ValueError as error:
            plain.close()
            raise TransportError(f"{host!r} is no name that a certificate can bear") from error

    def _left(self, deadline: float) -> float:
        """Seconds until the deadline; a timeout of 0 would mean "do not block" to a socket."""
        left = deadline - self._monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def send(self, data: bytes, deadline: float) -> None:
        """Raises `DeadlineExceededError` where nothing was sent, `TimeoutError` where some of it may have
        been, or another `OSError` where the connection is lost."""
        try:
            self._socket.settimeout(self._left(deadline))
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before anything was sent") from None
        self._socket.sendall(data)

    def receive(self, deadline: float) -> bytes:
        """What has arrived, at most `RECEIVE_BYTES`; empty at the peer's close_notify.

        Raises `TimeoutError`; `ssl.SSLEOFError` where the end came without close_notify; another `OSError`
        where the connection is lost.
        """
        self._socket.settimeout(self._left(deadline))
        return self._socket.recv(RECEIVE_BYTES)

    def is_usable(self) -> bool:
        """Whether an idle connection is still one: readable means closed, or something nobody asked for."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            return True  # nothing, or TLS's own messages
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Say goodbye where that does not block."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.settimeout(0)
            self._socket.unwrap()
        self._socket.close()


def _handshake_error(where: str, error: OSError) -> TransportError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return VerificationError(f"{where}: {error.verify_message}")
    if isinstance(error, TimeoutError):
        return DeadlineExceededError(f"{where} did not finish the handshake in time")
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return TransportError(f"{where}: the TLS handshake failed: {reason or 'lost'}")
