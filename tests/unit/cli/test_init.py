"""`secure-net init`: what it writes, with which modes, and that it overwrites nothing."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from secure_net import config
from secure_net.cli.main import run
from secure_net.clock import SystemWall
from secure_net.daemon.posture import examine
from secure_net.daemon.registries import load_registries
from secure_net.errors import StateFullError
from secure_net.identity import setup


def test_a_folder_that_serves_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house = tmp_path / "house"
    assert run(["init", str(house)]) == 0
    shown = capsys.readouterr().out
    assert f"wrote {house}/secure-net.toml\n" in shown
    assert shown.endswith(f"next: cd {house} && secure-net serve\n")
    configuration = config.load(house / "secure-net.toml", {})
    assert list(configuration.services) == ["rpc", "files", "echo", "chat", "chat-web", "admin"]
    assert set(configuration.identities) == {"admin", "metrics", "demo"}
    assert {"math.double", "time.currentTime"} <= set(load_registries(configuration).methods)
    assert not [
        finding for finding in examine(configuration, SystemWall().wall()) if finding.level == "error"
    ]


def test_what_must_stay_secret_does(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path)]) == 0
    modes = {path.relative_to(tmp_path): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes[Path("ca")] == modes[Path("state")] == 0o700
    assert {modes[path] for path in modes if path.suffix == ".key"} == {0o600}
    assert modes[Path("certs/ca.pem")] == 0o644


def test_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path), "--name", "rpc.example.org", "--name", "10.0.0.1", "--json"]) == 0
    assert f"{tmp_path}/ca" in json.loads(capsys.readouterr().out)["written"]
    configuration = config.load(tmp_path / "secure-net.toml", {})
    assert configuration.server.names == ("rpc.example.org", "10.0.0.1")
    assert run(["--config", str(tmp_path / "secure-net.toml"), "check"]) == 0


def test_in_a_checkout_the_examples_are_served(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "services.py").touch()
    assert run(["init", str(tmp_path)]) == 0
    assert not (tmp_path / "services.py").exists()
    configuration = config.load(tmp_path / "secure-net.toml", {})
    assert configuration.rpc is not None
    assert configuration.rpc.services == ("examples.services:registry",)


def test_a_services_module_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "services.py").write_text("mine = 1")
    assert run(["init", str(tmp_path)]) == 0
    assert (tmp_path / "services.py").read_text() == "mine = 1"


@pytest.mark.parametrize("name", ["secure-net.toml", "certs/server.key", "ca/x"])
def test_nothing_is_overwritten_and_nothing_is_left(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    assert run(["init", str(tmp_path)]) == 1
    assert "choose another directory" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert path.read_text() == "precious"


def test_a_wrong_name_leaves_nothing(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path), "--name", 'Evil"']) == 78
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StateFullError(f"disk: {errno.ENOSPC}")

    monkeypatch.setattr(setup, "write_pair", full)
    assert run(["init", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "secure-net: disk: 28\n"
    assert list(tmp_path.iterdir()) == []


def test_here_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    assert capsys.readouterr().out.endswith("next: secure-net serve\n")
