"""Values to bytes."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import xmlrpc.client
from typing import Any

import pytest

from secure_net.errors import LocalProtocolError
from secure_net.limits import RPCLimits
from secure_net.rpc.decode import loads_answer, loads_call
from secure_net.rpc.encode import (
    dumps_answer,
    dumps_call,
    dumps_fault_value,
    dumps_value,
    wrap_answer,
    wrap_array,
    wrap_fault,
)
from secure_net.rpc.faults import EncodeError

LIMITS = RPCLimits()


class Colour(enum.IntEnum):
    RED = 3


class Word(enum.StrEnum):
    A = "a<"


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


BERLIN = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "inner"),
    [
        (None, "<nil/>"),
        (True, "<boolean>1</boolean>"),
        (False, "<boolean>0</boolean>"),
        (2**31 - 1, "<int>2147483647</int>"),
        (-(2**31), "<int>-2147483648</int>"),
        (2**31, "<i8>2147483648</i8>"),
        (-(2**63), "<i8>-9223372036854775808</i8>"),
        (1.5, "<double>1.5</double>"),
        (1e22, "<double>10000000000000000000000</double>"),
        (-1e-7, "<double>-0.0000001</double>"),
        (-0.0, "<double>-0.0</double>"),
        ("", "<string></string>"),
        ("a\tb\nc", "<string>a\tb\nc</string>"),
        ("a\rb", "<string>a&#13;b</string>"),
        ("<a> & 'b'", "<string>&lt;a&gt; &amp; 'b'</string>"),
        ("]]>", "<string>]]&gt;</string>"),
        ("é😀\u00a0", "<string>é😀\u00a0</string>"),
        (b"hello", "<base64>aGVsbG8=</base64>"),
        (bytearray(b""), "<base64></base64>"),
        (memoryview(b"hello"), "<base64>aGVsbG8=</base64>"),
        (
            datetime.datetime(2026, 1, 31, 14, 0, 5, 999_999, tzinfo=BERLIN),
            "<dateTime.iso8601>20260131T12:00:05</dateTime.iso8601>",
        ),
        (
            datetime.datetime(1, 1, 1, tzinfo=datetime.UTC),
            "<dateTime.iso8601>00010101T00:00:00</dateTime.iso8601>",
        ),
        ([], "<array><data></data></array>"),
        (
            (1, "a"),
            "<array><data><value><int>1</int></value><value><string>a</string></value></data></array>",
        ),
        (
            {"a<": 1},
            "<struct><member><name>a&lt;</name><value><int>1</int></value></member></struct>",
        ),
        (Colour.RED, "<int>3</int>"),
        (Word.A, "<string>a&lt;</string>"),
        (Point(1, 2), "<array><data><value><int>1</int></value><value><int>2</int></value></data></array>"),
        (collections.OrderedDict(), "<struct></struct>"),
        ({"a": Colour.RED}, "<struct><member><name>a</name><value><int>3</int></value></member></struct>"),
    ],
)
def test_forms(value: object, inner: str) -> None:
    assert dumps_value(value, LIMITS).decode() == f"<value>{inner}</value>"


def _cycle() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        1j,
        datetime.date(2026, 1, 1),
        int,
        2**63,
        -(2**63) - 1,
        float("nan"),
        float("inf"),
        float("-inf"),
        "\x00",
        "\x1f",
        "\x7f\x0b",
        "\ud800",
        "\uffff",
        {1: "a"},
        {None: 1},
        {"\x00": 1},
        datetime.datetime(2026, 1, 1),
        datetime.datetime(1, 1, 1, tzinfo=BERLIN),
        _cycle(),
    ],
    ids=repr,
)
def test_what_has_no_form(value: object) -> None:
    with pytest.raises(EncodeError) as caught:
        dumps_value(value, LIMITS)
    assert isinstance(caught.value, LocalProtocolError)


def test_the_extensions_are_refused_where_they_are_not_allowed() -> None:
    with pytest.raises(EncodeError):
        dumps_value(None, LIMITS, allow_nil=False)
    with pytest.raises(EncodeError):
        dumps_value(2**31, LIMITS, allow_i8=False)


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_what_is_sent_is_never_deeper_than_what_is_read() -> None:
    # methodResponse, params, param, value, and nine arrays: deeper than that no reader of ours would go.
    assert loads_answer(dumps_answer(_nested(9), LIMITS), LIMITS) == _nested(9)
    with pytest.raises(EncodeError):
        dumps_answer(_nested(10), LIMITS)
    with pytest.raises(EncodeError):
        dumps_value(_nested(8), LIMITS, outside=2)
    dumps_value(_nested(7), LIMITS, outside=2)
    # Depth is that of one branch, not of all together.
    dumps_value([_nested(8)] * 3 + [{"a": _nested(7)}], LIMITS)


def test_what_would_be_too_long_is_refused_before_it_is_built() -> None:
    wide: list[Any] = ["x" * 1000]
    for _ in range(7):
        wide = [wide] * 10_000
    for value in (wide, ["x" * 1_000_000] * 1000, [b"x" * 1_000_000] * 1000, {"k" * 1_000_000: 1}):
        with pytest.raises(EncodeError):
            dumps_value(value, LIMITS, limit=500_000)
    # Escapes and multi-byte characters count as what they become.
    with pytest.raises(EncodeError):
        dumps_value("&" * 100, LIMITS, limit=300)
    with pytest.raises(EncodeError):
        dumps_value("é" * 100, LIMITS, limit=200)
    assert len(dumps_value("x", LIMITS, limit=33)) == 33


def test_a_call_is_bounded_and_read_by_the_standard_library() -> None:
    body = dumps_call("a.b", (1, "é", None, [True]), LIMITS)
    assert xmlrpc.client.loads(body, use_builtin_types=True) == ((1, "é", None, [True]), "a.b")
    assert loads_call(body, LIMITS) == ("a.b", [1, "é", None, [True]])
    assert loads_call(dumps_call("a&<b", (), LIMITS), LIMITS) == ("a&<b", [])
    for params in (("x" * LIMITS.rpc_body_bytes,), (1,) * LIMITS.rpc_body_bytes):
        with pytest.raises(EncodeError):
            dumps_call("a", params, LIMITS)
    with pytest.raises(EncodeError):
        dumps_call("a", (None,), LIMITS, allow_nil=False)


def test_answers_and_faults_are_read_by_the_standard_library() -> None:
    array = wrap_array([dumps_value(1, LIMITS), dumps_fault_value(3, "a")])
    ((found,), _) = xmlrpc.client.loads(wrap_answer(array))
    assert found == [1, {"faultCode": 3, "faultString": "a"}]
    assert wrap_answer(dumps_value(7, LIMITS)) == dumps_answer(7, LIMITS)
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(wrap_fault(dumps_fault_value(-32500, "a <b> \x00 \ud800 {} %s")))
    assert caught.value.faultCode == -32500
    assert caught.value.faultString == "a <b> \ufffd \ufffd {} %s"


def test_limits_are_the_caller_s() -> None:
    limits = dataclasses.replace(LIMITS, rpc_answer_bytes=10)
    with pytest.raises(EncodeError):
        dumps_answer(1, limits)
