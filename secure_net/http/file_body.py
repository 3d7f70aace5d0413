"""The body of an answer that is read from a file while it is sent.

A piece that the page cache has is read on the event loop, in some microseconds; one that has to come from the
disk, on a thread. In either case the file is asked afterwards whether it is still what was announced: who has
begun to write to it ends this connection, and nothing is sent of what he wrote, nor less than was announced.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from secure_net.http.disk import Disk
from secure_net.http.opened import OpenFile
from secure_net.http.ranges import Span
from secure_net.http.response import BodyBrokenError, Piece
from secure_net.metrics import FileCounters

# What is read and sent at a time: large enough that the steps around it do not count, small enough to keep
# for each of many clients who take their time. The shell sends as much in one write.
PIECE_BYTES = 128 * 1024

_CHANGED = "a file changed while it was sent"


class FileBody:
    """`plan`: texts of ours and spans of `file`, in order. It holds the file until it is closed."""

    __slots__ = ("_at", "_buffer", "_counters", "_disk", "_file", "_left", "_plan")

    def __init__(
        self, file: OpenFile, plan: Sequence[bytes | Span], disk: Disk, counters: FileCounters
    ) -> None:
        self._file = file.hold()
        self._plan = list(reversed(plan))
        self._disk, self._counters = disk, counters
        self._buffer = bytearray()
        self._at, self._left = 0, 0  # of the span under way
        counters.downloads_open += 1

    def next_piece(self) -> Piece | Coroutine[Any, Any, Piece]:
        """The next text, or piece of a span; a coroutine where it has to come from the disk."""
        if not self._left:
            part = self._plan.pop()
            if isinstance(part, bytes):
                return part
            self._at, self._left = part.begin, part.length
        view = memoryview(self._room())[: min(self._left, PIECE_BYTES)]
        try:
            count = self._file.read_at_once(view, self._at)
        except OSError as error:
            raise BodyBrokenError(_failed(error)) from error
        if count < 0:
            return self._wait_for(view)
        self._counters.reads_cached += 1
        return self._checked(view, count)

    async def _wait_for(self, view: memoryview) -> Piece:
        self._counters.reads_waited += 1
        file = self._file.hold()  # closed under the thread, its number could become that of another file
        try:
            count = await self._disk.run(file.read, view, self._at, after=file.release)
        except OSError as error:
            raise BodyBrokenError(_failed(error)) from error
        return self._checked(view, count)

    def _checked(self, view: memoryview, count: int) -> Piece:
        if not count or not self._file.is_unchanged():
            self._counters.changed += 1
            raise BodyBrokenError(_CHANGED)
        self._at += count
        self._left -= count
        return view[:count]

    def _room(self) -> bytearray:
        """Where to read to: as before, unless some of that still waits to be sent.

        A bytearray does not let itself be resized while somebody has a view of it: that tells.
        """
        try:
            self._buffer.append(0)
            self._buffer.pop()
        except BufferError:
            self._buffer = bytearray()
        wanted = min(PIECE_BYTES, self._left)
        if len(self._buffer) < wanted:
            self._buffer = bytearray(wanted)
        return self._buffer

    def close(self) -> None:
        self._counters.downloads_open -= 1
        self._file.release()


def _failed(error: OSError) -> str:
    return f"a file could not be read: {error.strerror}"
