"""The rows of "XML-RPC" of the threat list against the running daemon, over TLS.

(At the codec and the dispatcher they are in `test_xml_rpc.py`.)
"""

from __future__ import annotations

import gzip
import re
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import RunningDaemon, run_daemon
from tests.support.peer import Answer, Peer, post, rpc, value
from tests.support.scrape import metric
from tests.support.xmlrpc_attacks import DOCUMENTS, ENTITIES, NAMES, NOT_FOUND, UNFIT, Attack, call
from tests.support.xmlrpc_attacks import value as param

BODY_BYTES = 1024 * 1024  # rpc_body_bytes
MIB = 1024 * 1024
TEXTS = {"not well formed", "not an XML-RPC call", "wrong parameters", "no such method, or not permitted"}

MISBEHAVING = """
import threading, time
from typing import Any
from secure_net.rpc import Registry, inline

registry = Registry()

class SecretError(Exception):
    pass

@registry.method("good")
@inline
def good() -> int:
    return 1

@registry.method("bad.raises")
@inline
def raises() -> int:
    raise SecretError("the password is x")

@registry.method("bad.exits")
def exits() -> int:
    raise SystemExit(3)

@registry.method("bad.returns")
def returns() -> Any:
    return object()

@registry.method("bad.huge")
async def huge() -> str:
    return "x" * 9 * 1024 * 1024

@registry.method("bad.blocks", deadline_seconds=0.3, concurrency=1)
def blocks() -> int:
    threading.Event().wait()
    return 1

@registry.method("bad.endless", deadline_seconds=0.3)
async def endless() -> int:
    import asyncio
    while True:
        await asyncio.sleep(3600)
"""


@pytest.fixture(scope="module")
def peer(daemon: RunningDaemon) -> Iterator[Peer]:
    """One connection for all of them: after a fault it is as good as before. Not one of them ran a method."""
    before = metric(daemon, "rpc_calls_total", outcome="ok")
    with Peer(daemon.rpc, daemon.context()) as peer:
        yield peer
        assert metric(daemon, "rpc_calls_total", outcome="ok") == before
        peer.send(rpc("math.double", 21))
        assert value(peer.answer()) == 42


def _ask(peer: Peer, body: bytes) -> Answer:
    peer.send(post(body))
    return peer.answer()


def _assert_refused(daemon: RunningDaemon, peer: Peer, attack: Attack) -> None:
    if len(attack.body) > BODY_BYTES:
        with Peer(daemon.rpc, daemon.context()) as other:
            other.send(post(attack.body))
            assert [answer.status for answer in other.answers()] == [413]
        return
    answer = _ask(peer, attack.body)
    assert answer.status == 200
    code, text = answer.fault
    assert code in attack.codes
    assert text in TEXTS


@pytest.mark.parametrize("attack", DOCUMENTS + UNFIT, ids=str)
def test_every_document_gets_its_fault_or_413(daemon: RunningDaemon, peer: Peer, attack: Attack) -> None:
    _assert_refused(daemon, peer, attack)


def test_no_outbound_connection(daemon: RunningDaemon, peer: Peer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = b"%d" % server.getsockname()[1]
        for attack in ENTITIES:
            _assert_refused(
                daemon, peer, Attack(attack.name, attack.body.replace(b"{port}", port), attack.codes)
            )
        with pytest.raises(BlockingIOError):
            server.accept()


def _peak_bytes(daemon: RunningDaemon) -> int:
    """The most memory the daemon ever held (VmHWM)."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def test_bombs_cost_bounded_memory(tmp_path: Path) -> None:
    bombs = [attack for attack in DOCUMENTS if len(attack.body) > 40_000]
    with run_daemon(tmp_path) as fresh, Peer(fresh.rpc, fresh.context()) as peer:
        # What a body of the largest size costs when there is nothing wrong with it.
        assert value(_ask(peer, rpc("text.digest", "x" * 900_000).partition(b"\r\n\r\n")[2]))
        before = _peak_bytes(fresh)
        for _ in range(3):
            for attack in bombs:
                _assert_refused(fresh, peer, attack)
        assert _peak_bytes(fresh) - before < 16 * MIB


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) < BODY_BYTES // 2], ids=repr)
def test_odd_forbidden_and_unknown_names_get_one_and_the_same_answer(
    daemon: RunningDaemon, name: str
) -> None:
    token = daemon_token(daemon)
    with Peer(daemon.rpc, daemon.context(None)) as peer:
        answers = []
        for asked in (name, "nobody.knows", "time.wait"):  # the last exists, and is not permitted
            peer.send(post(call(param("<int>7</int>"), asked), token=token))
            answers.append(peer.answer())
    assert answers[0].fault == (NOT_FOUND, "no such method, or not permitted")
    assert len({answer.without_date for answer in answers}) == 1


_tokens: dict[str, str] = {}


def daemon_token(daemon: RunningDaemon) -> str:
    """One for all of them: issuing takes a process."""
    return _tokens.setdefault(daemon.url, daemon.token("demo", "rpc:call:math.*"))


def test_a_name_of_a_megabyte(daemon: RunningDaemon, peer: Peer) -> None:
    answer = _ask(peer, call(name="x" * 1_000_000))
    assert answer.fault == (NOT_FOUND, "no such method, or not permitted")
    assert len(answer.body) < 1000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip", "br", "identity", "gzip, gzip", ""])
def test_a_bomb_of_50_mb_in_48_kb_gets_415_undecoded(daemon: RunningDaemon, coding: str) -> None:
    squeeze = zlib.compress if coding == "deflate" else gzip.compress
    bomb = squeeze(bytes(50_000_000))
    before = _peak_bytes(daemon)
    with Peer(daemon.rpc, daemon.context()) as peer:
        peer.send(post(bomb, b"Content-Encoding: " + coding.encode()))
        answer = peer.answer()
    assert answer.status == 415
    assert _peak_bytes(daemon) - before < MIB


# --- methods that misbehave ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon whose own methods are what is wrong."""
    place = tmp_path_factory.mktemp("bad")
    (place / "house").mkdir()
    (place / "house" / "misbehaving.py").write_text(MISBEHAVING)
    environ = {"SECURE_NET_RPC__SERVICES": "misbehaving:registry"}
    with run_daemon(place, environ=environ) as running:
        yield running


@pytest.mark.parametrize("name", ["bad.raises", "bad.exits", "bad.returns", "bad.huge"])
def test_what_raises_or_cannot_be_encoded_gives_a_reference_and_no_text(
    bad: RunningDaemon, name: str
) -> None:
    with Peer(bad.rpc, bad.context()) as peer:
        peer.send(rpc(name))
        code, text = peer.answer().fault
        assert code == -32603
        assert re.fullmatch(r"internal error, reference [0-9a-f]+", text)
        peer.send(rpc("good"))
        assert value(peer.answer()) == 1
    assert bad.process.poll() is None


@pytest.mark.parametrize("name", ["bad.blocks", "bad.endless"])
def test_what_blocks_or_never_ends_meets_its_deadline_and_others_are_served(
    bad: RunningDaemon, name: str
) -> None:
    answered = threading.Event()

    def others() -> list[int]:
        results = []
        with Peer(bad.rpc, bad.context()) as peer:
            while not answered.is_set():
                peer.send(rpc("good"))
                results.append(value(peer.answer()))
        return results

    results: list[int] = []
    thread = threading.Thread(target=lambda: results.extend(others()))
    thread.start()
    try:
        with Peer(bad.rpc, bad.context()) as peer:
            peer.send(rpc(name))
            code, text = peer.answer().fault
    finally:
        answered.set()
        thread.join()
    assert (code, text) == (-32603, "deadline exceeded")
    assert len(results) > 10
    assert set(results) == {1}


def test_a_stuck_thread_keeps_its_slot_and_is_counted(bad: RunningDaemon) -> None:
    with Peer(bad.rpc, bad.context()) as peer:
        for _ in range(2):  # the second waits for the only slot, and meets the same deadline
            peer.send(rpc("bad.blocks"))
            assert peer.answer().fault == (-32603, "deadline exceeded")
        peer.send(rpc("bad.returns"))
        assert peer.answer().fault[0] == -32603
    assert metric(bad, "rpc_threads_stuck") == 1
