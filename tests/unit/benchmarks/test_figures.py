"""Medians, spreads, ratios and slopes of the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks import figures
from benchmarks.figures import Spread


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5.0], Spread(5, 5, 5)), ([3.0, 1.0, 2.0], Spread(2, 1, 3)), ([4.0, 1.0, 2.0, 3.0], Spread(2.5, 1, 4))],
)
def test_spread(values: list[float], expected: Spread) -> None:
    assert figures.spread(values) == expected


def test_ratios_are_taken_round_by_round() -> None:
    # The second round was twice as slow for everybody: the ratio does not see it.
    assert figures.ratios([30.0, 60.0], [90.0, 180.0]) == [pytest.approx(1 / 3)] * 2


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.99, 4.0), (0.0, 1.0), (1.0, 4.0)])
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert figures.percentile([1.0, 2.0, 3.0, 4.0], share) == expected


@pytest.mark.parametrize(
    ("spread", "digits", "expected"),
    [
        (Spread(37.04, 36.2, 39.6), 1, "37.0 (36.2-39.6)"),
        (Spread(12345.0, 12000.0, 13000.0), 0, "12,345 (12,000-13,000)"),
        (Spread(0.5, 0.499, 0.501), 2, "0.50"),
    ],
)
def test_a_spread_reads_well(spread: Spread, digits: int, expected: str) -> None:
    assert spread.text(digits) == expected


@pytest.mark.parametrize(
    ("value", "digits"), [(0.0, 0), (0.051, 4), (0.9, 3), (1.0, 2), (37.0, 1), (2900.0, 0)]
)
def test_digits_leave_three_figures(value: float, digits: int) -> None:
    assert figures.digits_for(value) == digits


def test_a_straight_line_has_one_slope() -> None:
    assert figures.slopes([(1, 12.0), (10, 30.0), (100, 210.0)]) == [2.0, 2.0]
    assert figures.slopes([(1, 12.0)]) == []
