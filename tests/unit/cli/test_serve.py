"""`secure-net serve` is `secure_net.daemon.life` under a name; its life is tests/unit/test_daemon.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from secure_net.cli import serve
from tests.support.site import make_site


def test_the_program_is_named_so_that_it_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "secure-net"
    script.touch()
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert serve._program() == str(script)
    monkeypatch.setattr(sys, "argv", ["/elsewhere/cli/__main__.py"])
    assert serve._program() == "secure-net"


def test_lines_leave_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    serve.say("ready")
    assert capsys.readouterr().out == "ready\n"


def test_it_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = make_site(tmp_path, capsys)
    (site.directory / "certs" / "server.pem").unlink()
    assert site.run("serve") == 78
    assert "server.pem: does not exist; run `secure-net init`" in site.err
