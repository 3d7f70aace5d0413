"""Codes, and the fault a method raises on purpose."""

from __future__ import annotations

import pytest

from secure_net.errors import Refusal
from secure_net.rpc.faults import Code, DecodeError, Fault


def test_a_fault_is_an_application_error_unless_it_says_otherwise() -> None:
    fault = Fault("the divisor is zero")
    assert (fault.code, fault.message, str(fault)) == (
        -32500,
        "the divisor is zero",
        "-32500: the divisor is zero",
    )


@pytest.mark.parametrize("code", [0, 1, -1, -31999, -32769, -(2**31), 2**31 - 1, -32500])
def test_codes_of_the_application_s_own(code: int) -> None:
    assert Fault("a", code).code == code


@pytest.mark.parametrize("code", [-32000, -32768, -32601, -32700, 2**31, -(2**31) - 1])
def test_reserved_and_wide_codes_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match="reserved"):
        Fault("a", code)


def test_a_decode_error_keeps_its_detail_for_the_log() -> None:
    error = DecodeError(Code.NOT_A_CALL, "two members of one name")
    assert (error.code, error.reason, error.detail) == (-32600, Refusal.MALFORMED, "two members of one name")
