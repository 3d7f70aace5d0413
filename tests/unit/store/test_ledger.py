"""Numbers, ids and bounds of rooms, against a model that keeps everything in lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_net.errors import StateDamagedError
from secure_net.limits import ChatLimits
from secure_net.store import ledger as module
from secure_net.store.broker import Outcome, Publication
from secure_net.store.ledger import ROOM_SHIFT, Ledger
from secure_net.store.schema import MIGRATIONS


def fresh_connection() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in MIGRATIONS:
        for statement in migration:
            connection.execute(statement)
    return connection


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = fresh_connection()
    yield connection
    connection.close()


def said(number: int, *, room: str = "ops", sender: str = "ann", body: bytes = b'"hi"') -> Publication:
    return Publication(room, sender, number.to_bytes(16, "big"), 1.5, body, number)


def keep(ledger: Ledger, connection: sqlite3.Connection, *these: Publication) -> list[tuple[int, Outcome]]:
    connection.execute("BEGIN")
    verdicts = ledger.keep(connection, these)
    connection.execute("COMMIT")
    assert [verdict.publication for verdict in verdicts] == list(these)
    return [(verdict.seq, verdict.outcome) for verdict in verdicts]


def kept(connection: sqlite3.Connection, number: int = 1) -> list[int]:
    rows = connection.execute("SELECT key FROM messages WHERE key >> ? = ?", (ROOM_SHIFT, number)).fetchall()
    return [key - (number << ROOM_SHIFT) for (key,) in rows]


def test_every_room_counts_by_itself_and_keeps_what_it_was_given(connection: sqlite3.Connection) -> None:
    ledger = Ledger(ChatLimits())
    assert keep(ledger, connection, said(1), said(2, room="b"), said(3)) == [
        (1, "new"),
        (1, "new"),
        (2, "new"),
    ]
    assert keep(ledger, connection, said(4, sender="bob", body=b"[1]")) == [(3, "new")]
    assert connection.execute("SELECT * FROM messages WHERE key = ?", ((1 << 40) + 3,)).fetchall() == [
        ((1 << 40) + 3, "bob", (4).to_bytes(16, "big"), 1.5, b"[1]")
    ]
    assert connection.execute("SELECT name, creator, seq, first, size FROM rooms").fetchall() == [
        ("ops", "ann", 3, 1, 11),
        ("b", "ann", 1, 1, 4),
    ]


def test_an_id_is_one_message_of_one_sender_in_one_room(connection: sqlite3.Connection) -> None:
    ledger = Ledger(ChatLimits())
    assert keep(ledger, connection, said(1), said(1), said(1, body=b"2"), said(2)) == [
        (1, "new"),
        (1, "again"),
        (1, "conflict"),
        (2, "new"),  # neither took a number
    ]
    other_sender, other_room = said(1, sender="bob"), said(1, room="b")
    assert keep(ledger, connection, said(1), other_sender, other_room, said(2, body=b"2")) == [
        (1, "again"),
        (3, "new"),
        (1, "new"),
        (2, "conflict"),
    ]


def test_ids_are_known_after_a_restart(connection: sqlite3.Connection) -> None:
    keep(Ledger(ChatLimits()), connection, *map(said, range(300)))
    again = keep(Ledger(ChatLimits()), connection, *map(said, range(299, -1, -1)), said(300))
    assert again == [*((n + 1, "again") for n in range(299, -1, -1)), (301, "new")]


def test_ids_that_memory_has_no_room_for_are_known_from_the_table(connection: sqlite3.Connection) -> None:
    ledger = Ledger(ChatLimits(), fresh_count=10)
    for number in range(100):
        keep(ledger, connection, said(number, room=f"r{number % 7}"))
    (flushed,) = connection.execute("SELECT count(*) FROM ids").fetchone()
    assert 90 <= flushed < 100
    for one in (ledger, Ledger(ChatLimits())):
        for number in range(100):
            room = f"r{number % 7}"
            assert keep(one, connection, said(number, room=room)) == [(number // 7 + 1, "again")]
            assert keep(one, connection, said(number, room=room, body=b"0")) == [
                (number // 7 + 1, "conflict")
            ]


def test_a_room_over_its_count_is_trimmed_and_its_dropped_ids_are_new_again(
    connection: sqlite3.Connection,
) -> None:
    ledger = Ledger(ChatLimits(chat_history_count=200))
    keep(ledger, connection, *map(said, range(200)))
    assert kept(connection) == list(range(1, 201))
    keep(ledger, connection, said(200))
    assert kept(connection) == list(range(4, 202))  # a hundredth below the bound, so not again at once
    keep(ledger, connection, said(201), said(202))
    assert kept(connection) == list(range(4, 204))
    assert keep(ledger, connection, said(0), said(3)) == [(204, "new"), (4, "again")]
    assert keep(Ledger(ChatLimits()), connection, said(0), said(1)) == [(204, "again"), (205, "new")]


def test_a_room_over_its_bytes_is_trimmed_but_for_its_newest(connection: sqlite3.Connection) -> None:
    ledger = Ledger(ChatLimits(chat_history_bytes=1000))
    keep(ledger, connection, *(said(n, body=b"x" * 300) for n in range(4)))
    assert kept(connection) == [2, 3, 4]
    keep(ledger, connection, said(9, body=b"x" * 2000))
    assert kept(connection) == [5]
    keep(ledger, connection, said(10, body=b"x" * 900))
    assert kept(connection) == [6]
    assert connection.execute("SELECT seq, first, size FROM rooms").fetchall() == [(6, 6, 900)]


def test_lower_limits_are_felt_at_the_next_message(connection: sqlite3.Connection) -> None:
    ledger = Ledger(ChatLimits())
    keep(ledger, connection, *map(said, range(50)))
    ledger.limits = ChatLimits(chat_history_count=1)
    keep(ledger, connection, said(50))
    assert kept(connection) == [51]
    ledger.limits = ChatLimits(chat_history_count=0)  # a message that was acknowledged is kept a while
    assert keep(ledger, connection, said(51), said(52)) == [(52, "new"), (53, "new")]
    assert kept(connection) == [53]


def test_rooms_are_bounded_by_creator_and_in_all(connection: sqlite3.Connection) -> None:
    limits = ChatLimits(chat_rooms_count=4, chat_rooms_per_principal_count=2)
    ledger = Ledger(limits)
    names = ["a", "b", "c", "a"]
    assert [o for _, o in keep(ledger, connection, *(said(n, room=r) for n, r in enumerate(names)))] == [
        "new",
        "new",
        "rooms",
        "new",
    ]
    assert keep(ledger, connection, said(9, room="c")) == [(0, "rooms")]
    for one in (ledger, Ledger(limits)):
        assert keep(one, connection, said(1, room="c")) == [(0, "rooms")]
    assert keep(ledger, connection, said(1, room="c", sender="bob")) == [(1, "new")]
    assert keep(ledger, connection, said(10, room="c")) == [(2, "new")]  # it is there: anyone's to write to
    assert keep(ledger, connection, said(1, room="d", sender="bob")) == [(1, "new")]
    assert keep(ledger, connection, said(1, room="e", sender="eve")) == [(0, "rooms")]
    assert connection.execute("SELECT count(*) FROM rooms").fetchone() == (4,)


def test_a_hundred_thousand_refused_rooms_leave_nothing_behind(connection: sqlite3.Connection) -> None:
    ledger = Ledger(ChatLimits(chat_rooms_per_principal_count=1))
    keep(ledger, connection, said(0))
    connection.execute("BEGIN")
    for begin in range(0, 100_000, 1000):
        these = [said(n, room=f"r{n}") for n in range(begin, begin + 1000)]
        assert {verdict.outcome for verdict in ledger.keep(connection, these)} == {"rooms"}
    connection.execute("COMMIT")
    assert list(ledger._rooms) == ["ops"]
    assert connection.execute("SELECT count(*) FROM rooms").fetchone() == (1,)


def test_a_commit_that_failed_takes_no_number_and_no_id(connection: sqlite3.Connection) -> None:
    ledger = Ledger(ChatLimits())
    keep(ledger, connection, said(1))
    for _ in range(2):
        connection.execute("BEGIN")
        ledger.keep(connection, [said(2), said(3), said(4, room="never")])
        ledger.keep(connection, [said(5)])
        connection.execute("ROLLBACK")
    assert keep(ledger, connection, said(3), said(1)) == [(2, "new"), (1, "again")]
    assert keep(ledger, connection, said(4, room="other")) == [(1, "new")]
    assert connection.execute("SELECT id, name, seq FROM rooms").fetchall() == [
        (1, "ops", 2),
        (2, "other", 1),
    ]


def test_a_write_that_raised_half_way_is_undone_alone(connection: sqlite3.Connection) -> None:
    ledger = Ledger(ChatLimits())
    connection.execute("BEGIN")
    ledger.keep(connection, [said(1)])
    connection.execute("SAVEPOINT one")
    broken = said(2)._replace(at=None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        ledger.keep(connection, [said(3), broken])
    connection.execute("ROLLBACK TO one")
    assert [v.seq for v in ledger.keep(connection, [said(3), said(1)])] == [2, 1]
    connection.execute("COMMIT")
    assert kept(connection) == [1, 2]


def test_a_gap_on_disk_is_damage(connection: sqlite3.Connection) -> None:
    keep(Ledger(ChatLimits()), connection, *map(said, range(3)))
    connection.execute("DELETE FROM messages WHERE key = ?", ((1 << 40) + 2,))
    connection.execute("BEGIN")
    with pytest.raises(StateDamagedError, match="room ops has lost messages"):
        Ledger(ChatLimits()).keep(connection, [said(9)])


def test_stale_rows_of_the_table_are_swept(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSHED_COUNT", 10)
    ledger = Ledger(ChatLimits(chat_history_count=50), fresh_count=5)
    for number in range(500):
        keep(ledger, connection, said(number))
    (rows,) = connection.execute("SELECT count(*) FROM ids").fetchone()
    assert rows < 50 + 2 * 10


# --- anything, against the model -------------------------------------------------------------------------


class Model:
    """The same, in the plainest way."""

    def __init__(self, limits: ChatLimits, divisor: int) -> None:
        self.limits, self.divisor = limits, divisor
        self.rooms: dict[str, list[Publication | None]] = {}  # dropped ones are None
        self.creators: dict[str, str] = {}

    def copy(self) -> Model:
        other = Model(self.limits, self.divisor)
        other.rooms = {name: list(messages) for name, messages in self.rooms.items()}
        other.creators = dict(self.creators)
        return other

    def keep(self, these: list[Publication]) -> list[tuple[int, Outcome]]:
        verdicts = [self._one(publication) for publication in these]
        for name in {publication.room for publication in these} & self.rooms.keys():
            if any(p.room == name and o == "new" for p, (_, o) in zip(these, verdicts, strict=True)):
                self._trim(self.rooms[name])
        return verdicts

    def _one(self, publication: Publication) -> tuple[int, Outcome]:
        name, sender, id_, _, body, _ = publication
        if name not in self.rooms:
            begun = list(self.creators.values()).count(sender)
            if (
                len(self.rooms) >= self.limits.chat_rooms_count
                or begun >= self.limits.chat_rooms_per_principal_count
            ):
                return 0, "rooms"
            self.rooms[name], self.creators[name] = [], sender
        messages = self.rooms[name]
        for seq, message in enumerate(messages, 1):
            if message and (message.sender, message.id) == (sender, id_):
                return seq, "again" if message.body == body else "conflict"
        messages.append(publication)
        return len(messages), "new"

    def _trim(self, messages: list[Publication | None]) -> None:
        count, size = self.limits.chat_history_count, self.limits.chat_history_bytes

        def weight() -> int:
            return sum(len(message.body) for message in messages if message)

        def drop() -> bool:
            oldest = next(n for n, message in enumerate(messages) if message)
            if oldest == len(messages) - 1:
                return False
            messages[oldest] = None
            return True

        if sum(m is not None for m in messages) <= count and weight() <= size:
            return
        while sum(m is not None for m in messages) > count - count // self.divisor and drop():
            pass
        if weight() > size:
            while weight() > size - size // self.divisor and drop():
                pass

    def table(self) -> dict[str, list[tuple[int, str, bytes, bytes]]]:
        return {
            name: [(n, m.sender, m.id, m.body) for n, m in enumerate(messages, 1) if m]
            for name, messages in self.rooms.items()
        }


def table(connection: sqlite3.Connection) -> dict[str, list[tuple[int, str, bytes, bytes]]]:
    found: dict[str, list[tuple[int, str, bytes, bytes]]] = {}
    for number, name, seq, first, size in connection.execute("SELECT id, name, seq, first, size FROM rooms"):
        base = number << ROOM_SHIFT
        found[name] = connection.execute(
            "SELECT key - ?1, sender, id, body FROM messages WHERE key > ?1 AND key < ?1 + ?2 ORDER BY key",
            (base, 1 << ROOM_SHIFT),
        ).fetchall()
        assert [row[0] for row in found[name]] == list(range(first, seq + 1))
        assert sum(len(row[3]) for row in found[name]) == size
    return found


PUBLICATIONS = st.builds(
    Publication,
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["ann", "bob"]),
    st.integers(0, 15).map(lambda number: number.to_bytes(16, "big")),
    st.just(1.0),
    st.sampled_from([b"1", b"22", b"4444"]),
    st.none(),
)
WRITES = st.tuples(
    st.sampled_from(["commit", "commit", "commit", "roll back", "restart"]),
    st.lists(st.lists(PUBLICATIONS, max_size=6), max_size=3),
)


@settings(max_examples=150)
@given(st.lists(WRITES, max_size=25), st.integers(0, 8), st.integers(1, 12), st.integers(4, 40))
def test_whatever_is_said_and_whatever_fails(
    writes: list[tuple[str, list[list[Publication]]]], fresh_count: int, count: int, size: int
) -> None:
    limits = ChatLimits(
        chat_rooms_count=3,
        chat_rooms_per_principal_count=2,
        chat_history_count=count,
        chat_history_bytes=size,
    )
    connection, model = fresh_connection(), Model(limits, divisor=4)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("FLUSHED_COUNT", 2), ("ROWS", 4), ("SLACK_DIVISOR", 4)):
            patch.setattr(module, name, value)
        ledger = Ledger(limits, fresh_count)
        for end, calls in writes:
            after = model.copy()
            connection.execute("BEGIN")
            for these in calls:
                expected = after.keep(these)
                assert [(v.seq, v.outcome) for v in ledger.keep(connection, these)] == expected
            connection.execute("ROLLBACK" if end == "roll back" else "COMMIT")
            if end != "roll back":
                model = after
            if end == "restart":
                ledger = Ledger(limits, fresh_count)
            assert table(connection) == model.table()
    connection.close()


def test_a_key_fits_the_integers_of_sqlite() -> None:
    assert (ChatLimits().chat_rooms_count + 1) << ROOM_SHIFT < 2**63
