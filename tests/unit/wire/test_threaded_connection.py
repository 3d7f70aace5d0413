"""What is a thread's alone: notes left while it computes, handlers that the loop began, a loop that is gone.

What holds for either engine is in `test_engines.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator

import pytest

from secure_net.errors import Refusal
from secure_net.limits import ConnectionLimits
from secure_net.wire.channel import State
from secure_net.wire.connection import Connection
from secure_net.wire.threaded_connection import RESERVE_BYTES, ThreadedConnection
from tests.support.clock import FakeClock
from tests.support.loopback import Server, ask, in_thread, on_threads, read_all, read_line, serving
from tests.support.loops import in_loop
from tests.support.machines import LineService, Person
from tests.support.pki import PKI
from tests.support.thorough import ThoroughService
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def thinking(
    pki: PKI, clock: FakeClock | None = None
) -> AsyncIterator[tuple[Server, ssl.SSLSocket, ThreadedConnection]]:
    """A server one of whose threads computes for its peer."""
    service = ThoroughService(expires_at=1_800_000_000.0 + 100)
    async with serving(pki, service, clock=clock, engine=on_threads(4)) as server:
        peer = await in_thread(server.secure)
        await in_thread(lambda: ask(peer, b"login demo"))
        peer.sendall(b"think\necho done\n")
        await asyncio.to_thread(service.thinking.wait, 20)
        yield server, peer, the_connection(server)
        service.thought.set()
        peer.close()
        await server.at_rest()


def the_connection(server: Server) -> ThreadedConnection:
    (connection,) = server.listener.connections
    assert isinstance(connection, ThreadedConnection)
    return connection


def let_go(server: Server) -> None:
    assert isinstance(server.service, ThoroughService)
    server.service.thought.set()


@in_loop
async def test_messages_are_the_worker_s_and_sessions_begin_and_end_on_the_loop(pki: PKI) -> None:
    service = ThoroughService()
    async with serving(pki, service, engine=on_threads(4)) as server:
        peer = await in_thread(server.secure)
        assert await in_thread(lambda: ask(peer, b"whose")) == b"line\n"
        assert service.begun_by == [threading.current_thread().name]
        peer.close()


@in_loop
async def test_refused_while_its_worker_computes(pki: PKI) -> None:
    async with thinking(pki) as (server, peer, connection):
        connection.refuse(Refusal.REVOKED)
        assert connection.state is State.OPEN
        let_go(server)
        assert await in_thread(lambda: read_all(peer)) == b"done\nsorry: revoked\n"


@in_loop
async def test_drained_and_woken_while_its_worker_computes(pki: PKI) -> None:
    async with thinking(pki) as (server, peer, connection):
        connection.wake()
        connection.flush()
        connection.drain()
        let_go(server)
        assert await in_thread(lambda: read_all(peer)) == b"done\n"


@in_loop
async def test_dropped_while_its_worker_computes(pki: PKI) -> None:
    async with thinking(pki) as (server, peer, connection):
        connection.drop(Refusal.MEMORY)
        connection.drop(Refusal.IDLE)
        let_go(server)
        with contextlib.suppress(ssl.SSLEOFError):
            assert await in_thread(lambda: read_line(peer)) == b"done\n"
            await in_thread(lambda: peer.recv(1))
        await connection.wait_closed()
        assert server.refused() == {"memory": 1}


@in_loop
async def test_a_credential_that_ends_while_its_worker_computes(pki: PKI) -> None:
    clock = FakeClock()
    async with thinking(pki, clock) as (server, peer, connection):
        clock.advance(101.0)
        assert connection.state is State.OPEN
        let_go(server)
        assert await in_thread(lambda: read_all(peer)) == b"done\nsorry: expired\n"


@in_loop
async def test_a_handler_that_the_loop_began_while_the_worker_waits_for_bytes(pki: PKI) -> None:
    """A session that is woken hands out an event: its coroutine and what the peer sends must not meet."""
    async with serving(pki, engine=on_threads(4)) as server:
        peer = await in_thread(server.secure)
        await in_thread(lambda: ask(peer, b"echo x"))
        await server.at_wait()
        (session,) = server.service.sessions
        session.machine.receive_data(b"wait\n")
        session.connection.wake()
        assert server.service.handled == [b"echo x", b"wait"]
        peer.sendall(b"echo y\n")
        await server.until(lambda: session.machine.buffered > 0)
        server.service.gate.set()
        assert await in_thread(lambda: read_line(peer) + read_line(peer)) == b"waited\ny\n"
        server.service.gate.clear()
        await server.at_wait()
        session.machine.receive_data(b"wait\n")
        session.connection.wake()
        server.service.gate.set()
        assert await in_thread(lambda: read_line(peer)) == b"waited\n", (
            "with the worker waiting all the while"
        )
        assert await in_thread(lambda: ask(peer, b"echo z")) == b"z\n"
        peer.close()
        await server.at_rest()


@in_loop
async def test_a_handler_called_off_before_it_began(pki: PKI) -> None:
    """The loop has its note in before the worker lets go: the coroutine never runs."""
    async with serving(pki, ThoroughService(), engine=on_threads(4)) as server:
        service = server.service
        assert isinstance(service, ThoroughService)
        peer = await in_thread(server.secure)
        peer.sendall(b"think\nwait\n")
        await asyncio.to_thread(service.thinking.wait, 20)
        the_connection(server).refuse(Refusal.REVOKED)
        service.thought.set()
        assert await in_thread(lambda: read_all(peer)) == b"sorry: revoked\n"
        assert service.handled == [b"wait"]
        peer.close()
        await server.at_rest()


@in_loop
async def test_a_connection_that_ended_before_a_worker_was_free(pki: PKI) -> None:
    """The worker comes to it in the very moment in which the loop sees to its end."""
    async with serving(pki, engine=on_threads(4)) as server:
        listening = server.connect()
        await server.until(lambda: len(server.shell.live) == 1)
        connection = the_connection(server)
        await server.at_wait()
        with contextlib.closing(listening):
            connection._driven = False  # as though it waited for its worker
            connection.abort()
            assert connection._driven
            with connection.handover.lock:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert connection.state is State.CLOSING
            await in_thread(lambda: connection.drive(memoryview(b"")))
            await connection.wait_closed()


@in_loop
async def test_what_was_reserved_is_given_back_when_the_deadline_is_looked_at(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock, engine=on_threads(4)) as server:
        peer = await in_thread(server.secure)
        peer.sendall(b"echo " + b"x" * 30_000)
        await server.until(lambda: server.shell.buffered_bytes == RESERVE_BYTES)
        await in_thread(lambda: ask(peer, b""))
        await server.at_wait()
        assert server.shell.buffered_bytes == RESERVE_BYTES
        clock.advance(70.0)
        assert server.shell.buffered_bytes == 0
        peer.sendall(b"echo " + b"x" * 1000)
        await server.until(lambda: the_connection(server).weight > 0)
        assert server.shell.buffered_bytes == 0, "for less than a record the loop is not asked"
        peer.close()
        await server.at_rest()


@in_loop
async def test_a_shorter_deadline_is_asked_of_the_loop_once(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock, engine=on_threads(4)) as server:
        peer = await in_thread(server.secure)
        await in_thread(lambda: ask(peer, *[b"phase 9"] * 50))
        await server.at_wait()
        assert clock.pending == 1
        peer.close()


@in_loop
async def test_the_bounds_of_a_principal_are_asked_of_the_loop(pki: PKI) -> None:
    limits = ConnectionLimits(connections_per_principal_count=3)
    async with serving(pki, limits=limits, engine=on_threads(8)) as server:
        peers = [await in_thread(server.secure) for _ in range(8)]
        answers = await asyncio.gather(*(in_thread(lambda p=peer: ask(p, b"login demo")) for peer in peers))
        assert sorted(answers) == [b"sorry: connections_per_principal\n"] * 5 + [b"welcome demo\n"] * 3
        for peer in peers:
            peer.close()
        await server.at_rest()


@in_loop
async def test_a_fault_while_what_waited_is_sent(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(pki, engine=on_threads(4)) as server:

        def fail(connection: Connection) -> None:
            raise RuntimeError("a secret of ours")

        monkeypatch.setattr(Connection, "_go_on", fail)
        peer = await in_thread(server.secure)
        peer.sendall(b"big 12000000\n")
        await server.until(lambda: the_connection(server).waiting > 0)
        said = await in_thread(lambda: read_all(peer))
        assert said.endswith(b"\nsorry: internal\n")
        peer.close()
        await server.at_rest()


@pytest.mark.parametrize("command", [b"echo x", b"quit"])
@in_loop
async def test_a_fault_that_nothing_foresaw_costs_no_thread(
    pki: PKI, monkeypatch: pytest.MonkeyPatch, command: bytes
) -> None:
    """Before its end, and while it lingers."""
    async with serving(pki, engine=on_threads(1)) as server:
        peer = await in_thread(server.secure)
        await in_thread(lambda: ask(peer, command))
        await server.at_wait()

        def fail(connection: ThreadedConnection, data: memoryview) -> None:
            raise RuntimeError("a secret of ours")

        with monkeypatch.context() as patch:
            patch.setattr(ThreadedConnection, "_arrived", fail)
            with contextlib.suppress(OSError):
                peer.sendall(b"more\n")
            await server.until(lambda: any(event == "internal_error" for event, _ in server.logged))
            await in_thread(lambda: read_all(peer))
            peer.close()
            await server.at_rest()
        with await in_thread(server.secure) as again:
            assert await in_thread(lambda: ask(again, b"echo y")) == b"y\n"


def test_a_loop_that_is_gone_ends_the_threads(pki: PKI) -> None:
    """Nobody drained: the program's loop was simply closed."""
    before = threading.active_count()
    kept: list[socket.socket] = []

    async def serve_and_leave() -> None:
        server = Server(
            pki, LineService(), ConnectionLimits(), lambda der: Person("demo"), None, engine=on_threads(4)
        )
        server.listener.start()
        for _ in range(2):
            peer = await in_thread(server.secure)
            await in_thread(lambda peer=peer: ask(peer, b"echo x"))
            kept.append(peer)
        await server.at_wait()
        server.listener.stop()
        workers = server.listener._workers  # type: ignore[attr-defined]  # a ThreadedListener's
        workers.close()

    asyncio.run(serve_and_leave())
    for peer in kept:
        peer.close()
    until(lambda: threading.active_count() <= before)
