"""Who has a connection in hand: its worker, or the event loop.

Theory of operation. Whoever has the lock may touch the connection. The worker has it while it computes, and
lets go while it waits. The loop never waits for it: where the worker has it, the loop leaves a note, and who
lets go looks at the notes afterwards, so that none is overlooked. What only the loop's thread may do, the
worker asks of it and waits, keeping the lock, so that the loop acts for it, on the notes first.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class LoopGoneError(Exception):
    """The event loop was closed under the worker: nobody is left to ask."""


class Handover:
    """Made on the loop's thread. `lock` is for the worker: it takes it, and lets go of it where it waits.

    Attributes: `notes`, what the loop wants done; `turn`, set whenever the loop has done something;
    `with_loop`, true while the loop has the connection in hand (for its own thread to read).
    """

    __slots__ = ("_after", "_loop", "_owner", "lock", "notes", "turn", "with_loop")

    def __init__(self, after: Callable[[], None]) -> None:
        """`after` is called on the loop when it has done something, before it lets go."""
        self._loop, self._owner = asyncio.get_running_loop(), threading.get_ident()
        self._after = after
        self.lock = threading.Lock()
        self.notes: deque[Callable[[], object]] = deque()
        self.turn = threading.Event()
        self.with_loop = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_worker(self) -> bool:
        return threading.get_ident() != self._owner

    def post(self, act: Callable[[], object]) -> None:
        """The worker has the loop do it, and does not wait. Raises `LoopGoneError`."""
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:
            raise LoopGoneError from None

    def ask(self, act: Callable[[], T]) -> T:
        """The worker has the loop do it, and waits. Raises what `act` raises, and `LoopGoneError`."""
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            self.with_loop = True
            try:
                self._see_to_notes()
                answer.set_result(act())
            except Exception as error:  # noqa: BLE001 - it belongs to the worker that asked
                answer.set_exception(error)
            except BaseException:  # an interrupt is the loop's, and its end
                answer.set_exception(LoopGoneError())
                raise
            finally:
                self.with_loop = False

        self.post(run)
        return answer.result()

    def take(self, act: Callable[[], object]) -> None:
        """The loop does it now; or, where the worker has the connection in hand, as soon as it lets go."""
        if self.with_loop:
            act()
            return
        self.notes.append(act)  # before the lock is tried: who has it looks here when it lets go
        if not self.lock.acquire(blocking=False):
            return
        self.with_loop = True
        try:
            self._see_to_notes()
        finally:
            self.with_loop = False
            self._after()
            self.lock.release()
            self.turn.set()

    def see_to_notes(self) -> None:
        """The worker, before it waits again."""
        self.ask(_nothing)

    def catch_up(self) -> None:
        """The loop, on the notes that it left, once the worker has let go for good."""
        self.take(_nothing)

    def _see_to_notes(self) -> None:
        while self.notes:
            self.notes.popleft()()


class HandedOver(Protocol):
    """What the two decorators below are for the methods of."""

    @property
    def handover(self) -> Handover: ...


def by_the_loop(act: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method that only the loop's thread may run: the worker asks for it."""

    def run(self: HandedOver, /, *args: P.args, **kwargs: P.kwargs) -> T:
        handover = self.handover
        if handover.is_worker():
            return handover.ask(functools.partial(act, self, *args, **kwargs))
        return act(self, *args, **kwargs)

    return run


def in_hand(act: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
    """A method that needs the connection in hand: the worker has it, the loop takes it, now or soon."""

    def run(self: HandedOver, /, *args: P.args, **kwargs: P.kwargs) -> None:
        handover = self.handover
        if handover.is_worker():
            act(self, *args, **kwargs)
        else:
            handover.take(functools.partial(act, self, *args, **kwargs))

    return run


def _nothing() -> None:
    """The loop has seen to its notes by the time it comes to this."""
