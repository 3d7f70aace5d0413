"""Accepting, over real sockets: addresses, caps, room for new handshakes, descriptors, reload, drain."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from secure_net.errors import ConfigurationError
from secure_net.limits import ConnectionLimits
from secure_net.wire.listener import Listener
from secure_net.wire.tls import TLSMaterial, TLSPolicy, client_context
from tests.support.clock import FakeClock
from tests.support.loopback import Server, ask, each_engine, in_thread, read_all, serving  # noqa: F401
from tests.support.loops import in_loop
from tests.support.machines import LineService
from tests.support.pki import PKI, make_pki
from tests.support.transport import turns

HERE = "127.0.0.1"

pytestmark = pytest.mark.usefixtures("each_engine")

# -- addresses --------------------------------------------------------------------------------------------


@in_loop
async def test_a_call_over_a_real_socket(pki: PKI) -> None:
    async with serving(pki) as server:

        def client() -> bytes:
            with server.secure() as connection:
                return ask(connection, b"echo hello")

        assert await in_thread(client) == b"hello\n"
        await server.at_rest()
        assert server.counters.handshakes.count == 1


@in_loop
async def test_an_answer_of_several_records_waits_for_no_acknowledgement(pki: PKI) -> None:
    async with serving(pki) as server:
        with await in_thread(server.secure):
            (connection,) = server.listener.connections
            accepted = connection._transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@in_loop
async def test_several_addresses_and_ipv6(pki: PKI) -> None:
    async with serving(pki) as server:
        material = TLSMaterial.load(pki.certs, server.service.tls)
        both = Listener(server.shell, server.service, server.counters, material, [(HERE, 0), ("::1", 0)])
        both.start()
        assert [host for host, _ in both.listen_addrs] == [HERE, "::1"]

        def client() -> list[bytes]:
            answers = []
            for address in both.listen_addrs:
                plain = socket.create_connection(address, 5)
                with client_context(pki.ca).wrap_socket(plain, server_hostname=address[0]) as connection:
                    answers.append(ask(connection, b"echo " + address[0].encode()))
            return answers

        assert await in_thread(client) == [b"127.0.0.1\n", b"::1\n"]
        await both.drain(0)
        assert both.listen_addrs == ()


@in_loop
async def test_a_port_that_is_taken_is_one_clear_line_and_nothing_stays_bound(pki: PKI) -> None:
    async with serving(pki) as server:
        material = TLSMaterial.load(pki.certs, server.service.tls)
        taken = server.address
        second = Listener(server.shell, server.service, server.counters, material, [(HERE, 0), taken])
        with pytest.raises(ConfigurationError) as caught:
            second.start()
        assert str(caught.value) == (
            f"line.listen: {HERE}:{taken[1]} is already in use; "
            "stop the program that listens there, or choose another address"
        )
        assert second.listen_addrs == ()


@in_loop
async def test_an_address_that_is_not_ours(pki: PKI) -> None:
    async with serving(pki) as server:
        material = TLSMaterial.load(pki.certs, server.service.tls)
        other = Listener(server.shell, server.service, server.counters, material, [("192.0.2.1", 0)])
        with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:0 cannot be had: "):
            other.start()


# -- caps -------------------------------------------------------------------------------------------------


@in_loop
async def test_connections_of_one_source_are_bounded_in_a_burst_too(pki: PKI) -> None:
    async with serving(pki, limits=ConnectionLimits(connections_per_source_count=5)) as server:
        # The server's loop does not turn while we connect: all are accepted in one go.
        peers = [server.connect() for _ in range(12)]
        elsewhere = server.connect("127.0.0.2")
        await server.until(lambda: len(server.shell.live) == 6)
        assert server.refused() == {"connections_per_source": 7}
        assert server.counters.connections_open == 6
        for peer in (*peers, elsewhere):
            peer.close()
        await server.at_rest()
        assert server.shell.live.from_source(HERE) == 0


@in_loop
async def test_connections_in_all_are_bounded_and_handshakes_make_room(pki: PKI) -> None:
    async with serving(pki, limits=ConnectionLimits(connections_count=3)) as server:
        silent = server.connect("127.0.0.2")
        await server.until(lambda: len(server.shell.live) == 1)
        honest = [await in_thread(server.secure) for _ in range(3)]
        assert await in_thread(lambda: read_all(silent)) == b""
        assert server.refused() == {"handshakes": 1}
        with pytest.raises((ssl.SSLError, OSError)):
            await in_thread(server.secure)
        assert server.refused() == {"handshakes": 1, "connections": 1}
        assert await in_thread(lambda: [ask(each, b"echo x") for each in honest]) == [b"x\n"] * 3
        for each in (silent, *honest):
            each.close()
        await server.at_rest()


@in_loop
async def test_in_a_burst_as_many_make_room_as_come(pki: PKI) -> None:
    """Each arrival evicts another one: what has been dropped in this turn is not dropped again."""
    limits = ConnectionLimits(handshakes_count=10, handshakes_random_count=5)
    async with serving(pki, limits=limits) as server:
        peers = [server.connect() for _ in range(60)]
        await server.until(lambda: server.refused().get("handshakes", 0) >= 50)
        await server.until(lambda: server.counters.connections_open <= 10)
        assert server.shell.live.handshakes <= 10
        # The youngest are the ones that are left.
        await in_thread(lambda: [read_all(peer) for peer in peers[:40]])
        for peer in peers:
            peer.close()
        await server.at_rest()


# -- descriptors ------------------------------------------------------------------------------------------

EMFILE = """
import asyncio, contextlib, resource, socket, sys
from pathlib import Path
from tests.support.loopback import ask, serving
from tests.support.loops import in_loop
from tests.support.pki import make_pki
pki = make_pki(Path(sys.argv[1]))

@in_loop
async def main():
    async with serving(pki) as server:
        first = await asyncio.to_thread(server.secure)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        hogs = []
        with contextlib.suppress(OSError):
            while True:
                hogs.append(socket.create_connection(server.address, 5))
        # Nothing is left for this process, the server included; the first peer is still served.
        await server.until(lambda: server.listener.last_exception is not None)
        assert await asyncio.to_thread(ask, first, b"echo still here") == b"still here\\n"
        for hog in hogs:
            hog.close()
        await server.until(lambda: server.counters.connections_open == 1)
        with await asyncio.to_thread(server.secure) as again:
            assert await asyncio.to_thread(ask, again, b"echo back") == b"back\\n"
        first.close()
        await server.at_rest()
        print("refused", server.refused().get("descriptors", 0))
main()
"""


def test_out_of_descriptors_some_are_refused_and_service_returns_by_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", EMFILE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("refused ")


class Listening:
    """A listening socket that fails as told."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if not self.errors:
            raise BlockingIOError
        raise OSError(self.errors.pop(0), "as told")

    def fileno(self) -> int:
        return -1


def accept(server: Server, *errors: int) -> None:
    server.listener._accept(Listening(*errors))  # type: ignore[arg-type]  # a fake


@in_loop
async def test_a_peer_that_went_away_before_it_was_accepted(pki: PKI) -> None:
    async with serving(pki) as server:
        accept(server)
        assert server.listener.last_exception is None
        accept(server, errno.ECONNABORTED)
        assert server.listener.last_exception is not None
        with pytest.raises(OSError, match="as told"):
            accept(server, errno.EBADF)


@in_loop
async def test_the_reserve_is_given_up_for_an_honest_refusal(pki: PKI) -> None:
    async with serving(pki) as server:
        peer = server.connect()
        server.listener._refuse_without_descriptor(server.listener._sockets[0])
        assert await in_thread(lambda: read_all(peer)) == b""
        assert server.refused() == {"descriptors": 1}
        assert server.listener._reserve is not None
        accept(server, errno.EMFILE, errno.EMFILE)  # even with the reserve given up
        assert server.listener._reserve is not None
        peer.close()


@in_loop
async def test_without_the_reserve_the_listener_rests_and_comes_back(
    pki: PKI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, "as told")

    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        listener, (listening,) = server.listener, server.listener._sockets
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", full)
            accept(server, errno.EMFILE, errno.EMFILE)  # something else takes what the reserve gave up
            assert listener._reserve is None
            listener._refuse_without_descriptor(listening)
            peer = server.connect()
            await turns()
            assert len(server.shell.live) == 0, "it looks away"
            clock.advance(1.0)
            assert listener._reserve is None
            assert len(server.shell.live) == 0
            listener._refuse_without_descriptor(listening)
        clock.advance(1.0)
        await server.until(lambda: len(server.shell.live) == 1)
        assert listener._reserve is not None
        peer.close()
        await server.at_rest()


@in_loop
async def test_a_listener_that_was_stopped_while_it_rested(pki: PKI) -> None:
    clock = FakeClock()
    async with serving(pki, clock=clock) as server:
        server.listener._rest(server.listener._sockets[0])
        server.listener.stop()
        clock.advance(1.0)
        assert server.listener._reserve is None
        assert clock.pending == 0


@in_loop
async def test_a_transport_that_cannot_be_made(pki: PKI) -> None:
    async with serving(pki, engine=Listener) as server:

        async def fail(factory: object, sock: socket.socket) -> None:
            raise OSError(errno.EINVAL, "as told")

        asyncio.get_running_loop().connect_accepted_socket = fail  # type: ignore[assignment]  # a fault
        peer = server.connect()
        await server.until(lambda: server.listener.last_exception is not None)
        assert await in_thread(lambda: read_all(peer)) == b""
        peer.close()
        await server.at_rest()


# -- reload, stop, drain ------------------------------------------------------------------------------------


@in_loop
async def test_a_new_certificate_is_for_new_handshakes(pki: PKI, tmp_path: Path) -> None:
    async with serving(pki) as server:
        old = await in_thread(server.secure)
        fresh = make_pki(tmp_path)
        server.listener.use(TLSMaterial.load(fresh.certs, server.service.tls))
        assert await in_thread(lambda: ask(old, b"echo x")) == b"x\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await in_thread(server.secure)
        new = await in_thread(lambda: server.secure(client_context(fresh.ca)))
        assert await in_thread(lambda: ask(new, b"echo y")) == b"y\n"
        old.close()
        new.close()


@in_loop
async def test_stop_accepts_no_more_and_leaves_the_others(pki: PKI) -> None:
    async with serving(pki) as server:
        open_before, address = await in_thread(server.secure), server.address
        server.listener.stop()
        server.listener.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 5)
        assert await in_thread(lambda: ask(open_before, b"echo x")) == b"x\n"
        assert len(server.listener.connections) == 1
        open_before.close()


@in_loop
async def test_drain_answers_what_is_under_way_and_drops_what_is_stuck(pki: PKI) -> None:
    async with serving(pki) as server:
        busy, stuck, idle = [await in_thread(server.secure) for _ in range(3)]
        silent = server.connect()
        busy.sendall(b"wait\n")
        stuck.sendall(b"stream never\n")
        await server.until(lambda: len(server.service.handled) == 2)
        drained = asyncio.create_task(server.listener.drain(0.5))
        assert await in_thread(lambda: read_all(idle)) == b""
        assert await in_thread(lambda: read_all(silent)) == b""
        for session in server.service.sessions:  # only the busy one is let go
            if session.connection.peer.endswith(f":{busy.getsockname()[1]}"):
                session.machine.answer(b"not yet")
                session.connection.wake()
        assert not drained.done()
        await drained
        assert await in_thread(lambda: read_all(busy)) == b"not yet\n"
        assert await in_thread(lambda: read_all(stuck)) == b"begun\n"
        assert {outcome.value: n for outcome, n in server.counters.connections.items() if n} == {"drained": 4}
        for each in (busy, stuck, idle, silent):
            each.close()
        server.service.gate.set()
        await turns()
        await server.at_rest()


@in_loop
async def test_drain_waits_for_nothing_longer_than_it_takes(pki: PKI) -> None:
    async with serving(pki) as server:
        busy = await in_thread(server.secure)
        busy.sendall(b"wait\n")
        await server.until(lambda: server.service.handled == [b"wait"])
        drained = asyncio.create_task(server.listener.drain(60.0))
        await turns()
        server.service.gate.set()
        assert await in_thread(lambda: read_all(busy)) == b"waited\n"
        busy.close()
        await drained
        await server.at_rest()


@in_loop
async def test_drain_in_the_turn_in_which_a_peer_is_accepted(pki: PKI) -> None:
    """Between accept and the transport there is a turn of the loop: nobody falls into it."""
    async with serving(pki) as server:
        peer = server.connect()
        server.listener._accept(server.listener._sockets[0])
        assert len(server.shell.live) == 1
        await server.listener.drain(5.0)
        assert await in_thread(lambda: read_all(peer)) == b""
        peer.close()
        assert server.counters.connections_open == 0


@in_loop
async def test_a_service_that_begins_in_plaintext(pki: PKI) -> None:
    async with serving(pki, LineService(TLSPolicy(upgrade=True), greeting=b"220 hello\n")) as server:

        def client() -> bytes:
            with server.connect() as plain:
                assert plain.recv(100) == b"220 hello\n"
                assert ask(plain, b"upgrade") == b"go ahead\n"
                with client_context(pki.ca).wrap_socket(plain, server_hostname="localhost") as connection:
                    return ask(connection, b"echo in secret")

        assert await in_thread(client) == b"in secret\n"
        await server.at_rest()
