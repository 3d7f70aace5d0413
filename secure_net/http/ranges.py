"""Which bytes of a file are asked for (RFC 9110 section 14), and how several of them are framed. Pure.

One range, or several in the order in which they were asked for. Where ranges overlap, or are more than
`files_ranges_count`, the whole is sent, as section 14.2 allows: nobody has use for them but who wants to make
work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# first-pos "-" [ last-pos ] / "-" suffix-length, in a list (section 5.6.1: empty elements count for nothing).
_SET = re.compile(rb"(?i:bytes)=([0-9, \t-]++)")
_SPEC = re.compile(rb"([0-9]*+)-([0-9]*+)")
_DIGITS = 18  # a longer number is beyond every file
_BEYOND = 10**_DIGITS


class Span(NamedTuple):
    """Bytes `begin` to `end`, that one not included."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.begin


def parse_ranges(value: bytes, size: int, most: int) -> tuple[Span, ...] | None:
    """What ``Range: value`` asks of a file of `size` bytes.

    None: nothing that is heard, send the whole. An empty tuple: nothing that the file has (416).
    """
    ranges = _SET.fullmatch(value)
    parts = ranges[1].split(b",") if ranges else []
    specs = [spec for spec in (part.strip(b" \t") for part in parts) if spec]
    if not specs or len(specs) > most or not size:
        return None
    spans = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        span = _span(match[1], match[2], size) if match else None
        if span is None:
            return None
        if span.begin < span.end:
            spans.append(span)
    return None if _overlap(spans) else tuple(spans)


def _span(first: bytes, last: bytes, size: int) -> Span | None:
    """None: malformed. An empty one: the file has nothing of it."""
    if not first:
        return Span(max(0, size - _number(last)), size) if last else None
    begin, end = _number(first), _number(last) + 1 if last else size
    if last and end <= begin:
        return None
    return Span(min(begin, size), min(end, size))


def _number(digits: bytes) -> int:
    return int(digits) if len(digits) <= _DIGITS else _BEYOND


def _overlap(spans: Iterable[Span]) -> bool:
    end = 0
    for span in sorted(spans):
        if span.begin < end:
            return True
        end = span.end
    return False


def content_range(span: Span, size: int) -> bytes:
    """The value of `Content-Range` for one part (section 14.4)."""
    return b"bytes %d-%d/%d" % (span.begin, span.end - 1, size)


def unsatisfied(size: int) -> bytes:
    """The same for a 416."""
    return b"bytes */%d" % size


def multipart(
    spans: Sequence[Span], size: int, content_type: bytes, boundary: bytes
) -> tuple[tuple[bytes | Span, ...], int]:
    """What a ``multipart/byteranges`` body (section 14.6) is made of, in order, and how long it is."""
    plan: list[bytes | Span] = []
    for span in spans:
        head = b"--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n"
        plan += [head % (boundary, content_type, content_range(span, size)), span, b"\r\n"]
    plan.append(b"--%b--\r\n" % boundary)
    return tuple(plan), sum(part.length if isinstance(part, Span) else len(part) for part in plan)
