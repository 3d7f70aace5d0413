"""From values to the bytes of a call, an answer or a fault.

One function per type in a table, looked up by exact type. The forms are the specification's: doubles
without exponent, times in UTC without zone, ``<i8>`` and ``<nil/>`` only where they were allowed. What XML
cannot carry (control characters, surrogates), what has no form, and what passes a bound is refused before
it is built: containers and long strings are charged against the bound on entry, so a small value that
refers to itself, or to one part a million times, costs nothing.
"""

from __future__ import annotations

import binascii
import datetime
import decimal
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from secure_net.limits import RPCLimits
from secure_net.rpc.faults import EncodeError

_I4, _I8 = 2**31, 2**63
_LONGEST_INT = len("<value><int>-2147483648</int></value>")
_LEAST = len("<value><nil/></value>")  # no value is shorter
_OUTSIDE_VALUES = 3  # methodCall, params, param
_PER_CONTAINER = 3  # value, array, data; or value, struct, member
# XML 1.0 section 2.2: what no document may contain, not even as a character reference.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A bare carriage return would arrive as a line feed (XML 1.0 section 2.11).
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})

_CALL = "<?xml version='1.0'?>\n<methodCall><methodName>"
_CALL_PARAMS = "</methodName><params>"
_CALL_END = "</params></methodCall>\n"
_ANSWER = b"<?xml version='1.0'?>\n<methodResponse><params><param>%b</param></params></methodResponse>\n"
_FAULT = b"<?xml version='1.0'?>\n<methodResponse><fault>%b</fault></methodResponse>\n"
_FAULT_VALUE = (
    "<value><struct>"
    "<member><name>faultCode</name><value><int>{}</int></value></member>"
    "<member><name>faultString</name><value><string>{}</string></value></member>"
    "</struct></value>"
)


def _escape(text: str) -> str:
    if text.isprintable() and "&" not in text and "<" not in text and ">" not in text:
        return text  # no control characters, no surrogates: nearly every text is this one
    if _NOT_XML.search(text):
        raise EncodeError("a text holds a character that XML cannot carry")
    return text.translate(_ESCAPES)


class _Encoder:
    """One document under way: what it may still weigh and which extensions it may use."""

    __slots__ = ("allow_i8", "allow_nil", "left", "levels", "openings")

    def __init__(self, limit: int, depth: int, allow_nil: bool, allow_i8: bool) -> None:
        self.left = limit
        self.levels = (depth - _OUTSIDE_VALUES - 2) // _PER_CONTAINER
        self.allow_nil = allow_nil
        self.allow_i8 = allow_i8
        self.openings: dict[str, str] = {}  # a member up to its value, by its name

    def value(self, value: Any) -> str:
        try:
            form = _FORMS[type(value)]
        except KeyError:
            form = _form_of_base(value)
        return form(self, value)

    def opening(self, name: object) -> str:
        if not isinstance(name, str):
            raise EncodeError("a struct has a name that is no string")
        opening = self.openings[name] = f"<member><name>{_escape(name)}</name>"
        return opening

    def charge(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            raise EncodeError("longer than allowed")

    def enter(self, count: int) -> None:
        """A container of `count` values begins."""
        self.levels -= 1
        if self.levels < 0:
            raise EncodeError("deeper than allowed")
        self.charge(count * _LEAST)


def _form_of_base(value: object) -> Callable[[_Encoder, Any], str]:
    """The form of the nearest base class: an `IntEnum` is an int, a `defaultdict` a struct."""
    for base in type(value).__mro__:
        if base in _FORMS:
            return _FORMS[base]
    raise EncodeError(f"a {type(value).__name__} has no XML-RPC form")


def _nil(encoder: _Encoder, _: None) -> str:
    if not encoder.allow_nil:
        raise EncodeError("None where nil is not allowed")
    return "<value><nil/></value>"


def _boolean(_: _Encoder, value: bool) -> str:
    return "<value><boolean>1</boolean></value>" if value else "<value><boolean>0</boolean></value>"


def _integer(encoder: _Encoder, value: int) -> str:
    if -_I4 <= value < _I4:
        return f"<value><int>{value:d}</int></value>"
    if encoder.allow_i8 and -_I8 <= value < _I8:
        return f"<value><i8>{value:d}</i8></value>"
    raise EncodeError("an integer is too wide")


def _double(_: _Encoder, value: float) -> str:
    text = float.__repr__(value)
    if "e" in text:  # the specification knows no exponent
        text = format(decimal.Decimal(text), "f")
    elif not math.isfinite(value):
        raise EncodeError("a double is not finite")
    return f"<value><double>{text}</double></value>"


def _string(encoder: _Encoder, value: str) -> str:
    if len(value) > _LEAST:
        encoder.charge(len(value))
    return f"<value><string>{_escape(value)}</string></value>"


def _base64(encoder: _Encoder, value: bytes | bytearray | memoryview) -> str:
    encoder.charge(len(value) * 4 // 3)
    text = binascii.b2a_base64(value, newline=False).decode("ascii")
    return f"<value><base64>{text}</base64></value>"


def _date_time(_: _Encoder, value: datetime.datetime) -> str:
    if value.tzinfo is None or value.utcoffset() is None:
        raise EncodeError("a datetime without zone")
    try:
        utc = value.astimezone(datetime.UTC)
    except OverflowError:
        raise EncodeError("a datetime before year 1 or after year 9999") from None
    text = f"{utc.year:04}{utc.month:02}{utc.day:02}T{utc.hour:02}:{utc.minute:02}:{utc.second:02}"
    return f"<value><dateTime.iso8601>{text}</dateTime.iso8601></value>"


def _array(encoder: _Encoder, value: Sequence[Any]) -> str:
    encoder.enter(len(value))
    items = "".join(map(encoder.value, value))
    encoder.levels += 1
    return f"<value><array><data>{items}</data></array></value>"


def _struct(encoder: _Encoder, value: dict[str, Any]) -> str:
    encoder.enter(2 * len(value))
    openings, members = encoder.openings, []
    for name, item in value.items():
        # Structs of one kind repeat their names: each is looked at and escaped once.
        opening = openings.get(name) or encoder.opening(name)
        encoder.left -= len(name)
        try:
            form = _FORMS[type(item)]
        except KeyError:
            form = _form_of_base(item)
        members.append(f"{opening}{form(encoder, item)}</member>")
    encoder.charge(0)
    encoder.levels += 1
    return f"<value><struct>{''.join(members)}</struct></value>"


_FORMS: dict[type, Callable[[_Encoder, Any], str]] = {
    bool: _boolean,
    bytearray: _base64,
    bytes: _base64,
    datetime.datetime: _date_time,
    dict: _struct,
    float: _double,
    int: _integer,
    list: _array,
    memoryview: _base64,
    str: _string,
    tuple: _array,
    type(None): _nil,
}


def dumps_call(
    name: str, params: Sequence[Any], limits: RPCLimits, *, allow_nil: bool = True, allow_i8: bool = True
) -> bytes:
    """A ``<methodCall>`` of at most `rpc_body_bytes`. Raises `EncodeError`."""
    encoder = _Encoder(limits.rpc_body_bytes, limits.xml_depth_count, allow_nil, allow_i8)
    encoder.charge(len(params) * _LEAST)
    items = "".join([f"<param>{encoder.value(item)}</param>" for item in params])
    return _bounded(f"{_CALL}{_escape(name)}{_CALL_PARAMS}{items}{_CALL_END}", limits.rpc_body_bytes)


def dumps_value(
    value: Any,
    limits: RPCLimits,
    *,
    outside: int = 0,
    limit: int | None = None,
    allow_nil: bool = True,
    allow_i8: bool = True,
) -> bytes:
    """A ``<value>`` that will stand inside `outside` containers, of at most `limit` bytes.

    `limit` is `rpc_answer_bytes` where it is not given. Raises `EncodeError`.
    """
    most = limits.rpc_answer_bytes if limit is None else limit
    if type(value) is int and -_I4 <= value < _I4 and most >= _LONGEST_INT:  # what cheap methods return
        return b"<value><int>%d</int></value>" % value
    encoder = _Encoder(most, limits.xml_depth_count - outside * _PER_CONTAINER, allow_nil, allow_i8)
    return _bounded(encoder.value(value), most)


def dumps_fault_value(code: int, message: str) -> bytes:
    """The ``<value>`` of a fault. What XML cannot carry in `message` is replaced by U+FFFD."""
    return _FAULT_VALUE.format(int(code), _NOT_XML.sub("\ufffd", message).translate(_ESCAPES)).encode()


def wrap_array(values: Iterable[bytes]) -> bytes:
    """A ``<value>`` with the array of what `dumps_value` gave."""
    return b"<value><array><data>%b</data></array></value>" % b"".join(values)


def wrap_answer(value: bytes) -> bytes:
    """The ``<methodResponse>`` around what `dumps_value` gave."""
    return _ANSWER % value


def dumps_answer(value: Any, limits: RPCLimits) -> bytes:
    """The ``<methodResponse>`` with `value`, extensions allowed. Raises `EncodeError`."""
    return wrap_answer(dumps_value(value, limits))


def wrap_fault(value: bytes) -> bytes:
    """The ``<methodResponse>`` around what `dumps_fault_value` gave."""
    return _FAULT % value


def _bounded(text: str, most: int) -> bytes:
    encoded = text.encode()
    if len(encoded) > most:
        raise EncodeError("longer than allowed")
    return encoded
