"""system.*, for those who may and those who may not."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from secure_net.limits import RPCLimits
from secure_net.rpc.faults import InternalError, MethodNotFoundError, WrongParametersError
from secure_net.rpc.registry import Registry, inline
from tests.support.loops import in_loop
from tests.support.rpc import Bench, principal, settle

SYSTEM = ["system.listMethods", "system.methodHelp", "system.methodSignature", "system.multicall"]
NOT_FOUND = {"faultCode": -32601, "faultString": "no such method, or not permitted"}
NOT_A_CALL = {"faultCode": -32600, "faultString": "not an XML-RPC call"}


def registry() -> Registry:
    registry = Registry()

    @registry.method("math.double")
    @inline
    def double(value: int) -> int:
        """Twice the value."""
        return 2 * value

    @registry.method("math.fail")
    @inline
    def fail() -> int:
        raise LookupError

    @registry.method("text.repeat")
    @inline
    def repeat(text: str, times: int = 2) -> str:
        return text * times

    @registry.method("time.wait")
    async def wait() -> str:
        await asyncio.Event().wait()
        return "never"

    @registry.method("odd.help")
    @inline
    def odd() -> int:
        return 1

    odd_method = registry.methods["odd.help"]
    registry._methods["odd.help"] = dataclasses.replace(odd_method, help="\x00")
    return registry


def calls(*items: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    return [{"methodName": name, "params": params} for name, params in items]


def test_a_caller_sees_what_it_may_call() -> None:
    table = Bench(registry())
    assert table.call("system.listMethods") == sorted([*registry().methods, *SYSTEM])
    assert table.call("system.listMethods", who=principal("rpc:call:math.*")) == [
        "math.double",
        "math.fail",
        *SYSTEM,
    ]
    assert table.call("system.listMethods", who=principal("rpc:call:nothing")) == SYSTEM


def test_help_and_signatures() -> None:
    table = Bench(registry())
    assert table.call("system.methodHelp", "math.double") == "Twice the value."
    assert table.call("system.methodHelp", "text.repeat") == ""
    assert table.call("system.methodSignature", "math.double") == [["int", "int"]]
    assert table.call("system.methodSignature", "text.repeat") == [
        ["string", "string"],
        ["string", "string", "int"],
    ]
    for name in SYSTEM:
        assert table.call("system.methodHelp", name)
    assert table.call("system.methodSignature", "system.multicall") == [["array", "array"]]
    assert table.outcomes("system.methodHelp") == {"ok": 6}


def test_what_one_may_not_call_is_not_there() -> None:
    table = Bench(registry())
    for name in ("system.methodHelp", "system.methodSignature"):
        for asked in ("text.repeat", "no.such"):
            with pytest.raises(MethodNotFoundError):
                table.call(name, asked, who=principal("rpc:call:math.*"))
        assert table.outcomes(name) == {"not_found": 2}


def test_wrong_parameters() -> None:
    table = Bench(registry())
    for name, params in (("system.listMethods", [1]), ("system.methodHelp", [1]), ("system.multicall", [1])):
        with pytest.raises(WrongParametersError):
            table.call(name, *params)


def test_help_that_xml_cannot_carry_is_a_failure_of_ours() -> None:
    table = Bench(registry())
    with pytest.raises(InternalError):
        table.call("system.methodHelp", "odd.help")
    assert len(table.logged) == 1


@in_loop
async def test_several_calls_in_one() -> None:
    table = Bench(registry())
    found = await table.wait(
        "system.multicall",
        calls(("math.double", [2]), ("math.double", ["x"]), ("math.fail", []), ("system.listMethods", [])),
        who=principal("rpc:call:math.*"),
    )
    assert found[0] == [4]
    assert found[1] == {"faultCode": -32602, "faultString": "wrong parameters"}
    assert found[2]["faultCode"] == -32603
    assert found[3] == [["math.double", "math.fail", *SYSTEM]]
    assert table.outcomes("system.multicall") == {"ok": 1}
    assert table.outcomes("math.double") == {"ok": 1, "invalid": 1}
    assert await table.wait("system.multicall", []) == []


@in_loop
async def test_each_call_is_authorized_by_itself() -> None:
    table = Bench(registry())
    who = principal("rpc:call:math.*")
    found = await table.wait(
        "system.multicall", calls(("text.repeat", ["a"]), ("no.such", []), ("math.double", [1])), who=who
    )
    assert found == [NOT_FOUND, NOT_FOUND, [2]]


@in_loop
async def test_a_multicall_is_never_nested() -> None:
    table = Bench(registry())
    nested = calls(("system.multicall", [calls(("math.double", [1]))]))
    assert await table.wait("system.multicall", nested) == [NOT_A_CALL]


@pytest.mark.parametrize(
    "item",
    [
        1,
        "math.double",
        [],
        {},
        {"methodName": "math.double"},
        {"params": []},
        {"methodName": "math.double", "params": [1], "more": 1},
        {"methodName": 1, "params": []},
        {"methodName": "math.double", "params": 1},
        {"methodName": "math.double", "params": {"value": 1}},
    ],
)
def test_an_item_that_is_no_call(item: object) -> None:
    @in_loop
    async def scenario() -> None:
        table = Bench(registry())
        assert await table.wait("system.multicall", [item, *calls(("math.double", [1]))]) == [NOT_A_CALL, [2]]

    scenario()


@in_loop
async def test_the_number_of_calls_is_bounded() -> None:
    table = Bench(registry())
    most = table.limits.rpc_multicall_count
    assert await table.wait("system.multicall", calls(("math.double", [1])) * most) == [[2]] * most
    with pytest.raises(WrongParametersError):
        await table.wait("system.multicall", calls(("math.double", [1])) * (most + 1))
    assert table.outcomes("math.double") == {"ok": most}


@in_loop
async def test_all_calls_have_one_deadline() -> None:
    table = Bench(registry())
    items = calls(("math.double", [1]), ("time.wait", []), ("math.double", [2]), ("time.wait", []))
    waiting = asyncio.ensure_future(table.wait("system.multicall", items))
    await settle()
    table.clock.advance(table.limits.rpc_call_seconds)
    late = {"faultCode": -32603, "faultString": "deadline exceeded"}
    assert await waiting == [[2], late, late, late]
    assert table.outcomes("time.wait") == {"deadline": 1}


@in_loop
async def test_all_answers_have_one_bound() -> None:
    limits = dataclasses.replace(RPCLimits(), rpc_answer_bytes=10_000)
    table = Bench(registry(), limits)
    items = calls(*[("text.repeat", ["x", 3000])] * 3, ("math.double", [1]))
    found = await table.wait("system.multicall", items)
    assert found[:2] == [["x" * 3000]] * 2
    assert found[2]["faultCode"] == -32603
    assert found[3] == [2]


@in_loop
async def test_faults_have_the_same_bound() -> None:
    from secure_net.rpc.faults import Fault

    table_registry = Registry()

    @table_registry.method("a.fault")
    @inline
    def fault() -> int:
        raise Fault("x" * 4000)

    limits = dataclasses.replace(RPCLimits(), rpc_answer_bytes=20_000)
    table = Bench(table_registry, limits)
    found = await table.wait("system.multicall", calls(("a.fault", [])) * 10)
    long = [item for item in found if len(item["faultString"]) == 4000]
    rest = [item for item in found if item not in long]
    assert 1 <= len(long) <= 4
    assert {item["faultString"] for item in rest} == {"the answer is too long"}
