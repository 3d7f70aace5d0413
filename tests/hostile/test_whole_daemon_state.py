"""THREATS, "Whole daemon", as far as the state goes: full disks, I/O errors, damage, and kill -9.

Requests are refused honestly, then service returns by itself; nothing acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_net.audit.chain import files_of
from secure_net.audit.reader import verify
from secure_net.audit.trail import DIRECTORY, PUBLIC_KEY_FILE, AuditTrail, public_key
from secure_net.cli.main import run
from secure_net.clock import SystemClock
from secure_net.control.acts import Administration
from secure_net.control.socket import SOCKET_FILE, ControlClient, ControlServer
from secure_net.errors import StateFullError
from secure_net.store.schema import MIGRATIONS
from secure_net.store.sqlite import STORE_FILE, SQLiteStore
from tests.support.daemon import ROOT, environment
from tests.support.disk import FailingDisk

ROUNDS = 20
SOAK_ROUNDS = 300


class Ailing(sqlite3.Connection):
    """A database on a disk that gives errors while `code` is set."""

    code = 0

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if self.code and statement == "COMMIT":
            error = sqlite3.OperationalError("as the disk said")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(statement, *values)


class State:
    """Store, trail, acts and control socket, each on a disk that the test can fill."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = FailingDisk({"write", "create"})
        self.disk.failing = False

    def _connect(self, path: Path) -> sqlite3.Connection:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Ailing)
        return self.connection

    def ask(self, *acts: tuple[str, dict[str, Any]]) -> list[Any]:
        """Each act as a command would ask for it; its answer, or the error. `fill` and `empty` are ours."""

        def talk() -> list[Any]:
            client = ControlClient(self.directory / SOCKET_FILE)
            answers: list[Any] = []
            for act, arguments in acts:
                if act in {"store", "disk"}:
                    self._set(act, arguments["code"])
                    continue
                try:
                    answers.append(client.request(act, **arguments))
                except StateFullError as error:
                    answers.append(error)
            return answers

        async def main() -> list[Any]:
            clock = SystemClock()
            store = SQLiteStore.open(self.directory, disk=self.disk, connect=self._connect)
            trail = AuditTrail.open(self.directory, clock, disk=self.disk)
            perform = Administration(store, trail, clock).perform
            server = ControlServer(self.directory / SOCKET_FILE, perform, clock, print)
            await server.start()
            try:
                return await asyncio.to_thread(talk)
            finally:
                await server.stop()
                trail.close()
                store.close()

        return asyncio.run(main())

    def _set(self, what: str, code: int) -> None:
        if what == "store":
            self.connection.code = code
        else:
            self.disk.failing = code != 0

    def names(self) -> set[str]:
        store = SQLiteStore.open(self.directory)
        try:
            return set(store.snapshot().names)
        finally:
            store.close()

    def trail_is_sound(self) -> bool:
        return verify(self.directory / DIRECTORY, public_key(self.directory / PUBLIC_KEY_FILE)).sound


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC]
)
def test_enospc_and_eio_in_the_store_refuse_the_act_then_service_returns(tmp_path: Path, code: int) -> None:
    state = State(tmp_path)
    first, second, third = state.ask(
        ("revoke", {"name": "before"}),
        ("store", {"code": code}),
        ("revoke", {"name": "refused"}),
        ("store", {"code": 0}),
        ("revoke", {"name": "after"}),
    )
    assert first["epoch"] == 1
    assert isinstance(second, StateFullError)
    assert third["epoch"] == 2
    assert state.names() == {"before", "after"}
    assert state.trail_is_sound()


def test_enospc_in_the_trail_refuses_the_act_then_service_returns(tmp_path: Path) -> None:
    state = State(tmp_path)
    first, second, third = state.ask(
        ("revoke", {"name": "before"}),
        ("disk", {"code": 1}),
        ("revoke", {"name": "refused"}),
        ("disk", {"code": 0}),
        ("revoke", {"name": "after"}),
    )
    assert first["epoch"] == 1
    assert isinstance(second, StateFullError)
    assert third["epoch"] == 2
    assert state.names() == {"before", "after"}
    assert state.trail_is_sound()


def test_enospc_during_a_backup_leaves_no_half_of_one(tmp_path: Path) -> None:
    class Full(FailingDisk):
        def open_existing(self, path: Path) -> int:
            self._perhaps_fail("open_existing")
            return super().open_existing(path)

    state = State(tmp_path)
    state.disk = Full({"open_existing"})
    state.disk.failing = False
    target = tmp_path / "copy"
    full, written = state.ask(
        ("disk", {"code": 1}),
        ("backup", {"path": str(target)}),
        ("disk", {"code": 0}),
        ("backup", {"path": str(target)}),
    )
    assert isinstance(full, StateFullError)
    assert written == {"path": str(target)}
    assert not list(tmp_path.glob(".*.part"))


_LIMITED = """
import asyncio, resource, signal, sys
from pathlib import Path
from secure_net.audit.trail import AuditTrail
from secure_net.clock import SystemClock
from secure_net.errors import StateFullError
from secure_net.store.sqlite import SQLiteStore

async def main(state):
    store = SQLiteStore.open(state)
    trail = AuditTrail.open(state, SystemClock())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    kept, refused = [], []
    for write in ("store", "trail"):
        for number in range(10_000):
            try:
                if write == "store":
                    await store.put_identity(f"n{number}", ("x" * 900,), at=1.0)
                else:
                    await trail.require("x", number=number, text="x" * 900)
                kept.append((write, number))
            except StateFullError:
                refused.append(write)
                break
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.put_identity("after", (), at=1.0)
    await trail.require("after")
    names = set(store.snapshot().identities)
    assert names == {f"n{n}" for write, n in kept if write == "store"} | {"after"}
    trail.close()
    store.close()
    print(*refused)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_kernel_that_takes_no_more_bytes_then_does(tmp_path: Path) -> None:
    """Not our seam but the kernel says no: a file may not grow (RLIMIT_FSIZE), then it may."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "store trail\n"), done.stderr
    report = verify(tmp_path / DIRECTORY, public_key(tmp_path / PUBLIC_KEY_FILE))
    assert report.sound, report.problems
    (last, _) = _lines(tmp_path)[-2:]
    assert last["what"] == "after"


def _lines(state: Path) -> list[dict[str, Any]]:
    files = files_of(state / DIRECTORY)
    return [json.loads(line) for path in files for line in path.read_bytes().split(b"\n")[:-1]]


# --- damage ------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a configuration and a state in which one name is revoked."""
    (tmp_path / "secure-net.toml").write_text("")
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    assert run(["revoke", "bob"]) == 0
    yield tmp_path / "state"


def test_a_damaged_store_stops_with_one_clear_line(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((house / STORE_FILE).read_bytes())
    content[4096:8192] = bytes(4096)
    (house / STORE_FILE).write_bytes(content)
    capsys.readouterr()
    assert run(["user", "list"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "store.db" in line
    assert "restore it from a backup" in line
    assert bytearray((house / STORE_FILE).read_bytes()) == content


def test_an_emptied_store_does_not_un_revoke(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (house / STORE_FILE).write_bytes(b"")
    assert run(["user", "list"]) == 1
    assert "restore it from a backup" in capsys.readouterr().err


def test_a_store_of_a_newer_program_is_left_alone(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(house / STORE_FILE) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    before = (house / STORE_FILE).read_bytes()
    capsys.readouterr()
    assert run(["user", "unlock", "bob"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "written by a newer secure-net" in line
    assert (house / STORE_FILE).read_bytes() == before


def test_a_torn_audit_line_is_marked_and_the_chain_goes_on(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = files_of(house / DIRECTORY)[-1]
    last.write_bytes(last.read_bytes() + b'{"sequence":99,"time":"20\x00\x00')
    assert run(["user", "unlock", "bob"]) == 0
    capsys.readouterr()
    assert run(["audit", "verify"]) == 0
    out = capsys.readouterr().out
    assert "torn by a crash" in out
    assert "sound" in out


def test_a_changed_audit_line_is_found(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = files_of(house / DIRECTORY)[-1]
    last.write_bytes(last.read_bytes().replace(b"bob", b"eve"))
    assert run(["audit", "verify"]) == 1
    captured = capsys.readouterr()
    assert "changed" in captured.out
    assert len(captured.err.splitlines()) == 1


# --- kill -9 -----------------------------------------------------------------------------------------


def _killed_writer(state: Path, prefix: str, after: int) -> list[tuple[str, int]]:
    """Let a process write until it acknowledged `after` writes, kill it, and give back all it said."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.support.state_writer", str(state), prefix],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(after)]
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.readlines()
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    words = [line.decode().split() for line in said if line.endswith(b"\n")]
    return [(name, int(sequence)) for name, sequence in words]


def _kill_again_and_again(state: Path, rounds: int) -> None:
    acknowledged: dict[str, int] = {}
    for number in range(rounds):
        said = _killed_writer(state, f"r{number}", after=1 + number * 37 % 500)
        assert said
        acknowledged |= dict(said)
        store = SQLiteStore.open(state)  # checks the file, and reads what the log still holds
        kept = store.snapshot().revoked_tokens
        assert store.database.write_and_wait(lambda c: c.execute("PRAGMA integrity_check").fetchall()) == [
            ("ok",)
        ]
        store.close()
        assert acknowledged.keys() <= kept.keys()
    report = verify(state / DIRECTORY, public_key(state / PUBLIC_KEY_FILE))
    assert report.sound, report.problems
    recorded = {line["sequence"]: line.get("details", {}).get("jti") for line in _lines(state)}
    assert all(recorded[sequence] == name for name, sequence in acknowledged.items())


def test_kill_9_in_the_middle_of_group_commits_loses_nothing_acknowledged(tmp_path: Path) -> None:
    _kill_again_and_again(tmp_path, ROUNDS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_kill_9_in_the_middle_of_group_commits_loses_nothing_acknowledged_300_times(tmp_path: Path) -> None:
    _kill_again_and_again(tmp_path, SOAK_ROUNDS)


def test_a_newer_start_finds_the_lock_free_after_kill_9(tmp_path: Path) -> None:
    assert _killed_writer(tmp_path, "x", after=1)
    SQLiteStore.open(tmp_path).close()
