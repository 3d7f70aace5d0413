"""THREATS.md, "Upgrade in place": a protocol that begins in plaintext, over real sockets.

The line service stands for SMTP and FTP. Their own rows (which commands are allowed before TLS, what their
clients do about a server that strips or spoils the upgrade) are tested with them.
"""

from __future__ import annotations

import socket
import ssl

import pytest

from secure_net.limits import ConnectionLimits
from secure_net.wire.tls import TLSPolicy, client_context
from tests.support.loopback import Server, ask, in_thread, read_all, serving
from tests.support.loops import in_loop
from tests.support.machines import LineService
from tests.support.pki import PKI, make_pki

GREETING = b"220 hello\n"

BEHIND = [
    pytest.param(b"echo injected\n", id="a whole command"),
    pytest.param(b"echo inj", id="half a command"),
    pytest.param(b"e", id="one byte"),
    pytest.param(b"\n", id="one line feed"),
    pytest.param(b"\x16\x03\x01\x00\x05", id="the beginning of a hello"),
    pytest.param(b"upgrade\n", id="the upgrade command again"),
    pytest.param(b"echo x\n" * 20_000, id="more than one read"),
]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def service() -> LineService:
    return LineService(TLSPolicy(upgrade=True), greeting=GREETING, authentication=True)


def greeted(server: Server) -> socket.socket:
    peer = server.connect()
    assert peer.recv(len(GREETING)) == GREETING
    return peer


async def upgrades(server: Server) -> None:
    """An honest client can."""

    def client() -> bytes:
        with greeted(server) as plain:
            assert ask(plain, b"upgrade") == b"go ahead\n"
            with client_context(server.pki.ca).wrap_socket(plain, server_hostname="localhost") as connection:
                return ask(connection, b"echo in secret")

    assert await in_thread(client) == b"in secret\n"


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("command", [b"upgrade", b"upgrade-later"])
@in_loop
async def test_plaintext_behind_the_upgrade_command_in_the_same_segment(
    pki: PKI, command: bytes, behind: bytes
) -> None:
    async with serving(pki, service()) as server:

        def client() -> bytes:
            with greeted(server) as peer:
                peer.sendall(command + b"\n" + behind)
                return read_all(peer)

        server.service.gate.set()
        assert await in_thread(client) == b""
        assert server.service.handled == [command]
        assert server.refused() == {"upgrade": 1}
        await server.at_rest()
        await upgrades(server)


@in_loop
async def test_what_stood_before_the_upgrade_command_is_answered_and_nothing_behind(pki: PKI) -> None:
    async with serving(pki, service()) as server:

        def client() -> bytes:
            with greeted(server) as peer:
                assert ask(peer, b"echo before") == b"before\n"
                peer.sendall(b"echo with it\nupgrade\necho injected\n")
                return read_all(peer)

        answered = await in_thread(client)
        assert b"injected" not in answered
        assert b"go ahead" not in answered
        assert server.service.handled == [b"echo before", b"echo with it", b"upgrade"]
        await server.at_rest()


@in_loop
async def test_plaintext_behind_the_upgrade_command_in_a_segment_of_its_own(pki: PKI) -> None:
    """Where it comes after the answer it stands where a ClientHello belongs."""
    async with serving(pki, service()) as server:

        def client() -> bytes:
            with greeted(server) as peer:
                assert ask(peer, b"upgrade") == b"go ahead\n"
                peer.sendall(b"echo injected\n")
                return read_all(peer)

        assert await in_thread(client) == b""
        assert server.service.handled == [b"upgrade"]
        assert server.refused() == {"plaintext": 1}
        await server.at_rest()


@in_loop
async def test_a_hello_that_does_not_wait_for_the_answer(pki: PKI) -> None:
    """It is plaintext behind the command like any other: who pipelines it was never told to go ahead."""
    async with serving(pki, service()) as server:

        def client() -> bytes:
            outgoing = ssl.MemoryBIO()
            tls = client_context(pki.ca).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            with greeted(server) as peer:
                peer.sendall(b"upgrade\n" + outgoing.read())
                return read_all(peer)

        assert await in_thread(client) == b""
        assert server.refused() == {"upgrade": 1}
        await server.at_rest()


@in_loop
async def test_nothing_of_the_plaintext_is_known_behind_tls(pki: PKI) -> None:
    async with serving(pki, service()) as server:

        def client() -> bytes:
            with greeted(server) as plain:
                assert ask(plain, b"upgrade") == b"go ahead\n"
                with client_context(pki.ca).wrap_socket(plain, server_hostname="localhost") as connection:
                    return ask(connection, b"echo a", b"login demo")

        assert await in_thread(client) == b"a\nwelcome demo\n"
        assert server.service.handled == [b"upgrade", b"echo a", b"login demo"]
        await server.at_rest()


@in_loop
async def test_a_second_upgrade_behind_tls(pki: PKI) -> None:
    async with serving(pki, service()) as server:

        def client() -> bytes:
            with greeted(server) as plain:
                assert ask(plain, b"upgrade") == b"go ahead\n"
                with client_context(pki.ca).wrap_socket(plain, server_hostname="localhost") as connection:
                    connection.sendall(b"upgrade\n")
                    return read_all(connection)

        assert b"internal" in await in_thread(client)
        await server.at_rest()


@pytest.mark.parametrize("said", [b"", b"echo busy\n" * 3, b"upgrade\n"])
@in_loop
async def test_who_never_authenticates_is_closed_at_the_deadline(pki: PKI, said: bytes) -> None:
    limits = ConnectionLimits(authentication_seconds=0.3, handshake_seconds=0.3)
    async with serving(pki, service(), limits=limits) as server:

        def client() -> bytes:
            with greeted(server) as peer:
                peer.sendall(said)
                return read_all(peer)

        answers = await in_thread(client)
        if said == b"upgrade\n":
            assert (answers, server.refused()) == (b"go ahead\n", {"handshake_deadline": 1})
        else:
            assert answers == b"busy\n" * said.count(b"\n") + b"sorry: authentication_deadline\n"
        await server.at_rest()


@in_loop
async def test_a_peer_that_leaves_in_plaintext(pki: PKI) -> None:
    async with serving(pki, service()) as server:

        def client() -> bytes:
            with greeted(server) as peer:
                peer.sendall(b"echo one\necho two\n")
                peer.shutdown(socket.SHUT_WR)
                return read_all(peer)

        assert await in_thread(client) == b"one\ntwo\n"
        await server.at_rest()
        assert server.refused() == {}
