"""From a body to an answer. What goes wrong on purpose stands in `tests/hostile/test_xml_rpc.py`."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import threading
from typing import Any

import pytest

from secure_net.errors import ConfigurationError, Refusal, RefusedError
from secure_net.limits import RPCLimits
from secure_net.rpc.encode import dumps_call
from secure_net.rpc.faults import (
    ApplicationError,
    Fault,
    InternalError,
    MethodNotFoundError,
    WrongParametersError,
)
from secure_net.rpc.registry import Call, Registry, inline
from secure_net.rpc.results import DEADLINE
from tests.support.loops import in_loop
from tests.support.rpc import PEER, Bench, fault_of, principal, settle, until


class Work:
    """Methods of every manner, held by the test where they take their time."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.gate = asyncio.Event()
        self.thread_gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.running = 0
        self.cancelled = 0
        self.calls: list[Call] = []
        registry = self.registry

        @registry.method("a.double")
        @inline
        def double(value: int) -> int:
            return 2 * value

        @registry.method("a.now")
        @inline
        def now(aware: bool) -> datetime.datetime:
            moment = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
            return moment if aware else moment.replace(tzinfo=None)

        @registry.method("a.fault")
        @inline
        def fault(text: str) -> None:
            raise Fault(text, 7)

        @registry.method("a.inline_caller", audited=True)
        @inline
        def inline_caller(call: Call) -> str:
            self.calls.append(call)
            return call.principal.name

        @registry.method("a.caller", audited=True, deadline_seconds=2.0)
        async def caller(call: Call, fail: bool) -> str:
            self.calls.append(call)
            if fail:
                raise LookupError
            return call.request_id

        @registry.method("a.wait")
        async def wait() -> str:
            return await self._wait()

        @registry.method("a.one", concurrency=1)
        async def one() -> str:
            return await self._wait()

        @registry.method("a.short", deadline_seconds=1.0)
        async def short() -> str:
            return await self._wait()

        @registry.method("a.returns")
        async def returns() -> Any:
            return object()

        @registry.method("a.exits")
        async def exits() -> int:
            raise SystemExit(1)

        @registry.method("a.cancels")
        async def cancels() -> int:
            raise asyncio.CancelledError

        @registry.method("a.block")
        def block() -> str:
            self.entered.release()
            assert self.thread_gate.wait(30)
            return "done"

    async def _wait(self) -> str:
        self.running += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return "done"

    async def until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


def tasks(table: Bench, name: str, count: int) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(table.wait(name)) for _ in range(count)]


# --- inline ---------------------------------------------------------------------------------------------


@in_loop
async def test_an_inline_method_answers_at_once() -> None:
    table = Bench(Work().registry)
    assert table.document(dumps_call("a.double", (21,), table.limits)).endswith(
        b"<value><int>42</int></value></param></params></methodResponse>\n"
    )
    assert table.outcomes("a.double") == {"ok": 1}
    assert table.metrics.rpc_method("a.double").seconds.count == 1


@in_loop
async def test_a_naive_datetime_is_refused_and_an_aware_one_sent_in_utc() -> None:
    table = Bench(Work().registry)
    assert table.call("a.now", True) == datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
    with pytest.raises(InternalError, match="reference"):
        table.call("a.now", False)


@in_loop
async def test_a_fault_raised_on_purpose_speaks_to_the_caller() -> None:
    table = Bench(Work().registry)
    with pytest.raises(ApplicationError) as caught:
        table.call("a.fault", "the door is <shut>")
    assert (caught.value.code, caught.value.message) == (7, "the door is <shut>")
    assert table.logged == []
    assert table.outcomes("a.fault") == {"fault": 1}
    with pytest.raises(InternalError):
        table.call("a.fault", "x" * 5000)


@in_loop
async def test_wrong_parameters_are_counted_by_method() -> None:
    table = Bench(Work().registry)
    with pytest.raises(WrongParametersError):
        table.call("a.double", "7")
    assert table.outcomes("a.double") == {"invalid": 1}


@in_loop
async def test_what_is_no_call_and_what_is_unknown_count_as_other() -> None:
    table = Bench(Work().registry)
    assert fault_of(table.document(b"<"))[0] == -32700
    assert fault_of(table.document(b"<a/>"))[0] == -32600
    with pytest.raises(MethodNotFoundError):
        table.call("a.unknown")
    with pytest.raises(MethodNotFoundError):
        table.call("a.double", 1, who=principal("rpc:call:b.*", "echo:use"))
    assert table.outcomes("other") == {"malformed": 2, "not_found": 2}
    assert table.outcomes("a.double") == {}


# --- callers and audit ------------------------------------------------------------------------------------


@in_loop
async def test_a_method_that_wants_its_caller_gets_it() -> None:
    work = Work()
    table = Bench(work.registry)
    who = principal(name="ada")
    assert table.call("a.inline_caller", who=who) == "ada"
    reference = await table.wait("a.caller", False, who=who)
    first, second = work.calls
    assert (first.principal, first.peer) == (who, PEER)
    assert first.deadline == table.clock.monotonic() + table.limits.rpc_call_seconds
    assert second.deadline == table.clock.monotonic() + 2.0
    assert second.request_id == reference != first.request_id


@in_loop
async def test_the_reference_of_a_failure_is_the_request_s_id() -> None:
    work = Work()
    table = Bench(work.registry)
    with pytest.raises(InternalError, match="reference") as caught:
        await table.wait("a.caller", True)
    assert work.calls[0].request_id in caught.value.message
    event, fields = table.logged[0]
    assert event == "rpc_method_failed"
    assert isinstance(fields.pop("error"), LookupError)
    assert fields == {
        "service": "rpc",
        "method": "a.caller",
        "reference": work.calls[0].request_id,
        "peer": PEER,
        "principal": "demo",
    }


@in_loop
async def test_an_audited_call_is_a_line_in_the_trail() -> None:
    lines: list[dict[str, Any]] = []
    table = Bench(Work().registry, audited=lines)
    table.call("a.inline_caller")
    with pytest.raises(InternalError):
        await table.wait("a.caller", True)
    table.call("a.double", 1)
    common = {"what": "rpc.call", "who": "demo", "service": "rpc", "where": PEER}
    assert lines == [
        {**common, "outcome": "ok", "method": "a.inline_caller"},
        {**common, "outcome": "error", "method": "a.caller"},
    ]


@in_loop
async def test_without_a_trail_the_line_goes_to_the_log() -> None:
    table = Bench(Work().registry)
    table.call("a.inline_caller")
    assert [event for event, _ in table.logged] == ["rpc.call"]


# --- coroutines ---------------------------------------------------------------------------------------------


@in_loop
async def test_a_coroutine_is_awaited() -> None:
    work = Work()
    table = Bench(work.registry)
    waiting = asyncio.create_task(table.wait("a.wait"))
    await settle()
    table.clock.advance(3.0)
    work.gate.set()
    assert await waiting == "done"
    assert table.outcomes("a.wait") == {"ok": 1}
    assert table.metrics.rpc_method("a.wait").seconds.total == 3.0
    assert table.clock.pending == 0


@in_loop
async def test_a_method_s_own_deadline_comes_first() -> None:
    work = Work()
    table = Bench(work.registry)
    waiting = asyncio.create_task(table.wait("a.short"))
    await settle()
    table.clock.advance(0.9)
    await settle()
    assert not waiting.done()
    table.clock.advance(0.1)
    with pytest.raises(InternalError, match="deadline exceeded"):
        await waiting
    await settle()
    assert (work.running, work.cancelled) == (0, 1)
    assert table.outcomes("a.short") == {"deadline": 1}


@pytest.mark.parametrize("name", ["a.returns", "a.exits", "a.cancels"])
def test_a_coroutine_that_misbehaves_gives_a_reference(name: str) -> None:
    @in_loop
    async def scenario() -> None:
        table = Bench(Work().registry)
        with pytest.raises(InternalError, match="reference"):
            await table.wait(name)
        assert table.outcomes(name) == {"error": 1}
        assert len(table.logged) == 1

    scenario()


@in_loop
async def test_a_caller_who_goes_cancels_the_method() -> None:
    work = Work()
    table = Bench(work.registry)
    (waiting,) = tasks(table, "a.one", 1)
    await settle()
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert work.cancelled == 1
    assert table.clock.pending == 0
    # Its slot is free.
    work.gate.set()
    assert await table.wait("a.one") == "done"


# --- concurrency --------------------------------------------------------------------------------------------


@in_loop
async def test_a_bound_of_concurrency_is_kept_and_turns_are_given_in_order() -> None:
    work = Work()
    table = Bench(work.registry)
    waiting = tasks(table, "a.one", 3)
    await settle()
    assert work.running == 1
    waiting[0].cancel()
    await settle()
    assert work.running == 1
    work.gate.set()
    assert await asyncio.gather(*waiting[1:]) == ["done", "done"]
    assert table.dispatcher.entries["a.one"].running == 0


@in_loop
async def test_the_deadline_counts_while_a_turn_is_awaited() -> None:
    work = Work()
    table = Bench(work.registry)
    (first,) = tasks(table, "a.one", 1)
    await settle()
    table.clock.advance(10)
    (second,) = tasks(table, "a.one", 1)
    await settle()
    table.clock.advance(20)
    with pytest.raises(InternalError, match="deadline exceeded"):
        await first
    assert await _gave_way(work, second) == "done"
    assert table.outcomes("a.one") == {"deadline": 1, "ok": 1}
    assert not table.dispatcher.entries["a.one"].turns


async def _gave_way(work: Work, second: asyncio.Task[Any]) -> Any:
    """Once the first is really gone, the second has its turn."""
    await settle()
    assert work.running == 1
    work.gate.set()
    return await second


@in_loop
async def test_a_turn_that_never_came_is_given_up_at_the_deadline() -> None:
    work = Work()
    table = Bench(work.registry)
    first, second = tasks(table, "a.one", 2)
    await settle()
    table.clock.advance(table.limits.rpc_call_seconds)
    for waiting in (first, second):
        with pytest.raises(InternalError, match="deadline exceeded"):
            await waiting
    await settle()
    entry = table.dispatcher.entries["a.one"]
    assert (entry.running, len(entry.turns)) == (0, 0)


@in_loop
async def test_a_turn_passes_over_whose_deadline_has_just_come() -> None:
    work = Work()
    table = Bench(work.registry)
    first, second, third = tasks(table, "a.one", 3)
    await settle()
    table.dispatcher.entries["a.one"].turns[0].set_result(DEADLINE)  # and its caller has not run yet
    table.dispatcher._give_up(table.dispatcher.entries["a.one"])
    with pytest.raises(InternalError, match="deadline"):
        await second
    work.gate.set()
    assert await asyncio.gather(first, third) == ["done", "done"]


@in_loop
async def test_a_turn_given_to_one_who_is_leaving_goes_to_the_next() -> None:
    work = Work()
    table = Bench(work.registry)
    first, second, third = tasks(table, "a.one", 3)
    await settle()
    entry = table.dispatcher.entries["a.one"]
    entry.turns[0].set_result(None)  # as `_give_up` does, when ...
    del entry.turns[0]
    second.cancel()  # ... in the same turn of the loop its caller leaves
    await settle()
    assert work.running == 2
    work.gate.set()
    assert await asyncio.gather(first, third) == ["done", "done"]


@in_loop
async def test_a_waiting_caller_who_goes_is_forgotten() -> None:
    work = Work()
    table = Bench(work.registry)
    first, second = tasks(table, "a.one", 2)
    await settle()
    second.cancel()
    await settle()
    assert not table.dispatcher.entries["a.one"].turns
    work.gate.set()
    assert await first == "done"


@in_loop
async def test_too_many_waiting_for_a_turn_are_refused() -> None:
    work = Work()
    table = Bench(work.registry, dataclasses.replace(RPCLimits(), rpc_waiting_count=2))
    waiting = tasks(table, "a.one", 3)
    await settle()
    with pytest.raises(RefusedError) as caught:
        await table.wait("a.one")
    assert caught.value.reason is Refusal.OVERLOAD
    assert table.outcomes("a.one") == {"overload": 1}
    work.gate.set()
    assert await asyncio.gather(*waiting) == ["done"] * 3


# --- threads ------------------------------------------------------------------------------------------------


@in_loop
async def test_a_plain_function_runs_on_the_pool() -> None:
    work = Work()
    table = Bench(work.registry)
    (waiting,) = tasks(table, "a.block", 1)
    await work.until_entered()
    assert table.call("a.double", 2) == 4  # the loop is free
    work.thread_gate.set()
    assert await waiting == "done"
    assert table.outcomes("a.block") == {"ok": 1}


@in_loop
async def test_a_full_pool_refuses() -> None:
    work = Work()
    table = Bench(work.registry, threads=1, waiting=1)
    waiting = tasks(table, "a.block", 2)
    await work.until_entered()
    with pytest.raises(RefusedError):
        await table.wait("a.block")
    work.thread_gate.set()
    assert await asyncio.gather(*waiting) == ["done"] * 2
    assert table.dispatcher.entries["a.block"].running == 0


@in_loop
async def test_a_call_that_waits_for_a_thread_until_its_deadline_never_runs() -> None:
    work = Work()
    table = Bench(work.registry, threads=1, waiting=1)
    waiting = tasks(table, "a.block", 2)
    await work.until_entered()
    table.clock.advance(table.limits.rpc_call_seconds)
    for task in waiting:
        with pytest.raises(InternalError, match="deadline"):
            await task
    assert table.metrics.stuck_threads == 1
    assert table.dispatcher.entries["a.block"].running == 1
    work.thread_gate.set()
    await until(lambda: table.metrics.stuck_threads == 0)
    assert table.dispatcher.entries["a.block"].running == 0
    assert not work.entered.acquire(blocking=False)


@in_loop
async def test_a_caller_who_goes_takes_a_waiting_job_back() -> None:
    work = Work()
    table = Bench(work.registry, threads=1, waiting=1)
    running, waiting = tasks(table, "a.block", 2)
    await work.until_entered()
    waiting.cancel()
    running.cancel()
    await settle()
    assert table.dispatcher.entries["a.block"].running == 1
    work.thread_gate.set()
    await until(lambda: table.dispatcher.entries["a.block"].running == 0)
    assert not work.entered.acquire(blocking=False)


# --- the drain ----------------------------------------------------------------------------------------------


@in_loop
async def test_at_the_end_of_a_drain_every_call_gets_its_fault() -> None:
    work = Work()
    table = Bench(work.registry, threads=1)
    waiting = [*tasks(table, "a.one", 2), *tasks(table, "a.block", 2), *tasks(table, "system.multicall", 0)]
    await work.until_entered()
    table.dispatcher.end_calls()
    for task in waiting:
        with pytest.raises(InternalError, match="the server is stopping"):
            await task
    work.thread_gate.set()
    await until(lambda: table.metrics.stuck_threads == 0)
    table.dispatcher.end_calls()


def test_a_registered_name_beyond_the_bound_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"limits\.xml_method_name_bytes: .* is longer"):
        Bench(Registry(), limits=RPCLimits(xml_method_name_bytes=10))
