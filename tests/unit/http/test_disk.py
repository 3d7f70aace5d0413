"""Work on threads, and what becomes of it when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from secure_net.errors import RefusedError
from secure_net.http.disk import Disk
from secure_net.rpc.pool import Pool
from tests.support.files import HeldThreads
from tests.support.loops import in_loop
from tests.support.transport import turns


def fail(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


@in_loop
async def test_on_real_threads() -> None:
    pool = Pool(2, 10)
    disk = Disk(pool)
    assert await asyncio.gather(*(disk.run(divmod, number, 3) for number in range(5))) == [
        divmod(number, 3) for number in range(5)
    ]
    with pytest.raises(ZeroDivisionError):
        await disk.run(divmod, 1, 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await disk.run(fail(StopIteration()))
    pool.close()


@in_loop
async def test_what_it_returns_and_that_it_is_over() -> None:
    threads, over = HeldThreads(), []
    task = asyncio.create_task(Disk(threads).run(int, "7", after=lambda: over.append(1)))
    await turns()
    assert not over
    threads.finish()
    assert over
    assert await task == 7


@in_loop
async def test_too_many_wait() -> None:
    threads, over = HeldThreads(), []
    threads.full = True
    with pytest.raises(RefusedError):
        await Disk(threads).run(int, after=lambda: over.append(1))
    with pytest.raises(RefusedError):
        await Disk(threads).run(int)
    assert over == [1]


@in_loop
async def test_what_has_not_begun_is_taken_back() -> None:
    threads, over, unwanted = HeldThreads(), [], []
    tasks = [
        asyncio.create_task(Disk(threads).run(int, unwanted=unwanted.append, after=lambda: over.append(1))),
        asyncio.create_task(Disk(threads).run(int)),
    ]
    await turns()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert threads.waiting == []
    assert (over, unwanted) == ([1], [])


@in_loop
async def test_what_has_begun_ends_by_itself_and_its_result_is_disposed_of() -> None:
    threads, over, unwanted = HeldThreads(), [], []
    run = Disk(threads).run
    tasks = [
        asyncio.create_task(run(int, "7", unwanted=unwanted.append, after=lambda: over.append(1))),
        asyncio.create_task(run(int, "x", unwanted=unwanted.append, after=lambda: over.append(2))),
        asyncio.create_task(run(int, "8")),
    ]
    await turns()
    threads.begin()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert over == []  # it is still at work
    threads.finish()
    assert over == [1, 2]
    assert unwanted == [7]
