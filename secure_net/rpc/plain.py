r"""Plain calls, read by a tokenizer that is one regular expression.

Most calls hold scalars, structs and arrays in the one form that programs write. For these, expat's events,
each a call into Python, are two thirds of what a call costs. What this grammar accepts, `decode` reads to the
same name and parameters (`tests/unit/rpc/test_plain.py` holds that by property); what it does not accept is
not refused here but left to `decode`, where defusedxml parses it
(`docs/decisions/0004-plain-calls-skip-expat.md`).

Accepted: ASCII only; no attribute, comment, entity, CDATA section or processing instruction; integers of at
most nine digits, booleans, strings without ``<``, ``>``, ``&`` and CR, doubles without exponent; containers
to eight levels; white space only where the usual writers put it.

Theory of operation. A token is a whole scalar with the tags around it, so that most members of a struct are
one token, or a single tag. `findall` makes them in one pass without a Python frame; its last alternative
takes everything that is no token, so nothing is skipped. No repetition stands within a repetition, and at
most two alternatives try the text of one scalar: the pass is linear. Which token may follow which is decided
by the functions below, each of which reads one construct.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

# What a plain call can hold at most: where a smaller bound is configured, `decode` must look at it.
LEVELS = 8  # of containers
DEEPEST = 5 + 3 * LEVELS  # elements: methodCall, params, param; then value, struct, member …; value, int

_PARTS = {
    b"space": rb"[ \t\r\n]*+",
    b"name": rb"<name>([A-Za-z0-9_.:-]{1,64}+)</name>",
    b"type": rb"int|i4|boolean|string|double",
    b"text": rb"[\t\n\x20-\x25\x27-\x3b\x3d\x3f-\x7e]*+",
}
_HEAD = re.compile(
    rb"""(?:<\?xml\ version=(?:'1\.0'|"1\.0")(?:\ encoding=(?:'[Uu][Tt][Ff]-8'|"[Uu][Tt][Ff]-8"))?\ ?\?>)?+
    %(space)b <methodCall> %(space)b <methodName>([A-Za-z0-9_.:/]{1,64}+)</methodName> %(space)b"""
    % _PARTS,
    re.VERBOSE,
)
# Groups: a member's name, type and text; whether it is a parameter's, a value's type and text; the name of a
# member that holds a container; a tag; what is no token.
_TOKENS = re.compile(
    rb"""<member> %(space)b %(name)b %(space)b
         <value><(%(type)b)>(%(text)b)</\2></value> %(space)b </member> %(space)b
    | (<param> %(space)b)?+ <value><(%(type)b)>(%(text)b)</\5></value> %(space)b (?(4) </param> %(space)b)
    | <member> %(space)b %(name)b %(space)b
    | <(/?[A-Za-z]{4,10})> %(space)b
    | ((?s:.+))"""
    % _PARTS,
    re.VERBOSE,
).findall

_Token = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]
_TAG = 7  # its index


class _NotPlain(Exception):  # noqa: N818 - not an error: it says who reads the call
    """Something that this grammar does not know."""


_is_integer = re.compile(rb"-?[0-9]{1,9}").fullmatch
_is_double = re.compile(rb"-?[0-9]{1,15}\.[0-9]{1,15}").fullmatch


def _integer(text: bytes) -> int:
    if _is_integer(text):
        return int(text)
    raise _NotPlain


def _boolean(text: bytes) -> bool:
    if text == b"1":
        return True
    if text == b"0":
        return False
    raise _NotPlain


def _string(text: bytes) -> str:
    return text.decode("ascii")


def _double(text: bytes) -> float:
    if _is_double(text):
        return float(text)
    raise _NotPlain


_TAKE: dict[bytes, Callable[[bytes], Any]] = {
    b"int": _integer,
    b"i4": _integer,
    b"boolean": _boolean,
    b"string": _string,
    b"double": _double,
}


def loads_plain_call(body: bytes) -> tuple[str, list[Any]] | None:
    """Name and parameters of a call that is plain, else None."""
    head = _HEAD.match(body)
    if head is None:
        return None
    tokens = iter(_TOKENS(body, head.end()))
    try:
        parameters = _call(tokens)
    except (_NotPlain, StopIteration):
        return None
    return head[1].decode("ascii"), parameters


def _tag(tokens: Iterator[_Token], expected: bytes) -> None:
    if next(tokens)[_TAG] != expected:
        raise _NotPlain


def _call(tokens: Iterator[_Token]) -> list[Any]:
    """What stands behind the method's name, to the end of the document."""
    values: list[Any] = []
    tag = next(tokens)[_TAG]
    if tag == b"params":
        for _, _, _, param, kind, text, _, tag, _ in tokens:
            if param:
                values.append(_TAKE[kind](text))
            elif tag == b"param":
                values.append(_value(next(tokens), tokens, LEVELS))
                _tag(tokens, b"/param")
            else:
                break
        if tag != b"/params":
            raise _NotPlain
        tag = next(tokens)[_TAG]
    if tag != b"/methodCall" or next(tokens, None) is not None:
        raise _NotPlain
    return values


def _value(token: _Token, tokens: Iterator[_Token], levels: int) -> Any:
    """The value that begins with `token`: all of a scalar, or the opening tag around a container."""
    _, _, _, param, kind, text, _, tag, _ = token
    if kind and not param:
        return _TAKE[kind](text)
    if tag != b"value" or not levels:
        raise _NotPlain
    tag = next(tokens)[_TAG]
    if tag == b"struct":
        value: Any = _struct(tokens, levels - 1)
    elif tag == b"array":
        value = _array(tokens, levels - 1)
    else:
        raise _NotPlain
    _tag(tokens, b"/value")
    return value


def _struct(tokens: Iterator[_Token], levels: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for count, (name, kind, text, _, _, _, holder, tag, _) in enumerate(tokens):
        if kind:
            members[name.decode("ascii")] = _TAKE[kind](text)
        elif holder:
            members[holder.decode("ascii")] = _value(next(tokens), tokens, levels)
            _tag(tokens, b"/member")
        elif tag == b"/struct" and count == len(members):  # else a name stood there twice
            return members
        else:
            break
    raise _NotPlain


def _array(tokens: Iterator[_Token], levels: int) -> list[Any]:
    _tag(tokens, b"data")
    values: list[Any] = []
    for token in tokens:
        if token[_TAG] == b"/data":
            _tag(tokens, b"/array")
            return values
        values.append(_value(token, tokens, levels))
    raise _NotPlain
