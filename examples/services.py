"""A service module as a user writes it: functions, a registry, and nothing about TLS or tokens.

``secure-net.toml`` names it::

    [rpc]
    services = ["examples.services:registry"]

and who may call what stands in the callers' scopes, such as ``rpc:call:math.*``.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import time
from pathlib import Path
from typing import Any

from secure_net.rpc import Call, Fault, Registry, inline

registry = Registry()


@registry.method("math.double")
@inline
def double(value: int) -> int:
    """Twice the value."""
    return 2 * value


@registry.method("math.divide")
@inline
def divide(dividend: float, divisor: float) -> float:
    """The quotient. Raises on purpose, so the caller reads why."""
    if divisor == 0:
        raise Fault("the divisor is zero")
    return dividend / divisor


@registry.method("time.currentTime")
@inline
def current_time() -> datetime.datetime:
    """The time now, in UTC. XML-RPC carries no zone: a datetime without one would be refused."""
    return datetime.datetime.now(datetime.UTC)


@registry.method("time.wait", deadline_seconds=10.0, concurrency=100)
async def wait(seconds: float) -> float:
    """Wait without keeping anybody else waiting; gives the seconds that it took."""
    began = time.monotonic()
    await asyncio.sleep(max(0.0, seconds))
    return time.monotonic() - began


@registry.method("text.digest", concurrency=2)
def digest(text: str) -> bytes:
    """A password hash of the text: work that blocks, so it runs on a thread, two at a time."""
    return hashlib.scrypt(text.encode(), salt=b"example", n=2**14, r=8, p=1)


@registry.method("reports.summary")
def summary(values: list[float], label: str = "values") -> dict[str, Any]:
    """Count, sum and extremes of some numbers."""
    if not values:
        raise Fault("there is nothing to sum up", code=1)
    return {"label": label, "count": len(values), "sum": sum(values), "range": [min(values), max(values)]}


@registry.method("account.whoAmI")
@inline
def who_am_i(call: Call) -> dict[str, Any]:
    """Who the server takes you for. The first parameter is given by the server, not by the caller."""
    return {"name": call.principal.name, "peer": call.peer, "request": call.request_id}


@registry.method("account.motto", audited=True)
def motto() -> str:
    """Fails where there is no such file: the caller gets a reference, the log the reason beside it."""
    return Path("/nonexistent/motto").read_text(encoding="utf-8")
