"""Open files and their users."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from secure_net.http import opened
from secure_net.http.opened import KEEP_SECONDS, Found, OpenFile, OpenFiles
from secure_net.http.targets import Root, Target
from tests.support.clock import FakeClock
from tests.support.files import LONG_AGO, write

ROOT = Root((), "/")


def open_file(path: Path) -> OpenFile:
    descriptor = os.open(path, os.O_RDONLY)
    return OpenFile(descriptor, os.fstat(descriptor), str(path))


def target(name: str) -> Target:
    return Target(ROOT, (name,), False, f"/{name}")


def test_what_is_known_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"12345")
    file = open_file(path)
    assert (file.size, file.modified) == (5, LONG_AGO)
    assert file.etag == b'"%x-%x-%x"' % (path.stat().st_ino, LONG_AGO * 10**9, 5)
    assert file.is_there()
    assert file.is_unchanged()
    file.release()


def test_the_last_user_closes_it(tmp_path: Path) -> None:
    file = open_file(write(tmp_path / "a"))
    assert file.hold() is file
    file.release()
    os.fstat(file.descriptor)
    descriptor = file.descriptor
    file.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert file.descriptor == -1


@pytest.mark.parametrize(
    ("change", "unchanged"),
    [
        (lambda path: path.unlink(), True),
        (lambda path: path.rename(path.with_name("b")), True),
        (lambda path: path.chmod(0o600), True),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), True),
        (lambda path: write(path.with_name("b"), b"content").rename(path), True),
        (lambda path: path.write_bytes(b"other content"), False),
        (lambda path: path.write_bytes(b""), False),
        (lambda path: os.utime(path, (1, 1)), False),
    ],
)
def test_what_has_changed_is_not_there_any_more(tmp_path: Path, change: Any, unchanged: bool) -> None:
    path = write(tmp_path / "a")
    file = open_file(path)
    change(path)
    assert not file.is_there()
    assert file.is_unchanged() is unchanged  # who is being sent it need not care about its name
    file.release()


def test_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_file(write(tmp_path / "a", b"0123456789"))
    buffer = memoryview(bytearray(4))
    assert file.read(buffer, 8) == 2
    assert bytes(buffer[:2]) == b"89"
    assert file.read(buffer, 10) == 0
    monkeypatch.setattr(opened, "NO_WAIT", 0)  # every file system takes this
    assert file.read_at_once(buffer, 3) == 4
    assert bytes(buffer) == b"3456"
    assert file.read_at_once(buffer, 10) == 0
    monkeypatch.setattr(opened, "NO_WAIT", None)
    assert file.read_at_once(buffer, 0) == -1
    file.release()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EOPNOTSUPP])
def test_what_would_have_to_wait_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    file = open_file(write(tmp_path / "a"))
    monkeypatch.setattr(opened, "NO_WAIT", 0)
    monkeypatch.setattr(os, "preadv", refuse)
    assert file.read_at_once(memoryview(bytearray(1)), 0) == -1
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        file.read_at_once(memoryview(bytearray(1)), 0)
    file.release()


def test_a_read_that_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.preadv
    file = open_file(write(tmp_path / "a", b"0123456789"))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: whole(fd, [buffers[0][:3]], at))
    buffer = memoryview(bytearray(8))
    assert file.read(buffer, 1) == 8
    assert bytes(buffer) == b"12345678"
    file.release()


class Kept:
    """`OpenFiles`, and what it let go of."""

    def __init__(self, tmp_path: Path, most: int = 3) -> None:
        self.clock = FakeClock()
        self.files = OpenFiles(self.clock, most)
        self._folder = tmp_path
        self.all: dict[str, OpenFile] = {}

    def keep(self, name: str) -> Found:
        file = open_file(write(self._folder / name))
        twin = open_file(write(self._folder / f"{name}.gz"))
        self.all[name] = file
        found = Found(file, name, {"gzip": twin})
        self.files.keep(target(name), found)
        return found

    @property
    def open(self) -> set[str]:
        return {name for name, file in self.all.items() if file.descriptor >= 0}


def test_kept_for_a_while(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    found = kept.keep("a")
    kept.clock.advance(KEEP_SECONDS / 2)
    kept.keep("b")
    assert kept.files.get(target("a")) is found
    assert kept.files.get(target("c")) is None
    kept.clock.advance(KEEP_SECONDS / 2)
    assert kept.open == {"b"}
    assert found.twins["gzip"].descriptor == -1
    kept.clock.advance(KEEP_SECONDS / 2)
    assert kept.open == set()
    assert len(kept.files) == 0
    assert kept.clock.pending == 0
    kept.keep("c")
    assert kept.clock.pending == 1
    kept.files.clear()
    assert kept.clock.pending == 0
    kept.files.clear()
    assert kept.open == set()


def test_kept_as_many_as_may_and_one_for_each(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for name in "abcd":
        kept.keep(name)
    assert kept.open == set("bcd")
    before = kept.all["d"]
    kept.keep("d")
    assert before.descriptor == -1
    assert kept.open == set("bcd")
    kept.files.forget(target("b"))
    kept.files.forget(target("b"))
    assert kept.open == set("cd")
    kept.clock.advance(KEEP_SECONDS)
    assert kept.open == set()
