"""A thread that takes all that waits in one go, and results that go back to their loops in one call.

Whoever puts something in pays for a C queue's `put` and nothing else; the thread sleeps in `get`. What
piles up while it works is its next batch: the slower the disk, the larger the batches.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from secure_net.errors import StateError

T = TypeVar("T")

AnyFuture = asyncio.Future[Any] | concurrent.futures.Future[Any]
Outcome = tuple[AnyFuture, Any, BaseException | None]
"""Who waits, the result, and the error that took the result's place."""

LARGEST_BATCH = 4096  # bounds how long the first of a batch waits for the last


class BatchThread(Generic[T]):
    """Calls `work` on one thread of its own with everything put since the last call, in order.

    `work` must not raise. A thread whose `work` did takes nothing more, and `put` says so.
    """

    def __init__(self, name: str, work: Callable[[list[T]], None]) -> None:
        self._work = work
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Any thread may call. Raises `StateError` after `stop`."""
        if self._closed:
            raise StateError("closed")
        self._queue.put(item)

    @property
    def waiting(self) -> int:
        """Items that no call of `work` has taken yet."""
        return self._queue.qsize()

    def stop(self, seconds: float | None = None) -> bool:
        """Do everything that was put, then end; False if that took longer than `seconds`."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        get, size = self._queue.get, self._queue.qsize
        running = True
        try:
            while running:
                batch = [get()]
                # The only reader of the queue: what qsize counts is there.
                batch += [get() for _ in range(min(size(), LARGEST_BATCH))]
                items = [item for item in batch if item is not None]
                running = len(items) == len(batch)
                if items:
                    self._work(items)
        finally:
            self._closed = True


def settle(outcomes: list[Outcome]) -> None:
    """Give every future its result: those of asyncio on their loop, with one call for all of them."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        future = outcome[0]
        if isinstance(future, concurrent.futures.Future):
            _hand_over([outcome])
        else:
            by_loop.setdefault(future.get_loop(), []).append(outcome)
    for loop, those in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_hand_over, those)


def _hand_over(outcomes: list[Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():  # whoever waited was cancelled
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
