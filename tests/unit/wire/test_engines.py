"""What holds for a connection whoever drives it: the event loop, or a thread. Over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable

import pytest

from secure_net.errors import Refusal, RefusedError
from secure_net.limits import MIB, ConnectionLimits
from secure_net.wire.channel import LINGER_SECONDS, State
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSPolicy, client_context
from tests.support.clock import FakeClock
from tests.support.loopback import (
    SECONDS,
    Server,
    ask,
    each_engine,  # noqa: F401 - a fixture
    in_thread,
    read_all,
    read_line,
    serving,
)
from tests.support.loops import in_loop
from tests.support.machines import LineMachine, LineService, Person
from tests.support.pki import PKI

pytestmark = pytest.mark.usefixtures("each_engine")


def outcomes(server: Server) -> dict[str, int]:
    return {outcome.value: count for outcome, count in server.counters.connections.items() if count}


def the_connection(server: Server) -> Connection:
    (connection,) = server.listener.connections
    assert isinstance(connection, Connection)
    return connection


async def asked(server: Server, peer: socket.socket, *lines: bytes) -> bytes:
    """The answers; and the server waits for more."""
    answer: bytes = await in_thread(lambda: ask(peer, *lines))
    await server.at_wait()
    return answer


def read_some(peer: socket.socket, count: int) -> None:
    """So many bytes and no more."""
    while count:
        data = peer.recv(min(count, 1 << 16))
        if not data:
            raise EOFError(count)
        count -= len(data)


async def the_rest(peer: socket.socket) -> bytes:
    said: bytes = await in_thread(lambda: read_all(peer))
    peer.close()
    return said


# -- messages, and what is counted ------------------------------------------------------------------------


@in_loop
async def test_messages_in_order_and_every_byte_counted(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        lines = [b"echo %d" % number for number in range(2000)]
        answer = await in_thread(lambda: ask(peer, *lines))
        assert answer == b"".join(b"%d\n" % number for number in range(2000))
        peer.sendall(b"big 300000\n")
        await in_thread(lambda: read_some(peer, 300_001))
        peer.close()
        await server.at_rest()
        assert server.counters.bytes_received == sum(map(len, lines)) + 2000 + len(b"big 300000\n")
        assert server.counters.bytes_sent == len(answer) + 300_001
        assert server.counters.handshakes.count == 1
        assert [session.closings for session in server.service.sessions] == [1]


@in_loop
async def test_how_connections_end(pki: PKI) -> None:
    async with serving(pki) as server:
        goodbye = await in_thread(server.secure)
        assert await in_thread(lambda: ask(goodbye, b"quit")) == b"bye\n"
        assert await the_rest(goodbye) == b""
        notified = await in_thread(server.secure)
        (await in_thread(notified.unwrap)).close()
        await server.at_rest()
        assert outcomes(server) == {"clean": 2}
        for cut in (lambda peer: peer.shutdown(socket.SHUT_RDWR), reset):
            peer = await in_thread(server.secure)
            await asked(server, peer, b"echo whole")
            peer.sendall(b"echo ha")
            cut(peer)
            peer.close()
        await server.at_rest()
        assert outcomes(server) == {"clean": 2, "refused": 2}
        assert server.refused() == {"truncated": 2}
        assert [session.closings for session in server.service.sessions] == [1] * 4


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("command", [b"refuse", b"raise", b"deny"])
@in_loop
async def test_a_refusal_has_its_last_words_and_a_clean_end(pki: PKI, command: bytes) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        peer.sendall(command + b"\n")
        said = await in_thread(lambda: read_all(peer))  # close_notify, or this raises
        assert said.startswith((b"sorry: ", b"done\nsorry: "))
        assert b"secret" not in said
        peer.close()
        await server.at_rest()
        assert sum(server.refused().values()) == 1
        logged = [fields for event, fields in server.logged if event == "connection_refused"]
        assert [fields["peer"].split(":")[0] for fields in logged] == ["127.0.0.1"]


@pytest.mark.parametrize("command", [b"drop", b"abort"])
@in_loop
async def test_a_connection_that_its_session_drops(pki: PKI, command: bytes) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        peer.sendall(command + b"\n")
        with contextlib.suppress(ssl.SSLEOFError):
            assert await in_thread(lambda: peer.recv(100)) == b""
        peer.close()
        await server.at_rest()
        assert server.refused() == ({"revoked": 1} if command == b"drop" else {})


@in_loop
async def test_faults_of_ours_end_one_connection_and_nothing_else(pki: PKI) -> None:
    def identify(der: bytes) -> Person:
        raise KeyError("a secret of ours")

    async with serving(pki, identify=identify) as server:
        peer = await in_thread(lambda: server.secure(client_context(pki.ca, pki.client("demo")[0])))
        peer.sendall(b"echo let me in\n")
        assert await the_rest(peer) == b""
        server.service.fails_at_the_start = RuntimeError("a secret of ours")
        assert await the_rest(await in_thread(server.secure)) == b""
        server.service.fails_at_the_start = None
        server.service.fails_at_the_end = True
        peer = await in_thread(server.secure)
        assert await asked(server, peer, b"echo x") == b"x\n"
        peer.close()
        await server.at_rest()
        assert [event for event, _ in server.logged].count("internal_error") == 3
        assert server.service.handled == [b"echo x"]


# -- who it is --------------------------------------------------------------------------------------------


@in_loop
async def test_a_certificate_says_who_it_is_and_revoking_cuts_it_while_it_waits(pki: PKI) -> None:
    async with serving(pki, identify=lambda der: Person("demo")) as server:
        context = client_context(pki.ca, pki.client("demo")[0])
        peers = [await in_thread(lambda: server.secure(context)) for _ in range(20)]
        for peer in peers:
            await asked(server, peer, b"echo x")
        assert server.shell.live.principals() == {"demo": 20}
        for connection in server.shell.live:
            assert isinstance(connection, Connection)
            assert connection.certificate == pki.client_der("demo")
            connection.refuse(Refusal.REVOKED)
        for peer in peers:
            peer.sendall(b"echo in the meantime\n" * 100)  # late input must not destroy the last words
        assert [await the_rest(peer) for peer in peers] == [b"sorry: revoked\n"] * 20
        await server.at_rest()
        assert server.refused() == {"revoked": 20}


@in_loop
async def test_revoking_cuts_those_that_are_busy(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)

        def chatter() -> bytes:
            said = b""
            with contextlib.suppress(EOFError, OSError):
                while True:
                    said += ask(peer, b"echo x", b"echo y", b"echo z")
            return said

        busy = asyncio.create_task(in_thread(chatter))
        await server.until(lambda: len(server.service.handled) > 50)
        the_connection(server).refuse(Refusal.REVOKED)
        assert (await asyncio.wait_for(busy, 5)).startswith(b"x\ny\nz\n")
        peer.close()
        await server.at_rest()
        assert server.refused() == {"revoked": 1}


@in_loop
async def test_a_certificate_that_is_refused(pki: PKI) -> None:
    def identify(der: bytes) -> Person:
        raise RefusedError(Refusal.CERTIFICATE_REVOKED, "serial")

    async with serving(pki, identify=identify) as server:
        peer = await in_thread(lambda: server.secure(client_context(pki.ca, pki.client("demo")[0])))
        assert await the_rest(peer) == b"sorry: certificate_revoked\n"
        await server.at_rest()


@in_loop
async def test_connections_of_a_principal_are_bounded(pki: PKI) -> None:
    async with serving(pki, limits=ConnectionLimits(connections_per_principal_count=2)) as server:
        peers = [await in_thread(server.secure) for _ in range(3)]
        answers = [await in_thread(lambda peer=peer: ask(peer, b"login demo")) for peer in peers]
        assert answers == [b"welcome demo\n"] * 2 + [b"sorry: connections_per_principal\n"]
        for peer in peers:
            peer.close()
        await server.at_rest()


# -- deadlines --------------------------------------------------------------------------------------------


@in_loop
async def test_a_handshake_has_a_deadline(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        peer = server.connect()
        await server.until(lambda: server.shell.live.handshakes == 1)
        await server.at_wait()
        clock.advance(5.1)
        assert await the_rest(peer) == b""
        await server.at_rest()
        assert server.refused() == {"handshake_deadline": 1}


@in_loop
async def test_authentication_has_a_deadline(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, LineService(authentication=True), clock=clock) as server:
        late, known = [await in_thread(server.secure) for _ in range(2)]
        await asked(server, late, b"echo busy")
        await asked(server, known, b"login demo")
        clock.advance(10.1)
        assert await the_rest(late) == b"sorry: authentication_deadline\n"
        assert await asked(server, known, b"echo x") == b"x\n"
        known.close()


@pytest.mark.parametrize(
    ("command", "allowed", "said"),
    [(b"echo x", 299.0, b"sorry: idle\n"), (b"phase 3", 2.9, b"sorry: read_deadline\n")],
)
@in_loop
async def test_the_peers_time(pki: PKI, command: bytes, allowed: float, said: bytes) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        peer = await in_thread(server.secure)
        await asked(server, peer, command)
        clock.advance(allowed)
        assert server.refused() == {}
        clock.advance(1.2)
        assert await the_rest(peer) == said
        await server.at_rest()
        assert outcomes(server) == {"refused": 1}


@in_loop
async def test_a_frame_that_does_not_become_whole(pki: PKI) -> None:
    """One byte after the other moves no deadline."""
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        peer = await in_thread(server.secure)
        await asked(server, peer, b"phase 3")
        connection = the_connection(server)
        for number in range(1, 4):
            peer.sendall(b"x")
            await server.until(lambda number=number: connection.machine.buffered == number)
            await server.at_wait()
            clock.advance(0.9)
        clock.advance(0.4)
        assert await the_rest(peer) == b"sorry: read_deadline\n"


@in_loop
async def test_the_peers_time_does_not_run_while_a_handler_does(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        peer = await in_thread(server.secure)
        await asked(server, peer, b"phase 3")
        peer.sendall(b"wait\n")
        await server.until(lambda: server.service.handled[-1] == b"wait")
        await server.until(lambda: the_connection(server)._task is not None)
        clock.advance(1000.0)
        server.service.gate.set()
        assert await in_thread(lambda: read_line(peer)) == b"waited\n"
        await server.at_wait()
        clock.advance(2.9)
        assert await asked(server, peer, b"echo in time") == b"in time\n"
        peer.close()
        await server.at_rest()
        assert server.refused() == {}


@in_loop
async def test_a_session_ends_with_its_credential(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, LineService(expires_at=clock.wall() + 100), clock=clock) as server:
        peer = await in_thread(server.secure)
        await asked(server, peer, b"login demo")
        clock.jump_wall(-50.0)  # and moves with the system's clock
        clock.advance(149.0)
        assert await asked(server, peer, b"echo x") == b"x\n"
        clock.advance(2.0)
        assert await the_rest(peer) == b"sorry: expired\n"


@in_loop
async def test_idle_deadlines_shorten_under_overload(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock, limits=ConnectionLimits(connections_count=4)) as server:
        first = await in_thread(server.secure)
        await asked(server, first, b"echo x")
        others = [await in_thread(server.secure) for _ in range(3)]
        for other in others:
            await asked(server, other, b"echo x")
        clock.advance(61.0)
        for peer in (first, *others):
            assert await the_rest(peer) in (b"sorry: idle\n", b"")
        await server.at_rest()


@in_loop
async def test_a_peer_that_never_closes_is_seen_off(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        peer = await in_thread(server.secure)
        assert await in_thread(lambda: ask(peer, b"quit")) == b"bye\n"
        assert await in_thread(lambda: read_all(peer)) == b""
        await server.until(lambda: the_connection(server).state is State.LINGERING)
        peer.sendall(b"echo too late\n")
        clock.advance(LINGER_SECONDS + 0.1)
        await server.at_rest()
        assert server.service.handled == [b"quit"]
        peer.close()


class Patient(LineMachine):
    """Takes a passed deadline for a reason to ask, as a machine that pings does."""

    __slots__ = ()

    def deadline_passed(self) -> None:
        self.answer(b"ping")
        self.phase += 1


@in_loop
async def test_a_machine_may_answer_its_deadline_itself(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        peer = await in_thread(server.secure)
        await asked(server, peer, b"echo x")
        the_connection(server).machine = server.service.sessions[0].machine = Patient()
        await asked(server, peer, b"echo y")
        for _ in range(3):
            clock.advance(300.0)
            assert await in_thread(lambda: read_line(peer)) == b"ping\n"
        assert await asked(server, peer, b"echo z") == b"z\n"
        peer.close()


# -- handlers that take their time -------------------------------------------------------------------------


@in_loop
async def test_a_handler_that_waits_and_what_was_pipelined_behind_it(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        peer.sendall(b"echo 1\nwait\necho 2\nstream end\necho 3\n")
        assert await in_thread(lambda: read_line(peer)) == b"1\n"
        await server.until(lambda: server.service.handled == [b"echo 1", b"wait"])
        server.service.gate.set()
        assert await in_thread(lambda: b"".join(read_line(peer) for _ in range(5))) == (
            b"waited\n2\nbegun\nend\n3\n"
        )
        server.service.gate.clear()
        peer.sendall(b"stream later\n")
        assert await in_thread(lambda: read_line(peer)) == b"begun\n"  # while the handler is at work
        peer.sendall(b"echo a\n")
        peer.sendall(b"echo b\n")
        server.service.gate.set()
        assert await in_thread(lambda: b"".join(read_line(peer) for _ in range(3))) == b"later\na\nb\n"
        peer.close()
        await server.at_rest()


@pytest.mark.parametrize(
    ("command", "said"),
    [(b"wait-raise", b"sorry: internal\n"), (b"wait-deny", b"sorry: not_permitted\n")],
)
@in_loop
async def test_a_handler_that_fails_later(pki: PKI, command: bytes, said: bytes) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        peer.sendall(command + b"\n")
        await server.until(lambda: server.service.handled == [command])
        server.service.gate.set()
        assert await the_rest(peer) == said
        await server.at_rest()


@in_loop
async def test_a_handler_that_logs_in_later(pki: PKI) -> None:
    async with serving(pki) as server:
        server.service.gate.set()
        peer = await in_thread(server.secure)
        assert await in_thread(lambda: ask(peer, b"wait-login demo")) == b"welcome demo\n"
        assert server.shell.live.principals() == {"demo": 1}
        peer.close()
        await server.at_rest()


@pytest.mark.parametrize("cut", [lambda peer: None, reset])
@in_loop
async def test_a_handler_whose_peer_goes_away_is_told(pki: PKI, cut: Callable[[socket.socket], None]) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        peer.sendall(b"wait\n")
        await server.until(lambda: server.service.handled == [b"wait"])
        cut(peer)
        peer.close()
        await server.at_rest()  # though the gate is never opened
        assert [session.closings for session in server.service.sessions] == [1]


@in_loop
async def test_a_handler_at_work_when_its_right_ends(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        peer.sendall(b"wait\n")
        await server.until(lambda: server.service.handled == [b"wait"])
        the_connection(server).refuse(Refusal.REVOKED)
        assert await the_rest(peer) == b"sorry: revoked\n"
        await server.at_rest()


@in_loop
async def test_a_large_answer_of_a_handler_that_waited(pki: PKI) -> None:
    async with serving(pki) as server:
        server.service.gate.set()
        peer = await in_thread(server.secure)
        peer.sendall(b"wait-big 9000000\necho end\n")
        await server.until(lambda: the_connection(server).waiting > 0)
        await in_thread(lambda: read_some(peer, 9_000_001 + len(b"end\n")))
        peer.close()
        await server.at_rest()


# -- speaking unasked -------------------------------------------------------------------------------------


@in_loop
async def test_a_session_that_speaks_while_its_peer_says_nothing(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        await asked(server, peer, b"echo x")
        (session,) = server.service.sessions
        for act in (session.connection.wake, session.connection.flush):
            session.machine.answer(b"by the way")
            act()
            assert await in_thread(lambda: read_line(peer)) == b"by the way\n"
        assert await asked(server, peer, b"echo y") == b"y\n"
        peer.close()
        await server.at_rest()


@in_loop
async def test_more_than_the_kernel_takes_said_unasked(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        await asked(server, peer, b"echo x")
        (session,) = server.service.sessions
        for _ in range(10):
            session.machine.answer(bytes(1_000_000))
            session.connection.flush()
        assert session.connection.waiting > 0
        await in_thread(lambda: read_some(peer, 10 * 1_000_001))
        assert session.connection.waiting == 0
        assert await asked(server, peer, b"echo y") == b"y\n"
        peer.close()
        await server.at_rest()


@in_loop
async def test_a_slow_peer_that_is_given_up(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = await in_thread(server.secure)
        await asked(server, peer, b"echo x")
        (session,) = server.service.sessions
        for _ in range(10):
            session.machine.answer(bytes(1_000_000))
            session.connection.flush()
        session.connection.give_up(Refusal.OUTBOX)
        said = await the_rest(peer)
        assert said.endswith(b"sorry: outbox\n")
        assert len(said) < 10_000_000
        await server.at_rest()


# -- a peer that does not read, and the budget ------------------------------------------------------------


def stop_reading(server: Server, size: int, count: int = 1) -> ssl.SSLSocket:
    """A peer that asks for much and takes nothing."""
    peer = server.secure()
    peer.sendall((b"big %d\n" % size) * count)
    return peer


@in_loop
async def test_a_peer_that_stops_reading_is_dropped_when_it_took_nothing_for_too_long(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        peer = await in_thread(lambda: stop_reading(server, 7_000_000, 50))
        await server.until(lambda: the_connection(server).waiting > 0)
        assert len(server.service.handled) == 1, "no answer is made before the one before is taken"
        # It is paused, and may still be about to note since when: a thread is.
        async with asyncio.timeout(SECONDS):
            while not server.refused():
                clock.advance(10.0)
                await asyncio.sleep(0.001)
        await server.at_rest()
        assert server.refused() == {"write_stalled": 1}
        peer.close()


@in_loop
async def test_a_peer_that_reads_slowly_gets_everything(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        peer = await in_thread(lambda: stop_reading(server, 8_000_000))
        for _ in range(90):
            clock.advance(0.5)  # it may take nothing for 30, and the kernel tells of whole megabytes only
            await in_thread(lambda: read_some(peer, 88_888))
        await in_thread(lambda: read_some(peer, 81))
        assert server.refused() == {}
        assert await asked(server, peer, b"echo x") == b"x\n"
        peer.close()
        await server.at_rest()


@in_loop
async def test_what_waits_for_one_peer_is_bounded(pki: PKI) -> None:
    async with serving(pki, limits=ConnectionLimits(outbox_bytes=2 * MIB)) as server:
        peer = await in_thread(lambda: stop_reading(server, 12_000_000))
        await server.at_rest()
        assert server.refused() == {"outbox": 1}
        peer.close()


@in_loop
async def test_over_the_budget_the_heaviest_goes(pki: PKI) -> None:
    limits = ConnectionLimits(buffered_bytes=16 * MIB, outbox_bytes=16 * MIB)
    async with serving(pki, limits=limits) as server:
        modest = await in_thread(lambda: stop_reading(server, 9_000_000))
        await server.until(lambda: server.shell.buffered_bytes > MIB)
        hog = await in_thread(lambda: stop_reading(server, 17_000_000))
        await server.until(lambda: server.refused() != {})
        assert server.refused() in ({"memory": 1}, {"outbox": 1})
        await server.until(lambda: len(server.shell.live) == 1)
        hog.close()
        await in_thread(lambda: read_some(modest, 9_000_001))
        modest.close()
        await server.at_rest()


@in_loop
async def test_what_is_kept_of_the_input_counts_against_the_budget(pki: PKI) -> None:
    async with serving(pki, limits=ConnectionLimits(buffered_bytes=200_000)) as server:
        peer = await in_thread(server.secure)
        peer.sendall(b"x" * 100_000)
        await server.until(lambda: server.shell.buffered_bytes >= 100_000)
        peer.sendall(b"x" * 150_000)
        assert await the_rest(peer) == b"sorry: memory\n"
        await server.at_rest()
        assert server.refused() == {"memory": 1}


@in_loop
async def test_a_right_that_ends_while_an_answer_waits_drops_it(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = await in_thread(lambda: stop_reading(server, 9_000_000))
        await server.until(lambda: the_connection(server).waiting > 0)
        the_connection(server).refuse(Refusal.REVOKED)
        await server.at_rest()
        assert server.refused() == {"revoked": 1}
        peer.close()


# -- plaintext, and the upgrade ---------------------------------------------------------------------------

UPGRADE = TLSPolicy(upgrade=True)


@in_loop
async def test_the_upgrade(pki: PKI) -> None:
    async with serving(pki, LineService(UPGRADE, greeting=b"220 hello\n")) as server:

        def client() -> list[bytes]:
            plain = server.connect()
            said = [read_line(plain), ask(plain, b"echo in plaintext", b"upgrade")]
            with client_context(pki.ca).wrap_socket(plain, server_hostname="localhost") as peer:
                return [*said, ask(peer, b"echo in secret")]

        assert await in_thread(client) == [b"220 hello\n", b"in plaintext\ngo ahead\n", b"in secret\n"]
        await server.at_rest()


@pytest.mark.parametrize("behind", [b"\n", b"echo injected\n", b"\x16\x03\x01"])
@in_loop
async def test_one_byte_behind_the_upgrade_command_ends_the_connection(pki: PKI, behind: bytes) -> None:
    async with serving(pki, LineService(UPGRADE)) as server:
        peer = server.connect()
        peer.sendall(b"upgrade\n" + behind)
        assert await the_rest(peer) == b""
        await server.at_rest()
        assert server.refused() == {"upgrade": 1}
        assert server.service.handled == [b"upgrade"]


# -- drain ------------------------------------------------------------------------------------------------


@in_loop
async def test_drain_under_load_answers_wholly_or_not_at_all(pki: PKI) -> None:
    async with serving(pki) as server:
        peers = [await in_thread(server.secure) for _ in range(8)]

        def chatter(peer: ssl.SSLSocket) -> tuple[int, bytes]:
            """Whole answers, and what stood behind the last one."""
            whole, line = 0, b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while True:
                    peer.sendall(b"echo %06d\n" % whole)
                    line = b""
                    while not line.endswith(b"\n"):
                        data = peer.recv(100)
                        if not data:
                            return whole, line
                        line += data
                    assert line == b"%06d\n" % whole
                    whole += 1
            return whole, line

        running = [asyncio.create_task(asyncio.to_thread(chatter, peer)) for peer in peers]
        await server.until(lambda: len(server.service.handled) > 500)
        await server.listener.drain(10.0)
        results = await asyncio.gather(*running)
        assert all(rest == b"" or rest.endswith(b"\n") for _, rest in results)
        assert sum(whole for whole, _ in results) <= len(server.service.handled)
        for peer in peers:
            peer.close()
        await server.at_rest()
        assert outcomes(server) == {"drained": 8}


@in_loop
async def test_drain_waits_for_what_is_under_way_and_drops_what_is_late(pki: PKI) -> None:
    async with serving(pki) as server:
        idle, busy = [await in_thread(server.secure) for _ in range(2)]
        silent = server.connect()
        await server.until(lambda: len(server.shell.live) == 3)
        busy.sendall(b"wait\n")
        await server.until(lambda: server.service.handled == [b"wait"])
        drained = asyncio.create_task(server.listener.drain(10.0))
        assert await the_rest(idle) == b""
        assert await the_rest(silent) == b""
        assert not drained.done()
        server.service.gate.set()
        assert await the_rest(busy) == b"waited\n"
        await drained
        assert outcomes(server) == {"drained": 3}
