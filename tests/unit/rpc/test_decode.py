"""Bytes to calls and answers. What must be refused stands in `tests/support/xmlrpc_attacks.py`."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import sys
import xmlrpc.client
from typing import Any

import pytest
from defusedxml.xmlrpc import DefusedExpatParser  # type: ignore[import-untyped]  # ships no types

from secure_net.errors import FaultError, Refusal
from secure_net.limits import RPCLimits
from secure_net.rpc import decode
from secure_net.rpc.decode import loads_answer, loads_call
from secure_net.rpc.encode import dumps_answer, dumps_value, wrap_fault
from secure_net.rpc.faults import (
    ApplicationError,
    Code,
    DecodeError,
    InternalError,
    MethodNotFoundError,
    NotACallError,
    NotWellFormedError,
    WrongParametersError,
)
from tests.support.xmlrpc_attacks import DOCUMENTS, Attack, call, value

LIMITS = RPCLimits()


def params(inner: str) -> list[Any]:
    return loads_call(call(inner), LIMITS)[1]


def one(inner: str) -> Any:
    (result,) = params(value(inner))
    return result


@pytest.mark.parametrize("attack", DOCUMENTS, ids=str)
def test_every_attack_is_a_decode_error_with_its_code(attack: Attack) -> None:
    with pytest.raises(DecodeError) as caught:
        loads_call(attack.body, LIMITS)
    if caught.value.code not in attack.codes:  # a sound call that fits nothing is the dispatcher's
        pytest.fail(f"{caught.value.code} {caught.value.detail}")
    assert caught.value.reason is Refusal.MALFORMED


def test_the_stock_client_s_call() -> None:
    body = xmlrpc.client.dumps((7, "é", [1.5], {"a": None}), "math.double", allow_none=True).encode()
    assert loads_call(body, LIMITS) == ("math.double", [7, "é", [1.5], {"a": None}])


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<int>7</int>", 7),
        ("<i4>+0012</i4>", 12),
        ("<int>-2147483648</int>", -(2**31)),
        ("<int>2147483647</int>", 2**31 - 1),
        ("<i8>-9223372036854775808</i8>", -(2**63)),
        ("<i8>9223372036854775807</i8>", 2**63 - 1),
        ("<i8>7</i8>", 7),
        ("<boolean>1</boolean>", True),
        ("<boolean>0</boolean>", False),
        ("<double>-1.50</double>", -1.5),
        ("<double>+3</double>", 3.0),
        ("<double>.5</double>", 0.5),
        ("<double>5.</double>", 5.0),
        ("<double>1e-7</double>", 1e-7),
        ("<double>1E+300</double>", 1e300),
        ("<double>1e-9999</double>", 0.0),
        ("<string>a &lt;b&gt; &amp; &quot;c&apos; &#233;&#x1F600;</string>", "a <b> & \"c' é😀"),
        ("<string/>", ""),
        ("<string> \t\n </string>", " \t\n "),
        ("<string>a\r\nb\rc</string>", "a\nb\nc"),
        ("<string>a&#13;b</string>", "a\rb"),
        ("<string>a<!-- not text -->b</string>", "ab"),
        ("<string><![CDATA[<!DOCTYPE m>&amp;]]></string>", "<!DOCTYPE m>&amp;"),
        ("text", "text"),
        ("", ""),
        (" \n <int>7</int> \n ", 7),
        ("<base64>aGVs\n bG8=\r\n</base64>", b"hello"),
        ("<base64/>", b""),
        ("<nil/>", None),
        ("<nil></nil>", None),
        (
            "<dateTime.iso8601>19980717T14:08:55</dateTime.iso8601>",
            datetime.datetime(1998, 7, 17, 14, 8, 55, tzinfo=datetime.UTC),
        ),
        ("<array><data/></array>", []),
        ("<array> <data> <value>a</value>\n<value><int>1</int></value> </data> </array>", ["a", 1]),
        ("<struct/>", {}),
        (
            "<struct> <member> <name>a b</name> <value/> </member>"
            "<member><name></name><value><struct/></value></member> </struct>",
            {"a b": "", "": {}},
        ),
    ],
)
def test_values(inner: str, expected: object) -> None:
    result = one(inner)
    assert result == expected
    assert type(result) is type(expected)


def test_a_call_without_params_has_none() -> None:
    assert loads_call(b"<methodCall><methodName>a</methodName></methodCall>", LIMITS) == ("a", [])


@pytest.mark.parametrize(
    "prolog",
    [
        "",
        "\n ",
        "\ufeff",
        "\ufeff<?xml version='1.0'?>",
        '<?xml version="1.0" encoding="utf-8"?>',
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n',
        "<?xml version='1.0' encoding='US-ASCII'?>",
        "<?xml version='1.0'?><!-- a comment -->",
    ],
)
def test_prologs(prolog: str) -> None:
    assert loads_call(call(name="a", prolog=prolog), LIMITS) == ("a", [])


def test_the_word_doctype_in_a_text_is_text_behind_any_prolog() -> None:
    text = "<![CDATA[<!DOCTYPE html>]]>"
    for prolog in ("", "<?xml version='1.0'?>\r\n", "\ufeff<?xml version='1.0' encoding='utf-8'?>"):
        assert loads_call(call(value(text), prolog=prolog), LIMITS)[1] == ["<!DOCTYPE html>"]


def test_nil_and_i8_are_refused_where_they_are_not_allowed() -> None:
    for inner, allowed in (("<nil/>", {"allow_nil": True}), ("<i8>1</i8>", {"allow_i8": True})):
        body = call(value(inner))
        with pytest.raises(DecodeError):
            loads_call(body, LIMITS, **{"allow_nil": False, "allow_i8": False})
        loads_call(body, LIMITS, **({"allow_nil": False, "allow_i8": False} | allowed))


def nested(levels: int) -> str:
    return "<array><data><value>" * levels + "</value></data></array>" * levels


def test_depth_counts_elements() -> None:
    # methodCall, params, param, value, three for each array, and the type of an innermost value: 32.
    one(nested(9))
    with pytest.raises(DecodeError):
        one(nested(10))
    deeper = dataclasses.replace(LIMITS, xml_depth_count=35)
    loads_call(call(value(nested(10))), deeper)


def test_nodes_are_counted_before_anything_is_parsed() -> None:
    limits = dataclasses.replace(LIMITS, xml_nodes_count=9)
    # The declaration, methodCall, methodName, params, and two each of param and value.
    loads_call(call(value("1") * 2), limits)
    with pytest.raises(DecodeError):
        loads_call(call(value("1") * 3), limits)


def test_a_body_of_many_slices_is_one_document() -> None:
    text = "é<" * 400_000
    body = call(value(text.replace("<", "&lt;") + "<![CDATA[]]>"))
    assert len(body) > 1024 * 1024
    assert loads_call(body, LIMITS)[1] == [text]


def test_defusedxml_refuses_what_our_own_check_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    class Everything:
        def match(self, body: bytes) -> bool:
            return bool(body)

    monkeypatch.setattr(decode, "_NO_DOCTYPE_CAN_FOLLOW", Everything())
    for inner in ("", "[<!ENTITY a 'b'>]", "SYSTEM 'x'"):
        with pytest.raises(DecodeError) as caught:
            loads_call(call(prolog=f"<!DOCTYPE m {inner}>"), LIMITS)
        assert caught.value.code is Code.NOT_A_CALL


@pytest.mark.parametrize("body", [call(value("1")), call(value("<int>x</int>")), b"<a", call()[:50]])
def test_nothing_is_left_for_the_collector(body: bytes) -> None:
    def parse() -> None:
        try:
            loads_call(body, LIMITS)
        except DecodeError:
            return

    parse()
    gc.collect()
    gc.disable()
    try:
        parse()
        assert not [found for found in gc.get_objects() if type(found) is DefusedExpatParser]
        assert sys.exc_info() == (None, None, None)
    finally:
        gc.enable()


# --- answers ------------------------------------------------------------------------------------------


def test_an_answer() -> None:
    assert loads_answer(dumps_answer({"a": [1, 2**40], "b": None}, LIMITS), LIMITS) == {
        "a": [1, 2**40],
        "b": None,
    }
    assert loads_answer(xmlrpc.client.dumps((14,), methodresponse=True).encode(), LIMITS) == 14


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-32700, NotWellFormedError),
        (-32600, NotACallError),
        (-32601, MethodNotFoundError),
        (-32602, WrongParametersError),
        (-32603, InternalError),
        (-32500, ApplicationError),
        (1, ApplicationError),
    ],
)
def test_a_fault_is_raised_as_its_kind(code: int, kind: type[FaultError]) -> None:
    body = xmlrpc.client.dumps(xmlrpc.client.Fault(code, "some <text>")).encode()
    with pytest.raises(FaultError) as caught:
        loads_answer(body, LIMITS)
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.message) == (code, "some <text>")


@pytest.mark.parametrize(
    "fault",
    [
        1,
        {},
        {"faultCode": 1},
        {"faultCode": 1, "faultString": 2},
        {"faultCode": "1", "faultString": "a"},
        {"faultCode": True, "faultString": "a"},
        {"faultCode": 1, "faultString": "a", "more": 1},
    ],
)
def test_a_fault_of_another_shape_is_no_answer(fault: object) -> None:
    with pytest.raises(DecodeError):
        loads_answer(wrap_fault(dumps_value(fault, LIMITS)), LIMITS)


@pytest.mark.parametrize(
    "body",
    [
        call(value("1")),
        b"<methodResponse/>",
        b"<methodResponse><params/></methodResponse>",
        b"<methodResponse><params><param><value>1</value></param><param><value>1</value></param></params>"
        b"</methodResponse>",
        b"<methodResponse><fault/></methodResponse>",
        b"<html/>",
        b"",
        b"<!DOCTYPE m><methodResponse/>",
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(DecodeError):
        loads_answer(body, LIMITS)


def test_an_answer_has_its_own_bound_of_nodes() -> None:
    values = list(range(60_000))
    body = dumps_answer(values, LIMITS)
    assert loads_answer(body, LIMITS) == values
    with pytest.raises(DecodeError):
        loads_answer(body, dataclasses.replace(LIMITS, xml_answer_nodes_count=100))
