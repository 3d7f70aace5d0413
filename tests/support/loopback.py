"""A listener with the line service on a real socket, and clients as blocking as most are.

Clients run in threads (`asyncio.to_thread`), so that the server's loop turns under them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import pytest

from secure_net.clock import Clock, SystemClock
from secure_net.limits import ConnectionLimits
from secure_net.metrics import ServiceCounters
from secure_net.wire.listener import Listener
from secure_net.wire.shell import Principal, Shell
from secure_net.wire.threaded_connection import ThreadedConnection
from secure_net.wire.threads import ThreadedListener
from secure_net.wire.tls import TLSMaterial, client_context
from tests.support.machines import LineService
from tests.support.pki import PKI

# Makes the listener: of the event loop's own connections, or of those that threads drive.
Engine = Callable[..., Listener]


def on_threads(count: int) -> Engine:
    """At most `count` connections, each on a thread."""
    return functools.partial(ThreadedListener, threads_count=count)


ENGINES: Mapping[str, Engine] = {"asyncio": Listener, "threads": on_threads(256)}


class Chosen:
    """The engine where a test names none."""

    engine: Engine = Listener


@pytest.fixture(params=ENGINES)
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tests of a module that uses this fixture hold for either engine."""
    monkeypatch.setattr(Chosen, "engine", staticmethod(ENGINES[request.param]))
    return str(request.param)


SECONDS = 20.0  # how long a client waits before the test has failed


class Server:
    """What a test sees of the server: its address, its counters, what it logged."""

    def __init__(
        self,
        pki: PKI,
        service: LineService,
        limits: ConnectionLimits,
        identify: Callable[[bytes], Principal] | None,
        clock: Clock | None,
        *,
        engine: Engine | None = None,
    ) -> None:
        self.pki, self.service = pki, service
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.shell = Shell(clock or SystemClock(), limits, identify, self._log)
        self.counters = ServiceCounters(service.name)
        self.material = TLSMaterial.load(pki.certs, service.tls)
        engine = engine or Chosen.engine
        self.listener = engine(self.shell, service, self.counters, self.material, [("127.0.0.1", 0)])

    def _log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    @property
    def address(self) -> tuple[str, int]:
        return self.listener.listen_addrs[0]

    def refused(self) -> dict[str, int]:
        return {reason.value: count for reason, count in self.counters.refused.items() if count}

    async def until(self, condition: Callable[[], bool], what: str = "it") -> None:
        """Wait for the server's loop to have seen to it."""
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110 - it happens in the kernel, too
                await asyncio.sleep(0.001)

    async def at_rest(self) -> None:
        """Returns when nothing is left of any connection."""
        live = self.shell.live
        await self.until(
            lambda: (
                self.counters.connections_open
                == len(live)
                == live.handshakes
                == self.shell.buffered_bytes
                == 0
                and not live.principals()
            )
        )

    async def at_wait(self) -> None:
        """Returns when every connection waits for its peer, and its deadlines are set."""
        connections = self.listener.connections
        await self.until(
            lambda: all(each._receiving for each in connections if isinstance(each, ThreadedConnection))
        )
        await asyncio.sleep(0)

    def connect(self, source: str = "127.0.0.1", to: tuple[str, int] | None = None) -> socket.socket:
        """A TCP connection from this source address; blocking."""
        return socket.create_connection(to or self.address, SECONDS, (source, 0))

    def secure(
        self,
        context: ssl.SSLContext | None = None,
        hostname: str | None = "localhost",
        source: str = "127.0.0.1",
    ) -> ssl.SSLSocket:
        """A TLS connection; blocking."""
        context = context or client_context(self.pki.ca)
        plain = self.connect(source)
        try:
            return context.wrap_socket(plain, server_hostname=hostname)
        except BaseException:
            plain.close()
            raise


@contextlib.asynccontextmanager
async def serving(
    pki: PKI,
    service: LineService | None = None,
    *,
    limits: ConnectionLimits | None = None,
    identify: Callable[[bytes], Principal] | None = None,
    clock: Clock | None = None,
    engine: Engine | None = None,
) -> AsyncIterator[Server]:
    server = Server(
        pki, service or LineService(), limits or ConnectionLimits(), identify, clock, engine=engine
    )
    server.listener.start()
    try:
        yield server
    finally:
        await server.listener.drain(0)


def ask(connection: socket.socket, *lines: bytes) -> bytes:
    """Send the lines, read as many; blocking."""
    connection.sendall(b"".join(line + b"\n" for line in lines))
    return b"".join(read_line(connection) for _ in lines)


def read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise EOFError(line)
        line += byte
    return line


def read_all(connection: socket.socket) -> bytes:
    """Everything until the end; a reset ends it too."""
    chunks = []
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            chunks.append(chunk)
    return b"".join(chunks)


def in_thread(client: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
    return asyncio.to_thread(client)
