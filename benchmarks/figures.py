"""Medians, spreads and ratios. Pure."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds gave: the median is quoted, between the smallest and the largest."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 0) -> str:
        """`37 (36-39)`; without brackets where all rounds agree to that many digits."""
        low, high = f"{self.low:,.{digits}f}", f"{self.high:,.{digits}f}"
        middle = f"{self.median:,.{digits}f}"
        return middle if low == high else f"{middle} ({low}-{high})"


def spread(values: Iterable[float]) -> Spread:
    """The spread of one value or more."""
    known = list(values)
    return Spread(statistics.median(known), min(known), max(known))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, each within its round: what slows a whole round cancels out."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values in ascending order; `share` is 0.5 for the median."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def digits_for(value: float) -> int:
    """Decimals that leave about three significant figures."""
    if value <= 0:
        return 0
    return max(0, 2 - math.floor(math.log10(value)))


def slopes(points: Sequence[tuple[float, float]]) -> list[float]:
    """The cost of one more unit between neighbouring (size, cost) points: equal for a straight line."""
    return [
        (cost - cost_before) / (size - size_before)
        for (size_before, cost_before), (size, cost) in itertools.pairwise(points)
    ]
