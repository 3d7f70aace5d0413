"""THREATS, "Whole daemon": signals, kill -9 and reloads under load, and nothing half done.

(`test_whole_daemon_state.py` has full disks, damage and kill -9 as far as the state goes; a clock that jumps
is a matter of `tests/unit`, where the clock is ours.)
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from secure_net.control.socket import SOCKET_FILE, ControlClient
from secure_net.errors import SecureNetError
from secure_net.store.sqlite import SQLiteStore
from tests.support.daemon import RunningDaemon, init, start_daemon
from tests.support.peer import NotHTTPError, Peer, rpc, value
from tests.support.scrape import page
from tests.support.waiting import until

INTERRUPTED = 130

# Each method notes that it was accepted before it does anything else: what was noted must be answered.
NOTING = """
import asyncio, os, time
from pathlib import Path
from secure_net.rpc import Registry, inline

registry = Registry()
_file = os.open(Path(__file__).with_name("accepted"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def note(number: int) -> int:
    os.write(_file, b"%d\\n" % number)
    return number

@registry.method("note.inline")
@inline
def at_once(number: int) -> int:
    return note(number)

@registry.method("note.waiting")
async def waiting(number: int) -> int:
    note(number)
    await asyncio.sleep(0.05)
    return number

@registry.method("note.blocking")
def blocking(number: int) -> int:
    note(number)
    time.sleep(0.05)
    return number

@registry.method("note.forever")
async def forever(number: int) -> int:
    note(number)
    await asyncio.sleep(3600)
    return number
"""
METHODS = ("note.inline", "note.waiting", "note.blocking")
CLIENTS = 12


@pytest.fixture
def house(tmp_path: Path) -> Path:
    directory = init(tmp_path / "house")
    (directory / "noting.py").write_text(NOTING)
    return directory


def _start(house: Path, **environ: str) -> RunningDaemon:
    return start_daemon(house, environ={"SECURE_NET_RPC__SERVICES": "noting:registry"} | environ)


class Load:
    """`CLIENTS` threads, each calling on a connection of its own until the connection ends.

    `answered` has every number whose answer came whole; `broken` whatever came that was not one.
    """

    def __init__(self, daemon: RunningDaemon) -> None:
        self.daemon = daemon
        self.answered: set[int] = set()
        self.statuses: set[int] = set()
        self.broken: list[str] = []
        self.enough = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _client(self, client: int) -> None:
        context = self.daemon.context()
        with Peer(self.daemon.rpc, context) as peer:
            try:
                self._calls(client, peer)
            except NotHTTPError as error:
                if peer.begun:
                    self.broken.append(str(error))
            except OSError as error:
                self.broken.append(repr(error))

    def _calls(self, client: int, peer: Peer) -> None:
        number = client * 1_000_000
        while not self.enough.is_set():
            number += 1
            peer.send(rpc(METHODS[number % len(METHODS)], number))
            answer = peer.answer()
            self.statuses.add(answer.status)
            if answer.status != 200:
                return
            assert value(answer) == number
            self.answered.add(number)

    def join(self) -> None:
        self.enough.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def _accepted(house: Path) -> set[int]:
    path = house / "accepted"
    return set(map(int, path.read_text().split())) if path.exists() else set()


# --- SIGTERM --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_every_accepted_call_is_answered_whole(
    house: Path, number: signal.Signals
) -> None:
    daemon = _start(house)
    load = Load(daemon)
    try:
        until(lambda: len(load.answered) > 100)
        daemon.signal(number)
        assert daemon.wait() == 0
    finally:
        load.join()
        daemon.kill()
    assert load.broken == []
    assert load.answered == _accepted(house)
    assert load.statuses <= {200, 503}


def test_pipelined_calls_are_answered_up_to_the_last_that_was_accepted(house: Path) -> None:
    daemon = _start(house)
    try:
        with Peer(daemon.rpc, daemon.context()) as peer:
            peer.send(b"".join(rpc("note.waiting", number) for number in range(100)))
            until(lambda: len(_accepted(house)) > 3)
            daemon.signal(signal.SIGTERM)
            answers = peer.answers()
        assert daemon.wait() == 0
    finally:
        daemon.kill()
    whole = [value(answer) for answer in answers if answer.status == 200]
    assert whole == sorted(_accepted(house))
    assert len(whole) < 100
    assert {answer.status for answer in answers[len(whole) :]} <= {503}


def test_a_call_that_outlives_the_drain_gets_a_fault(house: Path) -> None:
    daemon = _start(house, SECURE_NET_SERVER__DRAIN_SECONDS="2")
    try:
        with Peer(daemon.rpc, daemon.context()) as peer:
            peer.send(rpc("note.forever", 1))
            until(lambda: _accepted(house) == {1})
            daemon.signal(signal.SIGTERM)
            assert peer.answer().fault == (-32603, "the server is stopping")
            assert peer.rest() == b""
        assert daemon.wait() == 0
    finally:
        daemon.kill()


def test_while_it_drains_new_connections_are_refused_and_probes_say_why(house: Path) -> None:
    daemon = _start(house)
    try:
        with Peer(daemon.rpc, daemon.context()) as peer:
            peer.send(rpc("note.forever", 1))
            until(lambda: _accepted(house) == {1})
            daemon.signal(signal.SIGTERM)
            until(lambda: page(daemon, "/readyz", name=None).status == 503)
            assert page(daemon, "/livez", name=None).status == 200
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(daemon.rpc, 10)
    finally:
        daemon.kill()


def test_a_second_interrupt_stops_at_once(house: Path) -> None:
    daemon = _start(house)
    try:
        with Peer(daemon.rpc, daemon.context()) as peer:
            peer.send(rpc("note.forever", 1))
            until(lambda: _accepted(house) == {1})
            daemon.signal(signal.SIGINT)
            until(lambda: page(daemon, "/readyz", name=None).status == 503)
            began = time.monotonic()
            daemon.signal(signal.SIGINT)
            assert daemon.wait() == INTERRUPTED
            assert time.monotonic() - began < 5
    finally:
        daemon.kill()
    daemon = _start(house)  # and nothing is left in the way of the next
    assert daemon.stop() == 0


# --- kill -9 --------------------------------------------------------------------------------------


def _revoke_until_gone(state: Path, prefix: str) -> list[str]:
    """Revoke token after token, each over a connection of its own; returns those that were acknowledged."""
    done: list[str] = []
    with contextlib.suppress(SecureNetError, OSError):
        while True:
            name = f"{prefix}-{len(done)}"
            ControlClient(state / SOCKET_FILE).request("revoke_token", jti=name)
            done.append(name)
    return done


def _kill_under_load(house: Path, rounds: int) -> None:
    acknowledged: set[str] = set()
    state = house / "state"
    for number in range(rounds):
        daemon = _start(house)
        load = Load(daemon)
        try:
            with ThreadPoolExecutor(4) as pool:
                writers = [pool.submit(_revoke_until_gone, state, f"r{number}-w{w}") for w in range(4)]
                until(lambda: len(load.answered) > 50 + 20 * number)  # noqa: B023 - used in this round alone
                daemon.kill()
                done = {name for writer in writers for name in writer.result()}
        finally:
            daemon.kill()
            load.join()
        assert done
        acknowledged |= done
        assert load.answered <= _accepted(house)
        store = SQLiteStore.open(state)
        try:
            assert acknowledged <= set(store.snapshot().revoked_tokens)
        finally:
            store.close()
        _verify_trail(daemon)


def _verify_trail(daemon: RunningDaemon) -> None:
    done = daemon.cli("audit", "verify", "--json", check=False)
    report = json.loads(done.stdout)
    assert (done.returncode, report["sound"], report["problems"]) == (0, True, []), done


def test_kill_9_under_load_nothing_acknowledged_is_lost(house: Path) -> None:
    _kill_under_load(house, 3)
    daemon = _start(house)
    try:
        assert daemon.cli("status", "--json").returncode == 0
        _verify_trail(daemon)
    finally:
        assert daemon.stop() == 0


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_kill_9_under_load_nothing_acknowledged_is_lost_200_times(house: Path) -> None:
    _kill_under_load(house, 200)


# --- reload ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    house = init(tmp_path_factory.mktemp("loaded") / "house")
    (house / "noting.py").write_text(NOTING)
    daemon = _start(house)
    yield daemon
    assert daemon.stop() == 0


def test_reload_under_load_drops_no_connection(loaded: RunningDaemon) -> None:
    load = Load(loaded)
    try:
        until(lambda: load.answered)
        for number in range(3):
            loaded.cli("ca", "renew", "server")
            loaded.cli("token", "rotate")
            assert loaded.cli("reload").stdout.startswith("reloaded")
            loaded.signal(signal.SIGHUP)
            until(lambda: loaded.log.read_text().count('"event":"reloaded"') >= 3 * (number + 1))  # noqa: B023
            count = len(load.answered)
            until(lambda: len(load.answered) > count + 50)  # noqa: B023
    finally:
        load.join()
    assert load.broken == []
    assert load.statuses == {200}
    assert load.answered == _accepted(loaded.directory)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("secure-net.toml", "[server\n", "secure-net.toml"),
        ("secure-net.toml", "[rcp]\n", "rcp"),
        ("certs/server.pem", "nonsense", "server.pem"),
        ("certs/server.key", "nonsense", "server.key"),
        ("certs/ca.pem", "nonsense", "ca.pem"),
        ("certs/crl.pem", "nonsense", "crl.pem"),
        ("certs/token-keys.json", "nonsense", "token-keys.json"),
    ],
)
def test_a_bad_reload_leaves_the_old_one_running(
    loaded: RunningDaemon, tmp_path: Path, file: str, content: str, named: str
) -> None:
    path = loaded.directory / file
    kept = shutil.copy2(path, tmp_path)
    with Peer(loaded.rpc, loaded.context()) as peer:
        token = loaded.token("demo", "rpc:call:**")
        path.write_text(content)
        try:
            done = loaded.cli("reload", check=False)
        finally:
            shutil.copy2(kept, path)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert named in line
        for fields in ([], [f"Authorization: Bearer {token}".encode()]):
            peer.send(rpc("note.inline", 7, fields=fields))
            assert value(peer.answer()) == 7
    with Peer(loaded.rpc, loaded.context()) as fresh:
        fresh.send(rpc("note.inline", 7))
        assert value(fresh.answer()) == 7
