"""What a target turns out to be."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from secure_net.http import roots
from secure_net.http.lookup import Names, Other, list_folder, look_up
from secure_net.http.roots import AbsentError
from secure_net.http.targets import Root, Target
from tests.support.files import LONG_AGO, descriptors, write


def target(directory: Path, path: str, **root: Any) -> Target:
    """`path` below a root in `directory`; a slash at its end counts."""
    names = tuple(filter(None, path.split("/")))
    return Target(Root((), str(directory), **root), names, path.endswith("/") or not path, f"/{path}")


def look(directory: Path, path: str, **root: Any) -> str:
    """The path of what is found, and its twins behind it, or what it is besides."""
    before = descriptors()
    found = look_up(target(directory, path, **root))
    if isinstance(found, Other):
        assert descriptors() == before
        return found.name
    for file in (found.file, *found.twins.values()):
        assert file.is_there()
    shown = " ".join((os.path.relpath(found.file.path, directory), *found.twins))
    assert found.name == Path(found.file.path).name
    found.release()
    assert descriptors() == before
    return shown


def absent(directory: Path, path: str, **root: Any) -> bool:
    before = descriptors()
    with pytest.raises(AbsentError):
        look_up(target(directory, path, **root))
    assert descriptors() == before
    return True


def test_files(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b")
    assert look(tmp_path, "a/b") == "a/b"
    assert absent(tmp_path, "a/b/")
    assert absent(tmp_path, "a/c")
    assert absent(tmp_path, "c/")


def test_folders(tmp_path: Path) -> None:
    write(tmp_path / "a" / "index.html")
    (tmp_path / "empty").mkdir()
    assert look(tmp_path, "a") == "REDIRECT"
    assert look(tmp_path, "a/") == "a/index.html"
    assert absent(tmp_path, "empty")
    assert absent(tmp_path, "empty/")
    assert look(tmp_path, "empty", listing=True) == "REDIRECT"
    assert look(tmp_path, "empty/", listing=True) == "LISTING"
    assert look(tmp_path, "a/", listing=True) == "a/index.html"


def test_the_root_itself(tmp_path: Path) -> None:
    """At ``/manuals``, without its slash."""
    bare = target(tmp_path, "", listing=True)._replace(slash=False)
    assert look_up(bare) is Other.REDIRECT
    assert look(tmp_path, "", listing=True) == "LISTING"
    with pytest.raises(AbsentError):
        look_up(target(tmp_path / "gone", "", listing=True)._replace(slash=False))


def test_the_first_index_that_is_there(tmp_path: Path) -> None:
    names = ("index.htm", "index.html", "index.txt")
    write(tmp_path / "index.txt")
    (tmp_path / "index.htm").mkdir()
    assert look(tmp_path, "", index=names) == "index.txt"
    write(tmp_path / "index.html")
    assert look(tmp_path, "", index=names) == "index.html"
    assert absent(tmp_path, "", index=())


def test_a_path_that_is_too_long_for_the_system(tmp_path: Path) -> None:
    names = ["x" * 250] * 16
    place = os.open(tmp_path, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=place)
        inner = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(os.open("y" * 200, os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(os.open("z", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)
    assert absent(tmp_path, "/".join([*names, "y" * 200]))


def test_twins(tmp_path: Path) -> None:
    write(tmp_path / "a.css")
    assert look(tmp_path, "a.css") == "a.css"
    write(tmp_path / "a.css.gz", modified=LONG_AGO)
    write(tmp_path / "a.css.br", modified=LONG_AGO + 1)
    assert look(tmp_path, "a.css") == "a.css br gzip"
    assert look(tmp_path, "a.css", precompressed=False) == "a.css"
    assert look(tmp_path, "a.css.gz") == "a.css.gz"
    write(tmp_path / "a.css.br", modified=LONG_AGO - 1)
    assert look(tmp_path, "a.css") == "a.css gzip"  # of what the file was before
    (tmp_path / "a.css.gz").unlink()
    (tmp_path / "a.css.gz").mkdir()
    assert look(tmp_path, "a.css") == "a.css"


def test_a_twin_without_its_file_is_nothing_more_than_itself(tmp_path: Path) -> None:
    write(tmp_path / "a.css.gz")
    assert absent(tmp_path, "a.css")


@pytest.mark.parametrize("suffix", ["a", "a.br", "a.gz"])
def test_trouble_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    for name in ("a", "a.br", "a.gz"):
        write(tmp_path / name)
    whole = roots.open_file

    def broken(place: int, name: str) -> tuple[int, os.stat_result]:
        if name == suffix:
            raise OSError(errno.EMFILE, "too many")
        return whole(place, name)

    monkeypatch.setattr(roots, "open_file", broken)
    before = descriptors()
    with pytest.raises(OSError, match="too many"):
        look_up(target(tmp_path, "a"))
    assert descriptors() == before


def read(directory: Path, after: str = "", known: Names | None = None, **more: int) -> tuple[Names, str]:
    counts = {"page_count": 2, "folder_count": 100} | more
    where = target(directory, "", listing=True) if known is None else known.target
    names, page = list_folder(where, after, known=known, **counts)
    return names, page.decode()


def test_a_listing_page_by_page(tmp_path: Path) -> None:
    for name in "abcde":
        write(tmp_path / name)
    names, page = read(tmp_path)
    assert ("./a", "./b", "./c" in page, "?after=b" in page) == ("./a", "./b", False, True)
    again, page = read(tmp_path, "b", names)
    assert again is names
    assert [f"./{name}" in page for name in "abcde"] == [False, False, True, True, False]
    _, page = read(tmp_path, "bb", names)  # a name that is gone is still a place
    assert "./c" in page
    _, page = read(tmp_path, "d", names)
    assert "./e" in page
    assert "?after=" not in page
    _, page = read(tmp_path, "z", names)
    assert "./" not in page


def test_names_are_read_anew_when_the_folder_has_changed(tmp_path: Path) -> None:
    write(tmp_path / "a")
    names, _ = read(tmp_path)
    write(tmp_path / "b")
    os.utime(tmp_path, (1, 1))  # the clock of file systems has ticks
    again, page = read(tmp_path, "", names)
    assert again is not names
    assert "./b" in page
    other, _ = read(tmp_path)  # another target
    assert other.names == again.names


def test_a_folder_that_is_too_large_or_gone(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / name)
    for directory, most in ((tmp_path, 2), (tmp_path / "gone", 100)):
        with pytest.raises(AbsentError):
            read(directory, folder_count=most)


def test_above_the_top_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    _, top = list_folder(target(tmp_path, ""), "", page_count=1, folder_count=1, known=None)
    _, below = list_folder(target(tmp_path, "a/"), "", page_count=1, folder_count=1, known=None)
    assert b'"../"' not in top
    assert b'"../"' in below
