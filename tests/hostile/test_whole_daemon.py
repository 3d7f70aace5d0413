"""THREATS.md, "Whole daemon"; its state has test_whole_daemon_state.py."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import RunningDaemon, init, start_daemon

COUNTING = """
import asyncio, os
from secure_net import Registry
registry = Registry()
done = os.open("done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
@registry.method("count.up")
async def up(caller: int) -> int:
    await asyncio.sleep(0.005)
    os.write(done, b".")
    return caller
"""
BODY = (
    "<methodCall><methodName>count.up</methodName><params><param><value><int>{}</int></value></param></params>"
    "</methodCall>"
)
HEADERS = {"Content-Type": "text/xml"}


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what another process does and gives no other sign of."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_metrics_without_permission_are_401(daemon: RunningDaemon) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(daemon.admin_url + "/metrics", context=daemon.context(None))  # noqa: S310
    with caught.value as answer:
        assert (answer.code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.read() == b"unauthorized\n"


class Caller(threading.Thread):
    """Calls without a pause on one connection after another until the daemon takes no more."""

    def __init__(self, daemon: RunningDaemon, number: int) -> None:
        super().__init__()
        self._host, self._port = daemon.rpc
        self._context = daemon.context()
        self._body = BODY.format(number)
        self.answered = 0
        self.halves: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPSConnection("localhost", self._port, context=self._context, timeout=30)
        try:
            while True:
                connection.request("POST", "/RPC2", self._body, HEADERS)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    assert answer.status == 503
                    return
                if not text.endswith(b"</methodResponse>\n"):
                    self.halves.append(text.decode())
                self.answered += 1
        except http.client.IncompleteRead as error:
            self.halves.append(repr(error))
        except (OSError, http.client.HTTPException):
            return  # it was between two calls
        finally:
            connection.close()


def test_sigterm_under_load_answers_every_accepted_request(tmp_path: Path) -> None:
    house = init(tmp_path / "house")
    (house / "counting.py").write_text(COUNTING)
    daemon = start_daemon(house, environ={"SECURE_NET_RPC__SERVICES": "counting:registry"})
    callers = [Caller(daemon, number) for number in range(16)]
    for caller in callers:
        caller.start()
    until(lambda: all(caller.answered >= 5 for caller in callers))
    daemon.signal(signal.SIGTERM)
    for caller in callers:
        caller.join(60)
    assert daemon.wait() == 0
    assert [caller.halves for caller in callers] == [[]] * len(callers)
    assert sum(caller.answered for caller in callers) == (house / "done").stat().st_size


def test_out_of_descriptors_is_refused_honestly_and_passes(tmp_path: Path) -> None:
    house = init(tmp_path / "house")
    daemon = start_daemon(house, prefix=["prlimit", "--nofile=64"])
    silent: list[socket.socket] = []
    try:
        silent.extend(socket.create_connection(daemon.rpc, timeout=10) for _ in range(120))
        # The last of them stand where no descriptor is left: they are closed, not left hanging.
        assert _closed(silent[-1])
        for connection in silent:
            connection.close()
        until(lambda: _answers(daemon))
        url = daemon.admin_url + "/metrics"
        with urllib.request.urlopen(url, context=daemon.context("metrics")) as answer:  # noqa: S310
            text = answer.read().decode()
        refused = re.search(r'secure_net_refused_total\{reason="descriptors",service="rpc"\} ([\d.]+)', text)
        assert refused is not None
        assert float(refused[1]) > 0
    finally:
        for connection in silent:
            connection.close()
        assert daemon.stop() == 0


def _closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _answers(daemon: RunningDaemon) -> bool:
    try:
        return bool(daemon.call("math.double", 1) == 2)
    except (OSError, ssl.SSLError, http.client.HTTPException):
        return False


def test_silent_peers_are_closed_and_the_honest_are_served(tmp_path: Path) -> None:
    house = init(tmp_path / "house")
    environ = {"SECURE_NET_LIMITS__HANDSHAKE_SECONDS": "0.5"}
    daemon = start_daemon(house, environ=environ)
    silent = [socket.create_connection(daemon.rpc, timeout=20) for _ in range(200)]
    try:
        assert daemon.call("math.double", 1) == 2
        assert all(map(_closed, silent))
        assert daemon.call("math.double", 2) == 4
    finally:
        for connection in silent:
            connection.close()
        assert daemon.stop() == 0
