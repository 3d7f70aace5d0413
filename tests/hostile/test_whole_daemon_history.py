"""THREATS, "Whole daemon", as far as the rooms' history goes: full disks, I/O errors, damage, and kill -9.

What was acknowledged is there once, under its number and with its body; a number is never given twice.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from secure_net.errors import StateDamagedError, StateFullError
from secure_net.limits import ChatLimits
from secure_net.store.broker import Message, Publication, Verdict
from secure_net.store.schema import MIGRATIONS
from secure_net.store.sqlite import STORE_FILE, SQLiteStore
from secure_net.store.sqlite_broker import SQLiteBroker
from tests.support.broker_writer import ROOMS, WRITERS, message
from tests.support.daemon import ROOT, environment
from tests.support.loops import in_loop

ROUNDS = 20
SOAK_ROUNDS = 300
EVERYTHING = 10**9
LIMITS = ChatLimits(chat_history_count=EVERYTHING, chat_history_bytes=EVERYTHING)


class Ailing(sqlite3.Connection):
    """A database on a disk that gives errors at `at` while `code` is set."""

    code = 0
    at = "COMMIT"

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if self.code and statement.startswith(self.at):
            error = sqlite3.OperationalError("as the disk said")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(statement, *values)


def said(number: int, room: str = "ops") -> Publication:
    return Publication(room, "ann", number.to_bytes(16, "big"), 1.0, b"%d" % number, number)


async def everything(broker: SQLiteBroker, room: str) -> list[Message]:
    """The whole room, page by page, as a member replays it."""
    found: list[Message] = []
    after = 0
    while True:
        standing, page = await broker.page(room, after=after, count=1000, size=10**6)
        found += page
        if not page:
            assert [message.seq for message in found] == list(range(standing.first, standing.seq + 1))
            return found
        after = page[-1].seq


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC]
)
@pytest.mark.parametrize(
    "at", ["BEGIN", "UPDATE counters", "INSERT INTO messages", "INSERT INTO rooms", "COMMIT"]
)
@in_loop
async def test_enospc_and_eio_refuse_the_message_then_service_returns(
    tmp_path: Path, code: int, at: str
) -> None:
    connections: list[Ailing] = []

    def connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Ailing)
        connections.append(connection)
        return connection

    store = SQLiteStore.open(tmp_path, connect=connect)
    broker = SQLiteBroker(store.database, LIMITS)
    (disk,) = connections
    disk.at = at
    await broker.publish([said(1)])
    for _ in range(3):
        disk.code = code
        with pytest.raises(StateFullError):
            await broker.publish([said(2), said(3, room="new")])
        assert (await broker.standing("ops")).seq == 1  # who only reads is served
        disk.code = 0
    verdicts = await broker.publish([said(3), said(2), said(1)])
    assert [(v.seq, v.outcome) for v in verdicts] == [(2, "new"), (3, "new"), (1, "again")]
    assert [m.body for m in await everything(broker, "ops")] == [b"1", b"3", b"2"]
    assert [room.name for room in await broker.rooms()] == ["ops"]
    broker.close()
    store.close()


_LIMITED = """
import asyncio, resource, signal, sys
from pathlib import Path
from secure_net.errors import StateFullError
from secure_net.limits import ChatLimits
from secure_net.store.broker import Publication
from secure_net.store.sqlite import SQLiteStore
from secure_net.store.sqlite_broker import SQLiteBroker

def said(n):
    return Publication(f"r{n % 3}", "ann", n.to_bytes(16, "big"), 1.0, b"x" * 900, n)

async def main(state):
    store = SQLiteStore.open(state)
    broker = SQLiteBroker(store.database, ChatLimits())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    given, refused = {}, []
    for round in range(5):
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000 * (round + 1), hard))
        begin = 1000 * round
        for n in range(begin, begin + 1000, 4):
            try:
                verdicts = await broker.publish([said(n + k) for k in range(4)])
            except StateFullError:
                refused += range(n, n + 4)
                break
            for verdict in verdicts:
                assert verdict.outcome == "new"
                place = (verdict.publication.room, verdict.seq)
                assert place not in given, place
                given[place] = verdict.publication.token
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for verdict in await broker.publish([said(n) for n in refused]):
        assert verdict.outcome == "new"
        given[verdict.publication.room, verdict.seq] = verdict.publication.token
    for room in ("r0", "r1", "r2"):
        standing, page = await broker.page(room, after=0, count=10_000, size=10**9)
        assert [m.seq for m in page] == list(range(1, standing.seq + 1))
        assert {(room, m.seq) for m in page} == {place for place in given if place[0] == room}
    broker.close()
    store.close()
    print(len(refused))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_kernel_that_takes_no_more_bytes_then_does(tmp_path: Path) -> None:
    """The kernel itself says no, five times over: a file may not grow (RLIMIT_FSIZE), then it may."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "20\n"), done.stderr


# --- damage and upgrade --------------------------------------------------------------------------------


def finished(state: Path, work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not (state / f"{STORE_FILE}-wal").exists()  # the last one out moved the log into the database


async def written(state: Path, count: int) -> None:
    store = SQLiteStore.open(state)
    broker = SQLiteBroker(store.database, LIMITS)
    await broker.publish([said(n) for n in range(count)])
    broker.close()
    store.close()


def test_a_damaged_history_stops_the_start_and_is_left_alone(tmp_path: Path) -> None:
    finished(tmp_path, written(tmp_path, 5000))
    content = bytearray((tmp_path / STORE_FILE).read_bytes())
    content[-8192:-4096] = b"\xff" * 4096
    (tmp_path / STORE_FILE).write_bytes(content)
    with pytest.raises(StateDamagedError, match="restore it from a backup"):
        SQLiteStore.open(tmp_path)
    assert (tmp_path / STORE_FILE).read_bytes() == content


def test_a_state_from_before_there_were_rooms_gets_them(tmp_path: Path) -> None:
    SQLiteStore.open(tmp_path).close()
    older = sqlite3.connect(tmp_path / STORE_FILE)
    with older:
        for table in ("rooms", "messages", "ids"):
            older.execute(f"DROP TABLE {table}")
        older.execute("DELETE FROM counters WHERE name = 'chat_writes'")
        older.execute("PRAGMA user_version = 1")
    older.close()
    finished(tmp_path, written(tmp_path, 3))
    newer = sqlite3.connect(tmp_path / STORE_FILE)
    assert newer.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert newer.execute("SELECT count(*) FROM messages").fetchone() == (3,)
    newer.close()


# --- kill -9 -----------------------------------------------------------------------------------------


def _killed_writer(state: Path, prefix: str, after: int, kept: int, fresh: int) -> list[tuple[int, int]]:
    """Let a process publish until it acknowledged `after`, kill it, and give back each (number, seq)."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.support.broker_writer", str(state), prefix, str(kept), str(fresh)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(after)]
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.readlines()
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    words = [line.decode().split() for line in said if line.endswith(b"\n")]
    assert {outcome for _, _, outcome in words} == {"new"}
    return [(int(number), int(seq)) for number, seq, _ in words]


class Books:
    """What every process was told, and whether a state agrees."""

    def __init__(self, state: Path, kept: int, fresh: int) -> None:
        self.state, self.kept, self.fresh = state, kept, fresh
        self.given: dict[tuple[str, int], Publication] = {}  # room and number: what was acknowledged
        self.messages = 0

    def note(self, publication: Publication, seq: int) -> None:
        place = (publication.room, seq)
        assert self.given.setdefault(place, publication).id == publication.id, f"{place} was given twice"

    def round(self, prefix: str, after: int) -> None:
        told = _killed_writer(self.state, prefix, after, self.kept, self.fresh)
        assert len(told) >= after
        for number, seq in told:
            self.note(message(prefix, number), seq)
        asyncio.run(self._compare(prefix, dict(told)))

    async def _compare(self, prefix: str, told: dict[int, int]) -> None:
        store = SQLiteStore.open(self.state)  # checks the file, and reads what the log still holds
        broker = SQLiteBroker(store.database, ChatLimits(chat_history_count=self.kept))
        await self._rooms_hold_what_was_given(broker)
        # As clients do: say again what was not acknowledged. And here, what was.
        again = [message(prefix, number) for number in range(max(told) + WRITERS)]
        for verdict in await broker.publish(again):
            self._answers(verdict, told)
        await self._rooms_hold_what_was_given(broker)
        broker.close()
        store.close()

    def _answers(self, verdict: Verdict, told: dict[int, int]) -> None:
        number = verdict.publication.token
        if self.kept == EVERYTHING and number in told:
            assert (verdict.outcome, verdict.seq) == ("again", told[number])
        assert verdict.outcome in {"again", "new"}
        self.note(verdict.publication, verdict.seq)

    async def _rooms_hold_what_was_given(self, broker: SQLiteBroker) -> None:
        self.messages = 0
        newest = {room: max((s for r, s in self.given if r == room), default=0) for room in self._names()}
        for room in self._names():
            found = await everything(broker, room)
            standing = await broker.standing(room)
            assert standing.seq >= newest[room]
            assert len(found) <= self.kept
            bodies = {(m.seq): (m.sender, m.body) for m in found}
            for (_, seq), publication in self._given_in(room):
                if seq >= standing.first:
                    assert bodies[seq] == (publication.sender, publication.body)
            self.messages += len(found)

    def _names(self) -> list[str]:
        return [f"r{number}" for number in range(ROOMS)]

    def _given_in(self, room: str) -> list[tuple[tuple[str, int], Publication]]:
        return [(place, publication) for place, publication in self.given.items() if place[0] == room]


def _kill_again_and_again(state: Path, rounds: int, kept: int, fresh: int) -> None:
    books = Books(state, kept, fresh)
    for number in range(rounds):
        books.round(f"k{number}", after=1 + number * 173 % 2000)
    if kept == EVERYTHING:
        assert books.messages >= len(books.given) > 0


def test_kill_9_while_rooms_are_written_to_loses_nothing_acknowledged(tmp_path: Path) -> None:
    _kill_again_and_again(tmp_path, ROUNDS // 2, EVERYTHING, fresh=500)


def test_kill_9_while_rooms_are_trimmed_gives_no_number_twice(tmp_path: Path) -> None:
    _kill_again_and_again(tmp_path, ROUNDS - ROUNDS // 2, kept=150, fresh=300)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kept", "fresh"), [(EVERYTHING, 500), (150, 300)])
def test_kill_9_while_rooms_are_written_to_loses_nothing_acknowledged_300_times(
    tmp_path: Path, kept: int, fresh: int
) -> None:
    _kill_again_and_again(tmp_path, SOAK_ROUNDS // 2, kept, fresh)
