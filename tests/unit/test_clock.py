"""The system's clock, and the one that tests hold in their hand: the same in what the shell relies on."""

from __future__ import annotations

import asyncio
import time

from secure_net.clock import Clock, SystemClock
from tests.support.clock import FakeClock
from tests.support.loops import in_loop


@in_loop
async def test_the_systems_clock() -> None:
    clock: Clock = SystemClock()
    loop = asyncio.get_running_loop()
    assert clock.monotonic() <= loop.time() <= clock.monotonic()
    assert clock.wall() <= time.time() <= clock.wall()
    rang = asyncio.Event()
    never = clock.call_at(clock.monotonic(), lambda: rang.set() or rang.clear())
    never.cancel()
    clock.call_at(clock.monotonic(), rang.set)
    await asyncio.wait_for(rang.wait(), 10)


def test_a_loop_may_be_given() -> None:
    loop = asyncio.new_event_loop()
    try:
        assert SystemClock(loop).monotonic() <= loop.time()
    finally:
        loop.close()


def test_the_fake_clock_rings_in_order_and_shows_the_time_of_each() -> None:
    clock, rang = FakeClock(100.0, 5.0), []

    def ring(name: str) -> None:
        rang.append((name, clock.monotonic(), clock.wall()))

    clock.call_at(103.0, lambda: ring("second"))
    clock.call_at(102.0, lambda: ring("first"))
    clock.call_at(103.0, lambda: clock.call_at(103.5, lambda: ring("set meanwhile")))
    cancelled = clock.call_at(102.5, lambda: ring("never"))
    cancelled.cancel()
    assert clock.pending == 3
    clock.advance(3.6)
    assert rang == [("first", 102.0, 7.0), ("second", 103.0, 8.0), ("set meanwhile", 103.5, 8.5)]
    assert (clock.monotonic(), clock.pending) == (103.6, 0)
    assert abs(clock.wall() - 8.6) < 1e-9


def test_the_fake_clocks_wall_may_jump() -> None:
    clock = FakeClock(100.0, 5.0)
    clock.jump_wall(-3.0)
    assert (clock.monotonic(), clock.wall()) == (100.0, 2.0)
