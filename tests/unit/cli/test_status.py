"""`secure-net status`: what it shows of a daemon."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from secure_net.cli import status, status_view
from tests.support.daemon import RunningDaemon
from tests.support.site import make_site


def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = make_site(tmp_path, capsys)
    assert site.run("status") == 1
    assert site.err == "secure-net: no daemon is running here\n"


def test_of_a_daemon(daemon: RunningDaemon) -> None:
    with daemon.proxy() as proxy:
        proxy.math.double(1)
        shown = daemon.cli("status").stdout
        answer = json.loads(daemon.cli("status", "--json").stdout)
    assert "serving, process" in shown
    assert f"rpc       127.0.0.1:{daemon.rpc[1]}" in shown
    assert "connected: demo (1)" in shown
    assert "refused: 0 certificates, 0 tokens, 0 names" in shown
    assert answer["principals"] == {"demo": 1}
    assert answer["process"] == daemon.process.pid


ANSWER: dict[str, Any] = {
    "version": "1",
    "process": 1,
    "started_at": 0.0,
    "uptime_seconds": 90.0,
    "draining": True,
    "services": [
        {
            "name": "rpc",
            "addresses": [],
            "connections_open": 1,
            "connections_total": 2,
            "refused_total": 3,
            "error": "[Errno 24] Too many open files",
            "refused": {"idle": 3},
        }
    ],
    "certificates": [{"file": "server.pem", "names": [], "not_after": 0.0, "days_left": 3.0}],
    "revocations": {
        "epoch": 1,
        "certificates": 1,
        "tokens": 2,
        "names_blocked": 3,
        "crl_expires_at": 86_400.0,
    },
    "problems": {"state": "store cannot be written"},
    "activity": {"series": {"calls": [1.0, 3.0]}},
    "chat": {"rooms": 2, "members": 5, "messages": 17},
    "records": {"audit_head": "", "audit_dropped": 4, "log_dropped": 5},
}


class _EnoughError(BaseException):
    """Ends a watch."""


def test_trouble_is_shown_and_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise _EnoughError

    monkeypatch.setattr(status, "_ask", lambda _: ANSWER)
    monkeypatch.setattr(time, "sleep", sleep)
    site = make_site(tmp_path, capsys)
    with pytest.raises(_EnoughError):
        site.run("status", "--watch")
    shown = capsys.readouterr().out
    assert shown.count("secure-net 1 draining, process 1, up 1 min") == 2
    assert "rpc: [Errno 24] Too many open files" in shown
    assert "rpc refused 3: idle" in shown
    assert "not ready: state: store cannot be written" in shown
    assert "Calls per second, the last 1 min: now 2, mean 2, peak 3" in shown
    assert "crl.pem ends 1970-01-02" in shown
    assert "rooms: 2 in memory with 5 members, 17 messages since the start" in shown
    assert "dropped: 4 audit records, 5 log lines" in shown
    assert slept == [2.0, 2.0]


def test_a_terminal_gets_the_live_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[Any] = []

    def watch(ask: Any, console: Any, seconds: float) -> None:
        watched.extend((ask(), seconds))
        raise _EnoughError

    monkeypatch.setattr(status, "_ask", lambda _: ANSWER)
    monkeypatch.setattr(status_view, "watch", watch)
    site = make_site(tmp_path, capsys)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(_EnoughError):
        site.run("status", "--watch")
    assert watched == [ANSWER, 2.0]
