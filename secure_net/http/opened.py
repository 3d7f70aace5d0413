"""Open files, who uses them, and how long they are kept for the next one who asks.

A file is opened once for all who ask for it within `KEEP_SECONDS`. Each time it is used its path is looked at
again: what is another file by now, or was changed in any way that the file system tells (`ctime`), is opened
anew. So nobody gets what is gone, and a descriptor does not hold on to a deleted file for longer than that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from secure_net.clock import Clock, TimerHandle
from secure_net.http.response import Headers
from secure_net.http.targets import Target

KEEP_SECONDS = 2.0

# A read that shall not wait for the disk: EAGAIN where the page cache has not got it. Linux has it.
NO_WAIT = os.RWF_NOWAIT if hasattr(os, "RWF_NOWAIT") else None

# It would take waiting; or the file system does not know of NO_WAIT (tmpfs, some over the network).
_NOT_NOW = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})

Identity = tuple[int, int, int, int, int]


def identity(about: os.stat_result) -> Identity:
    """What is the same as long as a file is the same and nobody has changed it."""
    return (about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_dev)


class OpenFile:
    """A regular file, open for reading. `path` is where it was found. Counts its users; born with one."""

    __slots__ = ("_users", "descriptor", "etag", "identity", "modified", "path", "size")

    def __init__(self, descriptor: int, about: os.stat_result, path: str) -> None:
        self.descriptor = descriptor
        self.path = path
        self.identity = identity(about)
        self.size = about.st_size
        self.modified = about.st_mtime_ns // 1_000_000_000
        self.etag = b'"%x-%x-%x"' % (about.st_ino, about.st_mtime_ns, about.st_size)
        self._users = 1

    def hold(self) -> OpenFile:
        self._users += 1
        return self

    def release(self) -> None:
        """The last user closes it: before, its number could become that of another file."""
        self._users -= 1
        if not self._users:
            os.close(self.descriptor)
            self.descriptor = -1

    def is_there(self) -> bool:
        """Whether its path still leads to it, and nobody has changed it."""
        try:
            return identity(os.lstat(self.path)) == self.identity
        except OSError:  # gone, or out of reach: whoever opens it anew learns what it is
            return False

    def is_unchanged(self) -> bool:
        """Whether nobody has changed it, wherever it is now."""
        about = os.fstat(self.descriptor)
        # Not `ctime`: somebody may give it another name, or delete it, while it is being sent.
        return (about.st_mtime_ns, about.st_size) == (self.identity[1], self.size)

    def read_at_once(self, buffer: memoryview, offset: int) -> int:
        """Bytes read without waiting for the disk, 0 at the end; -1 where that cannot be."""
        if NO_WAIT is None:
            return -1
        try:
            return os.preadv(self.descriptor, [buffer], offset, NO_WAIT)
        except OSError as error:
            if error.errno in _NOT_NOW:
                return -1
            raise

    def read(self, buffer: memoryview, offset: int) -> int:
        """Bytes read, as many as there are up to the buffer's end; may wait for the disk."""
        count = 0
        while count < len(buffer):
            read = os.preadv(self.descriptor, [buffer[count:]], offset + count)
            if not read:
                break
            count += read
        return count


class Found:
    """A file that was looked for, and its precompressed twins by their coding. `name` says what it is."""

    __slots__ = ("file", "headers", "name", "twins")

    def __init__(self, file: OpenFile, name: str, twins: Mapping[str, OpenFile]) -> None:
        self.file, self.name, self.twins = file, name, twins
        # The fields of its answers, by coding and by whether they have HSTS.
        self.headers: dict[tuple[str, bool], Headers] = {}

    def release(self) -> None:
        """Nobody looks here any more; who reads from one of them still may."""
        self.file.release()
        for twin in self.twins.values():
            twin.release()


class OpenFiles:
    """What was found lately, at most `most` of it, each for `KEEP_SECONDS`."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock, self.most = clock, most
        self._kept: dict[Target, tuple[float, Found]] = {}  # in the order in which they end
        self._timer: TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, target: Target) -> Found | None:
        kept = self._kept.get(target)
        return None if kept is None else kept[1]

    def keep(self, target: Target, found: Found) -> None:
        """`found` is ours now: released when its time is over, or another takes its place."""
        self.forget(target)
        while len(self._kept) >= self.most:
            self.forget(next(iter(self._kept)))
        self._kept[target] = (self._clock.monotonic() + KEEP_SECONDS, found)
        if self._timer is None:
            self._arm()

    def forget(self, target: Target) -> None:
        """Harmless when it is not kept."""
        kept = self._kept.pop(target, None)
        if kept is not None:
            kept[1].release()

    def clear(self) -> None:
        for target in tuple(self._kept):
            self.forget(target)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        end, _ = next(iter(self._kept.values()))
        self._timer = self._clock.call_at(end, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        for target, (end, _) in tuple(self._kept.items()):
            if end > now:
                break
            self.forget(target)
        if self._kept:
            self._arm()
