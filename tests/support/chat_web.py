"""The browser client's service with real rooms behind it, on a real socket, in a thread of its own.

::

    with chat_web(pki, tmp_path) as house:
        house.url                       # https://localhost:41287
        house.stop(); house.start()     # a restart of the daemon: same port, same state
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from secure_net.clock import SystemClock
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.policy import Grant, Policy
from secure_net.identity.revocation import Revocations
from secure_net.limits import Limits
from secure_net.messaging.server import Chat, named_by
from secure_net.messaging.web import WebService, chat_over_websocket, origins
from secure_net.metrics import Metrics
from secure_net.store.sqlite import SQLiteStore
from secure_net.store.sqlite_broker import SQLiteBroker
from secure_net.wire.listener import Listener
from secure_net.wire.shell import Shell
from secure_net.wire.tls import TLSMaterial
from tests.support.pki import PKI

NAME = "chat-web"
SECONDS = 30.0
EVERYTHING = ("*:*:**",)

T = TypeVar("T")


class ChatWeb:
    """`metrics` and `logged` are of all its lives; `live` are globs of rooms without history."""

    def __init__(self, pki: PKI, state: Path, limits: Limits, live: tuple[str, ...]) -> None:
        self.pki, self.limits = pki, limits
        self.metrics = Metrics()
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.port = 0
        self._state, self._live = state, live
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def refused(self) -> dict[str, int]:
        counted = self.metrics.service(NAME).refused
        return {reason.value: count for reason, count in counted.items() if count}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def start(self) -> None:
        self.do(self._start())

    def stop(self) -> None:
        """As SIGTERM does."""
        self.do(self._stop())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    async def _start(self) -> None:
        clock = SystemClock()
        self._store = SQLiteStore.open(self._state)
        self.broker = SQLiteBroker(self._store.database, self.limits.chat)
        self.revocations = Revocations()
        self.policy = Policy({name: Grant.parse(EVERYTHING) for name in ("ana", "ben", "demo")})
        self.authenticator = Authenticator(
            clock=clock,
            trust_domain=self.pki.trust_domain,
            policy=self.policy,
            revocations=self.revocations,
            keys=self.pki.keys,
        )
        self.shell = Shell(clock, self.limits.connection, self.authenticator.certificate, self._log)
        chat = Chat(
            self.authenticator,
            self.broker,
            self.metrics.chat,
            clock=clock,
            limits=self.limits,
            is_live=named_by(self._live),
        )
        counters = self.metrics.service(NAME)
        service = WebService(
            NAME,
            chat_over_websocket(chat, counters),
            self.authenticator,
            counters,
            clock=clock,
            origins=lambda: origins({"localhost"}, {self.port}),
            frame=self.limits.frame,
        )
        material = TLSMaterial.load(self.pki.certs, service.tls)
        self.listener = Listener(self.shell, service, counters, material, [("127.0.0.1", self.port)])
        self.listener.start()
        self.port = self.listener.listen_addrs[0][1]

    async def _stop(self) -> None:
        await self.listener.drain(5.0)
        self.broker.close()
        self._store.close()

    def _log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    def call(self, function: Callable[[], T]) -> T:
        """Call it on the server's loop."""

        async def work() -> T:
            return function()

        return self.do(work())


@contextlib.contextmanager
def chat_web(
    pki: PKI, directory: Path, *, limits: Limits | None = None, live: tuple[str, ...] = ("live.**",)
) -> Iterator[ChatWeb]:
    """One that serves, with its state under `directory`; stopped at the end."""
    state = directory / "state"
    state.mkdir(mode=0o700)
    house = ChatWeb(pki, state, limits or Limits(), live)
    try:
        house.start()
        try:
            yield house
        finally:
            house.stop()
    finally:
        house.close()
