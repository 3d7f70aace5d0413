"""Files that survive: whole or not at all, private, and honest about a full disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from secure_net.errors import StateFullError
from secure_net.store.files import FULL, Disk, atomic_write, full_is_said, whole_file
from tests.support.disk import FailingDisk, RecordingDisk, crashes


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_atomic_write_makes_exactly_this_mode(tmp_path: Path, mode: int) -> None:
    atomic_write(tmp_path / "a", b"one", mode)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert mode_of(tmp_path / "a") == mode
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_atomic_write_replaces_only_where_it_may(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", b"one")
    atomic_write(tmp_path / "a", b"two")
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "a", b"three", replace=False)
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("replace", [False, True])
def test_every_crash_leaves_old_or_new_and_new_once_it_returned(tmp_path: Path, replace: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    disk = RecordingDisk()
    if replace:
        atomic_write(root / "a", b"old", disk=disk)
    before = len(disk.record)
    atomic_write(root / "a", b"the new one", replace=replace, disk=disk)
    for done, left in crashes(disk.record, root, tmp_path / "crashes"):
        if done < before:
            continue
        found = (left / "a").read_bytes() if (left / "a").exists() else None
        assert found in ({b"old", b"the new one"} if replace else {None, b"the new one"})
        if done == len(disk.record):
            assert found == b"the new one"


def test_a_sync_left_out_is_found_by_the_replay(tmp_path: Path) -> None:
    class Forgetful(RecordingDisk):
        def sync(self, descriptor: int) -> None:
            pass

    root = tmp_path / "root"
    root.mkdir()
    disk = Forgetful()
    atomic_write(root / "a", b"new", disk=disk)
    folders = [folder for _, folder in crashes(disk.record, root, tmp_path / "c")]
    assert b"" in [path.read_bytes() for folder in folders for path in folder.glob("a")]


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename"])
@pytest.mark.parametrize("code", sorted(FULL))
def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path, call: str, code: int) -> None:
    atomic_write(tmp_path / "a", b"old")
    with pytest.raises(StateFullError):
        atomic_write(tmp_path / "a", b"new", disk=FailingDisk({call}, code))
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_is_said(tmp_path):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "absent" / "a", b"")


def test_whole_file_appears_only_when_the_block_ends_well(tmp_path: Path) -> None:
    disk = Disk()
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as descriptor:
        disk.write(descriptor, b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with whole_file(tmp_path / "a") as descriptor:
        disk.write(descriptor, b"one ")
        disk.write(descriptor, b"two")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"one two"


def test_appending_and_truncating(tmp_path: Path) -> None:
    disk = RecordingDisk()
    disk.make_directory(tmp_path / "d", 0o700)
    disk.close(disk.create(tmp_path / "d" / "a", 0o600))
    descriptor = disk.open_append(tmp_path / "d" / "a")
    disk.write(descriptor, b"abcdef")
    disk.truncate(descriptor, 3)
    disk.write(descriptor, b"x")
    disk.sync(descriptor)
    disk.close(descriptor)
    assert (tmp_path / "d" / "a").read_bytes() == b"abcx"
    disk.close(disk.open_existing(tmp_path / "d" / "a"))
    crashed = crashes(disk.record, tmp_path, tmp_path / "c")
    last = [folder for done, folder in crashed if done == len(disk.record)]
    # The data is synced; neither the folder's name nor the file's is.
    assert {(folder / "d" / "a").exists() for folder in last} == {False, True}


def test_nothing_is_opened_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for opened in (Disk().open_append, Disk().open_existing):
        with pytest.raises(OSError, match="symbolic links"):
            opened(tmp_path / "link")
