"""A bounded pool of threads, each of which sees one connection at a time to its end.

It grows as connections come and never shrinks. The threads are daemon threads: one that is stuck must not
keep a stopped process alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

RECEIVE_BYTES = 64 * 1024

Job = Callable[[memoryview], None]


class Workers:
    """At most `most` threads. A job gets its thread's receive buffer, `RECEIVE_BYTES` long."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._lock = threading.Lock()
        self._threads = 0
        self._spare = 0  # threads that wait, less the jobs that wait
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._closed = False

    @property
    def threads(self) -> int:
        """How many there are."""
        return self._threads

    def give(self, job: Job) -> bool:
        """Run `job` on a thread, now or when one is free. False where there is none and can be none."""
        with self._lock:
            if self._closed or not (self._spare > 0 or self._grow() or self._threads):
                return False
            self._spare -= 1
            self._jobs.put(job)
            return True

    def _grow(self) -> bool:
        if self._threads >= self._most:
            return False
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:  # the system has none left; those there are will have to do
            return False
        self._threads += 1
        self._spare += 1
        return True

    def close(self) -> None:
        """Threads end when their job does. Does not wait for them."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        while (job := self._jobs.get()) is not None:
            job(buffer)
            del job  # the connection is not ours to keep
            with self._lock:
                self._spare += 1
        with self._lock:
            self._threads -= 1
