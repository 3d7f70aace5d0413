"""THREATS, "Whole daemon": out of descriptors, out of ordinary names, and who may read the metrics."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, init, start_daemon
from tests.support.flood import closed, connected
from tests.support.peer import NotHTTPError, Peer, rpc, value
from tests.support.scrape import metric, page, scrape
from tests.support.waiting import until


@pytest.fixture
def house(tmp_path: Path) -> Path:
    return init(tmp_path / "house")


# --- descriptors ----------------------------------------------------------------------------------


def test_emfile_refuses_honestly_then_service_returns(house: Path) -> None:
    """`ulimit -n 256`, and more connections than that."""
    prefix = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh"]
    daemon = start_daemon(house, environ={"SECURE_NET_LIMITS__HANDSHAKE_SECONDS": "60"}, prefix=prefix)
    try:
        assert any("256" in line for line in daemon.lines if line.startswith("warning"))
        with Peer(daemon.rpc, daemon.context()) as early, Peer(daemon.admin, daemon.context("metrics")):
            # Those in their handshake make room for later ones, up to the cap on handshakes: they come first.
            with connected(daemon.rpc, 400) as sockets:
                refused = closed(sockets, 3)
                assert refused >= 400 - 256
                early.send(rpc("math.double", 21))  # who is in is served
                assert value(early.answer()) == 42
            until(lambda: _can_call(daemon))
            assert metric(daemon, "refused_total", service="rpc") >= refused
            busy = _cpu_seconds(daemon)
            early.send(rpc("time.wait", 1.0))
            assert value(early.answer()) >= 1.0
            assert _cpu_seconds(daemon) - busy < 0.5  # nothing spins
    finally:
        assert daemon.stop() == 0


def test_emfile_by_idle_clients_of_many_principals(house: Path) -> None:
    """Whole connections, which nobody may drop to make room: the one too many is turned away."""
    prefix = ["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh"]
    daemon = start_daemon(house, prefix=prefix)
    context = daemon.context()
    try:
        with contextlib.ExitStack() as stack:
            with pytest.raises((OSError, NotHTTPError)):
                for _ in range(110):
                    _call(stack.enter_context(Peer(daemon.rpc, context)))
            with pytest.raises((OSError, NotHTTPError)):
                _call(stack.enter_context(Peer(daemon.rpc, context)))
        until(lambda: _can_call(daemon))
        assert metric(daemon, "refused_total", service="rpc", reason="descriptors") >= 2
    finally:
        assert daemon.stop() == 0


def _call(peer: Peer) -> Any:
    peer.send(rpc("math.double", 21))
    return value(peer.answer())


def _can_call(daemon: RunningDaemon) -> bool:
    try:
        with Peer(daemon.rpc, daemon.context()) as peer:
            return bool(_call(peer) == 42)
    except (OSError, NotHTTPError):
        return False


def _cpu_seconds(daemon: RunningDaemon) -> float:
    """User and system time of the daemon, in seconds (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


# --- metrics --------------------------------------------------------------------------------------


def test_100_000_random_method_names_make_no_time_series(daemon: RunningDaemon) -> None:
    chance = random.Random(1)  # noqa: S311 - names, not secrets
    with Peer(daemon.rpc, daemon.context()) as peer:
        peer.send(rpc("no.such.method"))
        assert peer.answer().fault[0] == -32601
        peer.send(rpc("system.multicall", []))
        assert value(peer.answer()) == []
        scrape(daemon)  # the first to ask for it makes the series of its own answer
        before = set(scrape(daemon))
        for _ in range(1000):
            names = [f"random.m{chance.getrandbits(64):x}" for _ in range(100)]
            peer.send(rpc("system.multicall", [{"methodName": name, "params": []} for name in names]))
            results = value(peer.answer())
            assert {result["faultCode"] for result in results} == {-32601}
    assert set(scrape(daemon)) == before
    assert metric(daemon, "rpc_calls_total", method="other", outcome="not_found") >= 100_000


def test_random_paths_hosts_and_subjects_make_no_time_series(daemon: RunningDaemon) -> None:
    def strangers(number: int) -> None:
        for wire in (
            b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number,
            b"M%d / HTTP/1.1\r\nHost: localhost\r\n\r\n" % number,
            b"GET / HTTP/1.1\r\nHost: host%d\r\nAuthorization: Bearer x%d\r\n\r\n" % (number, number),
        ):
            with Peer(daemon.admin, daemon.context(None)) as peer:
                peer.send(wire)
                assert peer.answer().status >= 400

    strangers(0)
    scrape(daemon)
    before = set(scrape(daemon))
    for number in range(1, 20):
        strangers(number)
    assert set(scrape(daemon)) == before


def test_metrics_without_permission(daemon: RunningDaemon) -> None:
    for path in ("/metrics", "/readyz?verbose"):
        for name, status in ((None, 401), ("demo", 403), ("admin", 200)):
            answer = page(daemon, path, name=name)
            assert answer.status == status
            assert (b"secure_net" in answer.body or b"serving" in answer.body) == (status == 200)
