"""The chapter's echo servers, hardened: `EchoServer` on threads, `AsyncEchoServer` on the running loop.

::

    server = EchoServer("127.0.0.1", 9800)
    server.start()
    print(send_message_to_server("127.0.0.1", 9800, "hello"))
    server.stop()

Where the recipes are wrong we are right: they speak plaintext to anybody, trust `recv(n)` to return n bytes,
take any header that `int()` takes, and grow a thread for whoever connects. Here every peer shows a client
certificate whose identity has the scope ``echo:use``, and the pool is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from secure_net import config
from secure_net.daemon.core import Core
from secure_net.daemon.services import EchoPart
from secure_net.daemon.standalone import InThread, Standalone, configured
from secure_net.metrics import Metrics
from secure_net.tables import EchoTable


class _Echo:
    """What both have in common: where they listen, and what they go by."""

    _engine: Literal["asyncio", "threads"]

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9800,
        *,
        directory: str | Path | None = None,
        identities: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Port 0 takes any. Certificates, names, limits and identities come from the discovered
        configuration. `directory`, a TLS directory as ``secure-net init`` writes it, takes its place;
        `identities` maps names to scopes, beside those of the configuration."""
        self._host, self._port = host, port
        self._directory, self._identities = directory, identities or {}
        self.metrics = Metrics()
        self.address: tuple[str, int] | None = None  # where it listens, while it does
        self._standalone = Standalone("echo", self._part, self.metrics)

    def _configuration(self) -> config.Configuration:
        """Raises `ConfigurationError` that names ``secure-net init`` where there is none."""
        return configured(self._directory, self._identities, self._only)

    def _only(self, found: config.Configuration) -> dict[str, EchoTable]:
        table = found.echo or EchoTable()
        return {"echo": msgspec.structs.replace(table, engine=self._engine)}

    @staticmethod
    def _part(core: Core, configuration: config.Configuration) -> EchoPart:
        return EchoPart(core)


class EchoServer(_Echo):
    """Echoes on a bounded pool of threads: blocking TLS sockets, a thread for each open connection."""

    _engine = "threads"

    def start(self) -> None:
        """Listen; returns when connections are taken. Raises `ConfigurationError`."""
        self._server = InThread(self._standalone)
        self.address = self._server.start(self._configuration(), self._host, self._port)

    def stop(self) -> None:
        """Answer what is under way, then stop. Does nothing where nothing serves."""
        if self.address is not None:
            self._server.stop()
            self.address = None

    def __enter__(self) -> EchoServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class AsyncEchoServer(_Echo):
    """Echoes on the running event loop."""

    _engine = "asyncio"

    async def serve(self) -> None:
        """Listen; returns when connections are taken. Raises `ConfigurationError`."""
        self.address = self._standalone.start(self._configuration(), self._host, self._port)

    async def stop(self) -> None:
        """Answer what is under way, then stop. Does nothing where nothing serves."""
        await self._standalone.stop()
        self.address = None

    async def __aenter__(self) -> AsyncEchoServer:
        await self.serve()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()
