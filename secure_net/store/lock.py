"""One process holds the state: an flock that the kernel drops when the holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from secure_net.errors import StateError, StateLockedError

LOCK_FILE = "lock"


class StateLock:
    """The lock on a state folder, held until `release`. The file stays: its being there means nothing."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, directory: Path) -> StateLock:
        """Take the lock, or raise `StateLockedError` with the holder's process id; never waits."""
        path = directory / LOCK_FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError as error:
            raise StateError(f"{directory}: no such folder; run `secure-net init`") from error
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise StateLockedError(f"{directory} is in use{holder}") from error
        _say_who(descriptor)
        return cls(descriptor)

    def release(self) -> None:
        """Give it free; harmless when that was done."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _holder(descriptor: int) -> str:
    number = os.pread(descriptor, 20, 0).strip()
    return f" by process {int(number)}" if number.isdigit() else ""


def _say_who(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
