"""Which bytes are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.http.ranges import Span, content_range, multipart, parse_ranges, unsatisfied

SIZE, MOST = 100, 4


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        (b"bytes=0-0", [(0, 1)]),
        (b"bytes=0-", [(0, 100)]),
        (b"Bytes=10-19", [(10, 20)]),
        (b"bytes=90-1000", [(90, 100)]),
        (b"bytes=-10", [(90, 100)]),
        (b"bytes=-1000", [(0, 100)]),
        (b"bytes=-" + b"9" * 40, [(0, 100)]),
        (b"bytes=99-" + b"9" * 40, [(99, 100)]),
        (b"bytes=000-0004", [(0, 5)]),
        (b"bytes= 0-1 ,\t4-5", [(0, 2), (4, 6)]),
        (b"bytes=,0-1,,", [(0, 2)]),
        (b"bytes=50-59,0-9,-1", [(50, 60), (0, 10), (99, 100)]),  # in the order of the question
        (b"bytes=0-9,10-19", [(0, 10), (10, 20)]),
        (b"bytes=0-1,200-300", [(0, 2)]),  # what the file has of it
    ],
)
def test_what_is_asked_for(value: bytes, spans: list[tuple[int, int]]) -> None:
    assert parse_ranges(value, SIZE, MOST) == tuple(Span(*span) for span in spans)


@pytest.mark.parametrize(
    "value", [b"bytes=100-", b"bytes=100-200", b"bytes=-0", b"bytes=200-,300-", b"bytes=" + b"9" * 40 + b"-"]
)
def test_what_the_file_has_nothing_of(value: bytes) -> None:
    assert parse_ranges(value, SIZE, MOST) == ()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=5",
        b"bytes=5-4",
        b"bytes=a-b",
        b"bytes=0x1-0x2",
        b"bytes=+1-2",
        b"bytes=1_0-2_0",
        b"bytes=0-1-2",
        b"bytes=0 - 1",
        b"bytes=--1",
        b"items=0-1",
        b"bytes 0-1",
        b"bytes=0-1;2-3",
        b"bytes=0-1, bytes=2-3",  # two lines, joined
        b"bytes=0-1,2-3,4-5,6-7,8-9",  # over the bound
        b"bytes=0-10,5-15",
        b"bytes=0-,0-",
        b"bytes=5-5,0-9",
    ],
)
def test_what_is_not_heard_or_not_worth_it(value: bytes) -> None:
    assert parse_ranges(value, SIZE, MOST) is None


@pytest.mark.parametrize("value", [b"bytes=0-", b"bytes=-1", b"bytes=0-0"])
def test_of_nothing_the_whole_is_sent(value: bytes) -> None:
    assert parse_ranges(value, 0, MOST) is None


@given(st.binary(max_size=40), st.integers(0, 1000))
def test_whatever_is_asked_nothing_is_out_of_the_file(junk: bytes, size: int) -> None:
    for span in parse_ranges(b"bytes=" + junk, size, MOST) or ():
        assert 0 <= span.begin < span.end <= size


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=6), st.integers(1, 200)
)
def test_spans_never_overlap_and_are_few(pairs: list[tuple[int, int]], size: int) -> None:
    value = b"bytes=" + b",".join(b"%d-%d" % (low, low + more) for low, more in pairs)
    spans = parse_ranges(value, size, MOST)
    if spans is None:
        return
    seen: set[int] = set()
    assert len(spans) <= MOST
    for span in spans:
        assert 0 <= span.begin < span.end <= size
        assert span.length == span.end - span.begin
        assert seen.isdisjoint(range(*span))
        seen |= set(range(*span))


def test_how_they_are_told() -> None:
    assert content_range(Span(0, 10), 100) == b"bytes 0-9/100"
    assert unsatisfied(100) == b"bytes */100"


def test_several_are_framed() -> None:
    plan, length = multipart([Span(0, 2), Span(5, 9)], 10, b"text/plain", b"EDGE")
    data = b"0123456789"
    body = b"".join(data[part.begin : part.end] if isinstance(part, Span) else part for part in plan)
    assert body == (
        b"--EDGE\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/10\r\n\r\n01\r\n"
        b"--EDGE\r\ncontent-type: text/plain\r\ncontent-range: bytes 5-8/10\r\n\r\n5678\r\n"
        b"--EDGE--\r\n"
    )
    assert len(body) == length
