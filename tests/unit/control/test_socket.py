"""The control socket: who may ask, what an answer looks like, and what happens where no daemon runs."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from secure_net.control import socket as control
from secure_net.control.socket import (
    CONNECTIONS,
    REQUEST_BYTES,
    REQUEST_SECONDS,
    SOCKET_FILE,
    ControlClient,
    ControlServer,
    Reply,
    raise_for,
    reach,
    reply_for,
)
from secure_net.errors import (
    ConfigurationError,
    LocalProtocolError,
    NotPermittedError,
    OutcomeUnknownError,
    SecureNetError,
    StateDamagedError,
    StateError,
    StateFullError,
    StateLockedError,
)
from secure_net.store.lock import StateLock
from tests.support.clock import FakeClock


class Rig:
    """A server on a loop in this thread, and room to talk to it from another."""

    def __init__(self, path: Path) -> None:
        self.clock = FakeClock()
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.raises: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.server = ControlServer(path, self.perform, self.clock, self.log)

    def log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    async def perform(self, act: str, arguments: Mapping[str, Any], who: str) -> dict[str, Any]:
        self.asked.append((act, dict(arguments), who))
        if self.gate is not None:
            await self.gate.wait()
        if self.raises is not None:
            raise self.raises
        return {"done": act}

    def run(self, talk: Callable[[], Any]) -> Any:
        """Serve while `talk` runs in a thread, and give back what it returned."""

        async def main() -> Any:
            await self.server.start()
            try:
                return await asyncio.to_thread(talk)
            finally:
                await self.server.stop()

        return asyncio.run(main())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / SOCKET_FILE


@pytest.fixture
def rig(path: Path) -> Rig:
    return Rig(path)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("never")


def talk_raw(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_a_request_is_done_for_whoever_asks(rig: Rig, path: Path) -> None:
    answer = rig.run(lambda: ControlClient(path).request("revoke", name="bob"))
    assert answer == {"done": "revoke"}
    assert rig.asked == [("revoke", {"name": "bob"}, f"uid:{os.geteuid()}")]


def test_only_its_owner_can_reach_the_socket_and_it_goes_at_the_end(rig: Rig, path: Path) -> None:
    os.umask(os.umask(0))  # the process's umask is not touched for good
    mode = rig.run(lambda: path.stat().st_mode)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert not path.exists()


def test_a_stale_socket_is_replaced_and_nothing_else_is(rig: Rig, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert rig.run(lambda: ControlClient(path).answers()) is True
    path.write_text("not a socket")
    with pytest.raises(StateError, match="not a socket"):
        rig.run(lambda: None)
    assert path.read_text() == "not a socket"


def test_stopping_what_never_started(rig: Rig) -> None:
    asyncio.run(rig.server.stop())


def test_what_follows_a_request_is_not_looked_at(rig: Rig, path: Path) -> None:
    async def main() -> None:
        rig.gate = asyncio.Event()
        await rig.server.start()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"act":"a"}\n')
        await until(lambda: rig.asked)
        (connection,) = rig.server.connections
        connection.data_received(b'{"act":"c"}\n')
        rig.gate.set()
        assert await reader.read() == b'{"answer":{"done":"a"}}\n'
        writer.close()
        await rig.server.stop()

    asyncio.run(main())
    assert [act for act, _, _ in rig.asked] == ["a"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        Rig(tmp_path / "absent" / SOCKET_FILE).run(lambda: None)


def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    rig = Rig(folder / SOCKET_FILE)
    assert rig.run(lambda: ControlClient(folder / SOCKET_FILE).request("a")) == {"done": "a"}


@pytest.mark.parametrize("uid", [12345, 0])
def test_another_user_is_refused_and_root_is_not(
    rig: Rig, path: Path, uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "peer_uid", lambda _: uid)
    monkeypatch.setattr(os, "geteuid", lambda: 999)
    if uid == 0:
        assert rig.run(lambda: ControlClient(path).request("a")) == {"done": "a"}
        return
    with pytest.raises(OutcomeUnknownError):
        rig.run(lambda: ControlClient(path).request("a"))
    assert rig.asked == []
    assert rig.logged == [("control_refused", {"uid": 12345})]


@pytest.mark.parametrize(
    "request_line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b'{"act":5}\n',
        b'{"act":"a","more":1}\n',
        b'{"act":"\xff"}\n',
        b"\x00\n",
    ],
)
def test_what_is_no_request_is_told_so(rig: Rig, path: Path, request_line: bytes) -> None:
    assert rig.run(lambda: talk_raw(path, request_line)) == b'{"error":"request","text":"malformed"}\n'
    assert rig.asked == []


def test_a_request_has_a_bound(rig: Rig, path: Path) -> None:
    answer = rig.run(lambda: talk_raw(path, b"x" * (REQUEST_BYTES + 1)))
    assert answer == b'{"error":"request","text":"too large"}\n'


def test_one_connection_one_request(rig: Rig, path: Path) -> None:
    assert rig.run(lambda: talk_raw(path, b'{"act":"a"}\n{"act":"b"}\n')) == b'{"answer":{"done":"a"}}\n'
    assert [act for act, _, _ in rig.asked] == ["a"]


def test_who_says_nothing_is_dropped_at_the_deadline(rig: Rig, path: Path) -> None:
    async def main() -> None:
        await rig.server.start()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"act"')
        await until(lambda: any(one._received for one in rig.server.connections))
        rig.clock.advance(REQUEST_SECONDS)
        assert await reader.read() == b""
        writer.close()
        await rig.server.stop()

    asyncio.run(main())
    assert rig.clock.pending == 0


def test_more_connections_than_operators(rig: Rig, path: Path) -> None:
    async def main() -> None:
        await rig.server.start()
        pairs = [await asyncio.open_unix_connection(path) for _ in range(CONNECTIONS + 1)]
        await until(lambda: ("control_refused", {"uid": os.geteuid()}) in rig.logged)
        await until(lambda: len(rig.server.connections) == CONNECTIONS)
        await rig.server.stop()
        for _, writer in pairs:
            writer.close()

    asyncio.run(main())


def test_stopping_waits_for_the_act_under_way(rig: Rig, path: Path) -> None:
    async def main() -> bytes:
        rig.gate = asyncio.Event()
        await rig.server.start()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"act":"a"}\n')
        await until(lambda: rig.asked)
        stopping = asyncio.create_task(rig.server.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        rig.gate.set()
        await stopping
        answer = await reader.read()
        writer.close()
        return answer

    assert asyncio.run(main()) == b'{"answer":{"done":"a"}}\n'


def test_an_act_goes_on_when_the_command_went_away(rig: Rig, path: Path) -> None:
    async def main() -> None:
        rig.gate = asyncio.Event()
        await rig.server.start()
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"act":"a"}\n')
        await until(lambda: rig.asked)
        writer.close()
        await until(lambda: not rig.server.connections)
        assert len(rig.server.tasks) == 1
        rig.gate.set()
        await rig.server.stop()
        assert not rig.server.tasks

    asyncio.run(main())


ERRORS = [
    StateFullError("full"),
    StateDamagedError("damaged"),
    StateLockedError("locked"),
    StateError("other"),
    LocalProtocolError("no such act"),
    ConfigurationError("rpc.listen", "port taken", "choose another"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_out_as_what_it_was(rig: Rig, path: Path, error: SecureNetError) -> None:
    rig.raises = error
    with pytest.raises(type(error)) as caught:
        rig.run(lambda: ControlClient(path).request("a"))
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_errors_of_no_special_kind() -> None:
    with pytest.raises(SecureNetError, match="not_permitted: x"):
        raise_for(reply_for(NotPermittedError("x")))
    with pytest.raises(StateError, match="see its log"):
        raise_for(Reply(error="something new"))


def test_a_fault_of_ours_is_logged_and_only_its_reference_travels(rig: Rig, path: Path) -> None:
    rig.raises = ZeroDivisionError("secret")
    with pytest.raises(StateError) as caught:
        rig.run(lambda: ControlClient(path).request("a"))
    (event, fields) = rig.logged[0]
    assert event == "control_failed"
    assert fields["detail"] == "ZeroDivisionError('secret')"
    assert fields["reference"] in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.fixture
def answering(path: Path) -> Iterator[Callable[[bytes], None]]:
    """A daemon that answers what it is told to."""
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(10)

    def answer(data: bytes) -> None:
        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()

    yield answer
    for thread in threads:
        thread.join(10)
    listener.close()


@pytest.mark.parametrize("data", [b"", b"junk\n", b'{"answer":{}', b'{"answer":5}\n'])
def test_a_daemon_that_answers_nothing_sound(
    answering: Callable[[bytes], None], path: Path, data: bytes
) -> None:
    answering(data)
    with pytest.raises(OutcomeUnknownError):
        ControlClient(path).request("a")


def test_a_daemon_that_answers_too_late(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ANSWER_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(OutcomeUnknownError, match="timed out"):
            ControlClient(path).request("a")


def test_nobody_answers(path: Path) -> None:
    assert not ControlClient(path).answers()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert not ControlClient(path).answers()
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StateError, match="symbolic"):
        ControlClient(path).answers()


def test_reach_takes_the_daemon_where_one_runs(rig: Rig, tmp_path: Path) -> None:
    def talk() -> tuple[bool, dict[str, Any]]:
        with reach(tmp_path) as reached:
            return reached.running, reached.request("a", b=1)

    assert rig.run(talk) == (True, {"done": "a"})


def test_reach_takes_the_state_where_no_daemon_runs(tmp_path: Path) -> None:
    with reach(tmp_path) as reached:
        assert not reached.running
        assert reached.request("revoke", name="bob")["connections_cut"] == 0
        with pytest.raises(StateLockedError):
            StateLock.acquire(tmp_path)
        with pytest.raises(StateError, match="no daemon"):
            reached.request("status")
    with reach(tmp_path) as reached:
        (bob,) = reached.request("list")["names"]
    assert bob["locked"]


def test_reach_waits_a_moment_for_who_holds_the_state(tmp_path: Path) -> None:
    lock = StateLock.acquire(tmp_path)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            lock.release()

    with reach(tmp_path, pause) as reached:
        assert not reached.running
    assert len(pauses) == 3


def test_reach_gives_up_on_who_holds_the_state_and_does_not_answer(tmp_path: Path) -> None:
    lock = StateLock.acquire(tmp_path)
    pauses: list[float] = []
    with pytest.raises(StateLockedError), reach(tmp_path, pauses.append):
        pass
    assert sum(pauses) == pytest.approx(1.9)
    lock.release()


def test_reach_gives_the_state_free_when_the_trail_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "00000000000000000001.jsonl").write_text("")
    for _ in range(2):
        with pytest.raises(StateDamagedError), reach(tmp_path):
            pass
