"""`user list`, `user lock`, `user unlock`: with no daemon, on the state itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secure_net.cli.main import FAILED, WRONG_USAGE, run


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "secure-net.toml").write_text("")
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    return tmp_path / "state"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(list(arguments)) == 0
    return capsys.readouterr().out


def test_locking_and_unlocking(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        said(capsys, "user", "lock", "bob") == "bob is locked: no daemon is running, the next one will know\n"
    )
    assert said(capsys, "user", "list").splitlines()[1].split() == ["bob", "locked", "0", "-"]
    answer = json.loads(said(capsys, "user", "unlock", "bob", "--json"))
    assert answer == {"name": "bob", "daemon": False, "epoch": 2, "connections_cut": 0}
    assert said(capsys, "user", "list").splitlines()[1].split() == ["bob", "active", "0", "-"]


def test_a_name_that_was_revoked_shows_it(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "revoke", "bob")
    said(capsys, "user", "unlock", "bob")
    assert "revoked before" in said(capsys, "user", "list")
    (bob,) = json.loads(said(capsys, "user", "list", "--json"))
    assert (bob["name"], bob["locked"]) == ("bob", False)
    assert bob["revoked_before"] > 0


def test_an_empty_state(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "user", "list").split() == ["NAME", "STATE", "CERTIFICATES", "SCOPES"]
    assert json.loads(said(capsys, "user", "list", "--json")) == []


@pytest.mark.parametrize("command", ["lock", "unlock"])
def test_what_is_no_name(state: Path, command: str) -> None:
    assert run(["user", command, "Not A Name"]) == WRONG_USAGE


def test_no_state(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.rmdir()
    assert run(["user", "list"]) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert "secure-net init" in line
