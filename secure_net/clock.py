"""Time, injected. Nothing else in the package reads a clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class TimerHandle(Protocol):
    """A call that was put off, and may still be called off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Two readings and one alarm; tests hold a `FakeClock` in their hand (`tests/support/clock.py`)."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back. Deadlines are counted on it."""
        ...

    def wall(self) -> float:
        """Unix time in seconds. May jump; only tokens, certificates and records use it."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` when `monotonic()` has reached `when`."""
        ...


class SystemClock:
    """The running event loop's clock, and the system's."""

    __slots__ = ("_loop", "monotonic", "wall")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        # Bound once: these are read several times per request.
        # The standard loop's clock is this very function, without a Python frame around it.
        standard = type(self._loop).time is asyncio.BaseEventLoop.time
        self.monotonic: Callable[[], float] = time.monotonic if standard else self._loop.time
        self.wall: Callable[[], float] = time.time

    def call_at(self, when: float, callback: Callable[[], None]) -> TimerHandle:
        return self._loop.call_at(when, callback)


class SystemWall:
    """The system's time for a command, which has no event loop."""

    __slots__ = ()

    def wall(self) -> float:
        return time.time()
