"""The chapter's `XMLRPCServices`, hardened: a server in one line, without the daemon.

::

    class MathServices:
        @exposed
        def double(self, value: int) -> int:
            return 2 * value

    XMLRPCServices(math=MathServices()).serve("127.0.0.1", 8443)

Where the recipe is wrong we are right: it speaks plain HTTP to anybody, and `allow_dotted_names` lets a
caller walk from the registered object to whatever hangs on it. Here only what is marked `exposed` is
reachable, over TLS, for callers with a credential and the scope ``rpc:call:math.double``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from secure_net import config
from secure_net.daemon.core import Core
from secure_net.daemon.services import RPCPart
from secure_net.daemon.standalone import InThread, Standalone, configured
from secure_net.metrics import Metrics
from secure_net.rpc.registry import Registry
from secure_net.tables import RPCTable


class XMLRPCServices:
    """Serves the `exposed` methods of some objects as ``NAME.method``; see `secure_net.daemon.standalone`."""

    def __init__(self, **services: object) -> None:
        """Raises `ConfigurationError` where one exposes nothing, or a signature does not do."""
        self.registry = Registry()
        for name, instance in services.items():
            self.registry.expose(name, instance)
        self.metrics = Metrics()
        self.address: tuple[str, int] | None = None  # where it listens, while it does
        self._server = InThread(Standalone("rpc", self._part, self.metrics))

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 8443,
        *,
        directory: str | Path | None = None,
        identities: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Serve until `stop` is called, from another thread or a signal handler. See `start`."""
        self.start(host, port, directory=directory, identities=identities)
        self._server.wait()
        self.address = None

    def start(
        self,
        host: str = "127.0.0.1",
        port: int = 8443,
        *,
        directory: str | Path | None = None,
        identities: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Listen, and serve in a thread; returns when connections are taken. Port 0 takes any.

        Certificates, names, limits and identities come from the discovered configuration. `directory`, a
        TLS directory as ``secure-net init`` writes it, takes its place; `identities` maps names to scopes,
        beside those of the configuration. Raises `ConfigurationError` that names ``secure-net init`` where
        there is neither, or where the address cannot be had.
        """
        configuration = configured(
            directory, identities or {}, lambda found: {"rpc": found.rpc or RPCTable()}
        )
        self.address = self._server.start(configuration, host, port)

    def stop(self) -> None:
        """Answer what is under way, then stop. Does nothing where nothing serves."""
        self._server.stop()
        self.address = None

    def __enter__(self) -> XMLRPCServices:
        if not self._server.serves:
            self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _part(self, core: Core, configuration: config.Configuration) -> RPCPart:
        return RPCPart(core, configuration, self.registry)
