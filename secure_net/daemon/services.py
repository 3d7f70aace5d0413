"""The services a process can run, each built on the `Core` from its table of the configuration.

A *part* makes what a listener serves: `service` is asked once for every listener at the start, and again at
every reload, when `apply` has told the part of the new configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from secure_net.config import Configuration
from secure_net.control.status import Status
from secure_net.control.status_source import StatusSource
from secure_net.daemon.core import Core
from secure_net.daemon.inputs import Inputs, tls_policy
from secure_net.http.admin import AdminApplication, Check
from secure_net.http.disk import Disk
from secure_net.http.files import FilesApplication
from secure_net.http.server import Application, HTTPService
from secure_net.http.site import site_of
from secure_net.http.status_page import StatusPages
from secure_net.messaging.echo_server import EchoService
from secure_net.messaging.server import Chat, ChatService, named_by
from secure_net.messaging.web import WebService, chat_over_websocket
from secure_net.rpc.dispatcher import Dispatcher
from secure_net.rpc.pool import Pool
from secure_net.rpc.registry import Registry
from secure_net.rpc.server import RPCApplication
from secure_net.store.sqlite_broker import SQLiteBroker
from secure_net.tables import ChatTable, FilesTable
from secure_net.wire.listener import Listener
from secure_net.wire.shell import Service
from secure_net.wire.threads import ThreadedListener

# In the form that logs in to the status page: its name, and what a person pastes around it.
AROUND_A_TOKEN_BYTES = 1024


def listener_of(
    name: str, core: Core, part: Part, inputs: Inputs, addresses: Iterable[tuple[str, int]]
) -> Listener:
    """Where `part` serves as `name`, not started yet."""
    configuration = inputs.configuration
    counters = core.metrics.service(name)
    service = part.service(name, configuration)
    if name == "echo" and configuration.echo is not None and configuration.echo.engine == "threads":
        count = configuration.limits.echo.echo_threads_count
        return ThreadedListener(
            core.shell, service, counters, inputs.material, addresses, threads_count=count
        )
    return Listener(core.shell, service, counters, inputs.material, addresses)


class Part:
    """What serves one or more listeners."""

    def service(self, name: str, configuration: Configuration) -> Service:
        """For the listener `name`, as `configuration` has it now."""
        raise NotImplementedError

    def apply(self, configuration: Configuration) -> None:
        """What is in force from now on, for those whose limits do not come with each service."""

    def drain(self, seconds: float) -> None:
        """The process stops in so many seconds at most: begin nothing that would outlive them."""

    def close(self) -> None:
        """Everything has been drained."""


def _http_service(
    name: str, core: Core, application: Application, configuration: Configuration, **others: Any
) -> HTTPService:
    """`application` as the listener `name`; `others` are what only some services ask of `HTTPService`."""
    return HTTPService(
        name,
        application,
        core.authenticator,
        core.metrics.service(name),
        clock=core.clock,
        limits=configuration.limits.http,
        tls=tls_policy(configuration, name),
        **others,
    )


class RPCPart(Part):
    """Calls of the functions in `registry`."""

    def __init__(
        self,
        core: Core,
        configuration: Configuration,
        registry: Registry,
        audit: Callable[..., None] | None = None,
    ) -> None:
        limits = configuration.limits.rpc
        self._core = core
        self._pool = Pool(limits.rpc_threads_count, limits.rpc_waiting_count)
        self.dispatcher = Dispatcher(
            registry, limits, core.clock, core.metrics, self._pool, log=core.log, audit=audit
        )
        self._application = RPCApplication(self.dispatcher, core.clock)

    def service(self, name: str, configuration: Configuration) -> Service:
        limits = configuration.limits.rpc
        return _http_service(
            name,
            self._core,
            self._application,
            configuration,
            body_bytes=limits.rpc_body_bytes,
            body_seconds=limits.rpc_body_seconds,
            body_bytes_per_second=limits.rpc_body_bytes_per_second,
        )

    def apply(self, configuration: Configuration) -> None:
        self.dispatcher.limits = configuration.limits.rpc

    def drain(self, seconds: float) -> None:
        self._application.drain(seconds)

    def close(self) -> None:
        self._pool.close()


class FilesPart(Part):
    """Static files below the roots of `table`."""

    def __init__(self, core: Core, configuration: Configuration, table: FilesTable) -> None:
        limits = configuration.limits.files
        self._core = core
        self._pool = Pool(limits.files_threads_count, limits.files_waiting_count, "files-pool")
        self._site = site_of(table, configuration.base)
        self._application = FilesApplication(
            self._site,
            limits,
            disk=Disk(self._pool),
            clock=core.clock,
            counters=core.metrics.files,
            log=core.log,
        )

    def service(self, name: str, configuration: Configuration) -> Service:
        return _http_service(
            name,
            self._core,
            self._application,
            configuration,
            authentication=not self._site.is_open,
            any_path=True,  # a name that cannot be is one that is not there
        )

    def apply(self, configuration: Configuration) -> None:
        if configuration.files is not None:
            self._site = site_of(configuration.files, configuration.base)
            self._application.configure(self._site, configuration.limits.files)

    def close(self) -> None:
        self._application.close()
        self._pool.close()


class AdminPart(Part):
    """Metrics, probes, and the page that shows the status."""

    def __init__(
        self,
        core: Core,
        configuration: Configuration,
        checks: Mapping[str, Check],
        status: Callable[[], Status],
        origins: Callable[[], Collection[str]],
    ) -> None:
        """`status` gives that of the moment; `origins` are those of the page now."""
        self._core = core
        self._pages = StatusPages(
            StatusSource(status),
            core.authenticator,
            core.metrics.service("admin"),
            configuration.limits.admin,
            origins=origins,
        )
        self._application = AdminApplication(core.metrics, checks, self._pages)

    def service(self, name: str, configuration: Configuration) -> Service:
        return _http_service(
            name,
            self._core,
            self._application,
            configuration,
            authentication=False,  # probes have nothing to show
            body_bytes=configuration.limits.token.token_bytes + AROUND_A_TOKEN_BYTES,
        )

    def apply(self, configuration: Configuration) -> None:
        self._pages.sessions.limits = configuration.limits.admin


class EchoPart(Part):
    """Every message back."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def service(self, name: str, configuration: Configuration) -> Service:
        return EchoService(
            name, self._core.authenticator, configuration.limits.frame, tls_policy(configuration, name)
        )


class ChatPart(Part):
    """Rooms, by frames and for browsers."""

    def __init__(
        self,
        core: Core,
        configuration: Configuration,
        broker: SQLiteBroker,
        origins: Callable[[], Collection[str]],
    ) -> None:
        """`origins` are those of the pages that are ours now; `broker` is closed with the part."""
        table = configuration.chat or ChatTable()
        self._core, self._broker, self._origins = core, broker, origins
        self.chat = Chat(
            core.authenticator,
            broker,
            core.metrics.chat,
            clock=core.clock,
            limits=configuration.limits,
            is_live=named_by(table.live),
        )

    def service(self, name: str, configuration: Configuration) -> Service:
        counters, tls = self._core.metrics.service(name), tls_policy(configuration, name)
        if name == "chat":
            return ChatService(name, self.chat, counters, tls)
        return WebService(
            name,
            chat_over_websocket(self.chat, counters),
            self._core.authenticator,
            counters,
            clock=self._core.clock,
            origins=self._origins,
            frame=configuration.limits.frame,
            http=configuration.limits.http,
            tls=tls,
        )

    def apply(self, configuration: Configuration) -> None:
        self.chat.apply(configuration.limits)
        self._broker.limits = configuration.limits.chat

    def close(self) -> None:
        self._broker.close()
