"""What waits is taken in one go, and what comes of it goes back in one call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

from secure_net.errors import StateError
from secure_net.store.batches import LARGEST_BATCH, BatchThread, settle


def test_what_piles_up_is_the_next_batch() -> None:
    gate, begun = threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def work(items: list[int]) -> None:
        batches.append(items)
        begun.set()
        gate.wait(10)

    thread = BatchThread("test", work)
    thread.put(0)
    assert begun.wait(10)
    for item in range(1, LARGEST_BATCH + 10):
        thread.put(item)
    assert thread.waiting == LARGEST_BATCH + 9
    assert not thread.stop(0)
    gate.set()
    assert thread.stop()
    assert [item for batch in batches for item in batch] == list(range(LARGEST_BATCH + 10))
    assert [len(batch) for batch in batches] == [1, LARGEST_BATCH + 1, 8]
    with pytest.raises(StateError):
        thread.put(1)


def test_stopping_twice_and_with_nothing_to_do() -> None:
    thread: BatchThread[int] = BatchThread("test", lambda _: None)
    assert thread.stop()
    assert thread.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_takes_nothing_more() -> None:
    def work(_: list[int]) -> None:
        raise ZeroDivisionError

    thread = BatchThread("test", work)
    thread.put(1)
    thread._thread.join(10)
    with pytest.raises(StateError):
        thread.put(2)


def test_results_reach_each_loop_in_one_call() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two, three = loop.create_future(), loop.create_future(), loop.create_future()
        two.cancel()
        blocking: concurrent.futures.Future[str] = concurrent.futures.Future()
        settle([(one, 1, None), (two, 2, None), (three, None, ValueError("3")), (blocking, "b", None)])
        assert blocking.result(0) == "b"
        assert not one.done()
        assert await one == 1
        with pytest.raises(ValueError, match="3"):
            await three

    asyncio.run(main())


def test_a_loop_that_is_gone_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    settle([(future, 1, None)])
    assert not future.done()
