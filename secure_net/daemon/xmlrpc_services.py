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

import asyncio
import concurrent.futures
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from cryptography import x509

from secure_net import config
from secure_net.clock import SystemClock
from secure_net.daemon.inputs import Inputs, tls_policy
from secure_net.errors import ConfigurationError
from secure_net.http.server import HTTPService
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.certificates import Constraints
from secure_net.identity.policy import Policy
from secure_net.identity.revocation import Revocations
from secure_net.log import get_logger
from secure_net.metrics import Metrics
from secure_net.rpc.dispatcher import Dispatcher
from secure_net.rpc.pool import Pool
from secure_net.rpc.registry import Registry
from secure_net.rpc.server import RPCApplication
from secure_net.wire.listener import Listener
from secure_net.wire.shell import Service, Shell
from secure_net.wire.tls import TLSMaterial


class XMLRPCServices:
    """Serves the `exposed` methods of some objects as ``NAME.method``.

    It runs what the daemon runs: the same shell, limits, authentication and dispatcher, on an event loop in
    a thread of its own. It keeps no state, so it knows of revocations what ``crl.pem`` says; a service that
    must feel `secure-net revoke` within the second belongs into the daemon's configuration.
    """

    def __init__(self, **services: object) -> None:
        """Raises `ConfigurationError` where one exposes nothing, or a signature does not do."""
        self.registry = Registry()
        for name, instance in services.items():
            self.registry.expose(name, instance)
        self.metrics = Metrics()
        self.address: tuple[str, int] | None = None  # where it listens, while it does
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

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
        thread = self._thread
        try:
            while thread is not None and thread.is_alive():
                thread.join(1.0)  # a join without end would not let Ctrl-C through
        except KeyboardInterrupt:
            self.stop()

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
        if self._thread is not None:
            raise ConfigurationError("XMLRPCServices", "is serving already", "stop it first")
        configuration = _configuration(directory, identities or {})
        started: concurrent.futures.Future[tuple[str, int]] = concurrent.futures.Future()
        thread = threading.Thread(
            target=self._run, args=(configuration, host, port, started), name="xml-rpc-services", daemon=True
        )
        thread.start()
        self._thread = thread
        try:
            self.address = started.result()
        except BaseException:
            self._thread = None
            raise

    def stop(self) -> None:
        """Answer what is under way, then stop. Does nothing where nothing serves."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()
        self.address = None

    def __enter__(self) -> XMLRPCServices:
        if self._thread is None:
            self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

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
        clock = SystemClock()
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        inputs = Inputs.load(configuration, clock.wall())
        limits = configuration.limits
        pool = Pool(limits.rpc.rpc_threads_count, limits.rpc.rpc_waiting_count)
        dispatcher = Dispatcher(self.registry, limits.rpc, clock, self.metrics, pool, log=_log)
        application = RPCApplication(dispatcher, clock)
        listener = self._listener(inputs, application, clock, (host, port))
        try:
            listener.start()
            started.set_result(listener.listen_addrs[0])
            await self._stopping.wait()
            seconds = configuration.server.drain_seconds
            application.drain(seconds)
            await listener.drain(seconds)
        finally:
            listener.stop()
            pool.close()

    def _listener(
        self, inputs: Inputs, application: RPCApplication, clock: SystemClock, address: tuple[str, int]
    ) -> Listener:
        configuration = inputs.configuration
        limits = configuration.limits
        revocations = Revocations()
        authenticator = Authenticator(
            clock=clock,
            trust_domain=configuration.server.audience,
            policy=Policy(inputs.grants),
            revocations=revocations,
            keys=inputs.keys,
            limits=limits.token,
        )
        if inputs.crl is not None:
            revocations.import_crl(inputs.crl)
        service = HTTPService(
            "rpc",
            application,
            authenticator,
            self.metrics.service("rpc"),
            clock=clock,
            limits=limits.http,
            tls=tls_policy(configuration, "rpc"),
            body_bytes=limits.rpc.rpc_body_bytes,
            body_seconds=limits.rpc.rpc_body_seconds,
            body_bytes_per_second=limits.rpc.rpc_body_bytes_per_second,
        )
        shell = Shell(clock, limits.connection, authenticator.certificate, _log)
        # Its sessions' machine is narrower than `Session` says.
        return Listener(shell, cast(Service, service), service.counters, inputs.material, [address])


def _configuration(
    directory: str | Path | None, identities: Mapping[str, Sequence[str]]
) -> config.Configuration:
    found = config.discover() if directory is None else _configuration_of(Path(directory).resolve())
    tables = {name: config.IdentityTable(scopes=tuple(scopes)) for name, scopes in identities.items()}
    # The one service that it is, whatever the daemon's configuration has besides.
    return msgspec.structs.replace(
        found, rpc=found.rpc or config.RPCTable(), admin=None, identities={**found.identities, **tables}
    )


def _configuration_of(directory: Path) -> config.Configuration:
    """The defaults, with the certificates in `directory`, and the names that their CA was made for."""
    (authority, *_) = x509.load_pem_x509_certificates(TLSMaterial.load(directory).ca_pem.encode())
    return msgspec.structs.replace(
        config.parse("", None, {}, base=Path.cwd()),
        server=config.ServerTable(names=Constraints.of(authority).names),
        tls=config.TLSTable(directory=str(directory)),
    )


def _log(event: str, **fields: Any) -> None:
    """Nothing is written until the program calls `secure_net.log.configure`."""
    error = fields.pop("error", None)
    logger = get_logger("rpc")
    if error is None:
        logger.info(event, **fields)
    else:
        logger.error(event, exc_info=error, **fields)
