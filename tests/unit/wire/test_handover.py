"""Who has the connection in hand: notes, asking, and the loop that is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from secure_net.wire.handover import Handover, LoopGoneError, by_the_loop, in_hand
from tests.support.loops import in_loop


class Thing:
    """Something that is handed over; says who did what."""

    def __init__(self) -> None:
        self.afters = 0
        self.handover = Handover(self._after)
        self.done: list[tuple[str, bool]] = []

    def _after(self) -> None:
        self.afters += 1

    def _note(self, what: str) -> None:
        self.done.append((what, self.handover.is_worker()))

    @by_the_loop
    def shared(self, what: str) -> str:
        """Only the loop may."""
        self._note(what)
        if what == "bad":
            raise ValueError(what)
        return what.upper()

    @in_hand
    def own(self, what: str) -> None:
        """Whoever has it may."""
        assert self.handover.lock.locked()
        self._note(what)


def on_worker(act: Callable[[], object]) -> asyncio.Future[object]:
    return asyncio.ensure_future(asyncio.to_thread(act))


@in_loop
async def test_the_loop_takes_what_nobody_has() -> None:
    thing = Thing()
    thing.own("at once")
    assert thing.done == [("at once", False)]
    assert thing.afters == 1
    assert thing.handover.turn.is_set()
    assert not thing.handover.lock.locked()
    assert thing.shared("shared") == "SHARED"


@in_loop
async def test_where_the_worker_has_it_a_note_is_left_and_seen_to() -> None:
    thing = Thing()
    has_it, go = threading.Event(), threading.Event()

    def work() -> None:
        with thing.handover.lock:
            has_it.set()
            go.wait(10)
            thing.own("the worker itself")
            thing.handover.see_to_notes()

    working = on_worker(work)
    await asyncio.to_thread(has_it.wait, 10)
    thing.own("first")
    thing.own("second")
    assert thing.done == []
    assert len(thing.handover.notes) == 2
    go.set()
    await working
    assert thing.done == [("the worker itself", True), ("first", False), ("second", False)]


@in_loop
async def test_a_note_that_comes_as_the_worker_lets_go_is_seen_to_by_the_next_who_takes_it() -> None:
    thing = Thing()
    with thing.handover.lock:
        thing.own("left")
        thing.own("too")
    assert thing.done == []
    thing.handover.catch_up()
    assert thing.done == [("left", False), ("too", False)]
    with thing.handover.lock:
        thing.own("left again")
    thing.own("next")
    assert [what for what, _ in thing.done] == ["left", "too", "left again", "next"]


@in_loop
async def test_what_is_asked_comes_after_the_notes_and_gives_and_raises() -> None:
    thing = Thing()
    with thing.handover.lock:
        thing.own("noted")

    def work() -> tuple[str, object]:
        with thing.handover.lock:
            answer = thing.shared("asked")
            with pytest.raises(ValueError, match="bad"):
                thing.shared("bad")
            return answer, threading.current_thread()

    answer, _ = await asyncio.to_thread(work)
    assert answer == "ASKED"
    assert thing.done == [("noted", False), ("asked", False), ("bad", False)]
    assert not thing.handover.with_loop


@in_loop
async def test_while_the_loop_acts_for_the_worker_it_has_it_in_hand() -> None:
    thing = Thing()

    def nested() -> None:
        assert thing.handover.with_loop
        thing.own("nested")

    def work() -> None:
        with thing.handover.lock:
            thing.handover.ask(nested)

    await asyncio.to_thread(work)
    assert thing.done == [("nested", False)]


@in_loop
async def test_a_note_that_fails_does_not_keep_the_lock() -> None:
    thing = Thing()

    def fail() -> None:
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        thing.handover.take(fail)
    assert not thing.handover.lock.locked()
    thing.own("goes on")
    assert thing.done == [("goes on", False)]


class InTurn(Handover):
    """What is posted waits for the test to run it."""

    def post(self, act: Callable[[], object]) -> None:
        self.posted = [act]


@in_loop
async def test_an_interrupt_is_the_loop_s_and_not_the_worker_s() -> None:
    handover = InTurn(lambda: None)
    handover.posted = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    working = on_worker(lambda: handover.ask(interrupted))
    while not handover.posted:  # noqa: ASYNC110 - another thread's doing
        await asyncio.sleep(0.001)
    with pytest.raises(KeyboardInterrupt):
        handover.posted[0]()
    with pytest.raises(LoopGoneError):
        await working
    assert not handover.with_loop


def test_a_loop_that_is_gone() -> None:
    things: list[Thing] = []

    async def make() -> None:
        things.append(Thing())

    asyncio.run(make())
    failed: list[type[BaseException]] = []

    def work() -> None:
        try:
            things[0].shared("nobody is left")
        except LoopGoneError as error:
            failed.append(type(error))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(10)
    assert failed == [LoopGoneError]
