"""What systemd is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_net.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A socket that listens as systemd does, and how the environment spells its name."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@secure-net-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1))
        listening.settimeout(5)
        yield name, listening


def test_every_word(systemd: tuple[str, socket.socket]) -> None:
    name, listening = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("rpc on 127.0.0.1:8443")
    assert listening.recv(4096) == b"READY=1\nSTATUS=rpc on 127.0.0.1:8443"
    notifier.reloading(12.5)
    assert listening.recv(4096) == b"RELOADING=1\nMONOTONIC_USEC=12500000"
    notifier.stopping()
    assert listening.recv(4096) == b"STOPPING=1\nSTATUS=draining"
    notifier.alive()
    assert listening.recv(4096) == b"WATCHDOG=1"
    assert notifier.dropped == 0


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("")
    assert (notifier.enabled, notifier.watchdog_seconds, notifier.dropped) == (False, None, 0)


def test_a_socket_that_is_gone_is_counted(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")})
    notifier.alive()
    assert notifier.dropped == 1


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_for_this_process_only(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environ).watchdog_seconds == seconds
