"""Write keys and certificates so that they are whole, private, and never overwritten by accident.

The writing itself is `secure_net.store.files`; here what the system says about a path becomes one of our
errors, with the path and the cure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from secure_net.errors import ConfigurationError, ExistsError
from secure_net.store.files import atomic_write, full_is_said

SECRET = 0o600
PUBLIC = 0o644


@contextlib.contextmanager
def told_clearly(path: Path, cure: str = "") -> Iterator[None]:
    """Turn what the system says about `path` into `ConfigurationError`, `ExistsError` or `StateFullError`."""
    try:
        with full_is_said(path):
            yield
    except FileExistsError as error:
        raise ExistsError(str(path), cure) from error
    except OSError as error:
        raise ConfigurationError(str(path), (error.strerror or type(error).__name__).lower(), cure) from error


def read(path: Path, cure: str = "") -> bytes:
    """The file's bytes; `ConfigurationError` with `cure` when it cannot be read."""
    with told_clearly(path, cure):
        return path.read_bytes()


def write_new(path: Path, data: bytes, mode: int = SECRET, cure: str = "") -> None:
    """Write a file that must not exist yet; `ExistsError` when it does.

    It has its mode from the first moment on: there is none at which others could open it.
    """
    with told_clearly(path, cure):
        atomic_write(path, data, mode, replace=False)


def replace(path: Path, data: bytes, mode: int = SECRET) -> None:
    """Write a file, or put it in the place of the old one: readers see either the old or the new."""
    with told_clearly(path):
        atomic_write(path, data, mode)
