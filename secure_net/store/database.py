"""SQLite: one connection that writes and checkpoints, one thread that owns it, one commit for many.

Theory of operation. An *operation* is a function of the connection. Those that wait are taken in one go
and run inside one transaction, each in a savepoint of its own: one that raises is undone alone, and its
error goes to whoever waits for it. Then one commit, one fsync of the write-ahead log
(``synchronous=FULL``), and one call into the event loop hands over all results. Nothing is reported as
done before that fsync returned.

Only this connection writes and checkpoints: two that do may corrupt the log before SQLite 3.51.3. A
backup reads through a second, read-only connection, so writes go on meanwhile.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from secure_net.errors import StateDamagedError, StateError, StateFullError, StateLockedError
from secure_net.store.batches import AnyFuture, BatchThread, Outcome, settle
from secure_net.store.files import DISK, Disk, full_is_said, part_of, publish

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
Migrations = Sequence[Sequence[str]]

_MEANING: dict[int, type[StateError]] = {
    sqlite3.SQLITE_FULL: StateFullError,
    sqlite3.SQLITE_IOERR: StateFullError,
    sqlite3.SQLITE_READONLY: StateFullError,
    sqlite3.SQLITE_CORRUPT: StateDamagedError,
    sqlite3.SQLITE_NOTADB: StateDamagedError,
    sqlite3.SQLITE_BUSY: StateLockedError,
    sqlite3.SQLITE_LOCKED: StateLockedError,
}

_SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 1000",  # pages: the log stays near 4 MiB
    "PRAGMA journal_size_limit = 67108864",  # bytes: and shrinks again after a burst
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",  # notices a damaged page when it is read
)


class Database:
    """An open database and its thread. Times commits by `observe(seconds)` on the reading `monotonic`.

    `failing`: the last commit failed, and none that wrote something has succeeded since.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        monotonic: Callable[[], float] | None = None,
        observe: Callable[[float], None] | None = None,
        disk: Disk = DISK,
    ) -> None:
        self.path = path
        self.failing = False
        self._connection = connection
        self._monotonic = monotonic
        self._observe = observe
        self._disk = disk
        self._thread: BatchThread[tuple[Operation[Any], AnyFuture]] = BatchThread("store", self._commit)

    def write(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Run `operation` on the store's thread; the future is done after the commit that holds it.

        For the running loop. It may share a transaction with others, must not begin or end one, and
        may as well only read. The future raises a `StateError`, or what the operation raised.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._thread.put((operation, future))
        return future

    def write_and_wait(self, operation: Operation[T]) -> T:
        """As `write`, for a thread that may block."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._thread.put((operation, future))
        return future.result()

    def close(self) -> None:
        """Finish what waits; move the log into the database."""
        self._thread.stop()
        with contextlib.suppress(sqlite3.Error):  # the log stays, and is read at the next start
            self._connection.close()

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to `target` (0600, synced) while writes go on.

        Raises `StateError` when `target` exists or cannot be made, `StateFullError` when it does not fit.
        """
        await asyncio.to_thread(self._copy, target)

    # --- the store's thread ------------------------------------------------------------------------

    def _commit(self, batch: list[tuple[Operation[Any], AnyFuture]]) -> None:
        execute = self._connection.execute
        begun = self._monotonic() if self._monotonic else 0.0
        changes = self._connection.total_changes
        try:
            execute("BEGIN")
            run = self._alone if len(batch) == 1 else self._one
            outcomes = [run(operation, future) for operation, future in batch]
            if self._connection.in_transaction:  # else one that was alone has failed
                execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            self.failing = True
            outcomes = [(future, None, clear(error, self.path)) for _, future in batch]
        else:
            if self._connection.total_changes != changes:  # to read succeeds on a full disk, too
                self.failing = False
        if self._monotonic and self._observe:
            self._observe(self._monotonic() - begun)
        settle(outcomes)

    def _one(self, operation: Operation[Any], future: AnyFuture) -> Outcome:
        connection = self._connection
        connection.execute("SAVEPOINT one")
        outcome: Outcome
        try:
            outcome = (future, operation(connection), None)
        except sqlite3.Error as error:
            if not connection.in_transaction:  # a full disk ends the whole transaction
                raise
            connection.execute("ROLLBACK TO one")
            outcome = (future, None, clear(error, self.path))
        except Exception as error:  # noqa: BLE001 - whoever waits for the operation gets it
            connection.execute("ROLLBACK TO one")
            outcome = (future, None, error)
        connection.execute("RELEASE one")
        return outcome

    def _alone(self, operation: Operation[Any], future: AnyFuture) -> Outcome:
        """The transaction is all its own: no savepoint, and so two statements less. Each lets go of the
        interpreter's lock, which may be long in coming back."""
        try:
            return future, operation(self._connection), None
        except sqlite3.Error as error:
            if not self._connection.in_transaction:  # a full disk has ended it
                raise
            outcome: Outcome = (future, None, clear(error, self.path))
        except Exception as error:  # noqa: BLE001 - whoever waits for the operation gets it
            outcome = (future, None, error)
        self._connection.execute("ROLLBACK")
        return outcome

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the next BEGIN would fail, and say why
                self._connection.execute("ROLLBACK")

    # --- a thread of the pool ----------------------------------------------------------------------

    def _copy(self, target: Path) -> None:
        if target.exists():
            raise StateError(f"{target} exists, and is not overwritten")
        part = part_of(target)
        try:
            with full_is_said(target):
                self._disk.close(self._disk.create(part, 0o600))
                self._read_into(part)
                descriptor = self._disk.open_existing(part)
                try:
                    self._disk.sync(descriptor)
                finally:
                    self._disk.close(descriptor)
                publish(part, target, replace=False, disk=self._disk)
        except sqlite3.Error as error:
            raise clear(error, target) from error
        except FileExistsError as error:
            raise StateError(f"{target} exists, and is not overwritten") from error
        except OSError as error:
            raise StateError(f"{target}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def _read_into(self, part: Path) -> None:
        reader = sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True, isolation_level=None)
        with contextlib.closing(reader):
            reader.execute("VACUUM INTO ?", (str(part),))


def open_database(
    path: Path,
    migrations: Migrations,
    application_id: int,
    *,
    monotonic: Callable[[], float] | None = None,
    observe: Callable[[float], None] | None = None,
    disk: Disk = DISK,
    connect: Callable[[Path], sqlite3.Connection] | None = None,
) -> Database:
    """Open, check and migrate `path`, which is made where it is not there. The caller holds the lock.

    Raises `StateDamagedError` when it fails its check, is not ours or was written by a newer program,
    `StateFullError` when the disk is full. `connect` is for tests that need a failing connection.
    """
    connect = connect or _connect
    try:
        with full_is_said(path):
            if not path.exists():
                _make(path, migrations, application_id, disk)
        connection = connect(path)
        try:
            _prepare(connection, path, migrations, application_id)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise clear(error, path) from error
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    return Database(connection, path, monotonic=monotonic, observe=observe, disk=disk)


def clear(error: sqlite3.Error, path: Path) -> StateError:
    """What an error of SQLite means to us."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary result code
    kind = _MEANING.get(code, StateError)
    cure = "; restore it from a backup" if kind is StateDamagedError else ""
    return kind(f"{path}: {error}{cure}")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _make(path: Path, migrations: Migrations, application_id: int, disk: Disk) -> None:
    """A new database appears under its name whole: a short one is damage, and never taken for a new one."""
    part = part_of(path)
    try:
        disk.close(disk.create(part, 0o600))
        with contextlib.closing(_connect(part)) as connection:
            connection.execute(f"PRAGMA application_id = {application_id:d}")
            _migrate(connection, part, migrations)
        descriptor = disk.open_existing(part)
        try:
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        publish(part, path, replace=False, disk=disk)
    finally:
        part.unlink(missing_ok=True)


def _prepare(connection: sqlite3.Connection, path: Path, migrations: Migrations, application_id: int) -> None:
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    if found != application_id:
        raise StateDamagedError(f"{path} is empty, or not a store of ours; restore it from a backup")
    for setting in _SETTINGS:
        connection.execute(setting)
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise StateDamagedError(f"{path} is damaged ({answer}); restore it from a backup")
    _migrate(connection, path, migrations)


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Migrations) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise StateDamagedError(
            f"{path} has schema version {version}, and this program knows {len(migrations)}: "
            "it was written by a newer secure-net; install that, or restore an older backup"
        )
    for number in range(version, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        for statement in migrations[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1:d}")
        connection.execute("COMMIT")
