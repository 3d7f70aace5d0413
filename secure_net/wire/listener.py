"""Accepts the connections of one service, holds them to the caps, starts, stops and drains.

Under a flood of handshakes the one that has been waiting for its peer the longest makes room: an honest
peer answers within milliseconds, so the silent are the ones that go
(`docs/decisions/0003-the-oldest-handshake-makes-room.md`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import ssl
from collections.abc import Iterable

from secure_net.errors import ConfigurationError, Refusal
from secure_net.metrics import ConnectionOutcome, ServiceCounters
from secure_net.wire.channel import Channel
from secure_net.wire.connection import Connection
from secure_net.wire.shell import Service, Shell, source_of
from secure_net.wire.tls import HelloGate, TLSLayer, TLSMaterial

BACKLOG = 1024
# A handshake takes some five turns of the loop. As many turns of a flood must not fill the room that there is
# before handshakes make room (100), or an honest peer would have become the oldest by its second flight.
ACCEPTS_PER_TURN = 16
REST_SECONDS = 0.5

# accept(2): the peer went away, or the network did, before we took it. Nothing is wrong with us.
PASSING = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM}
)
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """One service on one or more addresses.

    `addresses` are (host, port) pairs, port 0 for any. `last_exception` keeps what accept(2) failed with
    last, for the status.
    """

    def __init__(
        self,
        shell: Shell,
        service: Service,
        counters: ServiceCounters,
        material: TLSMaterial,
        addresses: Iterable[tuple[str, int]],
    ) -> None:
        self.shell, self.service, self.counters = shell, service, counters
        self._addresses = tuple(addresses)
        self._sockets: list[socket.socket] = []
        self._reserve: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Channel] = set()
        self.last_exception: OSError | None = None
        self.use(material)

    # -- life -------------------------------------------------------------------------------------------

    def use(self, material: TLSMaterial) -> None:
        """Serve new handshakes with this certificate and this CA. Open connections stay as they are.

        `material` was loaded for the service's policy, among others: nothing is read here, nothing fails.
        """
        self._context: ssl.SSLContext = material.contexts[self.service.tls]
        self._gate_names, self._gate_alpn = material.names, self.service.tls.alpn

    def start(self) -> None:
        """Bind and accept. Raises `ConfigurationError` where an address cannot be had; then none is."""
        path = f"{self.service.name}.listen"
        try:
            for host, port in self._addresses:
                self._sockets.append(_bind(host, port, path))
        except ConfigurationError:
            self._close_sockets()
            raise
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening.fileno(), self._accept, listening)

    @property
    def listen_addrs(self) -> tuple[tuple[str, int], ...]:
        """Where it really listens: (host, port)."""
        return tuple(listening.getsockname()[:2] for listening in self._sockets)

    @property
    def connections(self) -> frozenset[Channel]:
        return frozenset(self._connections)

    def stop(self) -> None:
        """Accept no more. Open connections go on."""
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.remove_reader(listening.fileno())
        self._close_sockets()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()

    async def drain(self, seconds: float) -> None:
        """Accept no more, let what is under way be answered, and drop what is left after `seconds`."""
        self.stop()
        for connection in tuple(self._connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_closed()
        for connection in tuple(self._connections):
            connection.abort()
        await self._all_closed()

    async def _all_closed(self) -> None:
        while self._connections:
            await asyncio.gather(*(connection.wait_closed() for connection in self._connections))

    # -- accepting --------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.last_exception = error
                if error.errno in OUT_OF_RESOURCES:
                    self._refuse_without_descriptor(listening)
                elif error.errno not in PASSING:
                    raise
                return
            accepted.setblocking(False)
            refusal = self._refusal(str(address[0]))
            if refusal is None:
                self._take(accepted, address)
            else:
                self._refuse(accepted, refusal, str(address[0]))

    def _refusal(self, host: str) -> Refusal | None:
        live, limits = self.shell.live, self.shell.limits
        if live.from_source(source_of(host)) >= limits.connections_per_source_count:
            return Refusal.CONNECTIONS_PER_SOURCE
        if len(live) >= limits.connections_count and not self._make_room():
            return Refusal.CONNECTIONS
        span = limits.handshakes_count - limits.handshakes_random_count
        over = live.handshakes - limits.handshakes_random_count
        if over > 0 and secrets.randbelow(max(1, span)) < over:
            self._make_room()
        return None

    def _make_room(self) -> bool:
        """Drop the handshake that has been waiting for its peer the longest, if there is one."""
        slowest = self.shell.live.longest_handshake()
        if slowest is None:
            return False
        slowest.drop(Refusal.HANDSHAKES)
        return True

    def _refuse(self, accepted: socket.socket, reason: Refusal, host: str) -> None:
        accepted.close()
        self.counters.refuse(reason)
        self.counters.connection(ConnectionOutcome.REFUSED)
        self.shell.log("connection_refused", service=self.service.name, peer=host, reason=reason.value)

    def _refuse_without_descriptor(self, listening: socket.socket) -> None:
        """Out of descriptors, a listening socket stays readable and the loop would spin. Give up the one
        held in reserve, take the peer with it, and close: an honest refusal instead of a hang."""
        if self._reserve is None:
            self._rest(listening)
            return
        os.close(self._reserve)
        self._reserve = None
        try:
            accepted, address = listening.accept()
        except OSError as error:
            self.last_exception = error
        else:
            self._refuse(accepted, Refusal.DESCRIPTORS, str(address[0]))
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:  # something else took it
            self.last_exception = error

    def _rest(self, listening: socket.socket) -> None:
        """Not even the reserve is left: look away for a while, or the loop spins."""
        loop, clock = asyncio.get_running_loop(), self.shell.clock
        loop.remove_reader(listening.fileno())
        clock.call_at(clock.monotonic() + REST_SECONDS, lambda: self._wake_up(listening))

    def _wake_up(self, listening: socket.socket) -> None:
        if listening not in self._sockets:
            return
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self.last_exception = error
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _take(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        connection = Connection(
            self.shell, self.service, self.counters, self._layer, self._connections.discard
        )
        self._connections.add(connection)
        connection.came_from(*address[:2])
        task = asyncio.get_running_loop().create_task(self._serve(accepted, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError as error:
            self.last_exception = error
            accepted.close()
            connection.connection_lost(error)

    def _layer(self) -> TLSLayer:
        return TLSLayer(self._context, gate=HelloGate(self._gate_names, self._gate_alpn))


def _bind(host: str, port: int, path: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off for what says that it is TCP, and accepted sockets say what this one
    # does: else an answer of several records waits 40 ms for the peer's delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        taken = error.errno == errno.EADDRINUSE
        problem = f"{host}:{port} " + ("is already in use" if taken else f"cannot be had: {error.strerror}")
        cure = "stop the program that listens there, or choose another address" if taken else ""
        raise ConfigurationError(path, problem, cure) from None
    return listening
