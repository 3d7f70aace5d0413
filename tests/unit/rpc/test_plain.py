from __future__ import annotations

import xmlrpc.client
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.limits import RPCLimits
from secure_net.rpc.decode import loads_call, parse_call
from secure_net.rpc.faults import DecodeError
from secure_net.rpc.plain import DEEPEST, LEVELS, loads_plain_call
from tests.support.xmlrpc_attacks import DOCUMENTS, Attack

LIMITS = RPCLimits()
CALL = (
    b'<?xml version="1.0"?><methodCall><methodName>math.double</methodName><params>'
    b"<param><value><int>7</int></value></param></params></methodCall>"
)

SCALARS = st.one_of(
    st.integers(-(10**9) + 1, 10**9 - 1),
    st.booleans(),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40),
    st.floats(allow_nan=False, allow_infinity=False),
)
NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4))
)
NESTED = xmlrpc.client.dumps(([{"a": 1, "b": [True, {"c": "d e"}]}, {"f": 1.5}], {}, []), "x.y").encode()
PIECES = st.sampled_from(
    [
        b"<methodCall>", b"</methodCall>", b"<methodName>", b"</methodName>", b"a.b", b"<params>",
        b"</params>", b"<param>", b"</param>", b"<value>", b"</value>", b"<int>", b"</int>",
        b"<string>", b"</string>", b"<struct>", b"</struct>", b"<array>", b"</array>", b"<data>", b"</data>",
        b"<member>", b"</member>", b"<name>", b"</name>", b"<name>a</name>", b"<value><int>1</int></value>",
        b"<member><name>a</name><value><int>1</int></value></member>", b"<data/>", b"<a b='c'>",
        b"<double>", b"</double>", b"<boolean>", b"</boolean>", b"1", b"-7", b"1.5", b" ", b"\n", b"&amp;",
        b"<!-- -->", b"<![CDATA[x]]>", b"<?x?>", b"\xc3\xa9", b"\r", b"]]>", b"<nil/>", b"\0",
    ]
)  # fmt: skip


def dumps(*values: Any, name: str) -> bytes:
    return xmlrpc.client.dumps(values, name).encode()


def agrees(body: bytes) -> bool:
    """Whether the call is plain; if it is, defusedxml must read the very same."""
    plain = loads_plain_call(body)
    if plain is None:
        return False
    expected = parse_call(body, LIMITS)
    assert plain == expected
    assert repr(plain) == repr(expected)  # tells 1, 1.0 and True apart, and the order of members
    return True


def test_a_call_of_the_standard_library_is_plain() -> None:
    assert agrees(xmlrpc.client.dumps((7, "two words", True, 1.5), "math.double").encode())
    assert agrees(CALL)
    assert agrees(NESTED)
    assert agrees(b"<methodCall><methodName>a</methodName></methodCall>")
    assert agrees(b"<methodCall><methodName>a</methodName><params></params></methodCall>\n")


@given(st.lists(VALUES, max_size=6), st.from_regex(r"[a-z][A-Za-z0-9_.:/]{0,20}", fullmatch=True))
def test_whatever_the_standard_library_writes_reads_the_same(values: list[Any], name: str) -> None:
    body = dumps(*values, name=name)
    agrees(body)
    assert loads_call(body, LIMITS) == parse_call(body, LIMITS)


@given(st.data())
def test_a_plain_call_with_pieces_thrown_in_reads_the_same_or_is_left_alone(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from([CALL, NESTED, xmlrpc.client.dumps(("a b", False), "x.y").encode()]))
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(body)))
        end = begin + data.draw(st.sampled_from([0, 0, 1, 2, 5]))
        body = body[:begin] + data.draw(PIECES) + body[end:]
    agrees(body)


@given(st.lists(PIECES, max_size=12))
def test_any_pieces_read_the_same_or_are_left_alone(pieces: list[bytes]) -> None:
    agrees(b"".join(pieces))


@pytest.mark.parametrize("attack", DOCUMENTS, ids=str)
def test_no_attack_is_plain(attack: Attack) -> None:
    assert loads_plain_call(attack.body) is None


@pytest.mark.parametrize(
    "body",
    [
        CALL.replace(b"<int>7", b"<int>+7"),
        CALL.replace(b"<int>7", b"<int>1234567890"),
        CALL.replace(b"<int>7</int>", b"<string>a&amp;b</string>"),
        CALL.replace(b"<int>7</int>", b"<double>1e5</double>"),
        CALL.replace(b"<int>7</int>", b"<boolean>2</boolean>"),
        CALL.replace(b"<int>7</int>", b"<array><data/></array>"),
        CALL.replace(b"<int>7</int>", b"<array><data></array></data>"),
        CALL.replace(b"<int>7</int>", b"<array><data><int>1</int></data></array>"),
        CALL.replace(b"<int>7</int>", b"<array><data><value></data></array>"),
        CALL.replace(b"<int>7</int>", b"<array><data>"),
        CALL.replace(b"<int>7</int>", b"<array>"),
        CALL.replace(b"<int>7</int>", b"<struct><value><int>1</int></value></struct>"),
        CALL.replace(b"<int>7</int>", b"<struct>"),
        CALL.replace(b"<int>7</int>", b"<data></data>"),
        CALL.replace(b"<params>", b"<param>"),
        CALL.replace(b"</params>", b"</param>"),
        CALL.replace(b"</param>", b"</params>", 1),
        CALL[: -len("</methodCall>")],
        CALL[: -len("</params></methodCall>")],
        CALL + b"<methodCall>",
        CALL.replace(b"math.double", b"m\xc3\xa9"),
        CALL.replace(b"1.0", b"1.1"),
        CALL + b"<",
    ],
)
def test_what_is_not_plain_is_left_to_defusedxml(body: bytes) -> None:
    assert loads_plain_call(body) is None


def nested(levels: int) -> bytes:
    value: object = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return dumps(value, name="a")


def test_containers_are_plain_to_the_deepest_level_and_no_further() -> None:
    assert agrees(nested(LEVELS))
    assert loads_plain_call(nested(LEVELS + 1)) is None
    assert parse_call(nested(LEVELS), RPCLimits(xml_depth_count=DEEPEST))
    with pytest.raises(DecodeError):
        parse_call(nested(LEVELS), RPCLimits(xml_depth_count=DEEPEST - 1))


@pytest.mark.parametrize("inner", ["<int>1</int>", "<struct></struct>", "<array><data></data></array>"])
def test_a_name_that_stands_twice_in_a_struct_is_not_plain(inner: str) -> None:
    member = f"<member><name>a</name><value>{inner}</value></member>".encode()
    assert agrees(CALL.replace(b"<int>7</int>", b"<struct>" + member + b"</struct>"))
    assert loads_plain_call(CALL.replace(b"<int>7</int>", b"<struct>" + 2 * member + b"</struct>")) is None


def test_where_the_depth_is_bound_lower_than_that_defusedxml_looks_at_it() -> None:
    with pytest.raises(DecodeError):
        loads_call(NESTED, RPCLimits(xml_depth_count=DEEPEST // 2))


def test_a_plain_call_may_hold_as_many_elements_as_the_limit_and_no_more() -> None:
    body = xmlrpc.client.dumps(([0] * 100,), "a").encode()
    elements = body.count(b"<") - body.count(b"</") - 1  # the declaration is none
    assert loads_call(body, RPCLimits(xml_nodes_count=elements + 1)) == ("a", [[0] * 100])
    with pytest.raises(DecodeError):
        loads_call(body, RPCLimits(xml_nodes_count=elements - 1))
