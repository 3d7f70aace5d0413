"""The listener whose connections have threads: how many, who makes room, and what a drain waits for."""

from __future__ import annotations

import asyncio
import ssl
import threading

import pytest

from secure_net.limits import ConnectionLimits
from secure_net.wire import threads
from secure_net.wire.threads import ThreadedListener
from tests.support.clock import FakeClock
from tests.support.loopback import Server, ask, in_thread, on_threads, read_all, serving
from tests.support.loops import in_loop
from tests.support.pki import PKI
from tests.support.thorough import ThoroughService


def workers_of(server: Server) -> int:
    listener = server.listener
    assert isinstance(listener, ThreadedListener)
    return 0 if listener._workers is None else listener._workers.threads


@in_loop
async def test_threads_come_with_connections_and_stay(pki: PKI) -> None:
    async with serving(pki, engine=on_threads(4)) as server:
        assert workers_of(server) == 0
        for _ in range(3):
            with await in_thread(server.secure) as peer:
                assert await in_thread(lambda peer=peer: ask(peer, b"echo x")) == b"x\n"
            await server.at_rest()
        assert 1 <= workers_of(server) <= 3
        peers = [await in_thread(server.secure) for _ in range(4)]
        assert workers_of(server) == 4
        for peer in peers:
            peer.close()
        await server.at_rest()


@in_loop
async def test_when_every_thread_has_a_peer_the_next_is_refused(pki: PKI) -> None:
    async with serving(pki, engine=on_threads(3)) as server:
        peers = [await in_thread(server.secure) for _ in range(3)]
        with pytest.raises((ssl.SSLError, OSError)):
            await in_thread(server.secure)
        assert server.refused() == {"connections": 1}
        assert await in_thread(lambda: [ask(peer, b"echo x") for peer in peers]) == [b"x\n"] * 3
        peers.pop().close()
        await server.until(lambda: len(server.shell.live) == 2)
        peers.append(await in_thread(server.secure))
        assert await in_thread(lambda: ask(peers[-1], b"echo y")) == b"y\n"
        for peer in peers:
            peer.close()
        await server.at_rest()


@in_loop
async def test_the_silent_make_room_for_the_honest(pki: PKI) -> None:
    async with serving(pki, engine=on_threads(3)) as server:
        silent = [server.connect() for _ in range(3)]
        await server.until(lambda: len(server.shell.live) == 3)
        for number in range(1, 3):
            peer = await in_thread(server.secure)
            assert await in_thread(lambda peer=peer: ask(peer, b"echo x")) == b"x\n"
            assert server.refused() == {"handshakes": number}
            silent.append(peer)
        assert await in_thread(lambda: [read_all(each) for each in silent[:2]]) == [b"", b""]
        for each in silent:
            each.close()
        await server.at_rest()


@in_loop
async def test_in_a_burst_as_many_make_room_as_come(pki: PKI) -> None:
    async with serving(pki, engine=on_threads(3)) as server:
        peers = [server.connect() for _ in range(100)]
        await server.until(lambda: sum(server.refused().values()) == 97)
        assert server.refused() == {"handshakes": 97}
        assert workers_of(server) == 3
        await server.until(lambda: len(server.shell.live) == 3)
        for peer in peers:
            peer.close()
        await server.at_rest()


@in_loop
async def test_another_service_s_handshakes_make_no_room_here(pki: PKI) -> None:
    async with serving(pki, engine=on_threads(1)) as server:
        peer = await in_thread(server.secure)
        elsewhere = ThreadedListener(
            server.shell,
            server.service,
            server.counters,
            server.material,
            [("127.0.0.1", 0)],
            threads_count=2,
        )
        elsewhere.start()
        silent = await in_thread(lambda: server.connect(to=elsewhere.listen_addrs[0]))
        await server.until(lambda: server.shell.live.handshakes == 1)
        with pytest.raises((ssl.SSLError, OSError)):
            await in_thread(server.secure)
        assert server.refused() == {"connections": 1}
        silent.close()
        peer.close()
        await elsewhere.drain(0)
        await server.at_rest()


@in_loop
async def test_where_no_thread_is_to_be_had(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with serving(pki, engine=on_threads(3)) as server:
        peer = server.connect()  # before: it is for our own threads as well
        monkeypatch.setattr(threading.Thread, "start", none_left)
        await server.until(lambda: server.refused() != {})
        assert server.refused() == {"connections": 1}
        monkeypatch.undo()
        assert await in_thread(lambda: read_all(peer)) == b""
        peer.close()
        await server.at_rest()


@in_loop
async def test_a_drain_waits_for_a_stuck_handler_no_longer_than_it_says(
    pki: PKI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "STUCK_SECONDS", 0.05)
    service = ThoroughService()
    async with serving(pki, service, engine=on_threads(3)) as server:
        peer = await in_thread(server.secure)
        peer.sendall(b"think\n")
        await asyncio.to_thread(service.thinking.wait, 20)
        await server.listener.drain(0)
        assert server.logged[-1] == ("threads_stuck", {"service": "line", "count": 1})
        service.thought.set()
        await server.at_rest()
        peer.close()


@in_loop
async def test_a_connection_that_waits_for_its_thread_is_held_to_its_deadline(pki: PKI) -> None:
    """The thread that it waits for lingers; the handshake's deadline does not wait for it."""
    clock = FakeClock()
    async with serving(pki, clock=clock, engine=on_threads(1)) as server:
        lingering = await in_thread(server.secure)
        assert await in_thread(lambda: ask(lingering, b"quit")) == b"bye\n"
        await server.until(lambda: all(each.is_leaving for each in server.listener.connections))  # type: ignore[attr-defined]
        waiting = server.connect()
        await server.until(lambda: len(server.shell.live) == 2)
        assert server.refused() == {}
        clock.advance(5.1)
        assert await in_thread(lambda: read_all(waiting)) == b""
        await server.at_rest()
        assert server.refused() == {"handshake_deadline": 1}
        waiting.close()
        lingering.close()


@in_loop
async def test_a_listener_that_starts_again(pki: PKI) -> None:
    async with serving(pki, engine=on_threads(2), limits=ConnectionLimits()) as server:
        for _ in range(2):
            peer = await in_thread(server.secure)
            assert await in_thread(lambda peer=peer: ask(peer, b"echo x")) == b"x\n"
            await server.listener.drain(1.0)
            assert await in_thread(lambda peer=peer: read_all(peer)) == b""
            peer.close()
            server.listener.start()
