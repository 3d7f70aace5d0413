"""The ring behind the drawings: an even grid of seconds, whatever the pulse does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secure_net.control.history import History


def history(capacity: int = 5) -> History:
    return History(("calls",), ("open",), capacity=capacity)


def take(ring: History, *readings: tuple[float, float, float]) -> dict[str, tuple[float, ...]]:
    for at, calls, opened in readings:
        ring.take(at, {"calls": calls, "open": opened})
    return ring.series


def test_counts_become_rates_and_gauges_stay() -> None:
    found = take(history(), (100.0, 50, 1), (101.0, 60, 2), (102.0, 60, 3))
    assert found == {"open": (2, 3), "calls": (10, 0)}


def test_nothing_is_there_before_a_second_has_passed() -> None:
    assert take(history()) == {"open": (), "calls": ()}
    assert take(history(), (7.0, 0, 9), (7.5, 3, 9)) == {"open": (), "calls": ()}


def test_a_pulse_that_beats_faster_is_taken_once_a_second() -> None:
    readings = [(number / 10, float(number), 0.0) for number in range(31)]
    assert take(history(), *readings)["calls"] == (10, 10, 10)


def test_a_loop_that_was_held_up_leaves_no_gap() -> None:
    found = take(history(), (0.0, 0, 1), (1.0, 4, 1), (4.0, 10, 7))
    assert found == {"open": (1, 7, 7, 7), "calls": (4, 2, 2, 2)}


def test_it_is_bounded_also_after_a_day_of_sleep() -> None:
    found = take(history(), (0.0, 0, 1), (1.0, 1, 1), (90_000.0, 2, 2))
    assert {len(values) for values in found.values()} == {5}
    assert set(found["open"]) == {2}


@given(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=40))
def test_there_is_a_value_for_each_second(steps: list[float]) -> None:
    ring, at = history(1000), 0.0
    ring.take(at, {"calls": 0, "open": 0})
    for step in steps:
        at += step
        ring.take(at, {"calls": at, "open": 0})
    assert {len(values) for values in ring.series.values()} == {int(at)}
    assert all(abs(rate - 1) < 0.02 for rate in ring.series["calls"])
