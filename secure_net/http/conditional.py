"""Preconditions: whether what a client has is still what there is (RFC 9110 section 13). Pure."""

from __future__ import annotations

import calendar
import enum
import re
from collections.abc import Mapping
from typing import NamedTuple

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH = b"(?P<month>" + b"|".join(_MONTHS) + b")"
_TIME = rb"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"

# RFC 9110 section 5.6.7: the one form that is sent, and two that must be understood.
_DATES = (
    re.compile(rb"[A-Z][a-z]{2}, (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" GMT"),
    re.compile(
        rb"[A-Z][a-z]{5,8}, (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" GMT"
    ),
    re.compile(rb"[A-Z][a-z]{2} " + _MONTH + rb" (?P<day>[ 0-9][0-9]) " + _TIME + rb" (?P<year>[0-9]{4})"),
)
_CENTURY_TURNS = 70  # a year of two digits from here on is one of the last century

_TAG = rb"(?:W/)?+\"[!#-~]*+\""
_TAGS = re.compile(rb"(?:[ \t,]*+(" + _TAG + rb"))(?:[ \t]*+,[ \t,]*+" + _TAG + rb")*+[ \t,]*+")
_EACH_TAG = re.compile(_TAG)

FIELDS = frozenset({b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"})


class Validators(NamedTuple):
    """Of what there is now: a strong entity tag with its quotes, and Unix time in whole seconds."""

    etag: bytes
    modified: int


class Verdict(enum.Enum):
    SEND = enum.auto()
    NOT_MODIFIED = enum.auto()  # 304
    FAILED = enum.auto()  # 412


def judge(fields: Mapping[bytes, bytes], current: Validators) -> Verdict:
    """What a GET or HEAD with these fields gets, in the order of section 13.2.2."""
    matching, since = fields.get(b"if-match"), fields.get(b"if-unmodified-since")
    if matching is not None:
        if not _strongly_matches(matching, current.etag):
            return Verdict.FAILED
    elif since is not None:
        date = parse_date(since)
        if date is not None and current.modified > date:
            return Verdict.FAILED
    known, since = fields.get(b"if-none-match"), fields.get(b"if-modified-since")
    if known is not None:
        return Verdict.NOT_MODIFIED if _weakly_matches(known, current.etag) else Verdict.SEND
    if since is not None:
        date = parse_date(since)
        if date is not None and current.modified <= date:
            return Verdict.NOT_MODIFIED
    return Verdict.SEND


def range_holds(if_range: bytes | None, current: Validators, now: float) -> bool:
    """Whether a `Range` beside this `If-Range` is heard (section 13.1.5).

    A date is a strong validator only when it is a second in the past, for a file may change twice in one.
    """
    if if_range is None or if_range == current.etag:
        return True
    return parse_date(if_range) == current.modified and current.modified < now - 1


def _tags(value: bytes) -> list[bytes]:
    return _EACH_TAG.findall(value) if _TAGS.fullmatch(value) else []


def _strongly_matches(value: bytes, etag: bytes) -> bool:
    return value == b"*" or etag in _tags(value)


def _weakly_matches(value: bytes, etag: bytes) -> bool:
    return value in (etag, b"*") or etag in (tag.removeprefix(b"W/") for tag in _tags(value))


def parse_date(value: bytes) -> int | None:
    """Unix time of an HTTP date; None where it is none, for then the field counts for nothing."""
    match = next(filter(None, (form.fullmatch(value) for form in _DATES)), None)
    if match is None:
        return None
    day, year = int(match["day"]), int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= _CENTURY_TURNS else 2000
    month = _MONTHS.index(match["month"]) + 1
    if not (year > 0 and 0 < day <= calendar.monthrange(year, month)[1]):
        return None
    clock = (int(match["hour"]), int(match["minute"]), int(match["second"]))
    return calendar.timegm((year, month, day, *clock))
