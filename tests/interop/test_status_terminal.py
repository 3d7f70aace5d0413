"""`secure-net status --watch` on a real terminal, beside the running daemon."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time

from tests.support.daemon import CLI, LISTEN, RunningDaemon

SECONDS = 20.0


def read_until(file: int, *words: bytes, seen: bytes = b"") -> bytes:
    deadline = time.monotonic() + SECONDS
    while not all(word in seen for word in words):
        assert time.monotonic() < deadline, seen
        if select.select([file], [], [], 1.0)[0]:
            seen += os.read(file, 65_536)
    return seen


def test_it_is_live_until_interrupted_and_gives_the_screen_back(daemon: RunningDaemon) -> None:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 120, 0, 0))
    known = {LISTEN[service]: f"{host}:{port}" for service, (host, port) in daemon.addresses.items()}
    environ = {key: value for key, value in daemon.environ.items() if key != "NO_COLOR"} | known
    process = subprocess.Popen(
        [*CLI, "status", "--watch"],
        cwd=daemon.directory,
        env=environ | {"TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    try:
        os.close(slave)
        seen = read_until(master, b"Serving", b"Last audit lines")
        assert b"\x1b[?1049h" in seen
        with daemon.proxy() as proxy:
            proxy.math.double(1)
            read_until(master, b"demo")  # who is connected, at the next look
        process.send_signal(signal.SIGINT)
        read_until(master, b"\x1b[?1049l")
        assert process.wait(SECONDS) == 130
    finally:
        process.kill()
        process.wait()
        os.close(master)
