"""The pool: it grows as jobs come, never beyond its bound, and ends when it is closed."""

from __future__ import annotations

import threading

import pytest

from secure_net.wire.workers import RECEIVE_BYTES, Workers
from tests.support.waiting import until


class Held:
    """A job that runs until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go, self.done = threading.Event(), threading.Event(), threading.Event()
        self.buffer: memoryview | None = None

    def __call__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.begun.set()
        self.go.wait(10)
        self.done.set()


def test_it_grows_as_jobs_come_and_no_further_than_it_may() -> None:
    workers = Workers(3, "test")
    assert workers.threads == 0
    jobs = [Held() for _ in range(5)]
    assert all(workers.give(job) for job in jobs)
    for job in jobs[:3]:
        assert job.begun.wait(10)
    assert workers.threads == 3
    assert not jobs[3].begun.is_set()
    assert len({id(job.buffer) for job in jobs[:3]}) == 3, "each thread has a buffer of its own"
    assert {len(job.buffer or b"") for job in jobs[:3]} == {RECEIVE_BYTES}
    jobs[1].go.set()
    assert jobs[3].begun.wait(10)  # the one that came first
    for job in jobs:
        job.go.set()
    assert jobs[4].done.wait(10)
    workers.close()
    until(lambda: workers.threads == 0)


def test_a_thread_that_is_free_is_used_again() -> None:
    workers = Workers(3, "test")
    for _ in range(5):
        job = Held()
        job.go.set()
        workers.give(job)
        assert job.done.wait(10)
        until(lambda: workers._spare == 1)
    assert workers.threads == 1
    workers.close()


def test_closed_it_takes_nothing_more_and_finishes_what_runs() -> None:
    workers, job = Workers(1, "test"), Held()
    workers.give(job)
    assert job.begun.wait(10)
    workers.close()
    assert not workers.give(Held())
    assert workers.threads == 1
    job.go.set()
    until(lambda: workers.threads == 0)


def test_where_the_system_has_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, first, second = Workers(3, "test"), Held(), Held()

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        assert not workers.give(first)
    assert workers.give(first)
    assert first.begun.wait(10)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        assert workers.give(second), "it waits for the thread that there is"
    first.go.set()
    assert second.begun.wait(10)
    second.go.set()
    workers.close()
    until(lambda: workers.threads == 0)
