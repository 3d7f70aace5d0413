"""One process holds the state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secure_net.errors import StateError, StateLockedError
from secure_net.store.lock import LOCK_FILE, StateLock


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    lock = StateLock.acquire(tmp_path)
    with pytest.raises(StateLockedError, match=f"by process {os.getpid()}$"):
        StateLock.acquire(tmp_path)
    lock.release()
    lock.release()
    StateLock.acquire(tmp_path).release()
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600


def test_a_holder_that_wrote_nothing(tmp_path: Path) -> None:
    lock = StateLock.acquire(tmp_path)
    (tmp_path / LOCK_FILE).write_text("?")
    with pytest.raises(StateLockedError, match=r"is in use$"):
        StateLock.acquire(tmp_path)
    lock.release()


def test_no_folder_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="secure-net init"):
        StateLock.acquire(tmp_path / "absent")
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="symbolic"):
        StateLock.acquire(tmp_path)


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("1\n")
    StateLock.acquire(tmp_path).release()
