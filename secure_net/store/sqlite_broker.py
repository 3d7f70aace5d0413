"""The embedded broker: durable rooms in the store's own database.

Writes go through the store's thread, reads through a thread and a read-only connection of their own.

*Writes.* What is published while a commit is under way becomes one operation, whatever number of calls it
came in: the slower the disk, the more messages share an fsync. What is relied on for "it is on the disk" is
SQLite's ``synchronous=FULL``: in WAL mode it syncs the log at every commit before it reports it done.

*Reads.* A thousand members that come back ask for a hundred thousand pages; on the writer's thread every
commit would wait behind them. A reader beside the writer is what WAL is for (only two that write or
checkpoint are unsafe, and a connection opened with ``mode=ro`` can do neither). All reads that wait share
one snapshot, and equal ones one answer.

*The log.* It begins anew at a write that finds it copied into the database and nobody reading from it. A
reader that is never idle would let it grow for as long as the storm lasts: every `RESTED_WRITES` writes it
rests until a few more have begun.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from secure_net.errors import StateError
from secure_net.limits import ChatLimits
from secure_net.store.batches import BatchThread, Outcome, settle
from secure_net.store.broker import Message, Publication, RoomRecord, Standing, Verdict
from secure_net.store.database import Database, clear
from secure_net.store.ledger import ROOM_SHIFT, Ledger

A = TypeVar("A")
T = TypeVar("T")
Call = tuple[list[Publication], "asyncio.Future[list[Verdict]]"]

SNAPSHOT_COUNT = 64  # reads that share one snapshot: bounds how long it is held
RESTED_WRITES = 200  # some megabytes of log
REST_WRITES = 3  # one ends, one copies the log, one finds nobody reading and begins it anew
REST_SECONDS = 0.05  # at most: they may stop writing
LARGEST_PAGE = 10_000
BUSY_SECONDS = 5.0

_STANDING = "SELECT id, seq, first FROM rooms WHERE name = ?"
_ASCENDING = """SELECT key, sender, at, body FROM messages
    WHERE key > ? AND key <= ? ORDER BY key LIMIT ?"""
_DESCENDING = """SELECT key, sender, at, body FROM messages
    WHERE key > ? AND key < ? ORDER BY key DESC LIMIT ?"""


class _Write:
    """One operation, and the calls of `publish` that it took once it had begun."""

    __slots__ = ("begun", "calls")

    def __init__(self) -> None:
        self.begun = False
        self.calls: list[Call] = []


class SQLiteBroker:
    """Rooms in a `Database` whose migrations are the store's. Implements `secure_net.store.broker.Broker`.

    All calls are for one event loop. Close it before the database: the last connection that closes moves
    the log into the database, and a reader cannot.
    """

    def __init__(self, database: Database, limits: ChatLimits) -> None:
        """Raises `StateError` when the database cannot be opened a second time."""
        self._database = database
        self._ledger = Ledger(limits)
        self._waiting: deque[Call] = deque()
        self._asked = False  # a write was asked for that has not begun to take what waits
        self._under_way = 0  # writes asked for and not over
        self._begun = 0  # writes, ever
        self._rested = 0  # how many had begun when the reader last rested
        self._rests_until = 0
        self._rest_is_over = threading.Event()
        self._reader = _open_reader(database)
        self._reads: BatchThread[_Read] = BatchThread("history", self._answer)

    @property
    def limits(self) -> ChatLimits:
        """May be replaced at any time; a room is trimmed when it is next written to."""
        return self._ledger.limits

    @limits.setter
    def limits(self, limits: ChatLimits) -> None:
        self._ledger.limits = limits

    def publish(self, publications: list[Publication]) -> asyncio.Future[list[Verdict]]:
        future: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()
        self._waiting.append((publications, future))
        # The store's thread sets this back before it takes what waits: whoever sees it set is taken.
        if not self._asked:
            self._asked = True
            write = _Write()
            try:
                written = self._database.write(functools.partial(self._keep, write))
            except StateError as error:
                self._fail(write, error)
            else:
                self._under_way += 1
                written.add_done_callback(functools.partial(self._hand_out, write))
        return future

    def standing(self, room: str) -> asyncio.Future[Standing]:
        return self._read(_standing, room)

    def page(
        self,
        room: str,
        *,
        after: int | None = None,
        before: int | None = None,
        upto: int | None = None,
        count: int,
        size: int,
    ) -> asyncio.Future[tuple[Standing, list[Message]]]:
        return self._read(_page, _Asked(room, after, before, upto, count, size))

    def rooms(self) -> asyncio.Future[list[RoomRecord]]:
        return self._read(_rooms, None)

    def close(self) -> None:
        self._reads.stop()
        self._reader.close()

    def _read(self, query: Callable[[sqlite3.Connection, A], T], asked: A) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            self._reads.put((query, asked, future))
        except StateError as error:
            future.set_exception(error)
        return future

    def _hand_out(self, write: _Write, written: asyncio.Future[list[Verdict]]) -> None:
        """Give every call its own verdicts, or the error."""
        self._under_way -= 1
        error = written.exception()
        if error is not None:
            self._fail(write, error)
            return
        verdicts = iter(written.result())
        for publications, future in write.calls:
            own = [next(verdicts) for _ in publications]
            if not future.done():  # else whoever waited was cancelled
                future.set_result(own)

    def _fail(self, write: _Write, error: BaseException) -> None:
        if not write.begun:  # not even the transaction began: those for whom it was asked still wait
            self._take(write)
        for _, future in write.calls:
            if not future.done():
                future.set_exception(error)

    def _take(self, write: _Write) -> None:
        write.begun, self._asked = True, False
        while self._waiting:
            write.calls.append(self._waiting.popleft())

    # --- the store's thread --------------------------------------------------------------------------

    def _keep(self, write: _Write, connection: sqlite3.Connection) -> list[Verdict]:
        self._begun += 1
        if self._begun >= self._rests_until:
            self._rest_is_over.set()
        self._take(write)
        return self._ledger.keep(connection, [one for some, _ in write.calls for one in some])

    # --- the reader's thread -------------------------------------------------------------------------

    def _answer(self, reads: list[_Read]) -> None:
        for begin in range(0, len(reads), SNAPSHOT_COUNT):
            if self._begun - self._rested >= RESTED_WRITES:
                self._rest()
            settle(self._from_one_snapshot(reads[begin : begin + SNAPSHOT_COUNT]))

    def _rest(self) -> None:
        """Let the log begin anew, where somebody is writing to it."""
        self._rest_is_over.clear()
        self._rests_until = self._begun + REST_WRITES
        if self._under_way:
            self._rest_is_over.wait(REST_SECONDS)
        self._rested = self._begun

    def _from_one_snapshot(self, reads: list[_Read]) -> list[Outcome]:
        answers: dict[Any, tuple[Any, StateError | None]] = {}
        self._reader.execute("BEGIN")
        for query, asked, _ in reads:
            if (query, asked) not in answers:
                try:
                    answers[query, asked] = (query(self._reader, asked), None)
                except sqlite3.Error as error:
                    answers[query, asked] = (None, clear(error, self._database.path))
        if self._reader.in_transaction:  # some errors end it
            self._reader.execute("ROLLBACK")
        return [(future, *answers[query, asked]) for query, asked, future in reads]


class _Asked(NamedTuple):
    """The arguments of `page`."""

    room: str
    after: int | None
    before: int | None
    upto: int | None
    most: int
    size: int


_Read = tuple[Callable[[sqlite3.Connection, Any], Any], Any, "asyncio.Future[Any]"]


def _open_reader(database: Database) -> sqlite3.Connection:
    try:
        reader = sqlite3.connect(
            f"file:{quote(str(database.path))}?mode=ro",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        reader.execute("PRAGMA cell_size_check = ON")
    except sqlite3.Error as error:
        raise clear(error, database.path) from error
    return reader


def _found(reader: sqlite3.Connection, room: str) -> tuple[int, Standing]:
    row = reader.execute(_STANDING, (room,)).fetchone()
    return (row[0] << ROOM_SHIFT, Standing(row[1], row[2])) if row else (0, Standing(0, 1))


def _standing(reader: sqlite3.Connection, room: str) -> Standing:
    return _found(reader, room)[1]


def _page(reader: sqlite3.Connection, asked: _Asked) -> tuple[Standing, list[Message]]:
    room, after, before, upto, most, size = asked
    base, standing = _found(reader, room)
    newest, first = standing
    most = max(1, min(most, LARGEST_PAGE))
    # What a peer asked for may be any number: brought within the room before it is added to anything.
    if after is not None:
        lowest = min(max(after, first - 1), newest)
        highest = newest if upto is None else max(0, min(upto, newest))
        rows = reader.execute(_ASCENDING, (base + lowest, base + highest, most))
    else:
        highest = newest + 1 if before is None else max(0, min(before, newest + 1))
        rows = reader.execute(_DESCENDING, (base, base + highest, most))
    messages: list[Message] = []
    for key, sender, at, body in rows:
        size -= len(body)
        if size < 0 and messages:
            break
        messages.append(Message(room, key - base, sender, at, body))
    rows.close()
    if after is None:
        messages.reverse()
    return standing, messages


def _rooms(reader: sqlite3.Connection, _: None) -> list[RoomRecord]:
    rows = reader.execute("SELECT name, creator, seq, first, size FROM rooms ORDER BY name").fetchall()
    return [RoomRecord(name, creator, Standing(seq, first), size) for name, creator, seq, first, size in rows]
