"""Many writes in one commit, each by itself; and a file that is trusted only after it was checked."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_net.errors import StateDamagedError, StateError, StateFullError, StateLockedError
from secure_net.store.database import Database, Operation, clear, open_database
from tests.support.disk import FailingDisk

MIGRATIONS = (("CREATE TABLE t (n INTEGER PRIMARY KEY)",),)
ID = 77


def opened(path: Path, **others: object) -> Database:
    return open_database(path, MIGRATIONS, ID, **others)  # type: ignore[arg-type]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = opened(tmp_path / "db")
    yield database
    database.close()


def insert(number: int, connection: sqlite3.Connection) -> int:
    connection.execute("INSERT INTO t VALUES (?)", (number,))
    return number


def numbers(database: Database) -> list[int]:
    return database.write_and_wait(lambda c: [n for (n,) in c.execute("SELECT n FROM t ORDER BY n")])


def held(database: Database) -> threading.Event:
    """Keep the thread busy until the event is set, so that what follows becomes one batch."""
    begun, gate = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        begun.set()
        gate.wait(10)

    database._thread.put((wait, threading_future()))
    assert begun.wait(10)
    return gate


def threading_future() -> asyncio.Future[None]:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    return future


def test_settings_that_durability_stands_on(database: Database) -> None:
    def read(connection: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "user_version", "application_id", "wal_autocheckpoint")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert database.write_and_wait(read) == ["wal", 2, 1, ID, 1000]
    assert database.path.stat().st_mode & 0o777 == 0o600


def test_those_that_wait_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    readings = iter(range(100))
    seconds: list[float] = []
    database = opened(tmp_path / "db", monotonic=lambda: float(next(readings)), observe=seconds.append)

    def broken(connection: sqlite3.Connection) -> None:
        insert(50, connection)
        raise LookupError("mine")

    async def main() -> list[object]:
        gate = held(database)
        writes: list[asyncio.Future[object]] = [
            database.write(lambda c: insert(1, c)),
            database.write(broken),
            database.write(lambda c: insert(1, c)),
            database.write(lambda c: insert(2, c)),
        ]
        gate.set()
        return await asyncio.gather(*writes, return_exceptions=True)

    one, lookup, twice, two = asyncio.run(main())
    assert (one, two) == (1, 2)
    assert isinstance(lookup, LookupError)
    assert isinstance(twice, StateError)
    assert "UNIQUE" in str(twice)
    assert numbers(database) == [1, 2]
    assert seconds == [1.0, 1.0, 1.0]  # the one that was held, the four, the reading
    database.close()


def test_an_operation_that_ends_the_transaction_takes_the_batch_with_it(database: Database) -> None:
    def ends(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        connection.execute("RELEASE one")

    async def main() -> list[object]:
        gate = held(database)
        writes: list[asyncio.Future[object]] = [database.write(lambda c: insert(1, c)), database.write(ends)]
        gate.set()
        return await asyncio.gather(*writes, return_exceptions=True)

    assert [type(result) for result in asyncio.run(main())] == [StateError, StateError]
    assert numbers(database) == []


def test_a_full_database_says_so_and_comes_back(database: Database) -> None:
    database.write_and_wait(lambda c: c.execute("CREATE TABLE b (x BLOB)") and None)
    (pages,) = database.write_and_wait(lambda c: c.execute("PRAGMA page_count").fetchone())
    database.write_and_wait(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())

    def big(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO b VALUES (zeroblob(100000))")

    with pytest.raises(StateFullError):
        database.write_and_wait(big)
    assert database.failing
    database.write_and_wait(lambda c: c.execute("SELECT count(*) FROM b").fetchone())
    assert database.failing  # to read proves nothing
    assert database.write_and_wait(lambda c: insert(1, c)) == 1
    assert not database.failing
    database.write_and_wait(lambda c: c.execute("PRAGMA max_page_count = 10000").fetchone())
    database.write_and_wait(big)


class Ailing(sqlite3.Connection):
    """Fails at the statement that begins with `at`."""

    at = ""

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
        if self.at and statement.startswith(self.at):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(statement, *values)  # type: ignore[arg-type]


def batched(database: Database, *operations: Operation[Any]) -> list[concurrent.futures.Future[Any]]:
    """Run these in one batch: an operation that they wait for is let go once they are all there."""
    gate = threading.Event()
    futures: list[concurrent.futures.Future[Any]] = [concurrent.futures.Future() for _ in operations]
    database._thread.put((lambda _: gate.wait(30.0), concurrent.futures.Future()))
    for operation, future in zip(operations, futures, strict=True):
        database._thread.put((operation, future))
    gate.set()
    return futures


@pytest.mark.parametrize("together", [1, 2])
def test_an_operation_that_fails_is_undone_alone_and_hears_why(tmp_path: Path, together: int) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        insert(1, connection)
        raise LookupError

    def repeats(connection: sqlite3.Connection) -> None:
        insert(3, connection)
        insert(3, connection)

    database = opened(tmp_path / "db")
    for operation, error in ((fails, LookupError), (repeats, StateError)):
        futures = batched(database, operation, *[lambda c: None] * (together - 1))
        with pytest.raises(error):
            futures[0].result(30)
        assert [future.result(30) for future in futures[1:]] == [None] * (together - 1)
    assert numbers(database) == []
    database.close()


def test_an_io_error_as_one_of_a_batch_is_undone_fails_them_all(tmp_path: Path) -> None:
    connections: list[Ailing] = []

    def connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Ailing)
        connections.append(connection)
        return connection

    def fails(connection: sqlite3.Connection) -> None:
        raise LookupError

    database = opened(tmp_path / "db", connect=connect)
    connections[0].at = "ROLLBACK TO"
    for future in batched(database, fails, lambda c: insert(2, c)):
        with pytest.raises(StateFullError):
            future.result(30)
    connections[0].at = ""
    assert numbers(database) == []
    database.close()


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
def test_an_io_error_fails_those_who_wait_and_nothing_else(tmp_path: Path, statement: str) -> None:
    connections: list[Ailing] = []

    def connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Ailing)
        connections.append(connection)
        return connection

    database = opened(tmp_path / "db", connect=connect)
    connections[0].at = statement
    with pytest.raises(StateFullError):
        database.write_and_wait(lambda c: insert(1, c))
    connections[0].at = ""
    assert numbers(database) == []
    assert database.write_and_wait(lambda c: insert(2, c)) == 2
    database.close()


def test_a_rollback_that_fails_shows_in_the_next_write(tmp_path: Path) -> None:
    class Twice(Ailing):
        at = ""

        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
            if self.at and statement == "ROLLBACK":
                raise sqlite3.OperationalError("no")
            return super().execute(statement, *values)

    connection = sqlite3.connect(tmp_path / "x", isolation_level=None, check_same_thread=False, factory=Twice)
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    database = Database(connection, tmp_path / "x")
    connection.at = "COMMIT"
    with pytest.raises(StateFullError):
        database.write_and_wait(lambda c: insert(1, c))
    connection.at = ""
    with pytest.raises(StateError, match="within a transaction"):
        database.write_and_wait(lambda c: insert(1, c))
    # That write's own rollback cleared the way.
    assert database.write_and_wait(lambda c: insert(1, c)) == 1
    database.close()


def test_errors_of_sqlite_in_our_words() -> None:
    def coded(code: int) -> sqlite3.Error:
        error = sqlite3.OperationalError("text")
        error.sqlite_errorcode = code
        return error

    assert isinstance(clear(coded(sqlite3.SQLITE_IOERR_WRITE), Path("p")), StateFullError)
    assert isinstance(clear(coded(sqlite3.SQLITE_BUSY_SNAPSHOT), Path("p")), StateLockedError)
    assert str(clear(coded(sqlite3.SQLITE_NOTADB), Path("p"))) == "p: text; restore it from a backup"
    assert type(clear(sqlite3.ProgrammingError("x"), Path("p"))) is StateError


def test_migrations_run_once_and_forward_only(tmp_path: Path) -> None:
    opened(tmp_path / "db").close()
    more = (*MIGRATIONS, ("ALTER TABLE t ADD COLUMN m TEXT",))
    database = open_database(tmp_path / "db", more, ID)
    assert database.write_and_wait(lambda c: c.execute("INSERT INTO t VALUES (1, 'x')").rowcount) == 1
    database.close()
    with pytest.raises(StateDamagedError, match="schema version 2, and this program knows 1"):
        opened(tmp_path / "db")


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    opened(tmp_path / "db").close()
    bad = (*MIGRATIONS, ("ALTER TABLE t ADD COLUMN m TEXT", "NOT SQL"))
    with pytest.raises(StateError, match="syntax"):
        open_database(tmp_path / "db", bad, ID)
    database = opened(tmp_path / "db")
    assert database.write_and_wait(lambda c: c.execute("SELECT * FROM t").description[0][0]) == "n"
    database.close()


def test_what_is_not_ours_or_not_there_any_more_is_never_taken_for_new(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_bytes(b"not a database at all, " * 100)
    foreign = sqlite3.connect(tmp_path / "foreign")
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.close()
    for name in ("empty", "text", "foreign"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StateDamagedError, match="restore it from a backup"):
            opened(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    database = opened(tmp_path / "db")
    database.write_and_wait(lambda c: [insert(n, c) for n in range(5000)])
    database.close()
    content = bytearray((tmp_path / "db").read_bytes())
    content[4096:8192] = b"\xff" * 4096
    (tmp_path / "db").write_bytes(content)
    with pytest.raises(StateDamagedError, match="restore it from a backup"):
        opened(tmp_path / "db")


def test_a_full_disk_at_the_first_start_leaves_nothing(tmp_path: Path) -> None:
    for call in ("create", "sync", "link"):
        with pytest.raises(StateFullError):
            opened(tmp_path / "db", disk=FailingDisk({call}))
        assert list(tmp_path.iterdir()) == []


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        opened(tmp_path / "absent" / "db")


def test_a_backup_is_consistent_private_and_never_overwrites(database: Database, tmp_path: Path) -> None:
    database.write_and_wait(lambda c: [insert(n, c) for n in range(1000)])
    asyncio.run(database.backup(tmp_path / "copy"))
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    copy = opened(tmp_path / "copy")
    assert numbers(copy) == list(range(1000))
    copy.close()
    with pytest.raises(StateError, match="not overwritten"):
        asyncio.run(database.backup(tmp_path / "copy"))
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="not overwritten"):
        asyncio.run(database.backup(tmp_path / "dangling"))
    with pytest.raises(StateError, match="No such file"):
        asyncio.run(database.backup(tmp_path / "absent" / "copy"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("call", ["create", "sync", "link", "sync_directory"])
def test_a_backup_that_does_not_fit_leaves_no_part(tmp_path: Path, call: str) -> None:
    disk = FailingDisk({call})
    disk.failing = False
    database = opened(tmp_path / "db", disk=disk)
    disk.failing = True
    with pytest.raises(StateFullError):
        asyncio.run(database.backup(tmp_path / "copy"))
    assert not list(tmp_path.glob(".*"))
    database.close()


def test_a_backup_of_a_damaged_database_fails(tmp_path: Path) -> None:
    database = opened(tmp_path / "db")
    database.write_and_wait(lambda c: [insert(n, c) for n in range(5000)])
    database.close()
    database = opened(tmp_path / "db")
    with database.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StateDamagedError):
        asyncio.run(database.backup(tmp_path / "copy"))
    database.close()
    assert not (tmp_path / "copy").exists()
