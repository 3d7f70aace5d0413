"""What comes of a call."""

from __future__ import annotations

import xmlrpc.client

import pytest

from secure_net.metrics import CallOutcome
from secure_net.rpc import results
from secure_net.rpc.encode import wrap_answer
from secure_net.rpc.results import Caller, Failure
from tests.support.rpc import PEER, fault_of, principal


@pytest.mark.parametrize("failure", [f for f in vars(results).values() if isinstance(f, Failure)])
def test_a_failure_is_the_same_fault_by_itself_and_in_a_multicall(failure: Failure) -> None:
    code, text = fault_of(failure.document)
    ((value,), _) = xmlrpc.client.loads(wrap_answer(failure.value))
    assert value == {"faultCode": code, "faultString": text}
    assert code == failure.code
    assert failure.outcome is not CallOutcome.OK


def test_a_caller_has_the_whole_answer_unless_told_otherwise() -> None:
    caller = Caller(principal(), PEER, 5.0)
    assert (caller.limit, caller.outside, caller.deadline) == (None, 0, 5.0)
