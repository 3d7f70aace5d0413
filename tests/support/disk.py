"""Disks for tests: one that remembers what was asked of it, and one that fails.

`crashes` replays every prefix of a record as a power cut would leave it. What was not synced may be
dropped, torn or kept, and names may or may not have reached the disk: all of these are tried.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from secure_net.store.files import Disk

Data = Literal["dropped", "torn", "kept"]
DATA: tuple[Data, ...] = ("dropped", "torn", "kept")


class Step(NamedTuple):
    """One recorded call. `file` is a number given at `create`; `path` and `target` are absolute."""

    call: str
    file: int = 0
    path: Path = Path()
    target: Path = Path()
    data: bytes = b""
    length: int = 0


class RecordingDisk(Disk):
    """The real disk, with a record of what was asked of it. Start from an empty folder."""

    __slots__ = ("_files", "_next", "_open", "record")

    def __init__(self) -> None:
        self.record: list[Step] = []
        self._open: dict[int, int] = {}  # descriptor: file
        self._files: dict[int, int] = {}  # inode: file
        self._next = itertools.count(1)

    def create(self, path: Path, mode: int) -> int:
        descriptor = super().create(path, mode)
        file = next(self._next)
        self._open[descriptor] = self._files[os.fstat(descriptor).st_ino] = file
        self.record.append(Step("create", file, path))
        return descriptor

    def open_append(self, path: Path) -> int:
        return self._opened(super().open_append(path))

    def open_existing(self, path: Path) -> int:
        return self._opened(super().open_existing(path))

    def _opened(self, descriptor: int) -> int:
        self._open[descriptor] = self._files[os.fstat(descriptor).st_ino]
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data)
        self.record.append(Step("write", self._open[descriptor], data=bytes(data)))

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.record.append(Step("sync", self._open[descriptor]))

    def truncate(self, descriptor: int, length: int) -> None:
        super().truncate(descriptor, length)
        self.record.append(Step("truncate", self._open[descriptor], length=length))

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        del self._open[descriptor]

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.record.append(Step("rename", path=source, target=target))

    def link(self, source: Path, target: Path) -> None:
        super().link(source, target)
        self.record.append(Step("link", path=source, target=target))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.record.append(Step("remove", path=path))

    def make_directory(self, path: Path, mode: int) -> None:
        super().make_directory(path, mode)
        self.record.append(Step("make_directory", path=path))

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.record.append(Step("sync_directory", path=path))


_DIRECTORY = -1


class _Replay:
    """What the page cache holds, and what the platter does."""

    def __init__(self) -> None:
        self.written: dict[int, bytes] = {}
        self.durable: dict[int, bytes] = {}
        self.names: dict[Path, int] = {}
        self.durable_names: dict[Path, int] = {}

    def take(self, step: Step) -> None:
        match step.call:
            case "create":
                self.written[step.file] = self.durable[step.file] = b""
                self.names[step.path] = step.file
            case "write":
                self.written[step.file] += step.data
            case "truncate":
                self.written[step.file] = self.written[step.file][: step.length]
            case "sync":
                self.durable[step.file] = self.written[step.file]
            case "rename":
                self.names[step.target] = self.names.pop(step.path)
            case "link":
                self.names[step.target] = self.names[step.path]
            case "remove":
                del self.names[step.path]
            case "make_directory":
                self.names[step.path] = _DIRECTORY
            case "sync_directory":
                others = {p: f for p, f in self.durable_names.items() if p.parent != step.path}
                here = {p: f for p, f in self.names.items() if p.parent == step.path}
                self.durable_names = {**others, **here}

    def leave(self, root: Path, destination: Path, data: Data, *, names_kept: bool) -> None:
        """Lay out under `destination` what a restart finds where `root` was."""
        names = self.names if names_kept else self.durable_names
        destination.mkdir(parents=True)
        for path in sorted(names):
            there = destination / path.relative_to(root)
            if names[path] == _DIRECTORY:
                there.mkdir(exist_ok=True)
            elif there.parent.is_dir():  # else its folder's own name was lost
                there.write_bytes(self._content(names[path], data))
                there.chmod(0o600)

    def _content(self, file: int, data: Data) -> bytes:
        written, durable = self.written[file], self.durable[file]
        if data == "kept":
            return written
        if data == "dropped":
            return durable
        return written[: (len(durable) + len(written)) // 2]


def crashes(record: list[Step], root: Path, destination: Path) -> Iterator[tuple[int, Path]]:
    """For every prefix of `record` and every way the unsynced part may end: (steps done, folder left)."""
    replay = _Replay()
    number = itertools.count()
    for done, step in enumerate([Step("nothing"), *record]):
        replay.take(step)
        for data, names_kept in itertools.product(DATA, (False, True)):
            folder = destination / str(next(number))
            replay.leave(root, folder, data, names_kept=names_kept)
            yield done, folder


class FailingDisk(Disk):
    """Fails with `error` at the chosen calls while `failing` is set; a failing write writes half first."""

    __slots__ = ("calls", "error", "failing")

    def __init__(self, calls: set[str], error: int = errno.ENOSPC) -> None:
        self.calls, self.error = calls, error
        self.failing = True

    def _perhaps_fail(self, call: str) -> None:
        if self.failing and call in self.calls:
            raise OSError(self.error, os.strerror(self.error))

    def create(self, path: Path, mode: int) -> int:
        self._perhaps_fail("create")
        return super().create(path, mode)

    def write(self, descriptor: int, data: bytes) -> None:
        if self.failing and "write" in self.calls:
            super().write(descriptor, data[: len(data) // 2])
        self._perhaps_fail("write")
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._perhaps_fail("sync")
        super().sync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        self._perhaps_fail("truncate")
        super().truncate(descriptor, length)

    def rename(self, source: Path, target: Path) -> None:
        self._perhaps_fail("rename")
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._perhaps_fail("link")
        super().link(source, target)

    def sync_directory(self, path: Path) -> None:
        self._perhaps_fail("sync_directory")
        super().sync_directory(path)
