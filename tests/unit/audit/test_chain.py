"""The chain on disk: every line links to the one before, and a crash leaves at most a fragment."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_net.audit.chain import (
    GENESIS,
    RECENT,
    TORN,
    Entry,
    Fields,
    Position,
    TrailFile,
    decode,
    digest,
    encode,
    files_of,
)
from secure_net.audit.reader import verify
from secure_net.errors import StateDamagedError, StateFullError
from tests.support.disk import FailingDisk, RecordingDisk, crashes

KEY = Ed25519PrivateKey.generate()


def said(*whats: str) -> list[Entry]:
    def entry(what: str) -> Entry:
        fields: Fields = {"time": "2026-01-01T00:00:00Z", "what": what}
        return lambda *_: fields

    return [entry(what) for what in whats]


def lines_of(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in files_of(directory) for line in path.read_bytes().splitlines()]


def whats(directory: Path) -> list[object]:
    return [line["what"] for line in lines_of(directory)]


def test_every_line_links_to_the_one_before(tmp_path: Path) -> None:
    trail = TrailFile(tmp_path)
    assert trail.append(said("a", "b"), "now") == [Position(1, trail_hash(tmp_path, 0)), trail.position]
    trail.append(said("c"), "now")
    trail.close()
    trail.close()
    raw = (tmp_path / f"{1:020d}.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["previous"] for line in raw] == [
        GENESIS,
        hashlib.sha256(raw[0]).hexdigest(),
        hashlib.sha256(raw[1]).hexdigest(),
    ]
    assert [json.loads(line)["sequence"] for line in raw] == [1, 2, 3]
    assert str(trail.position) == f"3:{hashlib.sha256(raw[2]).hexdigest()}"
    assert files_of(tmp_path)[0].stat().st_mode & 0o777 == 0o600


def trail_hash(directory: Path, line: int) -> str:
    return digest(files_of(directory)[0].read_bytes().splitlines()[line])


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    for what in "abc":
        trail = TrailFile(tmp_path)
        trail.append(said(what), "now")
        trail.close()
    assert whats(tmp_path) == ["a", "b", "c"]
    assert verify(tmp_path, KEY.public_key()).sound


def test_a_full_file_is_followed_by_another(tmp_path: Path) -> None:
    trail = TrailFile(tmp_path, rotate_bytes=300)
    for number in range(10):
        trail.append(said(str(number)), "now")
    trail.close()
    assert [int(path.stem) for path in files_of(tmp_path)] == [1, 4, 7, 10]
    sizes = [path.stat().st_size for path in files_of(tmp_path)]
    assert all(300 <= size < 600 for size in sizes[:-1])
    report = verify(tmp_path, KEY.public_key())
    assert (report.sound, report.last) == (True, 10)
    again = TrailFile(tmp_path, rotate_bytes=300)
    again.append(said("x"), "now")
    again.close()
    assert verify(tmp_path, KEY.public_key()).last == 11


def test_a_fragment_stays_as_it_is_and_is_told_of(tmp_path: Path) -> None:
    trail = TrailFile(tmp_path)
    trail.append(said("a"), "now")
    trail.close()
    (file,) = files_of(tmp_path)
    torn = file.read_bytes() + b'{"sequence":2,"wh\x00\x00'
    file.write_bytes(torn)
    trail = TrailFile(tmp_path)
    (position,) = trail.append(said("b"), "now")
    assert position.sequence == 3
    trail.append(said("c"), "now")
    trail.close()
    assert file.read_bytes() == torn
    (_, second) = files_of(tmp_path)
    marker = json.loads(second.read_bytes().splitlines()[0])
    fragment = torn.rpartition(b"\n")[2]
    assert marker["what"] == TORN
    assert marker["time"] == "now"
    assert marker["details"] == {"bytes": len(fragment), "sha256": digest(fragment)}
    report = verify(tmp_path, KEY.public_key())
    assert report.sound
    assert report.warnings == (f"{file.name} line 2: {len(fragment)} bytes torn by a crash",)


@pytest.mark.parametrize("content", [b"", b"junk\n", b'{"sequence":"1"}\n', b"\xff\n"])
def test_a_last_line_that_is_none_stops_us(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{1:020d}.jsonl").write_bytes(content)
    with pytest.raises(StateDamagedError, match="audit verify"):
        TrailFile(tmp_path)


def test_other_files_in_the_folder_are_not_ours(tmp_path: Path) -> None:
    for name in ("notes.txt", "a.jsonl", ".00000000000000000001.jsonl.abc.part"):
        (tmp_path / name).write_bytes(b"junk")
    trail = TrailFile(tmp_path)
    trail.append(said("a"), "now")
    trail.close()
    assert whats(tmp_path) == ["a"]


@pytest.mark.parametrize("calls", [{"write"}, {"sync"}, {"write", "truncate"}, {"sync", "truncate"}])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_after_a_failed_write_the_chain_goes_on_and_is_sound(
    tmp_path: Path, calls: set[str], code: int
) -> None:
    disk = FailingDisk(calls, code)
    disk.failing = False
    trail = TrailFile(tmp_path, disk)
    trail.append(said("a"), "now")
    disk.failing = True
    for _ in range(2):
        with pytest.raises(StateFullError):
            trail.append(said("lost", "lost"), "now")
    disk.failing = False
    trail.append(said("b"), "now")
    trail.close()
    assert verify(tmp_path, KEY.public_key()).sound
    if "truncate" not in calls:
        assert whats(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("call", ["create", "write", "sync", "link", "sync_directory"])
def test_a_file_that_cannot_be_begun(tmp_path: Path, call: str) -> None:
    disk = FailingDisk({call})
    trail = TrailFile(tmp_path, disk)
    with pytest.raises(StateFullError):
        trail.append(said("lost"), "now")
    disk.failing = False
    trail.append(said("a"), "now")
    trail.close()
    assert verify(tmp_path, KEY.public_key()).sound
    assert whats(tmp_path)[-1] == "a"


def test_an_error_that_is_not_the_disk_s_passes(tmp_path: Path) -> None:
    disk = FailingDisk({"write"}, errno.EBADF)
    disk.failing = False
    trail = TrailFile(tmp_path, disk)
    trail.append(said("a"), "now")
    disk.failing = True
    with pytest.raises(OSError, match="Bad file descriptor"):
        trail.append(said("b"), "now")


def test_every_crash_leaves_a_trail_that_goes_on_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    disk = RecordingDisk()
    trail = TrailFile(root, disk, rotate_bytes=500)
    acknowledged: list[tuple[int, int]] = []  # (steps recorded, last line then on the disk)
    for number in range(5):
        position = trail.append(said(f"a{number}", f"b{number}"), "now")[-1]
        acknowledged.append((len(disk.record), position.sequence))
    trail.close()
    tried = 0
    for done, left in crashes(disk.record, root, tmp_path / "crashes"):
        owed = max([last for steps, last in acknowledged if steps <= done], default=0)
        before = verify(left, KEY.public_key())
        assert before.sound, before.problems
        assert before.last >= owed
        again = TrailFile(left)
        again.append(said("after"), "now")
        again.close()
        after = verify(left, KEY.public_key())
        assert after.sound, after.problems
        tried += 1
    assert tried > 60


def test_positions_are_written_and_read() -> None:
    position = Position(12, "ab" * 32)
    assert Position.parse(str(position)) == position
    assert Position.parse(str(position).upper()) == position
    for text in ("", "12", "12:ab", f"x:{'a' * 64}", f"-1:{'a' * 64}", f"\uff11:{'a' * 64}"):
        with pytest.raises(ValueError, match="SEQUENCE:HASH"):
            Position.parse(text)


def test_a_line_is_ascii_and_no_line_is_none() -> None:
    line = encode(1, GENESIS, {"time": "t", "what": "a\n\x1b\u202e", "who": "Zoë"})
    assert line.isascii()
    assert b"\n" not in line
    link = decode(line)
    assert link is not None
    assert (link.sequence, link.previous, link.what) == (1, GENESIS, "a\n\x1b\u202e")
    assert decode(b"[]") is None


def test_the_last_lines_are_kept_in_memory(tmp_path: Path) -> None:
    """Those written now, and, after a restart, those of the last file; no more than so many."""
    trail = TrailFile(tmp_path)
    assert trail.recent == ()
    trail.append(said("a", "b"), "now")
    lines = (tmp_path / f"{1:020d}.jsonl").read_bytes().splitlines()
    assert list(trail.recent) == lines
    trail.append(said(*["c"] * (RECENT + 5)), "now")
    assert len(trail.recent) == RECENT
    trail.close()
    again = TrailFile(tmp_path)
    assert again.recent == trail.recent
    again.append(said("d"), "now")
    assert [json.loads(line)["what"] for line in again.recent] == ["c"] * (RECENT - 1) + ["d"]
    again.close()


def test_what_could_not_be_written_is_not_among_the_last_lines(tmp_path: Path) -> None:
    disk = FailingDisk({"write"})
    disk.failing = False
    trail = TrailFile(tmp_path, disk)
    trail.append(said("a"), "now")
    disk.failing = True
    with pytest.raises(StateFullError):
        trail.append(said("b"), "now")
    assert [json.loads(line)["what"] for line in trail.recent] == ["a"]
    trail.close()
