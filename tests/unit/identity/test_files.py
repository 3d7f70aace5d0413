from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from secure_net.errors import ConfigurationError, ExistsError, StateFullError
from secure_net.identity import files


def test_a_secret_is_nobody_else_s(tmp_path: Path) -> None:
    secret, public = tmp_path / "a.key", tmp_path / "a.pem"
    files.write_new(secret, b"key")
    files.write_new(public, b"pem", files.PUBLIC)
    assert [path.stat().st_mode & 0o777 for path in (secret, public)] == [0o600, 0o644]
    assert files.read(secret) == b"key"
    assert sorted(tmp_path.iterdir()) == [secret, public]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_new(path, b"old")
    with pytest.raises(ExistsError, match=r"a: exists already, and is not overwritten; look"):
        files.write_new(path, b"new", cure="look")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(ExistsError):
        files.write_new(tmp_path / "a", b"new")
    assert not (tmp_path / "b").exists()


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for data in (b"first", b"second"):
        files.replace(path, data, files.PUBLIC)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_says_is_told_with_path_and_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent: no such file or directory; make it"):
        files.read(tmp_path / "absent", "make it")
    for number, expected in ((errno.ENOSPC, StateFullError), (errno.EACCES, ConfigurationError)):
        with pytest.raises(expected), files.told_clearly(tmp_path):
            raise OSError(number, os.strerror(number))
    with pytest.raises(ConfigurationError, match="oserror"), files.told_clearly(tmp_path):
        raise OSError
