"""From the bytes of a call to the bytes of its answer.

Theory of operation. `handle` decodes; `_call` finds the method, asks whether the caller may, fits the
parameters and runs it. An inline method has answered when `_call` returns, without a task. Any other gives
back a coroutine, which waits for the method's work (a task, or a job on the pool) until the deadline, the
end of a drain, or its own end, whichever comes first. The work itself may go on after its caller got a
fault: a task is cancelled, a thread cannot be; either keeps its slot until it really ends.

What comes of a call is the text of its ``<value>``, or a `Failure`; only the outermost layer makes a
document of it. So `system.multicall` puts the same things together.

A name that does not exist, one that the caller may not use, and one that no method could have are one
case: `NOT_FOUND`.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from secure_net.clock import Clock
from secure_net.errors import ConfigurationError, Refusal, RefusedError
from secure_net.limits import RPCLimits
from secure_net.metrics import OTHER, CallOutcome, MethodCounters, Metrics
from secure_net.rpc import faults
from secure_net.rpc.decode import loads_call
from secure_net.rpc.encode import dumps_value, wrap_answer
from secure_net.rpc.faults import Code, DecodeError, EncodeError, Fault
from secure_net.rpc.pool import Job, Pool, PoolFullError
from secure_net.rpc.registry import Call, Manner, Method, Registry
from secure_net.rpc.results import (
    DEADLINE,
    NOT_A_CALL,
    NOT_FOUND,
    NOT_WELL_FORMED,
    OVERLOADED,
    STOPPING,
    WRONG_PARAMETERS,
    Caller,
    Failure,
    Pending,
    Result,
)
from secure_net.rpc.signature import WrongParametersError
from secure_net.rpc.system import system_methods

if TYPE_CHECKING:
    from secure_net.identity.policy import Principal

T = TypeVar("T")
Log = Callable[..., None]  # an event's name, and its fields
Audit = Callable[..., Any]  # what; who, service, where, outcome, method

_FAULT_CHARACTERS = 4096  # of a method's own message; beyond, it is a fault of the method


class Outcome:
    """How a method's work ended: with `error`, or with `value`."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value, self.error = value, error


class Entry:
    """One method in use: its counters, how many of its calls run, and who waits for a turn."""

    __slots__ = ("counters", "method", "running", "turns")

    def __init__(self, method: Method, counters: MethodCounters) -> None:
        self.method, self.counters = method, counters
        self.running = 0
        self.turns: deque[asyncio.Future[Failure | None]] = deque()


def _settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


class Dispatcher:
    """Runs the methods of `registry`.

    `log` gets each failure with its reference, and the line of an audited call where there is no `audit`.
    """

    def __init__(
        self,
        registry: Registry,
        limits: RPCLimits,
        clock: Clock,
        metrics: Metrics,
        pool: Pool,
        *,
        log: Log,
        audit: Audit | None = None,
    ) -> None:
        self.limits, self.registry = limits, registry
        self._clock, self._metrics, self._pool = clock, metrics, pool
        self._log, self._audit = log, audit or log
        self._other = metrics.rpc_method(OTHER)
        self._waiting: set[asyncio.Future[Any]] = set()  # `end_calls` settles them
        self._turns_count = 0
        self.entries: dict[str, Entry] = {}
        for method in (*registry.methods.values(), *system_methods(self)):
            if len(method.name) > limits.xml_method_name_bytes:
                raise ConfigurationError(
                    "limits.xml_method_name_bytes", f"{method.name} is longer", "give it a shorter name"
                )
            self.entries[method.name] = Entry(method, metrics.rpc_method(method.name))

    # --- the outermost layer ------------------------------------------------------------------------

    def handle(self, body: bytes, principal: Principal, peer: str) -> bytes | Coroutine[Any, Any, bytes]:
        """The answer to a request's body, a fault where it is no call. See `dispatch`."""
        registry = self.registry
        try:
            name, params = loads_call(
                body, self.limits, allow_nil=registry.allow_nil, allow_i8=registry.allow_i8
            )
        except DecodeError as error:
            self._other.calls[CallOutcome.MALFORMED] += 1
            return (NOT_WELL_FORMED if error.code is Code.NOT_WELL_FORMED else NOT_A_CALL).document
        return self.dispatch(name, params, principal, peer)

    def dispatch(
        self, name: str, params: list[Any], principal: Principal, peer: str
    ) -> bytes | Coroutine[Any, Any, bytes]:
        """The answer, or a coroutine that gives it.

        Either raises `RefusedError` (`Refusal.OVERLOAD`) when too many calls wait already; nothing ran.
        """
        deadline = self._clock.monotonic() + self.limits.rpc_call_seconds
        result = self.call(name, params, Caller(principal, peer, deadline))
        if isinstance(result, bytes):
            return wrap_answer(result)
        if isinstance(result, Failure):
            return _document(result)
        return self._finish(result)

    async def _finish(self, pending: Pending) -> bytes:
        result = await pending
        return wrap_answer(result) if isinstance(result, bytes) else _document(result)

    def end_calls(self) -> None:
        """The drain is over: every call under way gets its fault now."""
        for future in tuple(self._waiting):
            _settle(future, STOPPING)

    def is_past(self, deadline: float) -> bool:
        return self._clock.monotonic() >= deadline

    # --- one call -----------------------------------------------------------------------------------

    def call(self, name: str, params: list[Any], caller: Caller) -> Result | Pending:
        """One call, by itself or as one of a multicall."""
        entry = self.entries.get(name)
        if entry is None or not entry.method.permits(caller.principal):
            self._other.calls[CallOutcome.NOT_FOUND] += 1
            return NOT_FOUND
        method = entry.method
        try:
            arguments = method.signature.arguments(params)
        except WrongParametersError:
            entry.counters.calls[CallOutcome.INVALID] += 1
            return WRONG_PARAMETERS
        if method.manner is Manner.INLINE:
            return self._run_inline(entry, arguments, caller)
        if method.manner is Manner.SYSTEM:
            return self._run_system(entry, arguments, caller)
        if method.manner is Manner.MULTICALL:
            return self._run_multicall(entry, arguments, caller)
        return self._run(entry, arguments, caller)

    def _run_inline(self, entry: Entry, arguments: list[Any], caller: Caller) -> Result:
        began = self._clock.monotonic()
        method, call = entry.method, None
        if method.signature.wants_caller:
            call = self._call_of(caller)
            arguments = [call, *arguments]
        result: Result
        try:
            result = self.encoded(method.function(*arguments), caller)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a method raises is its failure
            result = self.failed(error, method, caller, call)
        return self._finished(entry, result, caller, began)

    def _run_system(self, entry: Entry, arguments: list[Any], caller: Caller) -> Result:
        began = self._clock.monotonic()
        value = entry.method.function(caller, *arguments)
        try:
            result: Result = value if isinstance(value, Failure) else self.encoded(value, caller)
        except EncodeError as error:
            result = self.failed(error, entry.method, caller)
        return self._finished(entry, result, caller, began)

    async def _run_multicall(self, entry: Entry, arguments: list[Any], caller: Caller) -> Result:
        began = self._clock.monotonic()
        result: Result = await entry.method.function(caller, *arguments)
        return self._finished(entry, result, caller, began)

    def encoded(self, value: Any, caller: Caller) -> bytes:
        """The value's ``<value>``. Raises `EncodeError`."""
        registry = self.registry
        return dumps_value(
            value,
            self.limits,
            outside=caller.outside,
            limit=caller.limit,
            allow_nil=registry.allow_nil,
            allow_i8=registry.allow_i8,
        )

    def failed(
        self, error: BaseException, method: Method, caller: Caller, call: Call | None = None
    ) -> Failure:
        """What a method raised as what its caller gets: only a `Fault` speaks to it."""
        if isinstance(error, Fault) and len(error.message) <= _FAULT_CHARACTERS:
            return Failure(error.code, error.message, CallOutcome.FAULT)
        reference = call.request_id if call is not None else secrets.token_hex(8)
        self._log(
            "rpc_method_failed",
            service="rpc",
            method=method.name,
            reference=reference,
            peer=caller.peer,
            principal=caller.principal.name,
            error=error,
        )
        return Failure(Code.INTERNAL_ERROR, faults.INTERNAL_ERROR.format(reference), CallOutcome.ERROR)

    def _call_of(self, caller: Caller) -> Call:
        return Call(caller.principal, caller.deadline, secrets.token_hex(8), caller.peer)

    def _finished(self, entry: Entry, result: Result, caller: Caller, began: float) -> Result:
        outcome = CallOutcome.OK if isinstance(result, bytes) else result.outcome
        entry.counters.finished(outcome, self._clock.monotonic() - began)
        if entry.method.audited:
            self._audit(
                "rpc.call",
                who=caller.principal.name,
                service="rpc",
                where=caller.peer,
                outcome=outcome.value,
                method=entry.method.name,
            )
        return result

    # --- calls that take their time -----------------------------------------------------------------

    async def _run(self, entry: Entry, arguments: list[Any], caller: Caller) -> Result:
        began = self._clock.monotonic()
        method, call = entry.method, None
        if method.deadline_seconds is not None:
            deadline = min(caller.deadline, began + method.deadline_seconds)
            caller = Caller(caller.principal, caller.peer, deadline, caller.limit, caller.outside)
        if method.signature.wants_caller:
            call = self._call_of(caller)
            arguments = [call, *arguments]
        failure = await self._turn(entry, caller.deadline)
        if failure is None:
            work = self._awaited if method.manner is Manner.AWAITED else self._pooled
            done = await work(entry, arguments, caller.deadline)
        else:
            done = failure
        result: Result
        if isinstance(done, Failure):
            result = done
        elif done.error is not None:
            result = self.failed(done.error, method, caller, call)
        else:
            try:
                result = self.encoded(done.value, caller)
            except Exception as error:  # noqa: BLE001 - a value's own methods may raise whatever they like
                result = self.failed(error, method, caller, call)
        return self._finished(entry, result, caller, began)

    async def _until(self, future: asyncio.Future[T | Failure], deadline: float) -> T | Failure:
        """What `future` gives, or a `Failure` at the deadline or the end of a drain."""
        self._waiting.add(future)
        alarm = self._clock.call_at(deadline, functools.partial(_settle, future, DEADLINE))
        try:
            return await future
        finally:
            alarm.cancel()
            self._waiting.discard(future)

    async def _turn(self, entry: Entry, deadline: float) -> Failure | None:
        """Wait until one more call of this method may run, and count it as running."""
        bound = entry.method.concurrency
        if bound is None or entry.running < bound:
            entry.running += 1
            return None
        if self._turns_count >= self.limits.rpc_waiting_count:
            return OVERLOADED
        turn: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        entry.turns.append(turn)
        self._turns_count += 1
        try:
            return await self._until(turn, deadline)
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result() is None:  # it was given, and nobody takes it
                self._give_up(entry)
            raise
        finally:
            self._turns_count -= 1
            if turn in entry.turns:
                entry.turns.remove(turn)

    def _give_up(self, entry: Entry) -> None:
        """One call of this method really ended: the next in line has its turn."""
        for turn in entry.turns:
            if not turn.done():
                entry.turns.remove(turn)
                turn.set_result(None)
                return
        entry.running -= 1

    async def _awaited(self, entry: Entry, arguments: list[Any], deadline: float) -> Outcome | Failure:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome | Failure] = loop.create_future()
        task = loop.create_task(_outcome_of(entry.method.function, arguments))

        def ended(task: asyncio.Task[Outcome]) -> None:
            self._give_up(entry)
            _settle(done, Outcome(error=asyncio.CancelledError()) if task.cancelled() else task.result())

        task.add_done_callback(ended)
        try:
            result = await self._until(done, deadline)
        except asyncio.CancelledError:  # the caller's connection is gone
            task.cancel()
            raise
        if isinstance(result, Failure):
            task.cancel()
        return result

    async def _pooled(self, entry: Entry, arguments: list[Any], deadline: float) -> Outcome | Failure:
        done: asyncio.Future[Outcome | Failure] = asyncio.get_running_loop().create_future()
        is_stuck = False

        def ended(job: Job) -> None:
            self._give_up(entry)
            if is_stuck:
                self._metrics.stuck_threads -= 1
            _settle(done, Outcome(job.value, job.error))

        try:
            job = self._pool.submit(entry.method.function, arguments, ended)
        except PoolFullError:
            self._give_up(entry)
            return OVERLOADED
        try:
            result = await self._until(done, deadline)
        except asyncio.CancelledError:
            if self._pool.cancel(job):
                self._give_up(entry)
            raise
        if isinstance(result, Failure):
            if self._pool.cancel(job):
                self._give_up(entry)
            else:
                is_stuck = True
                self._metrics.stuck_threads += 1
        return result


def _document(failure: Failure) -> bytes:
    if failure is OVERLOADED:
        raise RefusedError(Refusal.OVERLOAD)
    return failure.document


async def _outcome_of(function: Callable[..., Coroutine[Any, Any, Any]], arguments: list[Any]) -> Outcome:
    """What came of a coroutine. SystemExit too: out of a task it would end the event loop."""
    try:
        return Outcome(await function(*arguments))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a method raises is its failure
        return Outcome(error=error)
