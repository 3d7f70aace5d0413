from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_net.errors import RemoteProtocolError
from secure_net.http.body import BodyReader, ChunkedReader, LengthReader
from secure_net.limits import HTTPLimits

LIMITS = HTTPLimits(http_headers_count=3, http_trailers_bytes=40)


def _feed(reader: BodyReader, data: bytes) -> bytes:
    """Feed byte by byte, as a machine would; returns what was left over."""
    pending = bytearray()
    for index in range(len(data)):
        pending.append(data[index])
        del pending[: reader.read(pending, 0)]
        if reader.complete:
            return bytes(pending) + data[index + 1 :]
    return bytes(pending)


def _status(data: bytes, most: int = 100) -> int:
    statuses = set()
    for feed in (_feed, lambda reader, whole: reader.read(whole, 0)):
        with pytest.raises(RemoteProtocolError) as raised:
            feed(ChunkedReader(most, LIMITS), data)
        statuses.add(raised.value.status)
    assert len(statuses) == 1
    return statuses.pop()


def test_length() -> None:
    reader = LengthReader(5)
    assert reader.read(b"xxhel", 2) == 5
    assert not reader.complete
    assert reader.read(b"lo, and more", 0) == 2
    assert reader.complete
    assert reader.received == b"hello"
    assert LengthReader(0).complete


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", b"hello"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"A\r\n0123\r\n6789\r\n0\r\n\r\n", b"0123\r\n6789"),
        (b"10\r\n0123456789abcdef\r\n0\r\n\r\n", b"0123456789abcdef"),
        (b"0\r\nETag: x\r\nX-Sum: y\r\n\r\n", b""),
    ],
)
def test_chunks_and_trailers(data: bytes, body: bytes) -> None:
    whole = ChunkedReader(100, LIMITS)
    assert whole.read(data + b"next", 0) == len(data)
    assert (whole.complete, whole.received) == (True, body)
    bytewise = ChunkedReader(100, LIMITS)
    assert _feed(bytewise, data + b"next") == b"next"
    assert (bytewise.complete, bytewise.received) == (True, body)


def test_bounds() -> None:
    assert _status(b"65\r\n") == 413
    assert _status(b"64\r\n" + b"x" * 100 + b"\r\n1\r\n") == 413
    assert _status(b"0\r\nX: " + b"y" * 40 + b"\r\n\r\n") == 431
    assert _status(b"0\r\n" + b"X:y\r\n" * 4 + b"\r\n") == 431
    assert _status(b"0\r\nX: " + b"y" * 30 + b"\r\nZ: z\r\n") == 431
    fits = ChunkedReader(100, LIMITS)
    fits.read(b"64\r\n" + b"x" * 100 + b"\r\n0\r\nX: " + b"y" * 33 + b"\r\n\r\n", 0)
    assert fits.complete


def test_malformed() -> None:
    assert _status(b"1;a=b\r\n") == 400
    assert _status(b"5\r\nhelloX") == 400
    assert _status(b"5\r\nhello\rX") == 400
    assert _status(b"0\r\nHost: x\r\n") == 400
    assert _status(b"0\r\nX\r\n") == 400


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.data())
def test_any_split_gives_the_same_body(pieces: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    cut = data.draw(st.integers(0, len(wire)))
    reader = ChunkedReader(100, LIMITS)
    buffer = wire[:cut]
    position = reader.read(buffer, 0)
    buffer = buffer[position:] + wire[cut:]
    assert reader.read(buffer, 0) == len(buffer) or cut == len(wire)
    assert reader.complete
    assert reader.received == b"".join(pieces)
