"""Work that may wait for the disk, on a bounded pool of threads.

Whoever goes away takes back what has not begun; what has begun ends by itself, and its result is disposed of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class DoneJob(Protocol):
    """A call that has returned: `error`, or else `value`."""

    value: Any
    error: BaseException | None


class Threads(Protocol):
    """As much of a pool of threads as is needed here (`secure_net.rpc.pool`)."""

    def submit(
        self, function: Callable[..., Any], arguments: Sequence[Any], on_done: Callable[[Any], None]
    ) -> Any:
        """Run it; `on_done` is called on the event loop. Raises `RefusedError` where too many calls wait."""
        ...

    def cancel(self, job: Any) -> bool:
        """Take a call back. False where it has begun; otherwise `on_done` is never called."""
        ...


class Disk:
    """Runs functions on `threads`. `waited` counts them."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.waited = 0

    async def run(
        self,
        function: Callable[..., T],
        *arguments: Any,
        unwanted: Callable[[T], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> T:
        """What `function` returns or raises. Raises `RefusedError` where too many wait.

        `unwanted` gets a result that nobody waits for any more. `after` is called once, whatever happens, as
        soon as `function` does not run any more, or is sure never to: until then its arguments are in use.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(job: DoneJob) -> None:
            if after is not None:
                after()
            if future.cancelled():
                if job.error is None and unwanted is not None:
                    unwanted(job.value)
            elif job.error is None:
                future.set_result(job.value)
            elif isinstance(job.error, StopIteration):  # which no future takes
                future.set_exception(RuntimeError(repr(job.error)))
            else:
                future.set_exception(job.error)

        self.waited += 1
        try:
            job = self._threads.submit(function, arguments, done)
        except BaseException:
            if after is not None:
                after()
            raise
        try:
            return await future
        except asyncio.CancelledError:
            if self._threads.cancel(job) and after is not None:
                after()
            raise
