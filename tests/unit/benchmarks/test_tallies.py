"""How a load counts what comes back: cut anywhere, it comes to the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.loads.tallies import OVERHEAD, Exactly, Latencies, Marks, Records
from benchmarks.processes import BenchmarkError

ACKNOWLEDGED = b'00060{"type":"ack","id":"00","seq":7}' * 5
CUTS = st.lists(st.integers(0, len(ACKNOWLEDGED)), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


@given(CUTS)
def test_marks_are_counted_once_however_they_are_cut(cuts: list[int]) -> None:
    tally = Marks(b'"ack"', [b'"error"'])
    assert sum(map(tally.count, pieces(ACKNOWLEDGED, cuts))) == 5


def test_a_mark_of_one_byte_needs_no_memory() -> None:
    tally = Marks(b":", [b"-"])
    assert [tally.count(b":1\r\n:1"), tally.count(b"\r\n:")] == [2, 1]


@given(st.integers(0, 20))
def test_a_refusal_is_seen_however_it_is_cut(cut: int) -> None:
    tally, said = Marks(b'"ack"', [b'"error"']), b'{"type":"error","code":"internal"}'
    with pytest.raises(BenchmarkError, match="error"):
        for piece in pieces(said, [cut]):
            tally.count(piece)


@given(CUTS)
def test_answers_are_compared_however_they_are_cut(cuts: list[int]) -> None:
    tally = Exactly(ACKNOWLEDGED[:37])
    assert sum(map(tally.count, pieces(ACKNOWLEDGED, cuts))) == 5


def test_a_wrong_answer_is_no_answer() -> None:
    tally = Exactly(b"00003abc")
    assert tally.count(b"00003abc00003") == 1
    with pytest.raises(BenchmarkError, match="wrong answer"):
        tally.count(b"abd")


def record(size: int) -> bytes:
    return b"\x17\x03\x03" + (size + OVERHEAD).to_bytes(2, "big") + bytes(size + OVERHEAD)


RECORDS = record(0) + record(1) + record(300) + record(16384) + record(7)


@given(st.lists(st.integers(0, len(RECORDS)), max_size=30))
def test_plaintext_is_measured_however_the_records_are_cut(cuts: list[int]) -> None:
    records = Records()
    for piece in pieces(RECORDS, cuts):
        records.count(memoryview(piece))
    assert records.plaintext_bytes == 1 + 300 + 16384 + 7


def test_plaintext_is_measured_byte_by_byte() -> None:
    records = Records()
    for byte in record(3) * 2:
        records.count(memoryview(bytes((byte,))))
    assert records.plaintext_bytes == 6


@pytest.mark.parametrize("wrong", [b"\x15\x03\x03\x00\x20", b"\x17\x03\x03\x00\x05"])
def test_what_is_no_application_data_is_no_delivery(wrong: bytes) -> None:
    with pytest.raises(BenchmarkError, match="no application data"):
        Records().count(memoryview(wrong))


def test_latencies_are_weighed_by_operations() -> None:
    latencies = Latencies()
    assert latencies.percentile(0.5) == 0.0
    latencies.add(0.000_010, 99)
    latencies.add(0.000_500, 1)
    assert latencies.percentile(0.5) == 10.0
    assert latencies.percentile(0.99) == 10.0
    assert latencies.percentile(1.0) == 500.0
