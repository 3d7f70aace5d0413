r"""The plainest calls, read by one regular expression.

Most calls are a name and a few scalars, written by a program. For these, expat's construction, its events
and the target's transitions are two thirds of the cost of a call. What this grammar accepts, `decode` reads
to the same name and parameters (`tests/unit/rpc/test_plain.py` holds that by property); what it does not
accept is not refused here but left to `decode`, where defusedxml parses it
(`docs/decisions/0004-the-plainest-calls-skip-expat.md`).

The grammar is regular and has no repetition within a repetition, so matching is linear: ASCII only, no
attribute, comment, entity, CDATA section or processing instruction; integers of at most nine digits,
booleans, strings without ``<``, ``>``, ``&`` and CR, doubles without exponent; white space only where the
usual writers put it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

LARGEST = 2048  # bytes; beyond, what is saved is a small share
# What a plain call can hold at most: a bound that is configured below these must be looked at, by `decode`.
DEEPEST = 6  # methodCall, params, param, value, int, and one to spare
MOST_ELEMENTS = 160  # three for each of the fifty parameters that fit

_SPACE = rb"[ \t\r\n]*+"
_SCALAR = rb"<(int|i4|boolean|string|double)>([\t\n\x20-\x25\x27-\x3b\x3d\x3f-\x7e]{0,1024}+)</\1>"
_PARAM = rb"<param>%b<value>%b</value>%b</param>%b" % (_SPACE, _SCALAR, _SPACE, _SPACE)

_CALL = re.compile(
    rb"""(?:<\?xml\ version=(?:'1\.0'|"1\.0")(?:\ encoding=(?:'[Uu][Tt][Ff]-8'|"[Uu][Tt][Ff]-8"))?\ ?\?>)?+
    %(space)b <methodCall> %(space)b <methodName>([A-Za-z0-9_.:/]{1,64}+)</methodName> %(space)b
    (?: <params> %(space)b ((?:<param>[^\x00]{0,1600})?) </params> %(space)b )?+
    </methodCall> %(space)b"""
    % {b"space": _SPACE},
    re.VERBOSE,
)
_NEXT = re.compile(_PARAM)

_INTEGER = re.compile(rb"-?[0-9]{1,9}").fullmatch
_DOUBLE = re.compile(rb"-?[0-9]{1,15}\.[0-9]{1,15}").fullmatch


def _string(text: bytes) -> str:
    return text.decode("ascii")


# What a scalar's text must match, and what makes a value of it.
_TAKE: dict[bytes, tuple[Callable[[bytes], Any], Callable[[bytes], Any]]] = {
    b"int": (_INTEGER, int),
    b"i4": (_INTEGER, int),
    b"boolean": ({b"0": True, b"1": True}.get, {b"0": False, b"1": True}.__getitem__),
    b"string": (lambda _: True, _string),
    b"double": (_DOUBLE, float),
}


def loads_plain_call(body: bytes) -> tuple[str, list[Any]] | None:
    """Name and parameters of a call that is plain, else None."""
    call = _CALL.fullmatch(body)
    if call is None:
        return None
    values: list[Any] = []
    name, params = call.groups()
    at, end = call.span(2) if params else (0, 0)
    while at < end:
        param = _NEXT.match(body, at, end)
        if param is None:
            return None
        fits, take = _TAKE[param[1]]
        text = param[2]
        if not fits(text):
            return None
        values.append(take(text))
        at = param.end()
    return name.decode("ascii"), values
