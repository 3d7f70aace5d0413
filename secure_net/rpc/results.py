"""What comes of a call, before a document is made of it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from secure_net.metrics import CallOutcome
from secure_net.rpc import faults
from secure_net.rpc.encode import dumps_fault_value, wrap_fault
from secure_net.rpc.faults import Code

if TYPE_CHECKING:
    from secure_net.identity.policy import Principal


class Failure:
    """A call that ends in a fault. `outcome` is what it counts as."""

    __slots__ = ("code", "document", "outcome", "value")

    def __init__(self, code: int, text: str, outcome: CallOutcome) -> None:
        self.code, self.outcome = code, outcome
        self.value = dumps_fault_value(code, text)  # as one of a multicall
        self.document = wrap_fault(self.value)  # by itself


NOT_WELL_FORMED = Failure(Code.NOT_WELL_FORMED, faults.NOT_WELL_FORMED, CallOutcome.MALFORMED)
NOT_A_CALL = Failure(Code.NOT_A_CALL, faults.NOT_A_CALL, CallOutcome.MALFORMED)
NOT_FOUND = Failure(Code.METHOD_NOT_FOUND, faults.METHOD_NOT_FOUND, CallOutcome.NOT_FOUND)
WRONG_PARAMETERS = Failure(Code.WRONG_PARAMETERS, faults.WRONG_PARAMETERS, CallOutcome.INVALID)
DEADLINE = Failure(Code.INTERNAL_ERROR, faults.DEADLINE_EXCEEDED, CallOutcome.DEADLINE)
OVERLOADED = Failure(Code.INTERNAL_ERROR, faults.OVERLOADED, CallOutcome.OVERLOAD)
TOO_LONG = Failure(Code.INTERNAL_ERROR, faults.TOO_LONG, CallOutcome.ERROR)
STOPPING = Failure(Code.INTERNAL_ERROR, faults.STOPPING, CallOutcome.DEADLINE)

Result = bytes | Failure  # the method's ``<value>``, or why there is none
Pending = Coroutine[Any, Any, Result]


class Caller:
    """On whose behalf a call runs, and what is left of the bounds: `deadline` (monotonic), the answer's
    `limit` in characters, and the `outside` containers that the answer will stand in."""

    __slots__ = ("deadline", "limit", "outside", "peer", "principal")

    def __init__(
        self, principal: Principal, peer: str, deadline: float, limit: int | None = None, outside: int = 0
    ) -> None:
        self.principal, self.peer, self.deadline = principal, peer, deadline
        self.limit, self.outside = limit, outside
