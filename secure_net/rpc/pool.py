"""A bounded pool of threads for methods that block.

Why not `concurrent.futures`: its queue has no bound, a job that nobody waits for any more still runs, and
the interpreter waits for its threads at exit, so that one stuck method would keep a stopped daemon alive.
A thread that is stuck keeps its slot until its method returns: Python cannot end it, and a pool that
replaced it would grow without bound.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from secure_net.errors import Refusal, RefusedError


class PoolFullError(RefusedError):
    """As many jobs wait for a thread as may."""

    def __init__(self) -> None:
        super().__init__(Refusal.OVERLOAD)


class Job:
    """One call on the pool. Once `on_done` was called, either `error` is set or `value` counts."""

    __slots__ = ("_arguments", "_function", "_loop", "_on_done", "cancelled", "error", "started", "value")

    def __init__(
        self, function: Callable[..., Any], arguments: Sequence[Any], on_done: Callable[[Job], None]
    ) -> None:
        self._function, self._arguments, self._on_done = function, arguments, on_done
        self._loop = asyncio.get_running_loop()
        self.started = False
        self.cancelled = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """On a thread of the pool."""
        try:
            self.value = self._function(*self._arguments)
        except BaseException as error:  # noqa: BLE001 - SystemExit too must not end the pool's thread
            self.error = error

    def tell(self) -> None:
        """From that thread to the loop."""
        try:
            self._loop.call_soon_threadsafe(self._on_done, self)
        except RuntimeError:
            # The loop is closed: the daemon stopped while this method was stuck. Nobody waits any more.
            self.cancelled = True


class Pool:
    """At most `threads` daemon threads, started as they are needed; at most `waiting` jobs beside theirs."""

    def __init__(self, threads: int, waiting: int, name: str = "rpc-pool") -> None:
        self._most, self._waiting, self._name = threads, waiting, name
        self._threads = 0
        self._unfinished = 0  # jobs that run or wait
        self._jobs: deque[Job] = deque()  # those that wait
        self._changed = threading.Condition(threading.Lock())
        self._closed = False

    def submit(
        self, function: Callable[..., Any], arguments: Sequence[Any], on_done: Callable[[Job], None]
    ) -> Job:
        """Run `function(*arguments)`; `on_done(job)` is called on this event loop afterwards.

        Raises `PoolFullError`.
        """
        job = Job(function, arguments, on_done)
        with self._changed:
            if self._unfinished >= self._most + self._waiting:
                raise PoolFullError
            if self._unfinished >= self._threads and self._threads < self._most:
                self._start_thread()
            self._unfinished += 1
            self._jobs.append(job)
            self._changed.notify()
        return job

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError as error:  # the system has none left; those there are will have to do
            if not self._threads:
                raise PoolFullError from error
        else:
            self._threads += 1

    def cancel(self, job: Job) -> bool:
        """Take a job back. False when it has started: then it runs to its end, and keeps its thread."""
        with self._changed:
            if job.started:
                return False
            if not job.cancelled:
                job.cancelled = True
                self._jobs.remove(job)
                self._unfinished -= 1
        return True

    def close(self) -> None:
        """Threads end when their job does; what waits is dropped. Does not wait for them."""
        with self._changed:
            self._closed = True
            self._unfinished -= len(self._jobs)
            for job in self._jobs:
                job.cancelled = True
            self._jobs.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            with self._changed:
                self._unfinished -= 1
            job.tell()
            del job  # its arguments and value are the caller's again

    def _next(self) -> Job | None:
        """Wait for a job. None: the pool is closed."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    self._threads -= 1
                    return None
                self._changed.wait()
            job = self._jobs.popleft()
            job.started = True
            return job
