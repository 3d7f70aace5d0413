"""From bytes to a call or an answer, strictly.

Theory of operation. defusedxml's expat parser, with DTDs forbidden, drives a target of ours. The target
is a state machine whose transitions are data: each `_State` maps the tags that may open in it to the
state inside that element and the state behind it, says what becomes of an element's text, and what
happens when the element ends. What no table allows is refused: nothing is guessed, skipped or repaired.
Values pile up on one flat list; a container's end folds what lies above its mark.

What is accepted, where the specification (http://xmlrpc.com/spec.md) leaves room:

* UTF-8, or US-ASCII, declared or not; nothing else. No DTD, no processing instruction, no attribute.
* Integers are `[+-]?[0-9]+` in range, doubles decimal with or without exponent (most peers send one) and
  finite, booleans ``0`` and ``1``. No white space in any of them.
* ``dateTime.iso8601`` is `YYYYMMDDTHH:MM:SS` and nothing else. It has no zone; we read UTC.
* base64 is canonical but for white space. A struct's member has its name first, and no name twice.
* An element that holds others may hold white space between them, and no other text.
"""

from __future__ import annotations

import binascii
import contextlib
import datetime
import math
import re
from collections.abc import Callable
from typing import Any
from xml.parsers.expat import ExpatError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]  # ships no types
from defusedxml.xmlrpc import DefusedExpatParser  # type: ignore[import-untyped]

from secure_net.errors import FaultError
from secure_net.limits import RPCLimits
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
from secure_net.rpc.plain import DEEPEST, loads_plain_call

_WHITE = " \t\r\n"  # XML 1.0 section 2.3; `str.isspace` knows many more
_ENCODINGS = frozenset({"utf-8", "us-ascii"})
_I4, _I8 = 2**31, 2**63
_BELOW_CONTAINER = 3  # array, data, value, int; or struct, member, value, int
_SLICE = 64 * 1024  # see `_parse`

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DOUBLE = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_DATE_TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})")
# A document element that opens at once: from there on `<!DOCTYPE` is text in a CDATA section, or an error.
_NO_DOCTYPE_CAN_FOLLOW = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:<\?xml[^<>]{0,200}\?>)?[ \t\r\n]*<method(?:Call|Response)[ \t\r\n/>]"
)

FAULTS: dict[int, type[FaultError]] = {
    Code.NOT_WELL_FORMED: NotWellFormedError,
    Code.NOT_A_CALL: NotACallError,
    Code.METHOD_NOT_FOUND: MethodNotFoundError,
    Code.WRONG_PARAMETERS: WrongParametersError,
    Code.INTERNAL_ERROR: InternalError,
}


def _refuse(detail: str) -> DecodeError:
    return DecodeError(Code.NOT_A_CALL, detail)


# --- what becomes of an element's text -------------------------------------------------------------


def _i4(text: str) -> int:
    if len(text) < 10 and text.isdecimal() and text.isascii():  # most are; a regex costs more
        return int(text)
    if _INTEGER.fullmatch(text):
        value = int(text)
        if -_I4 <= value < _I4:
            return value
    raise _refuse("an integer is malformed, or wider than 32 bits")


def _i8(text: str) -> int:
    if _INTEGER.fullmatch(text):
        value = int(text)
        if -_I8 <= value < _I8:
            return value
    raise _refuse("an integer is malformed, or wider than 64 bits")


def _boolean(text: str) -> bool:
    if text == "1":
        return True
    if text == "0":
        return False
    raise _refuse("a boolean is neither 0 nor 1")


def _double(text: str) -> float:
    if len(text) <= 1100 and _DOUBLE.fullmatch(text):  # the longest exact double has 1,076 characters
        value = float(text)
        if math.isfinite(value):
            return value
    raise _refuse("a double is malformed, or out of range")


def _date_time(text: str) -> datetime.datetime:
    match = _DATE_TIME.fullmatch(text)
    if match is not None:
        year, month, day, hour, minute, second = map(int, match.groups())
        with contextlib.suppress(ValueError):
            return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    raise _refuse("a dateTime.iso8601 is malformed")


def _base64(text: str) -> bytes:
    try:
        encoded = text.encode("ascii").translate(None, b" \t\r\n")
        value = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError as error:  # binascii.Error and UnicodeEncodeError are both of this kind
        raise _refuse("base64 is malformed") from error
    # Strict mode lets pass padding that completes nothing, and bits behind the end that are not zero.
    tail = value[len(value) // 3 * 3 :]
    if len(encoded) % 4 or (tail and not encoded.endswith(binascii.b2a_base64(tail, newline=False))):
        raise _refuse("base64 is malformed")
    return value


def _nil(text: str) -> None:
    if text:
        raise _refuse("nil is not empty")


# --- the grammar -----------------------------------------------------------------------------------


class _State(dict[str, "tuple[_State, _State, bool]"]):
    """Where the parser stands: for each tag that may open here, the state inside that element, the state
    behind it, and whether it is a container, whose mark is set.

    `take` makes a value of the text of an element without children; `close` runs at the end of others.
    """

    __slots__ = ("close", "take")

    def __init__(
        self,
        *,
        take: Callable[[str], Any] | None = None,
        close: Callable[[_Target], None] | None = None,
    ) -> None:
        super().__init__()
        self.take = take
        self.close = close


def _incomplete(target: _Target) -> None:
    raise _refuse("an element lacks what it must hold")


def _fold_array(target: _Target) -> None:
    mark = target.marks.pop()
    target.values[mark:] = [target.values[mark:]]


def _fold_struct(target: _Target) -> None:
    mark = target.marks.pop()
    items = target.values[mark:]
    struct = dict(zip(items[::2], items[1::2], strict=True))
    if 2 * len(struct) != len(items):
        raise _refuse("a struct has two members of one name")
    target.values[mark:] = [struct]


_BARE = _State(take=str)  # text and nothing else
_DONE = _State()  # nothing more may open here
_TYPES: dict[str, Callable[[str], Any]] = {
    "i4": _i4,
    "int": _i4,
    "boolean": _boolean,
    "string": str,
    "double": _double,
    "dateTime.iso8601": _date_time,
    "base64": _base64,
}
_EXTENSIONS: dict[str, Callable[[str], Any]] = {"nil": _nil, "i8": _i8}


def _grammar(extensions: frozenset[str]) -> tuple[_State, _State]:
    """The states before a call and before an answer, with these of `_EXTENSIONS` allowed."""
    value = _State(take=str)  # a value without a type is a string
    array, data = _State(close=_incomplete), _State(close=_fold_array)
    struct, member, named = _State(close=_fold_struct), _State(close=_incomplete), _State(close=_incomplete)
    for tag, take in (_TYPES | {tag: _EXTENSIONS[tag] for tag in extensions}).items():
        value[tag] = (_State(take=take), _DONE, False)
    value["array"] = (array, _DONE, True)
    value["struct"] = (struct, _DONE, True)
    array["data"] = (data, _DONE, False)
    data["value"] = (value, data, False)
    struct["member"] = (member, struct, False)
    member["name"] = (_BARE, named, False)
    named["value"] = (value, _DONE, False)

    param = _State(close=_incomplete)
    param["value"] = (value, _DONE, False)
    params = _State()
    params["param"] = (param, params, False)
    call, with_name = _State(close=_incomplete), _State()
    call["methodName"] = (_BARE, with_name, False)
    with_name["params"] = (params, _DONE, False)
    before_call = _State(close=_incomplete)
    before_call["methodCall"] = (call, _DONE, False)

    one_param = _State(close=_incomplete)
    one_param["param"] = (param, _DONE, False)
    answer, fault = _State(close=_incomplete), _State(close=_incomplete)
    answer["params"] = (one_param, _DONE, False)
    answer["fault"] = (fault, _DONE, True)  # its mark stays: that is how we know
    fault["value"] = (value, _DONE, False)
    before_answer = _State(close=_incomplete)
    before_answer["methodResponse"] = (answer, _DONE, False)
    return before_call, before_answer


_GRAMMARS = {
    (nil, i8): _grammar(frozenset(tag for tag, on in (("nil", nil), ("i8", i8)) if on))
    for nil in (False, True)
    for i8 in (False, True)
}


class _Target:
    """What expat's events are fed to; one per document.

    All text goes to `texts`; an element without children takes what came since it began. What is left at
    the end stood between elements, and must be white space.
    """

    __slots__ = ("begin", "data", "deepest", "marks", "stack", "state", "texts", "values")

    def __init__(self, state: _State, depth: int) -> None:
        self.state = state
        self.deepest = depth - _BELOW_CONTAINER
        self.stack: list[_State] = []  # the states behind the open elements
        self.values: list[Any] = []
        self.marks: list[int] = []
        self.texts: list[str] = []
        self.begin = 0
        self.data = self.texts.append  # expat's handler for text: no Python frame at all

    def xml(self, encoding: str | None, standalone: int | None) -> None:
        """Part of what the stdlib's parser class expects of a target; tells nothing."""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        try:
            self.state, behind, is_container = self.state[tag]
        except KeyError:
            raise _refuse("an element is unknown, or not allowed where it stands") from None
        self.stack.append(behind)
        self.begin = len(self.texts)
        if is_container:
            if len(self.stack) > self.deepest:
                raise _refuse("too deep")
            self.marks.append(len(self.values))
        if attributes:
            raise _refuse("an attribute")

    def end(self, tag: str) -> None:
        state = self.state
        if state.take is not None:
            texts = self.texts
            if len(texts) - self.begin == 1:
                text = texts.pop()
            else:
                text = "".join(texts[self.begin :])
                del texts[self.begin :]
            self.values.append(state.take(text))
        elif state.close is not None:
            state.close(self)
        self.state = self.stack.pop()


def _declaration(version: str, encoding: str | None, standalone: int) -> None:
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        raise DecodeError(Code.NOT_WELL_FORMED, "declares an encoding other than UTF-8")


def _instruction(target: str, data: str) -> None:
    raise _refuse("a processing instruction")


def _has_more_elements(body: bytes, nodes: int) -> bool:
    """Whether there are more than `nodes`; each takes four bytes at least, and most bodies are small."""
    return len(body) > 4 * nodes and body.count(b"<") - body.count(b"</") > nodes


def _parse(body: bytes, target: _Target, nodes: int) -> None:
    """Run `body` through expat into `target`.

    Expat does not stop at a handler's exception: it reads on to the end of what it was fed, without
    handlers. So a large body is fed in slices, few enough (16) that expat's starting over at every
    unfinished token stays linear. A document type, in which even handler-less reading is dear, never
    reaches expat; that defusedxml refuses it too is the second line.
    """
    # UTF-16 and UTF-32 (which expat would detect by itself) cannot write `<` without a zero byte.
    if b"\0" in body:
        raise DecodeError(Code.NOT_WELL_FORMED, "a zero byte")
    if _has_more_elements(body, nodes):
        raise _refuse("too many elements")
    if b"<!DOCTYPE" in body and not _NO_DOCTYPE_CAN_FOLLOW.match(body):
        raise _refuse("a document type declaration")
    parser = DefusedExpatParser(target, forbid_dtd=True)
    expat = parser._parser  # the one way to the next three settings
    expat.buffer_text = True
    expat.XmlDeclHandler = _declaration
    expat.ProcessingInstructionHandler = _instruction
    try:
        if len(body) <= _SLICE:
            parser.feed(body)
        else:
            step = max(_SLICE, len(body) // 16 + 1)
            for start in range(0, len(body), step):
                parser.feed(body[start : start + step])
        parser.close()
    except ExpatError as error:
        raise DecodeError(Code.NOT_WELL_FORMED, str(error)) from error
    except DefusedXmlException as error:
        raise _refuse("a document type, an entity or an external reference") from error
    finally:
        # Takes the parser out of the cycle with its own handlers, which only the collector would free.
        vars(parser).clear()
    if "".join(target.texts).strip(_WHITE):
        raise _refuse("text stands between elements")


def loads_call(
    body: bytes, limits: RPCLimits, *, allow_nil: bool = True, allow_i8: bool = True
) -> tuple[str, list[Any]]:
    """The method's name, as it was sent, and its parameters.

    Values are `int`, `bool`, `str`, `float`, `datetime.datetime` (aware, UTC), `bytes`, `list`,
    `dict[str, …]`, and None where `allow_nil`. Raises `DecodeError` and nothing else, with -32700 for
    what is no XML and -32600 for what is no call or passes `xml_depth_count` or `xml_nodes_count`.
    The name is not judged here: the registry knows it, or it does not.
    """
    if limits.xml_depth_count >= DEEPEST and not _has_more_elements(body, limits.xml_nodes_count):
        plain = loads_plain_call(body)
        if plain is not None:
            return plain
    return parse_call(body, limits, allow_nil=allow_nil, allow_i8=allow_i8)


def parse_call(
    body: bytes, limits: RPCLimits, *, allow_nil: bool = True, allow_i8: bool = True
) -> tuple[str, list[Any]]:
    """`loads_call` by defusedxml, whatever the call looks like."""
    target = _Target(_GRAMMARS[allow_nil, allow_i8][0], limits.xml_depth_count)
    _parse(body, target, limits.xml_nodes_count)
    values = target.values
    return values.pop(0), values


def loads_answer(body: bytes, limits: RPCLimits) -> Any:
    """The value that a server answered with; a fault is raised as its kind of `FaultError`.

    Raises `DecodeError` for what is no answer. ``<nil/>`` and ``<i8>`` are always understood.
    """
    target = _Target(_GRAMMARS[True, True][1], limits.xml_depth_count)
    _parse(body, target, limits.xml_answer_nodes_count)
    value = target.values[0]
    if not target.marks:
        return value
    if not (
        isinstance(value, dict)
        and value.keys() == {"faultCode", "faultString"}
        and type(value["faultCode"]) is int
        and isinstance(value["faultString"], str)
    ):
        raise _refuse("a fault without faultCode and faultString")
    raise FAULTS.get(value["faultCode"], ApplicationError)(value["faultCode"], value["faultString"])
