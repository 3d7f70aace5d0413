"""Preconditions, in the order of RFC 9110 section 13.2.2."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.http.conditional import Validators, Verdict, judge, parse_date, range_holds

MODIFIED = 784_111_777
CURRENT = Validators(b'"now"', MODIFIED)
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE, AFTER = (formatdate(MODIFIED + step, usegmt=True).encode() for step in (-1, 1))
SEND, NOT_MODIFIED, FAILED = Verdict


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, SEND),
        ({b"if-none-match": b'"now"'}, NOT_MODIFIED),
        ({b"if-none-match": b'W/"now"'}, NOT_MODIFIED),
        ({b"if-none-match": b"*"}, NOT_MODIFIED),
        ({b"if-none-match": b'"old", W/"now" ,"x"'}, NOT_MODIFIED),
        ({b"if-none-match": b'"a,b","now"'}, NOT_MODIFIED),
        ({b"if-none-match": b'"old"'}, SEND),
        ({b"if-none-match": b"now"}, SEND),
        ({b"if-none-match": b'"now'}, SEND),
        ({b"if-none-match": b'"old" "now"'}, SEND),
        ({b"if-none-match": b'"old,"now"'}, SEND),
        ({b"if-none-match": b'"old"', b"if-modified-since": AFTER}, SEND),  # a tag is heard alone
        ({b"if-modified-since": DATE}, NOT_MODIFIED),
        ({b"if-modified-since": AFTER}, NOT_MODIFIED),
        ({b"if-modified-since": BEFORE}, SEND),
        ({b"if-modified-since": b"yesterday"}, SEND),
        ({b"if-match": b'"now"'}, SEND),
        ({b"if-match": b'"old", "now"'}, SEND),
        ({b"if-match": b"*"}, SEND),
        ({b"if-match": b'W/"now"'}, FAILED),
        ({b"if-match": b'"old"'}, FAILED),
        ({b"if-match": b"junk"}, FAILED),
        ({b"if-match": b'"now"', b"if-unmodified-since": BEFORE}, SEND),
        ({b"if-unmodified-since": DATE}, SEND),
        ({b"if-unmodified-since": AFTER}, SEND),
        ({b"if-unmodified-since": BEFORE}, FAILED),
        ({b"if-unmodified-since": b"junk"}, SEND),
        ({b"if-match": b'"now"', b"if-none-match": b'"now"'}, NOT_MODIFIED),
        ({b"if-unmodified-since": BEFORE, b"if-none-match": b'"now"'}, FAILED),
    ],
)
def test_what_a_client_gets(fields: dict[bytes, bytes], verdict: Verdict) -> None:
    assert judge(fields, CURRENT) is verdict


@pytest.mark.parametrize(
    ("if_range", "now", "holds"),
    [
        (None, MODIFIED, True),
        (b'"now"', MODIFIED, True),
        (b'"old"', MODIFIED + 99, False),
        (b'W/"now"', MODIFIED + 99, False),
        (DATE, MODIFIED + 99, True),
        (DATE, MODIFIED + 1, False),  # it may change again within this second
        (BEFORE, MODIFIED + 99, False),
        (AFTER, MODIFIED + 99, False),
        (b"junk", MODIFIED + 99, False),
    ],
)
def test_a_range_holds_for_what_the_client_has_part_of(
    if_range: bytes | None, now: float, holds: bool
) -> None:
    assert range_holds(if_range, CURRENT, now) is holds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (DATE, MODIFIED),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", MODIFIED),
        (b"Sun Nov  6 08:49:37 1994", MODIFIED),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"Saturday, 01-Jan-00 00:00:00 GMT", 946_684_800),
        (b"Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
        (b"Fri, 30 Jun 2017 23:59:60 GMT", 1_498_867_200),
    ],
)
def test_the_three_forms_of_a_date(value: bytes, seconds: int) -> None:
    assert parse_date(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"784111777",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 nov 1994 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun Nov  0 08:49:37 1994",
        DATE + b", " + DATE,
    ],
)
def test_what_is_no_date_counts_for_nothing(value: bytes) -> None:
    assert parse_date(value) is None


@given(st.binary(max_size=60))
def test_junk_is_judged_all_the_same(junk: bytes) -> None:
    parse_date(junk)
    for name in (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"):
        assert judge({name: junk}, CURRENT) in Verdict


@given(st.integers(0, 4_000_000_000))
def test_every_second_comes_back(seconds: int) -> None:
    assert parse_date(formatdate(seconds, usegmt=True).encode()) == seconds
