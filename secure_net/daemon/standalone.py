"""One service without the daemon, in a program of the user's own.

It runs what the daemon runs: the same shell, limits, authentication and machines. It keeps no state, so it
knows of revocations what ``crl.pem`` says; a service that must feel `secure-net revoke` within the second
belongs into the daemon's configuration.

`Standalone` serves on the loop that is running; `InThread` on a loop in a thread of its own, for programs
that have none.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509

from secure_net import config
from secure_net.clock import SystemClock
from secure_net.daemon.core import Core
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.services import Part, listener_of
from secure_net.errors import ConfigurationError
from secure_net.identity.certificates import Constraints
from secure_net.log import get_logger
from secure_net.metrics import Metrics
from secure_net.tables import SERVICE_TABLES, IdentityTable, ServerTable, TLSTable
from secure_net.wire.listener import Listener
from secure_net.wire.tls import TLSMaterial

MakePart = Callable[[Core, config.Configuration], Part]


def configured(
    directory: str | Path | None,
    identities: Mapping[str, Sequence[str]],
    only: Callable[[config.Configuration], Mapping[str, Any]],
) -> config.Configuration:
    """The discovered configuration, or the defaults with the certificates in `directory`, a TLS directory.

    `identities` maps names to scopes, beside those of the configuration; `only` says what becomes of the
    tables of services. Raises `ConfigurationError` that names ``secure-net init`` where there is neither.
    """
    found = config.discover() if directory is None else _of_directory(Path(directory).resolve())
    tables = {name: IdentityTable(scopes=tuple(scopes)) for name, scopes in identities.items()}
    none = dict.fromkeys(SERVICE_TABLES)
    return msgspec.structs.replace(
        found, **{**none, **only(found)}, identities={**found.identities, **tables}
    )


def _of_directory(directory: Path) -> config.Configuration:
    """The defaults, and the names that the CA of `directory` was made for."""
    (authority, *_) = x509.load_pem_x509_certificates(TLSMaterial.load(directory).ca_pem.encode())
    return msgspec.structs.replace(
        config.parse("", None, {}, base=Path.cwd()),
        server=ServerTable(names=Constraints.of(authority).names),
        tls=TLSTable(directory=str(directory)),
    )


class Standalone:
    """The service `name`, as `make` builds it, on one address and on the running loop."""

    def __init__(self, name: str, make: MakePart, metrics: Metrics) -> None:
        self.name, self.metrics = name, metrics
        self._make = make
        self._listener: Listener | None = None
        self._part: Part | None = None
        self._seconds = 0.0

    def start(self, configuration: config.Configuration, host: str, port: int) -> tuple[str, int]:
        """Listen; returns where. Raises `ConfigurationError`."""
        if self._listener is not None:
            raise ConfigurationError(self.name, "is serving already", "stop it first")
        clock = SystemClock()
        inputs = Inputs.load(configuration, clock.wall())
        core = Core(inputs, clock=clock, metrics=self.metrics, log=_logger(self.name))
        if inputs.crl is not None:
            core.revocations.import_crl(inputs.crl)
        part = self._make(core, configuration)
        listener = listener_of(self.name, core, part, inputs, ((host, port),))
        try:
            listener.start()
        except ConfigurationError:
            part.close()
            raise
        self._listener, self._part = listener, part
        self._seconds = configuration.server.drain_seconds
        return listener.listen_addrs[0]

    async def stop(self) -> None:
        """Answer what is under way, then stop. Does nothing where nothing serves."""
        listener, part = self._listener, self._part
        self._listener = self._part = None
        if listener is None or part is None:
            return
        try:
            part.drain(self._seconds)
            await listener.drain(self._seconds)
        finally:
            part.close()


class InThread:
    """A `Standalone` on an event loop in a thread of its own."""

    def __init__(self, standalone: Standalone) -> None:
        self._standalone = standalone
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def serves(self) -> bool:
        return self._thread is not None

    def start(self, configuration: config.Configuration, host: str, port: int) -> tuple[str, int]:
        """Listen, and serve in the thread; returns where, once connections are taken."""
        if self._thread is not None:
            raise ConfigurationError(self._standalone.name, "is serving already", "stop it first")
        started: concurrent.futures.Future[tuple[str, int]] = concurrent.futures.Future()
        thread = threading.Thread(
            target=self._run,
            args=(configuration, host, port, started),
            name=f"secure-net-{self._standalone.name}",
            daemon=True,
        )
        thread.start()
        self._thread = thread
        try:
            return started.result()
        except BaseException:
            self._thread = None
            raise

    def wait(self) -> None:
        """Until `stop` is called, by another thread or a signal handler; Ctrl-C stops as well."""
        thread = self._thread
        try:
            while thread is not None and thread.is_alive():
                thread.join(1.0)  # a join without end would not let Ctrl-C through
        except KeyboardInterrupt:
            self.stop()

    def stop(self) -> None:
        """Answer what is under way, then stop. Does nothing where nothing serves."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def _run(
        self,
        configuration: config.Configuration,
        host: str,
        port: int,
        started: concurrent.futures.Future[tuple[str, int]],
    ) -> None:
        try:
            asyncio.run(self._main(configuration, host, port, started))
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _main(
        self,
        configuration: config.Configuration,
        host: str,
        port: int,
        started: concurrent.futures.Future[tuple[str, int]],
    ) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        started.set_result(self._standalone.start(configuration, host, port))
        await self._stopping.wait()
        await self._standalone.stop()


def _logger(name: str) -> Callable[..., None]:
    """Nothing is written until the program calls `secure_net.log.configure`."""
    logger = get_logger(name)

    def log(event: str, **fields: Any) -> None:
        error = fields.pop("error", None)
        if error is None:
            logger.info(event, **fields)
        else:
            logger.error(event, exc_info=error, **fields)

    return log
