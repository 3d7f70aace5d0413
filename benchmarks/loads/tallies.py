"""How a load knows what came back: acknowledgements counted, answers compared, TLS records measured. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from benchmarks.processes import BenchmarkError

HEADER = 5  # of a TLS record (RFC 8446, 5.1)
OVERHEAD = 17  # the content type's byte and the tag of every AEAD that TLS 1.3 has; nobody here pads
APPLICATION_DATA = 23


class Tally(Protocol):
    """Counts answers in the plaintext that comes back, cut anywhere."""

    def count(self, data: bytes) -> int:
        """How many answers end in this piece. Raises BenchmarkError at one that is not right."""
        ...


class Marks:
    """Answers counted by a mark that each has once and nothing else has."""

    def __init__(self, mark: bytes, refusals: Sequence[bytes] = ()) -> None:
        """`refusals`: what stands in the answer of a server that did not do it."""
        self._mark = mark
        self._refusals = tuple(refusals)
        self._keep = max(len(each) for each in (mark, *refusals)) - 1
        self._tail = b""

    def count(self, data: bytes) -> int:
        text = self._tail + data
        for refusal in self._refusals:
            if refusal in text:
                raise BenchmarkError(f"refused: {text[max(0, text.index(refusal) - 100) :][:400]!r}")
        found = text.count(self._mark) - self._tail.count(self._mark)  # the tail's were counted before
        self._tail = text[-self._keep :] if self._keep else b""
        return found


class Exactly:
    """Answers that are the same bytes over and over, compared byte for byte."""

    LONGEST = 1 << 20  # of a piece

    def __init__(self, answer: bytes) -> None:
        self._size = len(answer)
        self._right = answer * (self.LONGEST // self._size + 2)
        self._place = 0  # inside the answer under way

    def count(self, data: bytes) -> int:
        end = self._place + len(data)
        if self._right[self._place : end] != data:
            raise BenchmarkError(f"wrong answer: {data[:200]!r}")
        whole, self._place = divmod(end, self._size)
        return whole


class Records:
    """Plaintext bytes in a stream of TLS 1.3 records, told by their headers: nothing is decrypted."""

    __slots__ = ("_header", "_skip", "plaintext_bytes")

    def __init__(self) -> None:
        self.plaintext_bytes = 0
        self._skip = 0  # bytes of the record under way that are still to come
        self._header = b""  # a header that was cut

    def count(self, data: memoryview) -> None:
        """Raises BenchmarkError at a record that is not application data: an alert is one in disguise."""
        position = self._skip
        size = len(data)
        if self._header and size:
            missing = HEADER - len(self._header)
            header = self._header + bytes(data[:missing])
            if len(header) < HEADER:
                self._header = header
                return
            self._header = b""
            position = missing + self._take(header)
        while position + HEADER <= size:
            position += HEADER + self._take(data[position : position + HEADER])
        if position < size:
            self._header, self._skip = bytes(data[position:]), 0
        else:
            self._skip = position - size

    def _take(self, header: bytes | memoryview) -> int:
        length = (header[3] << 8) + header[4]
        if header[0] != APPLICATION_DATA or length < OVERHEAD:
            raise BenchmarkError(f"a record that is no application data: {bytes(header).hex()}")
        self.plaintext_bytes += length - OVERHEAD
        return length


class Latencies:
    """Times of operations in whole microseconds, counted rather than kept."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float, operations: int) -> None:
        self._counts[int(seconds * 1e6)] += operations

    def percentile(self, share: float) -> float:
        """The nearest-rank percentile in microseconds; 0 where nothing was added."""
        rank = max(1, math.ceil(share * self._counts.total()))
        for microseconds in sorted(self._counts):
            rank -= self._counts[microseconds]
            if rank <= 0:
                return float(microseconds)
        return 0.0
