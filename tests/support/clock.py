"""A clock that moves only when a test moves it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """Implements `secure_net.clock.Clock`. `advance` fires what falls due on the way, in order."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._alarms: list[tuple[float, int, FakeTimer]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._alarms, (when, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move both readings forward by `seconds`."""
        end = self._monotonic + seconds
        while self._alarms and self._alarms[0][0] <= end:
            when, _, timer = heapq.heappop(self._alarms)
            self._wall += max(0.0, when - self._monotonic)
            self._monotonic = max(self._monotonic, when)
            if timer.callback is not None:
                timer.callback()
        self._wall += end - self._monotonic
        self._monotonic = end

    def jump_wall(self, seconds: float) -> None:
        """The system's time is set: only `wall` moves."""
        self._wall += seconds

    @property
    def pending(self) -> int:
        """Alarms that are set and not cancelled."""
        return sum(timer.callback is not None for _, _, timer in self._alarms)
