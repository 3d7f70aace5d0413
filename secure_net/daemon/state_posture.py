"""What ``secure-net check`` finds in the state, where no daemon holds it: read, and never repaired."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from secure_net.audit.trail import KEY_FILE
from secure_net.errors import ConfigurationError
from secure_net.store.lock import LOCK_FILE
from secure_net.store.schema import APPLICATION_ID, MIGRATIONS
from secure_net.store.sqlite import STORE_FILE
from secure_net.wire.tls import refuse_readable_by_others

_RESTORE = "restore it from a backup"


def state_problems(state: Path) -> Iterator[ConfigurationError]:
    """What would keep a daemon from starting on the folder `state`; nothing while one is running.

    A running daemon has looked for itself, and nobody else may read its log.
    """
    with _unheld(state) as unheld:
        if not unheld:
            return
        if (state / STORE_FILE).exists():
            yield from _store_problems(state / STORE_FILE)
        if (state / KEY_FILE).exists():
            try:
                refuse_readable_by_others(state / KEY_FILE)
            except ConfigurationError as error:
                yield error


@contextlib.contextmanager
def _unheld(state: Path) -> Iterator[bool]:
    """Whether no daemon has the lock, and then none gets it meanwhile. Makes no file, unlike a daemon."""
    try:
        descriptor = os.open(state / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # no daemon has been here
        return
    except OSError:
        yield False  # not ours to read: `check` runs as somebody else than the daemon
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _untouched(path: Path) -> Iterator[str]:
    """A URI to read the store by. Even a reader makes files beside it, which the daemon's user may then not
    open; so it is either declared immutable, or, where a crash left a log that belongs to it, copied."""
    log = path.with_name(path.name + "-wal")
    if not log.exists():
        yield f"file:{quote(str(path))}?immutable=1"
        return
    with tempfile.TemporaryDirectory() as directory:  # 0700
        for source in (path, log):
            shutil.copyfile(source, Path(directory) / source.name)
        yield f"file:{quote(directory)}/{quote(path.name)}?mode=rw"


def _store_problems(path: Path) -> Iterator[ConfigurationError]:
    where = str(path)
    try:
        with _untouched(path) as uri, contextlib.closing(sqlite3.connect(uri, uri=True)) as reader:
            (application,), (version,), (answer,) = (
                reader.execute(f"PRAGMA {pragma}").fetchone()
                for pragma in ("application_id", "user_version", "quick_check(1)")
            )
    except (sqlite3.Error, OSError) as error:
        yield ConfigurationError(where, f"cannot be read: {error}", _RESTORE)
        return
    if application != APPLICATION_ID:
        yield ConfigurationError(where, "is empty, or not a store of ours", _RESTORE)
    elif answer != "ok":
        yield ConfigurationError(where, f"is damaged ({answer})", _RESTORE)
    elif version > len(MIGRATIONS):
        problem = f"has schema version {version}, and this program knows {len(MIGRATIONS)}"
        yield ConfigurationError(where, problem, "install the newer secure-net that wrote it")
