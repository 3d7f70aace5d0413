"""A dispatcher on the bench: a clock in the hand, a log that is kept, principals out of scopes."""

from __future__ import annotations

import asyncio
import xmlrpc.client
from collections.abc import Callable, Coroutine
from typing import Any

from secure_net.identity.policy import Credential, Grant, Principal
from secure_net.limits import RPCLimits
from secure_net.metrics import Metrics
from secure_net.rpc.decode import loads_answer
from secure_net.rpc.dispatcher import Dispatcher
from secure_net.rpc.pool import Pool
from secure_net.rpc.registry import Registry
from tests.support.clock import FakeClock

PEER = "127.0.0.1:50000"


def principal(*scopes: str, name: str = "demo") -> Principal:
    """Somebody with these scopes, by default for everything."""
    credential = Credential("token", "1", 0.0, 2e9)
    return Principal(name, (Grant.parse(scopes or ("*:*:**",)),), (credential,), 2e9, 1)


class Bench:
    """One dispatcher. Must be made, and used, inside an event loop when a method is not inline."""

    def __init__(
        self,
        registry: Registry,
        limits: RPCLimits | None = None,
        *,
        threads: int = 2,
        waiting: int = 2,
        audited: list[dict[str, Any]] | None = None,
    ) -> None:
        self.limits = limits or RPCLimits()
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.pool = Pool(threads, waiting)
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.dispatcher = Dispatcher(
            registry,
            self.limits,
            self.clock,
            self.metrics,
            self.pool,
            log=self._log,
            audit=None
            if audited is None
            else lambda what, **fields: audited.append({"what": what, **fields}),
        )

    def _log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    def document(self, body: bytes, who: Principal | None = None) -> bytes:
        """The answer of what answers at once."""
        answer = self.dispatcher.handle(body, who or principal(), PEER)
        assert isinstance(answer, bytes)
        return answer

    def call(self, name: str, *params: Any, who: Principal | None = None) -> Any:
        """The result of an inline or system method; raises its fault."""
        answer = self.dispatcher.dispatch(name, list(params), who or principal(), PEER)
        assert isinstance(answer, bytes)
        return loads_answer(answer, self.limits)

    async def wait(self, name: str, *params: Any, who: Principal | None = None) -> Any:
        """The result of a method that takes its time; raises its fault."""
        answer = self.dispatcher.dispatch(name, list(params), who or principal(), PEER)
        assert isinstance(answer, Coroutine)
        return loads_answer(await answer, self.limits)

    def outcomes(self, name: str) -> dict[str, int]:
        """What was counted for a method, without the zeros."""
        calls = self.metrics.rpc_method(name).calls
        return {outcome.value: count for outcome, count in calls.items() if count}


async def settle() -> None:
    """Let everything that is ready run; no clock moves."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until something that a thread brings about is so."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a thread changes it, and knows no event of this loop
            await asyncio.sleep(0)


def fault_of(answer: bytes) -> tuple[int, str]:
    """Code and text, read by the standard library."""
    try:
        result = xmlrpc.client.loads(answer.decode())
    except xmlrpc.client.Fault as fault:
        return fault.faultCode, fault.faultString
    raise AssertionError(f"no fault: {result!r}")
