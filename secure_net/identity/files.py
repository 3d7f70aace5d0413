"""Write files so that they are whole, private, and never overwritten by accident."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from secure_net.errors import ConfigurationError, StateFullError

SECRET = 0o600
PUBLIC = 0o644
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


@contextlib.contextmanager
def told_clearly(path: Path, cure: str = "") -> Iterator[None]:
    """Turn what the system says about `path` into one of our errors."""
    try:
        yield
    except FileExistsError as error:
        raise ConfigurationError(str(path), "exists already, and is not overwritten", cure) from error
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise StateFullError(f"{path}: {error.strerror}") from error
        raise ConfigurationError(str(path), (error.strerror or type(error).__name__).lower(), cure) from error


def read(path: Path, cure: str = "") -> bytes:
    """The file's bytes; `ConfigurationError` with `cure` when it cannot be read."""
    with told_clearly(path, cure):
        return path.read_bytes()


def write_new(path: Path, data: bytes, mode: int = SECRET, cure: str = "") -> None:
    """Write a file that must not exist yet; `ConfigurationError` when it does.

    The mode is set when it is created: there is no moment at which others could open it.
    """
    with told_clearly(path, cure):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink()
            raise
        sync_directory(path.parent)


def replace(path: Path, data: bytes, mode: int = SECRET) -> None:
    """Write a file or put it in the place of the old one: readers see either the old or the new."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_new(temporary, data, mode)
    with told_clearly(path):
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink()
            raise
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
