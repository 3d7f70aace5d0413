"""Opening, name by name."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from secure_net.http import roots
from secure_net.http.roots import AbsentError, IsFolderError, described, folder, open_file, visible_names
from tests.support.files import descriptors, write


def content(directory: Path, *names: str) -> bytes:
    *above, name = names
    with folder(str(directory), above) as place:
        descriptor, about = open_file(place, name)
    try:
        assert about.st_size == os.fstat(descriptor).st_size
        return os.read(descriptor, 1000)
    finally:
        os.close(descriptor)


def test_files_and_folders(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "c", b"deep")
    before = descriptors()
    assert content(tmp_path, "a", "b", "c") == b"deep"
    with folder(str(tmp_path), ["a"]) as place, pytest.raises(IsFolderError):
        open_file(place, "b")
    assert descriptors() == before


@pytest.mark.parametrize(
    "names", [["x"], ["a", "x"], ["file", "x"], ["x" * 300], ["link", "c"], ["loop", "x"]]
)
def test_folders_that_are_not_there(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path / "file")
    write(tmp_path / "a" / "c")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "loop").symlink_to("loop")
    before = descriptors()
    with pytest.raises(AbsentError), folder(str(tmp_path), names):
        raise AssertionError
    assert descriptors() == before
    with pytest.raises(AbsentError), folder(str(tmp_path / "nowhere"), ()):
        raise AssertionError


def test_the_root_itself_may_be_a_symlink_of_the_operator(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a", b"x")
    (tmp_path / "current").symlink_to("real")
    assert content(tmp_path / "current", "a") == b"x"


def test_what_is_no_regular_file_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server, folder(str(tmp_path), ()) as place:
        server.bind(str(tmp_path / "socket"))
        for name in ("link", "dangling", "fifo", "socket", "nowhere"):
            with pytest.raises(AbsentError):
                open_file(place, name)


def test_what_becomes_something_else_between_look_and_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look says a regular file; what is opened is another thing."""
    real = write(tmp_path / "real").stat()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    before = descriptors()
    with folder(str(tmp_path), ()) as place:
        monkeypatch.setattr(os, "stat", lambda *_, **__: real)
        for name in ("fifo", "folder", "link"):
            with pytest.raises(AbsentError):
                open_file(place, name)
    assert descriptors() == before


def test_trouble_of_ours_is_not_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a")

    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "too many")

    before = descriptors()
    with folder(str(tmp_path), ()) as place:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", broken)
            with pytest.raises(OSError, match="too many"):
                open_file(place, "a")
        monkeypatch.setattr(os, "open", broken)
        with pytest.raises(OSError, match="too many"):
            open_file(place, "a")
        with pytest.raises(OSError, match="too many"), folder(str(tmp_path), ()):
            raise AssertionError
    assert descriptors() == before


def test_names_in_order_and_only_those_that_can_be_asked_for(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden", "c\nd", "ä", "e\\f"):
        write(tmp_path / name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):  # noqa: PTH123 - a name that is not UTF-8
        pass
    with folder(str(tmp_path), ()) as place:
        names = visible_names(place, 4)
        assert names == [("a", False), ("b", False), ("folder", True), ("ä", False)]
        with pytest.raises(AbsentError):
            visible_names(place, 3)
        (tmp_path / "b").unlink()
        entries = described(place, names)
    assert [(entry.name, entry.size) for entry in entries] == [("a", 7), ("folder", None), ("ä", 7)]


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    with folder(str(tmp_path), ()) as place:
        monkeypatch.setattr(roots.os, "open", denied)
        with pytest.raises(AbsentError):
            visible_names(place, 10)
