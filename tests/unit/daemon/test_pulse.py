"""The daemon's pulse."""

from __future__ import annotations

import pytest

from secure_net.daemon.pulse import Pulse
from secure_net.metrics import LAG_BUCKETS, Histogram
from tests.support.clock import FakeClock


@pytest.mark.parametrize(("watchdog", "beats"), [(None, 10), (30.0, 10), (0.3, 100)])
def test_it_beats_often_enough_for_the_watchdog(watchdog: float | None, beats: int) -> None:
    clock, lag, alive = FakeClock(), Histogram(LAG_BUCKETS), []
    pulse = Pulse(clock, lag, lambda: alive.append(clock.monotonic()), watchdog)
    pulse.start()
    clock.advance(10.01)
    assert len(alive) == lag.count == beats
    assert lag.total == pytest.approx(0)
    pulse.stop()
    pulse.stop()
    clock.advance(10)
    assert len(alive) == beats
    assert clock.pending == 0


def test_a_loop_that_was_late_is_seen() -> None:
    class Late(FakeClock):
        def monotonic(self) -> float:
            return super().monotonic() + late

    late = 0.0
    clock, lag = Late(), Histogram(LAG_BUCKETS)
    pulse = Pulse(clock, lag, lambda: None)
    pulse.start()
    late = 0.25
    clock.advance(1.0)
    assert lag.total == pytest.approx(0.25)
