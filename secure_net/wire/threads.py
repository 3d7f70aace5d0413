"""The second engine under the same machines: blocking TLS sockets on a bounded pool of threads.

A `ThreadedListener` is a `Listener`: the loop accepts, applies the caps and gives up descriptors as ever, for
these read what the loop's thread owns, and an accept costs it no more than here. What it accepts, a worker
drives (`threaded_connection.py` says who owns what); the handshake's arithmetic is the worker's too.

Each open connection has a thread. When all have one, the handshake of this listener that has been waiting
for its peer the longest makes room (`docs/decisions/0003-the-oldest-handshake-makes-room.md`), and the
arrival waits for that thread, its own handshake's deadline running; where there is none, it is refused as
CONNECTIONS. Why it is made this way: `docs/decisions/0008-the-threaded-engine.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterable

from secure_net.errors import Refusal
from secure_net.metrics import ServiceCounters
from secure_net.wire.blocking_transport import BlockingTransport
from secure_net.wire.channel import Channel
from secure_net.wire.listener import Listener
from secure_net.wire.own_counters import OwnCounters
from secure_net.wire.shell import Service, Shell
from secure_net.wire.threaded_connection import ThreadedConnection
from secure_net.wire.tls import TLSMaterial
from secure_net.wire.workers import Workers

# A handler that blocks keeps its thread, which nobody can end: a drain waits so long for it and no longer.
STUCK_SECONDS = 2.0


class ThreadedListener(Listener):
    """As `Listener`, with at most `threads_count` connections open, each on a thread."""

    def __init__(
        self,
        shell: Shell,
        service: Service,
        counters: ServiceCounters,
        material: TLSMaterial,
        addresses: Iterable[tuple[str, int]],
        *,
        threads_count: int,
    ) -> None:
        super().__init__(shell, service, counters, material, addresses)
        self._threads_count = threads_count
        self._counting = threading.Lock()  # over bytes and frames of `counters`
        self._workers: Workers | None = None

    def start(self) -> None:
        super().start()
        self._workers = Workers(self._threads_count, self.service.name)

    async def drain(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + STUCK_SECONDS):
                await super().drain(seconds)
        if self._connections:
            self.shell.log("threads_stuck", service=self.service.name, count=len(self._connections))
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def _refusal(self, host: str) -> Refusal | None:
        return super()._refusal(host) or (None if self._has_place() else Refusal.CONNECTIONS)

    def _has_place(self) -> bool:
        """A thread is free, or will be in a moment."""
        if len(self._connections) < self._threads_count:
            return True
        staying = sum(not connection.is_leaving for connection in self._threaded())
        if staying < self._threads_count:
            return True
        slowest = self.shell.live.longest_handshake(self._connections)
        if slowest is None:
            return False
        slowest.drop(Refusal.HANDSHAKES)
        return True

    def _threaded(self) -> Iterable[ThreadedConnection]:
        return (each for each in self._connections if isinstance(each, ThreadedConnection))

    def _take(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        accepted.setblocking(True)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = ThreadedConnection(
            self.shell, self.service, OwnCounters(self.counters, self._counting), self._layer, self._forget
        )
        self._connections.add(connection)
        connection.came_from(*address[:2])
        connection.connection_made(BlockingTransport(connection, accepted))
        if self._workers is None or not self._workers.give(connection.drive):
            connection.drop(Refusal.CONNECTIONS, "no thread is to be had")

    def _forget(self, connection: Channel) -> None:
        self._connections.discard(connection)
