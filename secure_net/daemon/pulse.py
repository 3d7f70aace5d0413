"""The daemon's pulse: how late the event loop wakes up, and the sign of life that systemd waits for."""

from __future__ import annotations

from collections.abc import Callable

from secure_net.clock import Clock, TimerHandle
from secure_net.metrics import Histogram

BEAT_SECONDS = 1.0


class Pulse:
    """Beats every second, or often enough for a watchdog that wants more. `alive` is called at each beat."""

    def __init__(
        self,
        clock: Clock,
        lag: Histogram,
        alive: Callable[[], None],
        watchdog_seconds: float | None = None,
    ) -> None:
        self._clock, self._lag, self._alive = clock, lag, alive
        # sd_watchdog_enabled(3) advises half the time; a third leaves room for a loop that lags.
        self._seconds = min(BEAT_SECONDS, (watchdog_seconds or BEAT_SECONDS * 3) / 3)
        self._timer: TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        self._due = self._clock.monotonic() + self._seconds
        self._timer = self._clock.call_at(self._due, self._beat)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._lag.observe(max(0.0, self._clock.monotonic() - self._due))
        self._alive()
        self.start()
