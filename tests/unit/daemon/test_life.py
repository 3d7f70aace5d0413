"""The daemon's life, in a process of its own: start, signals, reload, drain, and each way not to start."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from secure_net import config
from secure_net.audit.trail import AuditTrail
from secure_net.clock import SystemClock
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.life import Daemon
from secure_net.daemon.notify import Notifier
from secure_net.daemon.parts import Parts
from secure_net.errors import StateFullError
from secure_net.log import get_logger
from secure_net.metrics import Metrics
from secure_net.rpc.registry import Registry
from secure_net.store import Snapshot
from secure_net.store.sqlite import SQLiteStore
from tests.support.clock import FakeClock
from tests.support.daemon import CLI, RunningDaemon, environment, init, run_daemon, start_daemon


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init(tmp_path_factory.mktemp("daemon") / "house")


@pytest.fixture
def house(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "house"))


def serve(house: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`serve` where it must not start."""
    ports = {"SECURE_NET_RPC__LISTEN": "127.0.0.1:0", "SECURE_NET_ADMIN__LISTEN": "127.0.0.1:0"}
    return subprocess.run(
        [*CLI, "serve"],
        check=False,
        cwd=house,
        env=environment(**ports | environ),
        capture_output=True,
        text=True,
        timeout=30,
    )


def line_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error."""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("secure-net: ")
    return line


# --- running ----------------------------------------------------------------------------------------------


def test_it_says_where_it_listens_and_what_to_try(daemon: RunningDaemon) -> None:
    assert daemon.lines[0] == f"rpc       https://127.0.0.1:{daemon.rpc[1]}/RPC2"
    assert daemon.lines[5].startswith(f"admin     https://127.0.0.1:{daemon.admin[1]}")
    assert daemon.lines[-1] == "ready"
    commands = [line for line in daemon.lines if "math.double" in line]
    assert len(commands) == 3
    python = next(line for line in commands if line.startswith("python3 "))
    shown = subprocess.run(python, shell=True, capture_output=True, text=True, check=True, timeout=30)  # noqa: S602
    assert shown.stdout == "42\n"


def test_calls_are_answered(daemon: RunningDaemon) -> None:
    assert daemon.call("math.double", 21) == 42


def test_probes_are_open_and_the_rest_is_not(daemon: RunningDaemon) -> None:
    assert get(daemon, "/readyz") == (200, b"ok\n")
    assert get(daemon, "/livez") == (200, b"ok\n")
    assert get(daemon, "/metrics")[0] == 401
    assert get(daemon, "/metrics", "demo")[0] == 403
    assert b"secure_net_loop_lag_seconds_count" in get(daemon, "/metrics", "metrics")[1]
    assert get(daemon, "/readyz?verbose", "admin") == (
        200,
        b"[+]serving ok\n[+]certificate ok\n[+]state ok\nok\n",
    )


def get(daemon: RunningDaemon, path: str, name: str | None = None) -> tuple[int, bytes]:
    """Status and body of an admin page."""
    try:
        with urllib.request.urlopen(daemon.admin_url + path, context=daemon.context(name)) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_control_socket_is_ours_alone(daemon: RunningDaemon) -> None:
    assert (daemon.directory / "state" / "control.sock").stat().st_mode & 0o777 == 0o600


def test_reload_by_command_and_by_signal(house: Path) -> None:
    daemon = start_daemon(house)
    try:
        with daemon.proxy() as proxy:
            assert proxy.math.double(1) == 2
            path = house / "secure-net.toml"
            path.write_text(
                path.read_text().replace('"rpc:call:**"', '"rpc:call:time.*"') + "idle_seconds = 9\n"
            )
            assert daemon.cli("reload").stdout == "reloaded\n"
            # The connection is the same, and the policy is felt on it.
            with pytest.raises(xmlrpc.client.Fault) as caught:
                proxy.math.double(1)
            assert caught.value.faultCode == -32601
            path.write_text(path.read_text() + "no_such_limit = 1\n")
            refused = daemon.cli("reload", check=False)
            assert refused.returncode == 1
            assert "limits.no_such_limit" in refused.stderr
            assert refused.stderr.count("\n") == 1
            daemon.signal(signal.SIGHUP)
            _until(lambda: '"reload_refused"' in daemon.log.read_text())
            assert daemon.process.poll() is None
            path.write_text(path.read_text().replace("no_such_limit = 1\n", "").replace("time.*", "**"))
            daemon.signal(signal.SIGHUP)
            _until(lambda: daemon.log.read_text().count('"reloaded"') == 2)
            assert proxy.math.double(1) == 2
    finally:
        assert daemon.stop() == 0


def test_a_damaged_key_is_refused_at_the_reload_and_the_old_one_serves(house: Path) -> None:
    daemon = start_daemon(house)
    try:
        (house / "certs" / "token-keys.json").write_text("{")
        refused = daemon.cli("reload", check=False)
        assert refused.returncode == 1
        assert "token-keys.json" in refused.stderr
        assert daemon.call("math.double", 1) == 2
    finally:
        assert daemon.stop() == 0


class FullStore:
    """A store whose disk takes no more."""

    async def import_crl(self, number: int, revoked: Mapping[str, float]) -> bool:
        raise StateFullError("store.db: No space left on device")


def test_readiness_fails_while_the_state_cannot_be_written(tmp_path: Path) -> None:
    daemon = Daemon(lambda: config.parse("", None, {}, base=tmp_path), say=print, notifier=Notifier({}))
    store, trail = SQLiteStore.open(tmp_path), AuditTrail.open(tmp_path, FakeClock())
    daemon._store, daemon._trail = store, trail
    try:
        assert daemon._checks()["state"]() == ""
        store.database.failing = True
        assert daemon._checks()["state"]() == "store cannot be written"
        trail.failing = True
        assert daemon._checks()["state"]() == "store and audit trail cannot be written"
    finally:
        trail.close()
        store.close()


def test_a_reload_whose_crl_cannot_be_kept_changes_nothing(house: Path) -> None:
    """The disk is full: neither the new policy nor the new limits may be served."""
    text = '[rpc]\nlisten = "127.0.0.1:0"\n'
    changed = text + "[identities.demo]\nscopes = []\n[limits]\nidle_seconds = 7\n"
    load = functools.partial(config.parse, file=house / "secure-net.toml", environ={})

    async def scenario() -> None:
        clock = SystemClock()
        daemon = Daemon(lambda: load(changed), say=print, notifier=Notifier({}))
        trail = AuditTrail.open(house / "state", clock)
        parts = Parts(
            Inputs.load(load(text), clock.wall()),
            Snapshot(),
            Registry(),
            clock=clock,
            metrics=Metrics(),
            trail=trail,
            logger=get_logger("rpc"),
            checks={},
        )
        daemon._clock, daemon._parts, daemon._logger = clock, parts, get_logger("daemon")
        daemon._store = FullStore()  # type: ignore[assignment]  # the one operation that it comes to
        before = (parts.inputs, parts.listeners["rpc"].service, parts.shell.limits, parts.authenticator.epoch)
        try:
            with pytest.raises(StateFullError):
                await daemon.reload()
        finally:
            trail.close()
            parts.close()
        assert before == (
            parts.inputs,
            parts.listeners["rpc"].service,
            parts.shell.limits,
            parts.authenticator.epoch,
        )

    asyncio.run(scenario())


def test_a_reload_says_what_waits_for_a_restart(house: Path) -> None:
    daemon = start_daemon(house)
    try:
        path = house / "secure-net.toml"
        path.write_text(path.read_text().replace('services = ["examples', '# services = ["examples'))
        assert "rpc.services changed, and needs a restart" in daemon.cli("reload").stdout
    finally:
        daemon.stop()


def test_a_renewed_certificate_is_served_after_a_reload(house: Path) -> None:
    daemon = start_daemon(house)
    try:
        before = _certificate(daemon)
        daemon.cli("ca", "renew", "server")
        daemon.cli("reload")
        assert _certificate(daemon) != before
    finally:
        daemon.stop()


def _certificate(daemon: RunningDaemon) -> bytes:
    with (
        socket.create_connection(daemon.rpc) as plain,
        daemon.context().wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        found = secured.getpeercert(binary_form=True)
    assert found is not None
    return found


SLOW = """
import asyncio, pathlib
from secure_net import Registry
registry = Registry()
@registry.method("slow.wait")
async def wait(mark: str, seconds: float) -> str:
    pathlib.Path(mark).touch()
    await asyncio.sleep(seconds)
    return "waited"
"""


class SlowCall(threading.Thread):
    """A call that is under way when `begin` returns; `answer` is None where it got none."""

    def __init__(self, house: Path, seconds: float) -> None:
        super().__init__()
        (house / "slow.py").write_text(SLOW)
        self.mark, self.seconds = house / "begun", seconds
        self.answer: object = None
        self.daemon_ = start_daemon(house, environ={"SECURE_NET_RPC__SERVICES": "slow:registry"})

    def begin(self) -> RunningDaemon:
        self.start()
        _until(self.mark.exists)
        return self.daemon_

    def run(self) -> None:
        with self.daemon_.proxy() as proxy, contextlib.suppress(OSError, http.client.HTTPException):
            self.answer = proxy.slow.wait(str(self.mark), self.seconds)


def test_term_drains_what_is_under_way(house: Path) -> None:
    slow = SlowCall(house, 0.5)
    daemon = slow.begin()
    code = daemon.stop()
    slow.join(30)
    assert (code, slow.answer) == (0, "waited")


def test_a_second_interrupt_stops_at_once(house: Path) -> None:
    slow = SlowCall(house, 25.0)
    daemon = slow.begin()
    daemon.signal(signal.SIGINT)
    _until(lambda: '"draining"' in daemon.log.read_text())
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 130
    slow.join(30)
    assert slow.answer is None


def test_while_it_drains_the_admin_listener_says_so(house: Path) -> None:
    slow = SlowCall(house, 3.0)
    daemon = slow.begin()
    daemon.signal(signal.SIGTERM)
    _until(lambda: '"draining"' in daemon.log.read_text())
    assert get(daemon, "/readyz") == (503, b"not ready\n")
    assert get(daemon, "/livez") == (200, b"ok\n")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(daemon.rpc)
    assert daemon.wait() == 0
    slow.join(30)
    assert slow.answer == "waited"


def test_after_kill_9_it_starts_again(house: Path) -> None:
    daemon = start_daemon(house)
    daemon.cli("revoke", "demo")
    daemon.kill()
    daemon = start_daemon(house)
    try:
        with pytest.raises(xmlrpc.client.ProtocolError, match="401"):
            daemon.call("math.double", 1)
        daemon.cli("user", "unlock", "demo")
        assert daemon.cli("audit", "verify").returncode == 0
    finally:
        assert daemon.stop() == 0


def test_systemd_is_told(house: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        daemon = start_daemon(house, environ=environ)
        said = []

        def heard(word: bytes) -> bool:
            while not said or not said[-1].startswith(word):
                said.append(systemd.recv(4096))
            return True

        assert heard(b"READY=1")
        assert heard(b"WATCHDOG=1")
        daemon.signal(signal.SIGHUP)
        assert heard(b"RELOADING=1\nMONOTONIC_USEC=")
        assert heard(b"READY=1")
        daemon.signal(signal.SIGTERM)
        assert heard(b"STOPPING=1")
        assert daemon.wait() == 0


def _until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what another process does and gives no other sign of."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- not starting -----------------------------------------------------------------------------------------


def test_a_port_that_is_taken(house: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(house, SECURE_NET_RPC__LISTEN=f"127.0.0.1:{port}")
    assert done.returncode == 78
    assert "rpc.listen" in line_of(done)
    assert str(port) in line_of(done)
    assert not (house / "state" / "control.sock").exists()


def test_a_key_that_others_can_read(house: Path) -> None:
    (house / "certs" / "server.key").chmod(0o644)
    done = serve(house)
    assert done.returncode == 78
    assert "server.key: is a secret that others can read; run `chmod 600" in line_of(done)


def test_a_state_that_another_daemon_holds(house: Path) -> None:
    daemon = start_daemon(house)
    try:
        done = serve(house)
    finally:
        daemon.stop()
    assert done.returncode == 1
    assert f"is in use by process {daemon.process.pid}" in line_of(done)


def test_a_service_that_cannot_be_imported(house: Path) -> None:
    done = serve(house, SECURE_NET_RPC__SERVICES="no_such_module:registry")
    assert done.returncode == 78
    assert "rpc.services[0]: cannot import no_such_module" in line_of(done)


def test_no_configuration(tmp_path: Path) -> None:
    done = serve(tmp_path)
    assert done.returncode == 78
    assert "secure-net init" in line_of(done)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk(house: Path) -> None:
    state = house / "state"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", str(state)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this sandbox lets nobody mount")
    try:
        (state / "filler").write_bytes(b"\0" * 12_288)
        done = serve(house)
        assert done.returncode == 1
        assert "No space left" in line_of(done) or "full" in line_of(done)
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_few_descriptors_are_said(house: Path) -> None:
    daemon = start_daemon(house, prefix=["prlimit", "--nofile=300"])
    try:
        assert any(line.startswith("warning: the limit of open files is 300") for line in daemon.lines)
        assert daemon.call("math.double", 1) == 2
    finally:
        daemon.stop()


def test_the_least_that_serves(house: Path) -> None:
    """No admin listener, no CRL; the soft limit of descriptors is raised to the hard one."""
    (house / "certs" / "crl.pem").unlink()
    path = house / "secure-net.toml"
    head, _, _ = path.read_text().partition("[files]")
    path.write_text(head + '[identities.demo]\nscopes = ["rpc:call:**"]\n')
    daemon = start_daemon(house, prefix=["prlimit", "--nofile=99:400"])
    try:
        assert list(daemon.addresses) == ["rpc"]
        assert "the limit of open files is 400" in daemon.lines[0]
        assert daemon.call("math.double", 1) == 2
    finally:
        assert daemon.stop() == 0


def test_run_daemon_adds_what_a_test_configures(tmp_path: Path) -> None:
    with run_daemon(tmp_path, configuration="idle_seconds = 7\n") as daemon:
        assert daemon.call("math.double", 3) == 6
