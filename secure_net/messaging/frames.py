"""Length-prefixed frames: a header of ASCII digits that says how many bytes follow, then these bytes.

The chapter's wire format: the header is as wide as the largest
payload has digits, five for 65,536. ``00000`` is an empty message. The digits are `[0-9]` and nothing else:
`int()` would also take ``1_000``, `` +12 `` and ``-0001``.

Theory of operation. `FrameReader` keeps what has arrived as it came and joins it only once a frame is whole,
so a frame that comes in a thousand pieces is copied once. A header is judged as soon as its first wrong byte
is there, and a length that is too large before one byte of its payload is kept. `FramedMachine` is what every
machine over frames shares: batches of payloads, the deadline of a frame, and what an end within one means.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.limits import FrameLimits
from secure_net.machine import Machine

LEAST_WIDTH = 5  # a lower bound on payloads changes what is refused, not what the wire looks like
BATCH = 64  # payloads in one event: what an answer to them all may cost is bounded by it


def width_for(largest: int) -> int:
    """Digits in the header of a frame whose payload has at most `largest` bytes."""
    return max(LEAST_WIDTH, len(str(largest)))


@functools.lru_cache(maxsize=4096)
def _header(length: int, width: int) -> bytes:
    header = b"%0*d" % (width, length)
    if len(header) > width:
        raise LocalProtocolError(f"a payload of {length} bytes does not fit a header of {width} digits")
    return header


def encode(payload: bytes, width: int = LEAST_WIDTH) -> bytes:
    """One frame. Raises `LocalProtocolError` where the length does not fit the header."""
    return _header(len(payload), width) + payload


def encode_many(payloads: Sequence[bytes], prefix: bytes = b"", width: int = LEAST_WIDTH) -> bytes:
    """A frame of `prefix` and payload for each, in one join. Raises as `encode` does."""
    if len(payloads) == 1:
        return _header(len(prefix) + len(payloads[0]), width) + prefix + payloads[0]
    lengths = list(map(len, payloads))
    # In most batches all have one length: then one header serves them all.
    if lengths and lengths.count(lengths[0]) == len(lengths):
        lead = _header(len(prefix) + lengths[0], width) + prefix
        return lead + lead.join(payloads)
    leads = [_header(len(prefix) + length, width) + prefix for length in lengths]
    return b"".join(itertools.chain.from_iterable(zip(leads, payloads, strict=True)))


class FrameReader:
    """Bytes in, payloads out.

    `buffered`: bytes that were received and are in no payload given out yet.
    """

    __slots__ = ("_at", "_last", "_needed", "_pieces", "_width", "buffered", "largest")

    def __init__(self, largest: int, width: int | None = None) -> None:
        """`largest` payload in bytes; `width` of the header where it is not `width_for(largest)`."""
        self.largest = largest
        self._width = width or width_for(largest)
        self._pieces: list[bytes] = []
        self._at = 0  # the first piece has been read so far
        self._needed = 1  # with fewer bytes than this nothing new can be said
        self._last = (b"", 0)  # the last header, and the length that it gave: most frames are alike
        self.buffered = 0

    def receive(self, data: bytes) -> None:
        """Take bytes, in order."""
        if data:
            self._pieces.append(data)
            self.buffered += len(data)

    def next_batch(self, most: int = BATCH) -> list[bytes]:
        """The next whole payloads, `most` at a time; none where more bytes are needed.

        Raises `RemoteProtocolError` for a header that is not digits (MALFORMED) or says too much
        (TOO_LARGE), once the payloads before it have been given out.
        """
        if self.buffered < self._needed:
            return []
        data, at, width = self._joined(), self._at, self._width
        end, needed = len(data), 1
        header, length = self._last
        payloads: list[bytes] = []
        while at < end and len(payloads) < most:
            found = data[at : at + width]
            if found != header:
                if self._is_wrong(found):
                    if payloads:
                        break
                    raise self._refusal(found)
                if len(found) < width:
                    needed = len(found) + 1
                    break
                header, length = found, int(found)
            begin = at + width
            stop = begin + length
            if data[stop : stop + width] == header:
                count = min((end - at) // (width + length), most - len(payloads))
                alike = at + count * (width + length)
                if self._is_alike(data[at:alike], header, count):
                    payloads += [data[i : i + length] for i in range(begin, alike + 1, width + length)]
                    at = alike
                    continue
            if stop > end:
                needed = width + length
                break
            payloads.append(data[begin:stop])
            at = stop
        self._last = header, length
        self._needed, self.buffered = needed, end - at
        if (
            len(payloads) < most or at == end
        ):  # all there is: who is silent from now on keeps no more than that
            self._pieces, self._at = [data[at:]] if at < end else [], 0
        else:
            self._pieces, self._at = [data], at
        return payloads

    @staticmethod
    def _is_alike(frames: bytes, header: bytes, count: int) -> bool:
        """Whether each of `count` frames of one length has this header: column by column, as one comparison
        of so many bytes costs less than so many comparisons."""
        step = len(frames) // count
        return all(frames[i::step] == header[i : i + 1] * count for i in range(len(header)))

    def _joined(self) -> bytes:
        if len(self._pieces) > 1:
            self._pieces[0] = self._pieces[0][self._at :]
            self._pieces, self._at = [b"".join(self._pieces)], 0
        return self._pieces[0]

    def _is_wrong(self, header: bytes) -> bool:
        """Of a header, or of as much of it as is here."""
        return not header.isdigit() or (len(header) == self._width and int(header) > self.largest)

    def _refusal(self, header: bytes) -> RemoteProtocolError:
        if header.isdigit():
            return RemoteProtocolError(Refusal.TOO_LARGE, f"a frame of {int(header)} bytes")
        return RemoteProtocolError(Refusal.MALFORMED, f"the header of a frame is {header!r}")


class FramedMachine(Machine):
    """A machine over frames. Its events are lists of payloads, never empty.

    A frame has `limits.frame_seconds` from its first byte to its last. An end within one is truncated.
    """

    __slots__ = ("_ended", "_frame_seconds", "_in_frame", "_reader")

    def __init__(self, limits: FrameLimits, largest: int | None = None) -> None:
        """`largest` payload where it is less than `limits.frame_bytes`, by which the header's width goes."""
        super().__init__()
        width = width_for(limits.frame_bytes)
        self._reader = FrameReader(limits.frame_bytes if largest is None else largest, width)
        self._frame_seconds = limits.frame_seconds
        self._in_frame = self._ended = False
        self._enter(None, Refusal.IDLE)

    def receive_data(self, data: bytes) -> None:
        self._reader.receive(data)
        self.buffered = self._reader.buffered

    def receive_eof(self, *, clean: bool) -> None:
        self._ended = True
        if not clean:
            self._refuse_partial()

    def next_event(self) -> list[bytes] | None:
        reader = self._reader
        payloads = reader.next_batch()
        self.buffered = reader.buffered
        if payloads:
            self._in_frame = False
            self._enter(None, Refusal.IDLE)
            return payloads
        if self._ended:
            self._refuse_partial()
        if self.buffered and not self._in_frame:
            self._in_frame = True
            self._enter(self._frame_seconds, Refusal.READ_DEADLINE)
        return None

    def _refuse_partial(self) -> None:
        if self._reader.buffered:
            raise RemoteProtocolError(Refusal.TRUNCATED, "the end came within a frame")
