"""The rows of "HTTP" of the threat list against the running daemon, over TLS.

(At the machine's door, byte by byte and behind good requests, they are in `test_http.py`.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.daemon import ROOT, RunningDaemon, run_daemon
from tests.support.http_attacks import ATTACKS, Attack
from tests.support.peer import Peer, get, post, rpc, value
from tests.support.scrape import metric
from tests.support.waiting import until


@pytest.fixture(scope="module")
def honest(daemon: RunningDaemon) -> Iterator[Peer]:
    """A client that was there before every attack, and on whose connection nothing may be felt."""
    with Peer(daemon.rpc, daemon.context()) as peer:
        yield peer


def _double(peer: Peer, number: int = 21) -> Any:
    peer.send(rpc("math.double", number))
    return value(peer.answer())


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_every_attack_gets_its_status_and_the_connection_is_closed(
    daemon: RunningDaemon, honest: Peer, attack: Attack
) -> None:
    with Peer(daemon.rpc, daemon.context()) as peer:
        peer.send(attack.raw)
        (answer,) = peer.answers()
    assert answer.status == attack.status
    assert answer.header(b"connection") == b"close"
    assert _double(honest) == 42


@pytest.mark.parametrize("attack", ATTACKS[:: len(ATTACKS) // 20], ids=str)
@pytest.mark.parametrize("name", [None, "demo"])
def test_the_same_on_the_admin_listener_with_and_without_a_credential(
    daemon: RunningDaemon, attack: Attack, name: str | None
) -> None:
    with Peer(daemon.admin, daemon.context(name)) as peer:
        peer.send(attack.raw)
        (answer,) = peer.answers()
    assert answer.status == attack.status


@pytest.mark.parametrize("attack", ATTACKS[:: len(ATTACKS) // 20], ids=str)
def test_pipelined_good_and_bad_the_good_are_answered_in_order(daemon: RunningDaemon, attack: Attack) -> None:
    with Peer(daemon.rpc, daemon.context()) as peer:
        good = b"".join(rpc("math.double", number) for number in range(5)) + rpc("time.wait", 0.01)
        peer.send(good + attack.raw + rpc("math.double", 99))
        *answered, last = peer.answers()
    assert [value(answer) for answer in answered[:5]] == [0, 2, 4, 6, 8]
    assert len(answered) == 6
    assert (last.status, last.header(b"connection")) == (attack.status, b"close")


def test_refusals_are_constant_text_and_name_no_version(daemon: RunningDaemon) -> None:
    seen: dict[int, set[bytes]] = {}
    for attack in ATTACKS:
        with Peer(daemon.rpc, daemon.context()) as peer:
            peer.send(attack.raw)
            (answer,) = peer.answers()
        seen.setdefault(answer.status, set()).add(answer.without_date)
    assert {status: len(answers) for status, answers in seen.items()} == dict.fromkeys(seen, 1)
    everything = b"".join(answer for answers in seen.values() for answer in answers).lower()
    for word in (b"python", b"secure", b"traceback", b"server:", b".py", str(ROOT).lower().encode()):
        assert word not in everything


def test_expect_gets_100_and_then_the_answer(daemon: RunningDaemon) -> None:
    head, _, body = rpc("math.double", 21, fields=[b"Expect: 100-continue"]).partition(b"\r\n\r\n")
    with Peer(daemon.rpc, daemon.context()) as peer:
        peer.send(head + b"\r\n\r\n")
        assert peer.answer().status == 100
        peer.send(body)
        assert value(peer.answer()) == 42


def test_expect_from_a_stranger_gets_401_and_no_100(daemon: RunningDaemon) -> None:
    head, _, _ = rpc("math.double", 21, fields=[b"Expect: 100-continue"]).partition(b"\r\n\r\n")
    with Peer(daemon.rpc, daemon.context(None)) as peer:
        peer.send(head + b"\r\n\r\n")
        assert [answer.status for answer in peer.answers()] == [401]


def test_a_body_over_the_bound_gets_413_before_it_is_sent(daemon: RunningDaemon) -> None:
    with Peer(daemon.rpc, daemon.context()) as peer:
        peer.send(post(b"x").replace(b"Content-Length: 1\r\n", b"Content-Length: 1048577\r\n"))
        assert [answer.status for answer in peer.answers()] == [413]


def test_a_client_that_leaves_without_close_notify_is_no_attack(daemon: RunningDaemon, honest: Peer) -> None:
    """`ServerProxy` does so at the end of every connection."""
    before = metric(daemon, "connections_total", service="rpc", outcome="clean")
    with Peer(daemon.rpc, daemon.context()) as peer:
        assert _double(peer) == 42
    until(lambda: metric(daemon, "connections_total", service="rpc", outcome="clean") == before + 1)


def test_a_client_that_leaves_in_the_midst_of_a_body_is_truncated(daemon: RunningDaemon) -> None:
    before = metric(daemon, "refused_total", service="rpc", reason="truncated")
    calls = metric(daemon, "rpc_calls_total")
    with Peer(daemon.rpc, daemon.context()) as peer:
        peer.send(rpc("math.double", 21)[:-5])
    until(lambda: metric(daemon, "refused_total", service="rpc", reason="truncated") == before + 1)
    assert metric(daemon, "rpc_calls_total") == calls


# --- deadlines ------------------------------------------------------------------------------------------

HASTY = {
    "SECURE_NET_LIMITS__HTTP_HEADERS_SECONDS": "0.5",
    "SECURE_NET_LIMITS__HTTP_KEEP_ALIVE_SECONDS": "0.5",
    "SECURE_NET_LIMITS__RPC_BODY_SECONDS": "0.5",
    "SECURE_NET_LIMITS__RPC_BODY_BYTES_PER_SECOND": "1048576",
    "SECURE_NET_LIMITS__AUTHENTICATION_SECONDS": "0.5",
    "SECURE_NET_LIMITS__WRITE_STALL_SECONDS": "0.5",
    "SECURE_NET_LIMITS__HANDSHAKE_SECONDS": "2",
}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon whose deadlines a test can wait for."""
    with run_daemon(tmp_path_factory.mktemp("hasty"), environ=HASTY) as running:
        yield running


@pytest.mark.parametrize(
    "begun",
    [
        b"P",
        b"POST /RPC2 HTTP/1.1\r\nHost: local",
        rpc("math.double", 21)[:-1],
        rpc("math.double", 1) + b"POST",
        post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"5\r\nhel",
    ],
    ids=["one-byte", "head", "body", "behind-a-good-one", "chunk"],
)
def test_slow_headers_and_slow_bodies_get_408(hasty: RunningDaemon, begun: bytes) -> None:
    before = metric(hasty, "refused_total", service="rpc", reason="read_deadline")
    with Peer(hasty.rpc, hasty.context()) as peer:
        peer.send(begun)
        *_, last = peer.answers()
    assert (last.status, last.header(b"connection")) == (408, b"close")
    assert metric(hasty, "refused_total", service="rpc", reason="read_deadline") == before + 1


def test_headers_that_trickle_do_not_restart_the_clock(hasty: RunningDaemon) -> None:
    with Peer(hasty.rpc, hasty.context()) as peer:
        peer.socket.settimeout(0.05)
        peer.send(b"GET / HTTP/1.1\r\n")
        # As many bytes as the daemon lets us send, one each time that nothing is heard for 50 ms.
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                peer.answer()
                break
            peer.send(b"X")
        else:
            pytest.fail("5 s of one byte each 50 ms were taken")


def test_a_stranger_who_asks_for_nothing_is_closed(hasty: RunningDaemon) -> None:
    with Peer(hasty.rpc, hasty.context(None)) as peer:
        assert peer.rest() == b""


def test_an_idle_connection_is_closed(hasty: RunningDaemon) -> None:
    with Peer(hasty.rpc, hasty.context()) as peer:
        assert _double(peer) == 42
        assert peer.rest() == b""


def test_a_reader_that_never_reads_is_closed(hasty: RunningDaemon) -> None:
    """It asks for 8 KiB 10,000 times over and takes none: its answers wait, its questions are not read."""
    wanted = rpc("reports.summary", [1.0], "x" * 8000)
    before = metric(hasty, "refused_total", service="rpc", reason="write_stalled")
    with Peer(hasty.rpc, hasty.context()) as peer, pytest.raises(OSError):
        for _ in range(10_000):
            peer.socket.sendall(wanted)
    until(lambda: metric(hasty, "refused_total", service="rpc", reason="write_stalled") == before + 1)
    assert metric(hasty, "buffered_bytes") == 0


# --- others -----------------------------------------------------------------------------------------------


def test_a_page_that_is_none_is_not_found_and_costs_nobody_the_connection(daemon: RunningDaemon) -> None:
    with Peer(daemon.admin, daemon.context(None)) as peer:
        for path in (b"/", b"/metrics/", b"/status%2f", b"/livez/..", b"/%6divez"):
            peer.send(get(path))
            assert peer.answer().status == 404
        peer.send(get(b"/livez"))
        assert peer.answer().body == b"ok\n"
