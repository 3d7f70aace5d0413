"""The same connection from the client's side."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from secure_net.clock import Clock, SystemClock
from secure_net.errors import DeadlineExceededError, Refusal, TransportError, VerificationError
from secure_net.limits import ConnectionLimits
from secure_net.metrics import ServiceCounters
from secure_net.wire.connection import Connection
from secure_net.wire.shell import Service, Shell
from secure_net.wire.tls import TLSLayer

# What our side of the handshake refused, and what the program that called us is told.
_FAILURES: dict[Refusal, type[TransportError]] = {
    Refusal.CERTIFICATE_INVALID: VerificationError,
    Refusal.CERTIFICATE_PROFILE: VerificationError,
    Refusal.HANDSHAKE_DEADLINE: DeadlineExceededError,
}


class ClientConnection(Connection):
    """A connection whose handshake somebody waits for."""

    __slots__ = ("_failure", "_ready")

    def __init__(self, shell: Shell, service: Service, layer_of: Callable[[], TLSLayer]) -> None:
        super().__init__(shell, service, ServiceCounters(service.name), layer_of)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure: TransportError | None = None

    async def wait_ready(self) -> None:
        """Returns when the handshake is done. Raises `TransportError`."""
        await self._ready

    def _secured(self, certificate: bytes | None) -> None:
        super()._secured(certificate)
        if not self._ready.done():
            self._ready.set_result(None)

    def _count_refusal(self, reason: Refusal, detail: str = "") -> None:
        super()._count_refusal(reason, detail)
        if self._failure is None:
            kind = _FAILURES.get(reason, TransportError)
            self._failure = kind(f"{reason.value}: {detail}" if detail else reason.value)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._ready.done():
            self._ready.set_exception(
                self._failure or TransportError("the connection was lost within the handshake")
            )
            self._ready.exception()  # who waited may have given up: then nobody is to be told


async def connect(
    host: str,
    port: int,
    service: Service,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    limits: ConnectionLimits | None = None,
    clock: Clock | None = None,
    log: Callable[..., None] | None = None,
) -> ClientConnection:
    """Connect, verify, and hand the connection to a session of `service`.

    `server_hostname` is the name to verify where it is not `host`. The handshake has
    `limits.handshake_seconds`, the TCP connection before it as much again. Raises `VerificationError`
    where the server is not who it should be, `DeadlineExceededError`, or `TransportError`.
    """
    limits = limits or ConnectionLimits()
    shell = Shell(clock or SystemClock(), limits, None, log or _say_nothing)

    try:
        layer = TLSLayer(context, server_hostname=server_hostname or host)
    except ValueError:
        raise TransportError(f"{server_hostname or host!r} is no name that a certificate can bear") from None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.handshake_seconds):
            _, connection = await loop.create_connection(
                lambda: ClientConnection(shell, service, lambda: layer), host, port
            )
    except TimeoutError:
        raise DeadlineExceededError(f"{host}:{port} did not answer in time") from None
    except socket.gaierror:
        raise TransportError(f"{host} is not a known name") from None
    except OSError as error:
        raise TransportError(f"{host}:{port} {error.strerror or 'cannot be reached'}") from None
    try:
        await connection.wait_ready()
    except asyncio.CancelledError:
        connection.abort()
        raise
    return connection


def _say_nothing(event: str, **fields: object) -> None:
    """A client's program hears of refusals by exceptions; it need not have a log."""
