"""A body as it arrives, by its length or in chunks (RFC 9112 sections 6 and 7).

A reader is fed from a buffer and a position, takes what is its own, and says where it stopped. It holds
the octets of the body and nothing else: framing is checked before the octets behind it are kept.
"""

from __future__ import annotations

import re
from typing import Protocol

from secure_net.http.fields import FORBIDDEN_IN_TRAILERS, malformed, parse_fields, too_large
from secure_net.limits import HTTPLimits

Buffer = bytes | bytearray

# At most 8 hexadecimal digits, no padding, no extension: RFC 9112 section 7.1.1 would have extensions
# ignored, but no client of ours sends one, and proxies disagree on where they end.
_CHUNK_SIZE = re.compile(rb"(0|[1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")
_CHUNK_SIZE_LINE_BYTES = 10


class BodyReader(Protocol):
    """One body under way. `received` holds its octets so far; `complete` when it has them all."""

    received: bytearray
    complete: bool

    def read(self, buffer: Buffer, position: int) -> int:
        """Take from `buffer` at `position`; returns the position behind what was taken."""
        ...


class LengthReader:
    """A body of `length` bytes."""

    __slots__ = ("_missing", "complete", "received")

    def __init__(self, length: int) -> None:
        self.received = bytearray()
        self._missing = length
        self.complete = length == 0

    def read(self, buffer: Buffer, position: int) -> int:
        end = min(position + self._missing, len(buffer))
        self.received += buffer[position:end]
        self._missing -= end - position
        self.complete = self._missing == 0
        return end


class ChunkedReader:
    """A body in chunks, of at most `most` bytes together. Trailers are checked and dropped.

    `read` raises `RemoteProtocolError`: 400 malformed, 413 body too large, 431 trailers too large.
    """

    __slots__ = (
        "_limits",
        "_missing",
        "_most",
        "_read_part",
        "_trailer_bytes",
        "_trailer_count",
        "complete",
        "received",
    )

    def __init__(self, most: int, limits: HTTPLimits) -> None:
        self.received = bytearray()
        self.complete = False
        self._most = most
        self._limits = limits
        self._missing = 0
        self._trailer_bytes = 0
        self._trailer_count = 0
        # The part that comes next. Each returns the position behind what it took, or -1 for "not all of
        # it is there yet", and names the part that follows. Functions, not bound methods: those would
        # make of every reader a cycle for the garbage collector.
        self._read_part = ChunkedReader._read_size

    def read(self, buffer: Buffer, position: int) -> int:
        while not self.complete:
            after = self._read_part(self, buffer, position)
            if after < 0:
                return position
            position = after
        return position

    def _read_size(self, buffer: Buffer, position: int) -> int:
        end = buffer.find(b"\n", position, position + _CHUNK_SIZE_LINE_BYTES)
        if end < 0:
            if len(buffer) - position >= _CHUNK_SIZE_LINE_BYTES:
                raise malformed("chunk size")
            return -1
        line = _CHUNK_SIZE.fullmatch(buffer, position, end + 1)
        if line is None:
            raise malformed("chunk size")
        self._missing = int(line[1], 16)
        if len(self.received) + self._missing > self._most:
            raise too_large("chunked body", 413)
        self._read_part = ChunkedReader._read_data if self._missing else ChunkedReader._read_trailer
        return end + 1

    def _read_data(self, buffer: Buffer, position: int) -> int:
        end = min(position + self._missing, len(buffer))
        if end == position:
            return -1
        self.received += buffer[position:end]
        self._missing -= end - position
        if not self._missing:
            self._read_part = ChunkedReader._read_data_end
        return end

    def _read_data_end(self, buffer: Buffer, position: int) -> int:
        mark = buffer[position : position + 2]
        if mark == b"\r\n":
            self._read_part = ChunkedReader._read_size
            return position + 2
        if mark not in (b"", b"\r"):
            raise malformed("end of chunk")
        return -1

    def _read_trailer(self, buffer: Buffer, position: int) -> int:
        room = self._limits.http_trailers_bytes - self._trailer_bytes
        end = buffer.find(b"\n", position, position + room)
        if end < 0:
            if len(buffer) - position >= room:
                raise too_large("trailers", 431)
            return -1
        line = bytes(buffer[position : end + 1])
        if line == b"\r\n":
            self.complete = True
        else:
            self._check_trailer(line)
        return end + 1

    def _check_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        self._trailer_count += 1
        if self._trailer_count > self._limits.http_headers_count:
            raise too_large("trailers", 431)
        if not FORBIDDEN_IN_TRAILERS.isdisjoint(parse_fields(line, 1)):
            raise malformed("field that no trailer may carry")
