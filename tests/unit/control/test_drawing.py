"""Values as lines."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.control.drawing import HEIGHT, WIDTH, ceiling, sparkline, trace, window

VALUES = st.lists(st.floats(0, 1e6), max_size=WIDTH + 50)


@pytest.mark.parametrize(
    ("value", "top"),
    [
        (0, 1),
        (0.3, 1),
        (1, 1),
        (1.5, 2),
        (2, 2),
        (3, 5),
        (7, 10),
        (10, 10),
        (11, 20),
        (499, 500),
        (501, 1000),
    ],
)
def test_the_top_is_a_round_number(value: float, top: float) -> None:
    assert ceiling(value) == top


@given(st.floats(0, 1e9))
def test_nothing_is_above_the_top(value: float) -> None:
    assert ceiling(value) >= value * (1 - 1e-9)


@pytest.mark.parametrize(
    ("count", "width"), [(0, 60), (60, 60), (61, 120), (300, 300), (301, 600), (9999, 600)]
)
def test_the_window_grows_with_what_there_is(count: int, width: int) -> None:
    assert window(count) == width


def test_a_trace() -> None:
    assert trace([], 1) == ""
    assert trace([1], 2) == "M600 50"
    assert trace([0, 1, 2], 2) == "M598 100L599 50L600 0"


def test_what_is_flat_has_two_corners() -> None:
    assert trace([0] * 600, 1) == "M1 100L600 100"
    assert trace([0, 0, 0, 1, 1, 1], 1) == "M595 100L597 100L598 0L600 0"


@given(VALUES)
def test_a_trace_stays_within_its_box(values: list[float]) -> None:
    line = trace(values, ceiling(max(values, default=0)))
    assert re.fullmatch(r"(M[0-9.]+ [0-9.]+(L[0-9.]+ [0-9.]+)*)?", line)
    points = [tuple(map(float, point.split())) for point in line[1:].split("L") if point]
    assert all(1 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert [x for x, _ in points] == sorted({x for x, _ in points})
    assert not points or points[-1][0] == WIDTH


def test_a_sparkline() -> None:
    assert sparkline([], 1, 4) == "    "
    assert sparkline([0, 1], 1, 4) == "  ▁█"
    assert sparkline([0, 0, 0, 4, 8, 0], 8, 3) == "▁▅█"


@given(VALUES, st.integers(1, 100))
def test_a_sparkline_has_its_width(values: list[float], columns: int) -> None:
    assert len(sparkline(values, ceiling(max(values, default=0)), columns)) == columns
