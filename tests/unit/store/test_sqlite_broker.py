"""Rooms on a real database: verdicts after the commit, pages beside the writes, and honest failures."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_net.errors import StateDamagedError, StateError, StateFullError
from secure_net.limits import ChatLimits
from secure_net.store import sqlite_broker as module
from secure_net.store.broker import Broker, Message, Publication, RoomRecord, Standing
from secure_net.store.sqlite import STORE_FILE, SQLiteStore
from secure_net.store.sqlite_broker import SQLiteBroker
from tests.support.loops import in_loop


class House:
    """A store and its broker; `fail` is the SQLite code that every commit gives."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fail = 0
        self.commits = 0
        self.store = SQLiteStore.open(directory, connect=self._connect)
        self.broker = SQLiteBroker(self.store.database, ChatLimits())

    def _connect(self, path: Path) -> sqlite3.Connection:
        house = self

        class Connection(sqlite3.Connection):
            def execute(self, statement: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
                if statement == "COMMIT":
                    house.commits += 1
                    if house.fail:
                        error = sqlite3.OperationalError("as the disk said")
                        error.sqlite_errorcode = house.fail
                        raise error
                return super().execute(statement, *values)  # type: ignore[arg-type]

        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Connection)

    def close(self) -> None:
        self.broker.close()
        self.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def said(number: int, *, room: str = "ops", sender: str = "ann", body: bytes = b'"hi"') -> Publication:
    return Publication(room, sender, number.to_bytes(16, "big"), 1.5, body, number)


async def fill(broker: Broker, count: int, *, room: str = "ops", size: int = 4) -> None:
    await broker.publish([said(n, room=room, body=b"%0*d" % (size, n)) for n in range(1, count + 1)])


async def numbers(broker: Broker, room: str = "ops", **asked: int | None) -> list[int]:
    most = {"count": 100, "size": 100_000} | asked
    _, messages = await broker.page(room, **most)  # type: ignore[arg-type]
    return [message.seq for message in messages]


def held(house: House) -> threading.Event:
    """Keep the store's thread busy until the event is set."""
    begun, gate = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        begun.set()
        gate.wait(10)

    house.store.database.write(wait)
    assert begun.wait(10)
    return gate


@in_loop
async def test_what_was_published_is_there(house: House) -> None:
    broker: Broker = house.broker
    assert await broker.standing("ops") == Standing(0, 1)
    verdicts = await broker.publish([said(7, body=b'{"a":1}'), said(8)])
    assert [(v.publication.token, v.seq, v.outcome) for v in verdicts] == [(7, 1, "new"), (8, 2, "new")]
    standing, messages = await broker.page("ops", after=0, count=10, size=1000)
    assert standing == await broker.standing("ops") == Standing(2, 1)
    assert messages == [Message("ops", 1, "ann", 1.5, b'{"a":1}'), Message("ops", 2, "ann", 1.5, b'"hi"')]
    assert await broker.rooms() == [RoomRecord("ops", "ann", Standing(2, 1), 11)]
    assert await broker.publish([]) == []


@in_loop
async def test_it_is_all_there_after_a_restart(house: House, tmp_path: Path) -> None:
    await fill(house.broker, 5)
    house.close()
    again = House(tmp_path)
    assert await numbers(again.broker, after=0) == [1, 2, 3, 4, 5]
    (verdict,) = await again.broker.publish([said(3, body=b"0003")])
    assert (verdict.seq, verdict.outcome) == (3, "again")
    again.close()


@in_loop
async def test_pages_forwards(house: House) -> None:
    await fill(house.broker, 10)
    assert await numbers(house.broker, after=0) == list(range(1, 11))
    assert await numbers(house.broker, after=3, count=2) == [4, 5]
    assert await numbers(house.broker, after=3, upto=6) == [4, 5, 6]
    assert await numbers(house.broker, after=6, upto=6) == []
    assert await numbers(house.broker, after=10) == []
    assert await numbers(house.broker, after=0, size=13) == [1, 2, 3]
    assert await numbers(house.broker, after=0, size=0) == [1]  # one at least
    assert await numbers(house.broker, after=0, count=0) == [1]


@in_loop
async def test_pages_backwards(house: House) -> None:
    await fill(house.broker, 10)
    assert await numbers(house.broker, count=3) == [8, 9, 10]
    assert await numbers(house.broker, before=8, count=3) == [5, 6, 7]
    assert await numbers(house.broker, before=2) == [1]
    assert await numbers(house.broker, before=1) == []
    assert await numbers(house.broker, size=9) == [9, 10]


@in_loop
async def test_numbers_that_no_room_has(house: House) -> None:
    await fill(house.broker, 3)
    await fill(house.broker, 3, room="next")
    huge = 10**30
    assert await numbers(house.broker, after=huge) == []
    assert await numbers(house.broker, after=-huge, upto=huge, count=huge) == [1, 2, 3]
    assert await numbers(house.broker, after=0, upto=-huge) == []
    assert await numbers(house.broker, before=huge) == [1, 2, 3]
    assert await numbers(house.broker, before=-huge) == []
    assert await house.broker.page("absent", after=0, count=1, size=1) == (Standing(0, 1), [])
    assert await house.broker.page("absent", count=1, size=1) == (Standing(0, 1), [])


@in_loop
async def test_first_follows_what_is_trimmed(house: House) -> None:
    house.broker.limits = ChatLimits(chat_history_count=4)
    assert house.broker.limits.chat_history_count == 4
    await fill(house.broker, 10)
    assert await house.broker.standing("ops") == Standing(10, 7)
    assert await numbers(house.broker, after=0) == [7, 8, 9, 10]
    assert await numbers(house.broker, before=9) == [7, 8]


@in_loop
async def test_calls_that_wait_share_one_commit_and_keep_their_order(house: House) -> None:
    gate = held(house)
    before = house.commits
    calls = [house.broker.publish([said(2 * n), said(2 * n + 1)]) for n in range(50)]
    gate.set()
    verdicts = [verdict for call in calls for verdict in await call]
    assert [verdict.seq for verdict in verdicts] == list(range(1, 101))
    assert house.commits - before <= 2  # the one that was held, and the rest


@in_loop
async def test_who_no_longer_waits_takes_nothing_from_the_others(house: House) -> None:
    gate = held(house)
    first, second = house.broker.publish([said(1)]), house.broker.publish([said(2)])
    first.cancel()
    gate.set()
    (verdict,) = await second
    assert verdict.seq == 2
    house.fail = sqlite3.SQLITE_FULL
    gate = held(house)
    first, second = house.broker.publish([said(3)]), house.broker.publish([said(4)])
    first.cancel()
    gate.set()
    with pytest.raises(StateFullError):
        await second


@in_loop
async def test_after_a_closed_store_every_future_says_so(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.close()
    for future in (house.broker.publish([said(1)]), house.broker.standing("ops"), house.broker.rooms()):
        with pytest.raises(StateError, match="closed"):
            await future


@in_loop
async def test_a_backup_holds_the_history(house: House, tmp_path: Path) -> None:
    await fill(house.broker, 5)
    (tmp_path / "restored").mkdir()
    await house.store.backup(tmp_path / "restored" / STORE_FILE)
    await house.broker.publish([said(6)])
    restored = House(tmp_path / "restored")
    assert await numbers(restored.broker, after=0) == [1, 2, 3, 4, 5]
    assert [v.seq for v in await restored.broker.publish([said(5, body=b"0005"), said(9)])] == [5, 6]
    restored.close()


@in_loop
async def test_a_page_that_is_damaged_fails_alone(house: House, tmp_path: Path) -> None:
    for name in ("a", "b"):
        await fill(house.broker, 200, room=name, size=1000)
    house.close()  # all is in the database now
    file = tmp_path / STORE_FILE
    with sqlite3.connect(file) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    house = House(tmp_path)
    content = file.read_bytes()
    bad = content.index(b"%01000d" % 150) // size
    with file.open("r+b") as disk:
        disk.seek(bad * size)
        disk.write(b"\xff" * size)
    good = house.broker.page("b", after=100, count=10, size=10**6)
    with pytest.raises(StateDamagedError, match="restore it from a backup"):
        await house.broker.page("a", after=100, count=100, size=10**6)
    assert len((await good)[1]) == 10
    house.close()


@in_loop
async def test_a_storm_of_reads_is_one_read_where_they_ask_the_same(house: House) -> None:
    await fill(house.broker, 10)
    begun, gate = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection, __: None) -> None:
        begun.set()
        gate.wait(10)

    house.broker._read(wait, None)
    assert begun.wait(10)
    pages = [house.broker.page("ops", after=0, count=5, size=100) for _ in range(200)]
    gate.set()
    answers = [await page for page in pages]
    assert {id(answer) for answer in answers[:64]} == {id(answers[0])}
    assert all(answer == answers[0] for answer in answers)


@in_loop
async def test_a_reader_that_is_never_idle_lets_the_log_begin_anew(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTED_WRITES", 5)
    rests: list[int] = []
    rest = house.broker._rest
    monkeypatch.setattr(house.broker, "_rest", lambda: (rests.append(house.broker._begun), rest()))
    running = True

    async def read() -> None:
        while running:
            await house.broker.standing("ops")

    readers = [asyncio.ensure_future(read()) for _ in range(20)]
    for n in range(100):
        await house.broker.publish([said(n, body=b"x" * 48_000)])
    running = False
    await asyncio.gather(*readers)
    assert rests
    assert all(later - earlier >= 5 for earlier, later in itertools.pairwise(rests))


def test_a_database_that_cannot_be_opened_twice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.store.database, "path", Path("/absent/store.db"))
    with pytest.raises(StateError, match="unable to open"):
        SQLiteBroker(house.store.database, ChatLimits())
