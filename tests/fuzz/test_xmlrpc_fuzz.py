"""Any value survives the round trip, any bytes are read or refused, and the standard library agrees."""

from __future__ import annotations

import datetime
import math
import re
import xmlrpc.client
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from secure_net.errors import FaultError
from secure_net.limits import RPCLimits
from secure_net.rpc import decode
from secure_net.rpc.decode import loads_answer, loads_call
from secure_net.rpc.encode import dumps_answer, dumps_call
from secure_net.rpc.faults import Code, DecodeError, EncodeError
from secure_net.rpc.registry import Registry, inline
from tests.support.rpc import Bench, fault_of
from tests.support.xmlrpc_attacks import DOCUMENTS, call, value

LIMITS = RPCLimits()
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

TEXTS = st.text().filter(lambda text: not NOT_XML.search(text))
TIMES = st.datetimes(min_value=datetime.datetime(1000, 1, 2), timezones=st.just(datetime.UTC)).map(
    lambda time: time.replace(microsecond=0)
)
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.binary()
    | TIMES
    | st.none()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)
ANYTHING = st.recursive(
    SCALARS | st.text() | st.floats() | st.integers() | st.complex_numbers() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


def stock(thing: Any) -> Any:
    """A value as the standard library can carry it: no carriage return, times without zone."""
    if isinstance(thing, datetime.datetime):
        return thing.replace(tzinfo=None)
    if isinstance(thing, str):
        return thing.replace("\r", " ")
    if isinstance(thing, list):
        return [stock(item) for item in thing]
    if isinstance(thing, dict):
        return {stock(name): stock(item) for name, item in thing.items()}
    return thing


@given(VALUES)
def test_a_value_survives_the_round_trip(thing: Any) -> None:
    try:
        body = dumps_answer(thing, LIMITS)
    except EncodeError as error:
        assert "deeper" in str(error)
        return
    found = loads_answer(body, LIMITS)
    assert found == thing
    assert type(found) is type(thing)
    if isinstance(thing, float):
        assert math.copysign(1, found) == math.copysign(1, thing)


@given(st.lists(VALUES, max_size=3))
def test_our_calls_are_read_alike_by_the_standard_library(things: list[Any]) -> None:
    things = stock(things)
    try:
        body = dumps_call("a.b", [_aware(thing) for thing in things], LIMITS)
    except EncodeError:
        return
    assert xmlrpc.client.loads(body, use_builtin_types=True) == (tuple(things), "a.b")


@given(st.lists(VALUES, max_size=3))
def test_the_standard_library_s_calls_are_read_alike_by_us(things: list[Any]) -> None:
    things = stock(things)
    try:
        body = xmlrpc.client.dumps(tuple(things), "a.b", allow_none=True).encode()
    except OverflowError:
        return  # it knows no i8
    try:
        name, found = loads_call(body, LIMITS)
    except DecodeError as error:
        assert "deep" in error.detail
        return
    assert (name, stock(found)) == ("a.b", things)


def _aware(thing: Any) -> Any:
    if isinstance(thing, datetime.datetime):
        return thing.replace(tzinfo=datetime.UTC)
    if isinstance(thing, list):
        return [_aware(item) for item in thing]
    if isinstance(thing, dict):
        return {name: _aware(item) for name, item in thing.items()}
    return thing


@given(ANYTHING)
def test_whatever_a_method_returns_is_encoded_or_refused(thing: Any) -> None:
    try:
        body = dumps_answer(thing, LIMITS)
    except EncodeError:
        return
    loads_answer(body, LIMITS)


def refused_or_read(body: bytes) -> None:
    try:
        name, params = loads_call(body, LIMITS)
    except DecodeError as error:
        assert error.code in (Code.NOT_WELL_FORMED, Code.NOT_A_CALL)
    else:
        assert type(name) is str
        assert type(params) is list
    try:
        loads_answer(body, LIMITS)
    except (DecodeError, FaultError):
        return


@given(st.binary())
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"<")
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    refused_or_read(body)


TAGS = [
    "methodCall", "methodResponse", "methodName", "params", "param", "value", "int", "i4", "i8", "double",
    "boolean", "string", "base64", "dateTime.iso8601", "nil", "array", "data", "struct", "member", "name",
    "fault", "other",
]  # fmt: skip
PIECES = st.sampled_from(
    [f"<{tag}>" for tag in TAGS]
    + [f"</{tag}>" for tag in TAGS]
    + [f"<{tag}/>" for tag in TAGS]
    + [
        "1",
        "-2",
        " ",
        "\n",
        "a",
        "é",
        "&amp;",
        "&#13;",
        "<!-- x -->",
        "<![CDATA[<x>]]>",
        "<?p x?>",
        "<!DOCTYPE m>",
    ]
)


@given(st.lists(PIECES, max_size=60))
def test_any_sequence_of_pieces_is_read_or_refused(pieces: list[str]) -> None:
    refused_or_read("".join(pieces).encode())


def tree(tag: str, inner: list[str]) -> str:
    return f"<{tag}>{''.join(inner)}</{tag}>"


TREES = st.recursive(
    st.sampled_from(["1", "", " ", "x"]),
    lambda inner: st.builds(tree, st.sampled_from(TAGS), st.lists(inner, max_size=4)),
    max_leaves=30,
)


@given(TREES)
def test_any_well_formed_tree_in_a_value_is_read_or_refused(inner: str) -> None:
    body = call(value(inner))
    refused_or_read(body)
    # The standard library is more lenient, never different: what we read, it reads alike.
    try:
        ours = stock(loads_call(body, LIMITS)[1])
    except DecodeError:
        return
    theirs, _ = xmlrpc.client.loads(body, use_builtin_types=True)
    assert ours == list(theirs)


@given(st.sampled_from(DOCUMENTS), st.data())
@settings(max_examples=60)
def test_any_change_of_an_attack_is_read_or_refused(attack: Any, data: st.DataObject) -> None:
    body = attack.body[:2000]
    cut = data.draw(st.integers(0, len(body)))
    gap = data.draw(st.integers(0, 10))
    refused_or_read(body[:cut] + data.draw(st.binary(max_size=5)) + body[cut + gap :])


@given(VALUES, st.integers(1, 200))
def test_any_slicing_of_a_body_gives_the_same_values(thing: Any, size: int) -> None:
    try:
        body = dumps_call("a", [thing], LIMITS)
    except EncodeError:
        return
    whole = loads_call(body, LIMITS)
    before = decode._SLICE
    decode._SLICE = size
    try:
        assert loads_call(body, LIMITS) == whole
    finally:
        decode._SLICE = before


def _table() -> Bench:
    registry = Registry()

    @registry.method("a.echo")
    @inline
    def echo(thing: Any) -> Any:
        return thing

    return Bench(registry)


TABLE = _table()


@given(st.binary() | st.lists(PIECES, max_size=40).map(lambda pieces: "".join(pieces).encode()))
def test_any_body_gets_an_answer(body: bytes) -> None:
    assert fault_of(TABLE.document(body))[0] in (-32700, -32600, -32601)


@given(VALUES)
def test_any_value_goes_through_the_dispatcher(thing: Any) -> None:
    try:
        body = dumps_call("a.echo", [thing], LIMITS)
    except EncodeError:
        return
    assert loads_answer(TABLE.document(body), LIMITS) == thing
