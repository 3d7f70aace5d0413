"""The only place that opens what a request names, so that nothing outside a root can be reached.

From the root's folder on, each folder is opened by `openat` with O_NOFOLLOW in the one before, and the file
in the last: a symlink in any place, put there before, after or meanwhile, is an error of the kernel's and
never a decision of ours. What was opened is then asked what it is: a regular file, or it does not exist. All
this may wait for the disk, and runs on a thread.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator, Sequence

from secure_net.http.listing import Entry
from secure_net.http.targets import is_visible

# O_PATH needs no right to read a folder, as nothing but its names is asked for. Linux has it.
_FOLDER = (os.O_PATH if hasattr(os, "O_PATH") else os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# A FIFO would keep us until somebody writes to it, a terminal would become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# What means that there is nothing for anybody to see. All else is trouble of ours: descriptors, the disk.
_ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EACCES,
        errno.EPERM,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.ENXIO,
        errno.EISDIR,
    }
)


class AbsentError(Exception):
    """Nothing is there that could be sent. What it is that is not there is nobody's business."""


class IsFolderError(Exception):
    """What was asked for as a file is a folder."""


@contextlib.contextmanager
def _absent() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _ABSENT:
            raise AbsentError from error
        raise


@contextlib.contextmanager
def folder(directory: str, names: Sequence[str]) -> Iterator[int]:
    """A descriptor of the folder that `names` lead to, for names in it alone (O_PATH).

    `directory` is the operator's, who may put symlinks where he likes. Raises `AbsentError`, and `OSError`.
    """
    with _absent():
        place = os.open(directory, _FOLDER)
    try:
        for name in names:
            outer = place
            with _absent():
                place = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
            os.close(outer)
        yield place
    finally:
        os.close(place)


def open_file(place: int, name: str) -> tuple[int, os.stat_result]:
    """Open the regular file `name` in the folder `place`, for reading; the descriptor, and what it is.

    Raises `AbsentError`, `IsFolderError`, and `OSError`.
    """
    with _absent():
        # Asked before, for to open a device can be an act: a tape winds back, a watchdog wakes up.
        mode = os.stat(name, dir_fd=place, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            raise IsFolderError
        if not stat.S_ISREG(mode):
            raise AbsentError
        descriptor = os.open(name, _FILE, dir_fd=place)
    try:
        about = os.fstat(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    if not stat.S_ISREG(about.st_mode):  # it was another one a moment ago
        os.close(descriptor)
        raise AbsentError
    return descriptor, about


def visible_names(place: int, most: int) -> list[tuple[str, bool]]:
    """Every name in the folder that can be asked for, in order, and whether it is a folder.

    Raises `AbsentError` where the folder has more than `most` entries, or may not be read; and `OSError`.
    """
    with _absent():
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    try:
        with os.scandir(readable) as entries:
            found = list(itertools.islice(filter(_is_visible, entries), most + 1))
        if len(found) > most:
            raise AbsentError
        return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
    finally:
        os.close(readable)


def _is_visible(entry: os.DirEntry[str]) -> bool:
    if not is_visible(entry.name):
        return False
    return entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)


def described(place: int, names: Sequence[tuple[str, bool]]) -> list[Entry]:
    """What a listing says of these names in the folder; without those that are gone by now."""
    entries = []
    for name, is_folder in names:
        try:
            about = os.stat(name, dir_fd=place, follow_symlinks=False)
        except FileNotFoundError:
            continue
        entries.append(Entry(name, None if is_folder else about.st_size, about.st_mtime))
    return entries
