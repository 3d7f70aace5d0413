"""`backup FILE`: a copy that can be opened, and nothing overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secure_net.cli.main import FAILED, run
from secure_net.store.sqlite import STORE_FILE, SQLiteStore


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "secure-net.toml").write_text("")
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    return tmp_path / "state"


def test_a_copy_can_be_put_in_the_state_s_place(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["revoke", "bob"]) == 0
    capsys.readouterr()
    assert run(["backup", "copy"]) == 0  # relative to where the command stands
    copy = state.parent / "copy"
    assert capsys.readouterr().out == f"written: {copy}\n"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert run(["user", "unlock", "bob"]) == 0
    copy.replace(state / STORE_FILE)
    store = SQLiteStore.open(state)
    assert store.snapshot().names["bob"].blocked_since is not None
    store.close()


def test_json(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", "copy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(state.parent / "copy")}


def test_nothing_is_overwritten(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state.parent / "copy").write_text("precious")
    assert run(["backup", "copy"]) == FAILED
    assert "not overwritten" in capsys.readouterr().err
    assert (state.parent / "copy").read_text() == "precious"
