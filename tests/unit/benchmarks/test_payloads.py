"""What the benchmarks ask, and what they take for an answer."""

from __future__ import annotations

import xmlrpc.client

from benchmarks import payloads


def test_a_right_answer_is_told_from_a_wrong_one_and_from_a_fault() -> None:
    right = xmlrpc.client.dumps((14,), methodresponse=True).encode()
    wrong = xmlrpc.client.dumps((15,), methodresponse=True).encode()
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(-32601, "no such method"), methodresponse=True).encode()
    answered = [payloads.DOUBLE.is_answered_by(body) for body in (right, wrong, fault)]
    assert answered == [True, False, False]


def test_the_large_call_has_the_size_that_the_goals_were_set_with() -> None:
    workload = payloads.same(100)
    assert 46_000 < len(workload.request()) < 48_000
    assert {len(row) for row in payloads.rows(100)} == {5}
    assert workload.is_answered_by(xmlrpc.client.dumps((workload.argument,), methodresponse=True).encode())
