"""What is written about rooms: who gets which number, which ids are known, what is dropped.

Theory of operation. `Ledger.keep` runs on the store's thread, inside a transaction that it neither begins
nor ends, and does all its publications in a handful of statements: Python's SQLite gives up the interpreter
at each step, and beside a busy event loop getting it back is what costs.

*Memory is a cache.* Rooms and their counters are kept in memory, ahead of the disk until the commit. Every
call bumps one counter on disk, and only if it stands where memory says: after a commit that failed, or a
call that raised, it does not, and everything is forgotten and read again when it is needed. So a number
that was not kept is given again, and one that was kept never is: a room's newest number is in its row, and
outlives the message.

*Ids.* An id must be known for as long as its message is kept, and ids are random: an index on them dirties
a page for each message, which halves what a commit can take. So ids of a room's newest messages are in
memory (`fresh`), up to `FRESH_COUNT` over all rooms; beyond, those of the room that was quiet the longest
go to the table ``ids``, many in one go and in order. After a restart `fresh` is read from the messages.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sqlite3
from collections.abc import Sequence
from typing import Any

from secure_net.errors import StateDamagedError
from secure_net.limits import ChatLimits
from secure_net.store.broker import ID_BYTES, Publication, Verdict

ROOM_SHIFT = 40
"""A message's key is room << ROOM_SHIFT | seq: one integer, and a room's messages side by side."""

FRESH_COUNT = 131_072
"""Ids in memory: some 150 bytes each. A full room has 10,000."""

FLUSHED_COUNT = 2_048
"""Ids that go to the table in one go: a few milliseconds of a commit."""

ROWS = 256
"""In one statement; each of its sizes is prepared once."""

SLACK_DIVISOR = 100
"""A room that is over its bound is trimmed to a hundredth below it, so that not every message trims."""

_BUMP = "UPDATE counters SET value = value + 1 WHERE name = 'chat_writes' AND value = ?"
# CROSS JOIN: for each row of the list one look into the index, never the other way round.
_ROOMS = """SELECT id, name, creator, seq, first, size, indexed
    FROM ({}) AS list CROSS JOIN rooms ON rooms.name = list.column1"""
_WRITE_ROOMS = """INSERT INTO rooms (id, name, creator, seq, first, size, indexed)
    SELECT * FROM ({}) WHERE column1 IS NOT NULL ON CONFLICT (id) DO UPDATE SET
    seq = excluded.seq, first = excluded.first, size = excluded.size, indexed = excluded.indexed"""
_WRITE_MESSAGES = """INSERT INTO messages (key, sender, id, at, body)
    SELECT * FROM ({}) WHERE column1 IS NOT NULL"""
_KNOWN = """SELECT list.column1, ids.seq FROM ({}) AS list CROSS JOIN ids
    ON ids.room = list.column2 AND ids.id = list.column3 AND ids.sender = list.column4"""
_SAME = """SELECT list.column1 FROM ({}) AS list CROSS JOIN messages
    ON messages.key = list.column2 WHERE messages.body = list.column3"""
_FLUSH = """INSERT INTO ids (room, id, sender, seq) SELECT ?1, id, sender, key - ?2 FROM messages
    WHERE key > ?2 + ?3 AND key <= ?2 + ?4 ORDER BY id, sender
    ON CONFLICT (room, id, sender) DO UPDATE SET seq = excluded.seq"""
# In one row: ten thousand steps would be ten thousand times the wait for the interpreter.
_FRESH = """SELECT group_concat(hex(id) || sender, char(10)) FROM
    (SELECT id, sender FROM messages WHERE key > ? AND key <= ? ORDER BY key)"""


@dataclasses.dataclass(slots=True)
class _Room:
    """A room as the transaction has it."""

    number: int
    name: str
    creator: str
    seq: int = 0
    first: int = 1
    size: int = 0  # bytes of the bodies kept
    indexed: int = 0  # of the messages kept, those up to here have their ids in the table
    cleaned: int = 0  # no row of the table is about an older message than this
    fresh: dict[bytes, int] = dataclasses.field(default_factory=dict)  # id and sender: seq; oldest first

    @property
    def base(self) -> int:
        return self.number << ROOM_SHIFT

    @property
    def row(self) -> tuple[Any, ...]:
        return (self.number, self.name, self.creator, self.seq, self.first, self.size, self.indexed)


class Ledger:
    """The rooms' numbers, ids and bounds. `limits` may be replaced at any time."""

    _writes: int | None  # the counter on disk, once memory is what the disk has
    _rooms: dict[str, _Room]
    _created: dict[str, int] | None  # creator: rooms
    _last_room: int
    _quiet: dict[int, _Room]  # those with something fresh, the one quiet the longest first
    _fresh: int  # over all rooms

    def __init__(self, limits: ChatLimits, fresh_count: int = FRESH_COUNT) -> None:
        self.limits = limits
        self._fresh_count = fresh_count
        self._forget()

    def keep(self, connection: sqlite3.Connection, publications: Sequence[Publication]) -> list[Verdict]:
        """Keep these in order, trim what is over its bound, and say what became of each."""
        writes = self._trusted(connection)
        self._writes = None  # until this is through, memory is neither here nor there
        names = {publication.room for publication in publications}
        self._load(connection, names)
        known = self._known(connection, names, publications)
        verdicts: list[Verdict] = []
        rows: list[tuple[Any, ...]] = []
        repeated: list[tuple[int, int, bytes]] = []
        changed: dict[int, _Room] = {}
        for n, publication in enumerate(publications):
            name, sender, id_, at, body, _ = publication
            room = self._rooms.get(name) or self._create(connection, name, sender)
            if room is None:
                verdicts.append(Verdict(publication, 0, "rooms"))
                continue
            said = id_ + sender.encode()
            seq = room.fresh.get(said) or known.get(n, 0)
            if seq >= room.first:
                repeated.append((n, room.base + seq, body))
                verdicts.append(Verdict(publication, seq, "conflict"))  # unless the body is the same: below
                continue
            room.seq = seq = room.seq + 1
            room.fresh[said] = seq
            room.size += len(body)
            changed[room.number] = room
            rows.append((room.base + seq, sender, id_, at, body))
            verdicts.append(Verdict(publication, seq, "new"))
        _listed(connection, _WRITE_MESSAGES, rows)
        for (n,) in _listed(connection, _SAME, repeated):
            verdicts[n] = verdicts[n]._replace(outcome="again")
        self._settle(connection, changed, len(rows))
        self._writes = writes
        return verdicts

    # --- what memory holds ---------------------------------------------------------------------------

    def _forget(self) -> None:
        self._writes = None
        self._rooms, self._created, self._last_room = {}, None, 0
        self._quiet, self._fresh = {}, 0

    def _trusted(self, connection: sqlite3.Connection) -> int:
        """Forget all unless memory is what the disk has; the number of this write."""
        writes = self._writes
        if writes is None or not connection.execute(_BUMP, (writes,)).rowcount:
            self._forget()
            (found,) = connection.execute("SELECT value FROM counters WHERE name = 'chat_writes'").fetchone()
            writes = int(found)
            connection.execute(_BUMP, (writes,))
        return writes + 1

    def _load(self, connection: sqlite3.Connection, names: set[str]) -> None:
        """Have in memory those of these rooms that exist."""
        for row in _listed(connection, _ROOMS, [(name,) for name in names - self._rooms.keys()]):
            room = self._rooms[row[1]] = _Room(*row)
            self._load_fresh(connection, room)

    def _load_fresh(self, connection: sqlite3.Connection, room: _Room) -> None:
        begin = max(room.indexed, room.first - 1)
        (text,) = connection.execute(_FRESH, (room.base + begin, room.base + room.seq)).fetchone()
        lines = text.split("\n") if text else []
        if len(lines) != room.seq - begin:
            raise StateDamagedError(f"room {room.name} has lost messages; restore the store from a backup")
        for seq, line in enumerate(lines, begin + 1):
            room.fresh[bytes.fromhex(line[: 2 * ID_BYTES]) + line[2 * ID_BYTES :].encode()] = seq
        self._count_fresh(room, len(room.fresh))

    def _create(self, connection: sqlite3.Connection, name: str, creator: str) -> _Room | None:
        if self._created is None:
            query = "SELECT creator, count(*), max(id) FROM rooms GROUP BY creator"
            found = connection.execute(query).fetchall()
            self._created = {who: count for who, count, _ in found}
            self._last_room = max((last for _, _, last in found), default=0)
        begun = self._created.get(creator, 0)
        if (
            self._last_room >= self.limits.chat_rooms_count  # a room is never removed: the last is how many
            or begun >= self.limits.chat_rooms_per_principal_count
        ):
            return None
        self._created[creator] = begun + 1
        self._last_room += 1
        room = self._rooms[name] = _Room(self._last_room, name, creator)
        return room

    # --- ids -----------------------------------------------------------------------------------------

    def _known(
        self, connection: sqlite3.Connection, names: set[str], publications: Sequence[Publication]
    ) -> dict[int, int]:
        """Which of these the table has, by their place: the number that the id was given."""
        in_table = {
            name: room.number
            for name in names
            if (room := self._rooms.get(name)) and room.indexed >= room.first
        }
        if not in_table:
            return {}
        rows = [
            (n, in_table[p.room], p.id, p.sender) for n, p in enumerate(publications) if p.room in in_table
        ]
        return dict(_listed(connection, _KNOWN, rows))

    def _count_fresh(self, room: _Room, change: int) -> None:
        self._fresh += change
        self._quiet.pop(room.number, None)
        if room.fresh:
            self._quiet[room.number] = room

    def _flush(self, connection: sqlite3.Connection, room: _Room) -> None:
        """Move the ids of a room's oldest fresh messages to the table."""
        oldest = list(itertools.islice(room.fresh.items(), FLUSHED_COUNT))
        for said, _ in oldest:
            del room.fresh[said]
        if room.first - room.cleaned > FLUSHED_COUNT:
            connection.execute("DELETE FROM ids WHERE room = ? AND seq < ?", (room.number, room.first))
            room.cleaned = room.first
        _, newest = oldest[-1]
        connection.execute(_FLUSH, (room.number, room.base, room.indexed, newest))
        room.indexed = newest
        self._count_fresh(room, -len(oldest))

    # --- at the end of a write -----------------------------------------------------------------------

    def _settle(self, connection: sqlite3.Connection, changed: dict[int, _Room], added: int) -> None:
        """Keep every bound, and write the rooms that changed."""
        self._fresh += added
        for room in changed.values():
            self._trim(connection, room)
            self._count_fresh(room, 0)
        while self._fresh > self._fresh_count:
            quietest = next(iter(self._quiet.values()))
            self._flush(connection, quietest)
            changed[quietest.number] = quietest
        _listed(connection, _WRITE_ROOMS, [room.row for room in changed.values()])

    def _trim(self, connection: sqlite3.Connection, room: _Room) -> None:
        """Drop the oldest of a room that is over its bound; the newest stays whatever it weighs."""
        count, size = self.limits.chat_history_count, self.limits.chat_history_bytes
        if room.seq - room.first < count and room.size <= size:
            return
        first = min(room.seq, max(room.first, room.seq - (count - count // SLACK_DIVISOR) + 1))
        span = (room.base + room.first, room.base + first)
        (dropped,) = connection.execute(
            "SELECT coalesce(sum(length(body)), 0) FROM messages WHERE key >= ? AND key < ?", span
        ).fetchone()
        room.size -= dropped
        if room.size > size:
            lengths = connection.execute(
                "SELECT length(body) FROM messages WHERE key >= ? AND key < ? ORDER BY key",
                (room.base + first, room.base + room.seq),
            )
            for (length,) in lengths:
                room.size -= length
                first += 1
                if room.size <= size - size // SLACK_DIVISOR:
                    break
            lengths.close()
        connection.execute(
            "DELETE FROM messages WHERE key >= ? AND key < ?", (room.base + room.first, room.base + first)
        )
        room.first = first
        gone = [said for said, _ in itertools.takewhile(lambda item: item[1] < first, room.fresh.items())]
        for said in gone:
            del room.fresh[said]
        self._fresh -= len(gone)


def _listed(
    connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    """Run `statement` with these rows as its list, in as few steps as may be; what it answers."""
    answers: list[tuple[Any, ...]] = []
    for begin in range(0, len(rows), ROWS):
        some = rows[begin : begin + ROWS]
        count, width = 1 << (len(some) - 1).bit_length(), len(some[0])
        values: list[Any] = list(itertools.chain.from_iterable(some))
        values += [None] * (count * width - len(values))
        answers += connection.execute(_with_list(statement, count, width), values).fetchall()
    return answers


@functools.cache
def _with_list(statement: str, count: int, width: int) -> str:
    """The statement for so many rows; what is short of them is filled up with NULL."""
    row = f"({','.join('?' * width)})"
    return statement.format(f"VALUES {','.join([row] * count)}")
