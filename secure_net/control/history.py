"""What the daemon did in each of the last seconds: a bounded ring of samples, for the drawings of the status.

The pulse feeds it once a second, or more often, with counts that only grow and with gauges; it keeps rates
and readings on a grid of whole seconds. A loop that was held up for some seconds gets as many samples, each
with the mean of what happened meanwhile, so that the drawing's time runs evenly. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

SAMPLES_COUNT = 600  # ten minutes, one a second: 40 KiB for each series at most


class History:
    """`counts` are series of things counted since the start, of which the rate per second is kept, and
    `gauges` are series of which the reading is."""

    def __init__(
        self, counts: tuple[str, ...], gauges: tuple[str, ...], *, capacity: int = SAMPLES_COUNT
    ) -> None:
        self._counts, self._gauges = counts, gauges
        self._series: dict[str, deque[float]] = {name: deque(maxlen=capacity) for name in (*gauges, *counts)}
        self._capacity = capacity
        self._begun_at: float | None = None
        self._seconds = 0  # on the grid, since it began
        self._taken_at = 0.0
        self._last: Mapping[str, float] = {}

    def take(self, at: float, values: Mapping[str, float]) -> None:
        """A reading of every series, at `at` seconds of a monotonic clock."""
        if self._begun_at is None:
            self._begun_at, self._taken_at, self._last = at, at, dict(values)
            return
        seconds = int(at - self._begun_at)
        passed = seconds - self._seconds
        if passed <= 0:
            return
        elapsed = at - self._taken_at
        fresh = {name: float(values[name]) for name in self._gauges}
        for name in self._counts:
            fresh[name] = round((values[name] - self._last[name]) / elapsed, 2)
        for name, value in fresh.items():
            self._series[name].extend([value] * min(passed, self._capacity))
        self._seconds, self._taken_at, self._last = seconds, at, dict(values)

    @property
    def series(self) -> dict[str, tuple[float, ...]]:
        """Name to values, oldest first; all of the same length."""
        return {name: tuple(values) for name, values in self._series.items()}
