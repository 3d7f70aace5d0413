"""The bounded threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from secure_net.rpc.pool import Job, Pool, PoolFullError
from tests.support.loops import in_loop


class Gate:
    """A method that blocks until the test lets it go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.ran: list[object] = []

    def __call__(self, value: object = None) -> object:
        self.entered.release()
        assert self.open.wait(30)
        self.ran.append(value)
        return value

    async def until_entered(self, count: int = 1) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.entered.acquire, timeout=30)


def future() -> asyncio.Future[Job]:
    return asyncio.get_running_loop().create_future()


@in_loop
async def test_a_job_gives_its_value_or_its_error_on_the_loop() -> None:
    pool = Pool(1, 1)
    done = future()
    job = pool.submit(divmod, (7, 2), done.set_result)
    assert await done is job
    assert (job.value, job.error, job.started) == ((3, 1), None, True)
    done = future()
    job = pool.submit(divmod, (7, 0), done.set_result)
    await done
    assert isinstance(job.error, ZeroDivisionError)
    pool.close()


@in_loop
async def test_system_exit_does_not_end_the_thread() -> None:
    def leave() -> None:
        raise SystemExit(1)

    pool = Pool(1, 1)
    for _ in range(2):
        done = future()
        job = pool.submit(leave, (), done.set_result)
        await done
        assert isinstance(job.error, SystemExit)
    pool.close()


@in_loop
async def test_threads_and_waiting_jobs_are_bounded() -> None:
    pool, gate = Pool(2, 1), Gate()
    jobs = [future() for _ in range(3)]
    pool.submit(gate, (0,), jobs[0].set_result)
    pool.submit(gate, (1,), jobs[1].set_result)
    await gate.until_entered(2)
    pool.submit(gate, (2,), jobs[2].set_result)
    with pytest.raises(PoolFullError):
        pool.submit(gate, (3,), lambda _: None)
    gate.open.set()
    assert sorted([(await job).value for job in jobs]) == [0, 1, 2]
    # There is room again, on the same threads.
    done = future()
    pool.submit(gate, (4,), done.set_result)
    assert (await done).value == 4
    pool.close()


@in_loop
async def test_an_idle_thread_is_used_again() -> None:
    pool = Pool(4, 1)
    threads = set()
    for _ in range(20):
        done = future()
        pool.submit(threading.get_ident, (), done.set_result)
        threads.add((await done).value)
    assert len(threads) == 1
    pool.close()


@in_loop
async def test_a_waiting_job_is_taken_back_and_never_runs() -> None:
    pool, gate = Pool(1, 2), Gate()
    first, last = future(), future()
    running = pool.submit(gate, ("first",), first.set_result)
    await gate.until_entered()
    waiting = pool.submit(gate, ("waiting",), lambda _: pytest.fail("it was taken back"))
    pool.submit(gate, ("last",), last.set_result)
    assert pool.cancel(waiting)
    assert pool.cancel(waiting)
    assert not pool.cancel(running)
    gate.open.set()
    await asyncio.gather(first, last)
    assert gate.ran == ["first", "last"]
    pool.close()


@in_loop
async def test_close_drops_what_waits_and_ends_the_threads() -> None:
    pool, gate = Pool(2, 2), Gate()
    done = future()
    pool.submit(gate, (), done.set_result)
    await gate.until_entered()
    pool.submit(gate, ("second",), lambda _: None)
    await gate.until_entered()
    pool.submit(gate, ("dropped",), lambda _: pytest.fail("it was dropped"))
    pool.close()
    gate.open.set()
    await done
    while pool._threads:  # noqa: ASYNC110 - threads end by themselves
        await asyncio.sleep(0)
    assert "dropped" not in gate.ran


def test_a_job_that_outlives_the_loop_harms_nobody() -> None:
    gate = Gate()
    pool = Pool(1, 1)
    before = set(threading.enumerate())

    async def start() -> Job:
        job = pool.submit(gate, (), lambda _: pytest.fail("the loop is closed"))
        await gate.until_entered()
        return job

    job = asyncio.run(start())
    gate.open.set()
    pool.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert job.cancelled


@in_loop
async def test_when_the_system_has_no_thread_the_pool_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, gate = Pool(2, 2), Gate()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        with pytest.raises(PoolFullError):
            pool.submit(gate, (), lambda _: pytest.fail("it never ran"))
    first, second = future(), future()
    pool.submit(gate, (1,), first.set_result)
    await gate.until_entered()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        pool.submit(gate, (2,), second.set_result)  # the thread there is will do it
    gate.open.set()
    assert ((await first).value, (await second).value) == (1, 2)
    pool.close()
