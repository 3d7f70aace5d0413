"""What is found in a state that no daemon holds."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from secure_net.audit.trail import DIRECTORY as AUDIT
from secure_net.audit.trail import KEY_FILE, AuditTrail
from secure_net.daemon.state_posture import state_problems
from secure_net.store.lock import LOCK_FILE, StateLock
from secure_net.store.sqlite import STORE_FILE, SQLiteStore
from tests.support.clock import FakeClock


@pytest.fixture
def state(tmp_path: Path) -> Path:
    SQLiteStore.open(tmp_path).close()
    AuditTrail.open(tmp_path, FakeClock()).close()
    return tmp_path


def execute(state: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(state / STORE_FILE, isolation_level=None)) as connection:
        connection.execute(statement)


def only(state: Path) -> str:
    (problem,) = state_problems(state)
    assert problem.cure
    return f"{Path(problem.path).name}: {problem.problem}"


def test_a_sound_state_and_none_at_all(state: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = sorted(state.rglob("*"))
    assert list(state_problems(state)) == []
    assert sorted(state.rglob("*")) == before
    empty = tmp_path_factory.mktemp("empty")
    assert list(state_problems(empty)) == []
    assert list(empty.iterdir()) == []


def test_a_store_whose_daemon_was_killed(state: Path) -> None:
    """What is only in its log counts, and rests there."""
    killed = sqlite3.connect(state / STORE_FILE, isolation_level=None)
    with contextlib.closing(killed):
        killed.execute("PRAGMA user_version = 99")
        before = {path: path.read_bytes() for path in state.iterdir() if path.name != AUDIT}
        assert f"{STORE_FILE}-wal" in {path.name for path in before}
        assert "has schema version 99" in only(state)
        assert before == {path: path.read_bytes() for path in state.iterdir() if path.name != AUDIT}


def test_a_damaged_store(state: Path) -> None:
    path = state / STORE_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    assert only(state).startswith(f"{STORE_FILE}: ")
    path.write_bytes(b"x" * 4096)
    assert only(state) == f"{STORE_FILE}: cannot be read: file is not a database"


def test_a_store_that_is_not_ours(state: Path) -> None:
    execute(state, "PRAGMA application_id = 1")
    assert only(state) == f"{STORE_FILE}: is empty, or not a store of ours"


def test_a_store_of_a_newer_program(state: Path) -> None:
    execute(state, "PRAGMA user_version = 99")
    assert "has schema version 99" in only(state)


def test_a_key_of_the_trail_that_others_can_read(state: Path) -> None:
    (state / KEY_FILE).chmod(0o640)
    assert only(state) == f"{KEY_FILE}: is a secret that others can read"


def test_what_a_daemon_holds_is_left_alone(state: Path) -> None:
    (state / KEY_FILE).chmod(0o640)
    lock = StateLock.acquire(state)
    try:
        assert list(state_problems(state)) == []
    finally:
        lock.release()
    assert only(state)


def test_a_lock_that_cannot_be_opened(state: Path) -> None:
    (state / LOCK_FILE).unlink()
    (state / LOCK_FILE).symlink_to("elsewhere")
    (state / KEY_FILE).chmod(0o640)
    assert list(state_problems(state)) == []
