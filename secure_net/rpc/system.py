"""The server's own methods, `system.*`: what may I call, and several calls in one.

They need no scope of their own, and each shows or runs only what its caller may call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from secure_net.rpc.encode import wrap_array
from secure_net.rpc.registry import Manner, Method
from secure_net.rpc.results import (
    DEADLINE,
    NOT_A_CALL,
    NOT_FOUND,
    TOO_LONG,
    WRONG_PARAMETERS,
    Caller,
    Failure,
    Result,
)
from secure_net.rpc.signature import ARRAY, STRING, Kind, Signature

if TYPE_CHECKING:
    from secure_net.rpc.dispatcher import Dispatcher

_MULTICALL = "system.multicall"
_MEMBERS = frozenset({"methodName", "params"})
# Two arrays around each result, and in the worst case a fault of ours in its place.
_CONTAINERS = 2
_ROOM_PER_CALL = 512


class System:
    """`system.*` of one dispatcher."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def list_methods(self, caller: Caller) -> list[str]:
        """The names of the methods that you may call."""
        entries = self._dispatcher.entries
        return sorted(name for name, entry in entries.items() if entry.method.permits(caller.principal))

    def method_help(self, caller: Caller, name: str) -> str | Failure:
        """What a method is for."""
        method = self._known(caller, name)
        return NOT_FOUND if method is None else method.help

    def method_signature(self, caller: Caller, name: str) -> list[list[str]] | Failure:
        """The types a method takes: arrays of the result's type and the parameters' types."""
        method = self._known(caller, name)
        return NOT_FOUND if method is None else method.signature.rows()

    def _known(self, caller: Caller, name: str) -> Method | None:
        entry = self._dispatcher.entries.get(name)
        return entry.method if entry is not None and entry.method.permits(caller.principal) else None

    async def multicall(self, caller: Caller, calls: list[Any]) -> Result:
        """Run several calls, each {methodName, params}, in order: an array of arrays of one result, or of
        faults. All together have one deadline and one bound of their answer; a multicall in it is refused.
        """
        limits = self._dispatcher.limits
        if len(calls) > limits.rpc_multicall_count:
            return WRONG_PARAMETERS
        room = limits.rpc_answer_bytes - _ROOM_PER_CALL * (len(calls) + 1)
        answers = []
        for item in calls:
            result = await self._one(item, caller, max(room, 0))
            if isinstance(result, Failure):
                value = result.value if len(result.value) <= room + _ROOM_PER_CALL else TOO_LONG.value
                room -= max(0, len(value) - _ROOM_PER_CALL)
            else:
                value = wrap_array([result])
                room -= len(result)
            answers.append(value)
        return wrap_array(answers)

    async def _one(self, item: Any, caller: Caller, room: int) -> Result:
        dispatcher = self._dispatcher
        if type(item) is not dict or item.keys() != _MEMBERS:
            return NOT_A_CALL
        name, params = item["methodName"], item["params"]
        if type(name) is not str or type(params) is not list or name == _MULTICALL:
            return NOT_A_CALL
        if dispatcher.is_past(caller.deadline):
            return DEADLINE
        inner = Caller(caller.principal, caller.peer, caller.deadline, room, caller.outside + _CONTAINERS)
        result = dispatcher.call(name, params, inner)
        return result if isinstance(result, bytes | Failure) else await result


def system_methods(dispatcher: Dispatcher) -> Iterator[Method]:
    """The methods of `System` as the dispatcher has them among the others."""
    system = System(dispatcher)
    rows: tuple[tuple[str, Manner, Callable[..., Any], list[Kind], Kind], ...] = (
        ("system.listMethods", Manner.SYSTEM, system.list_methods, [], ARRAY),
        ("system.methodHelp", Manner.SYSTEM, system.method_help, [STRING], STRING),
        ("system.methodSignature", Manner.SYSTEM, system.method_signature, [STRING], ARRAY),
        (_MULTICALL, Manner.MULTICALL, system.multicall, [ARRAY], ARRAY),
    )
    for name, manner, function, parameters, result in rows:
        signature = Signature(parameters, len(parameters), result)
        yield Method(name, function, manner, signature, inspect.getdoc(function) or "", None)
