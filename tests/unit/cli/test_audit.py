"""`audit tail` and `audit verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from secure_net.audit.chain import files_of
from secure_net.audit.trail import DIRECTORY, PUBLIC_KEY_FILE
from secure_net.cli import audit
from secure_net.cli.main import FAILED, INTERRUPTED, WRONG_USAGE, run


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A state in which two acts were done: three lines each."""
    (tmp_path / "secure-net.toml").write_text("")
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    assert run(["revoke", "bob"]) == run(["user", "unlock", "bob"]) == 0
    capsys.readouterr()
    return tmp_path / "state"


def spoil(state: Path) -> None:
    (file,) = files_of(state / DIRECTORY)
    file.write_bytes(file.read_bytes().replace(b"bob", b"eve"))


def test_tail(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "tail", "-n", "3"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [words[0] for words in lines] == ["4", "5", "6"]
    assert lines[0][2] == "-"
    assert lines[0][3].startswith("uid:")
    assert lines[0][4:] == ["control", "unlock", "begun", "name=bob"]
    assert lines[1][-1] == "begun=4"


def test_tail_as_json_is_the_lines_as_they_are(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "tail", "--json"]) == 0
    (file,) = files_of(state / DIRECTORY)
    assert capsys.readouterr().out == file.read_text()


def test_following_goes_on_with_what_is_added(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter([lambda: run(["revoke", "amy"]), lambda: None])

    def sleep(_: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(audit.time, "sleep", sleep)
    assert run(["audit", "tail", "-n", "0", "--follow"]) == INTERRUPTED
    shown = [line for line in capsys.readouterr().out.splitlines() if "name=amy" in line]
    assert len(shown) == 1


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"junk", "junk"),
        (b"[1]", "[1]"),
        (b"{}", "     ? - - - - - -"),
        (b'{"sequence":1,"who":"x","details":"d d","more":2}', '     1 - - x - - - details="d d" more=2'),
        (b"\xff", "\\xff"),
    ],
)
def test_lines_that_somebody_else_wrote(line: bytes, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    audit._show([line], as_json=False)
    assert capsys.readouterr().out.rstrip("\n") == shown


def test_a_sound_trail(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify"]) == 0
    assert capsys.readouterr().out.startswith("sound: lines 1 to 6, signed up to 6; head 6:")
    assert run(["audit", "verify", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["sound"], report["last"], report["problems"]) == (True, 6, [])
    assert run(["audit", "verify", "--head", report["head"]]) == 0


def test_a_trail_that_was_changed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(state)
    assert run(["audit", "verify"]) == FAILED
    captured = capsys.readouterr()
    assert "changed" in captured.out
    assert len(captured.err.splitlines()) == 1
    assert run(["audit", "verify", "--json"]) == FAILED
    assert json.loads(capsys.readouterr().out)["sound"] is False


def test_an_end_that_was_cut_off(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", "--json"]) == 0
    head = json.loads(capsys.readouterr().out)["head"]
    (file,) = files_of(state / DIRECTORY)
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:3]))
    assert run(["audit", "verify"]) == 0
    assert run(["audit", "verify", "--head", head]) == FAILED


def test_a_key_that_was_kept_elsewhere(state: Path, tmp_path: Path) -> None:
    shutil.copy(state / PUBLIC_KEY_FILE, tmp_path / "kept")
    (state / PUBLIC_KEY_FILE).unlink()
    assert run(["audit", "verify"]) == FAILED
    assert run(["audit", "verify", "--key", str(tmp_path / "kept")]) == 0


def test_older_files_that_were_archived(state: Path) -> None:
    (file,) = files_of(state / DIRECTORY)
    lines = file.read_bytes().splitlines(keepends=True)
    file.rename(file.with_name(f"{4:020d}.jsonl")).write_bytes(b"".join(lines[3:]))
    assert run(["audit", "verify"]) == FAILED
    assert run(["audit", "verify", "--first", "4"]) == 0


def test_wrong_usage_and_no_trail(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", "--head", "nonsense"]) == WRONG_USAGE
    shutil.rmtree(state / DIRECTORY)
    capsys.readouterr()
    assert run(["audit", "tail"]) == FAILED
    assert "no audit trail yet" in capsys.readouterr().err
