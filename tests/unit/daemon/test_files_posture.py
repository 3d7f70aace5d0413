"""What is found about the folders that files are served from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secure_net.daemon.files_posture import Row, files_problems
from secure_net.tables import FilesRootTable, FilesTable


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("www", "www/inner", "www/.private", "other"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("www/inner")
    return tmp_path


def root(path: str, directory: str, access: str = "scope") -> FilesRootTable:
    return FilesRootTable(path=path, directory=directory, access=access)  # type: ignore[arg-type]


def found(base: Path, *roots: FilesRootTable, policy: str = "sandbox") -> list[Row]:
    return list(files_problems(FilesTable(roots=roots, content_security_policy=policy), base))


def test_nothing(base: Path) -> None:
    assert found(base, root("/", "www", "public"), root("/other", "other")) == []


def test_no_root(base: Path) -> None:
    ((level, where, *_),) = found(base)
    assert (level, where) == ("warning", "files.roots")


@pytest.mark.parametrize(
    ("directory", "problem"),
    [("nowhere", "No such file"), ("file", "is no directory"), ("file/x", "Not a directory")],
)
def test_what_is_no_folder(base: Path, directory: str, problem: str) -> None:
    ((level, where, text, cure),) = found(base, root("/", "www"), root("/a", directory))
    assert (level, where) == ("error", "files.roots[1].directory")
    assert problem in text
    assert cure


def test_a_folder_that_we_may_not_read(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    ((level, _, text, _),) = found(base, root("/", "www"))
    assert level == "error"
    assert "may not be read" in text


def test_a_folder_that_everybody_can_change(base: Path) -> None:
    (base / "www").chmod(0o777)
    ((level, _, text, cure),) = found(base, root("/", "www"))
    assert level == "warning"
    assert "everybody" in text
    assert cure == f"run `chmod o-w {base / 'www'}`"


@pytest.mark.parametrize("directory", ["www", "www/inner", "link", "www/../www/inner"])
def test_what_asks_for_a_scope_and_can_be_had_without(base: Path, directory: str) -> None:
    rows = found(base, root("/", "www", "public"), root("/secret", directory))
    ((level, where, text, _),) = rows
    assert (level, where) == ("error", "files.roots[1].directory")
    assert "files.roots[0], which is public" in text


def test_what_lies_in_a_hidden_folder_or_is_public_itself_is_no_overlap(base: Path) -> None:
    assert found(base, root("/", "www", "public"), root("/s", "www/.private")) == []
    assert found(base, root("/", "www", "public"), root("/s", "www/inner", "public")) == []
    assert found(base, root("/", "www"), root("/s", "www/inner", "public")) == []


def test_without_a_sandbox(base: Path) -> None:
    ((level, where, *_),) = found(base, root("/", "www"), policy="default-src 'self'")
    assert (level, where) == ("notice", "files.content_security_policy")
