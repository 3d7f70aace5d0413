"""The one door to files that must survive a crash.

Theory of operation. Whatever is durable and rests in plain files (the audit trail, a backup, the CA's
index, a mail in the spool) is written through a `Disk`: a thin layer that has one method for each call
that decides what is there after the power fails, and none that hides one. Tests put a recording disk
in its place, replay every prefix of the record with the unsynced part dropped, torn or kept, and look
at what a restart would find; or one that is full. Reading needs no seam: read files as you like.

Three rules, which the kernel's documentation states and many programs miss:

* data is on the disk after `sync` of the file, a name only after `sync_directory` of its folder;
* a rename may reach the disk before the data of the file it names: sync first, rename then;
* after a failed fsync the kernel may forget the data: nothing written since the last good one counts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from secure_net.errors import StateFullError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS})
"""What the kernel says when a disk takes no more: no room, no quota, no luck, no write."""


class Disk:
    """The system calls that decide what survives. Descriptors are plain ints; errors are `OSError`."""

    __slots__ = ()

    def create(self, path: Path, mode: int) -> int:
        """A new, empty file of exactly this `mode`, open for writing; `FileExistsError` if it is there."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, mode)
        os.fchmod(descriptor, mode)  # the umask may have taken bits that the caller wants
        return descriptor

    def open_append(self, path: Path) -> int:
        """An existing file, open for writing at its end."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def open_existing(self, path: Path) -> int:
        """An existing file, open only to be synced: somebody else (SQLite) wrote it."""
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes) -> None:
        """All of `data`. When this raises, a part of it may have been written."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """The file's data and length are on the disk when this returns."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut the file to `length` bytes."""
        os.ftruncate(descriptor, length)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give the file its name, replacing what bears it."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give the file a second name; `FileExistsError` if something bears it."""
        os.link(source, target, follow_symlinks=False)

    def remove(self, path: Path) -> None:
        path.unlink()

    def make_directory(self, path: Path, mode: int) -> None:
        path.mkdir(mode=mode)

    def sync_directory(self, path: Path) -> None:
        """The names made, changed and removed in this folder are on the disk when this returns."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


DISK = Disk()


@contextlib.contextmanager
def full_is_said(path: Path) -> Iterator[None]:
    """Turn an `OSError` that means a full or failing disk into `StateFullError`; let others pass."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StateFullError(f"{path}: {error.strerror}") from error
        raise


def atomic_write(
    path: Path, data: bytes, mode: int = 0o600, *, replace: bool = True, disk: Disk = DISK
) -> None:
    """Make `path` hold exactly `data`, at once and for good: a reader, or a restart, sees old or new.

    With `replace` False an existing `path` is left alone and `FileExistsError` is raised.
    Raises `StateFullError` when the disk takes it not: nothing has changed then, or, when only the name
    could not be made durable, a reader sees the new and a restart either.
    """
    with full_is_said(path), whole_file(path, mode, replace=replace, disk=disk) as descriptor:
        disk.write(descriptor, data)


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o600, *, replace: bool = True, disk: Disk = DISK) -> Iterator[int]:
    """A descriptor to write to; when the block ends well the file appears under its name, whole.

    When the block raises, nothing of it is left. For what is too large to hold in memory; else see
    `atomic_write`.
    """
    part = part_of(path)
    descriptor = disk.create(part, mode)
    try:
        try:
            yield descriptor
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        publish(part, path, replace=replace, disk=disk)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            disk.remove(part)
        raise


def part_of(path: Path) -> Path:
    """A name beside `path` for a file that is not whole yet; no reader looks at names like it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def publish(part: Path, path: Path, *, replace: bool, disk: Disk = DISK) -> None:
    """Give a synced file its name, and make the name durable."""
    if replace:
        disk.rename(part, path)
    else:
        disk.link(part, path)
        disk.remove(part)
    disk.sync_directory(path.parent)
