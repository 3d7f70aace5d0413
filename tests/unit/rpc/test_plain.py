from __future__ import annotations

import xmlrpc.client

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.limits import RPCLimits
from secure_net.rpc.decode import loads_call, parse_call
from secure_net.rpc.faults import DecodeError
from secure_net.rpc.plain import DEEPEST, LARGEST, MOST_ELEMENTS, loads_plain_call
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
PIECES = st.sampled_from(
    [
        b"<methodCall>", b"</methodCall>", b"<methodName>", b"</methodName>", b"a.b", b"<params>",
        b"</params>", b"<param>", b"</param>", b"<value>", b"</value>", b"<int>", b"</int>",
        b"<string>", b"</string>",
        b"<double>", b"</double>", b"<boolean>", b"</boolean>", b"1", b"-7", b"1.5", b" ", b"\n", b"&amp;",
        b"<!-- -->", b"<![CDATA[x]]>", b"<?x?>", b"\xc3\xa9", b"\r", b"]]>", b"<nil/>", b"\0",
    ]
)  # fmt: skip


def agrees(body: bytes) -> bool:
    """Whether the call is plain; if it is, defusedxml must read the very same."""
    plain = loads_plain_call(body)
    if plain is None:
        return False
    expected = parse_call(body, LIMITS)
    assert plain == expected
    assert [type(value) for value in plain[1]] == [type(value) for value in expected[1]]
    return True


def test_a_call_of_the_standard_library_is_plain() -> None:
    assert agrees(xmlrpc.client.dumps((7, "two words", True, 1.5), "math.double").encode())
    assert agrees(CALL)
    assert agrees(b"<methodCall><methodName>a</methodName></methodCall>")
    assert agrees(b"<methodCall><methodName>a</methodName><params></params></methodCall>\n")


@given(st.lists(SCALARS, max_size=6), st.from_regex(r"[a-z][A-Za-z0-9_.:/]{0,20}", fullmatch=True))
def test_whatever_the_standard_library_writes_reads_the_same(values: list[object], name: str) -> None:
    body = xmlrpc.client.dumps(tuple(values), name).encode()
    agrees(body)
    assert loads_call(body, LIMITS) == parse_call(body, LIMITS)


@given(st.data())
def test_a_plain_call_with_pieces_thrown_in_reads_the_same_or_is_left_alone(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from([CALL, xmlrpc.client.dumps(("a b", False), "x.y").encode()]))
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
        CALL.replace(b"math.double", b"m\xc3\xa9"),
        CALL.replace(b"1.0", b"1.1"),
        CALL + b"<",
    ],
)
def test_what_is_not_plain_is_left_to_defusedxml(body: bytes) -> None:
    assert loads_plain_call(body) is None


def test_bounds_below_what_a_plain_call_may_hold_are_looked_at() -> None:
    with pytest.raises(DecodeError):
        loads_call(CALL, RPCLimits(xml_nodes_count=2))
    many = xmlrpc.client.dumps(tuple(range(10)) * 5, "a").encode()
    assert len(many.replace(b"\n", b"")) <= LARGEST + 300
    assert LIMITS.xml_depth_count >= DEEPEST
    assert LIMITS.xml_nodes_count >= MOST_ELEMENTS
