"""THREATS.md, "TLS and certificates": what a server's shell does, over real sockets, on either engine.

Which certificates fit is in `test_certificates.py`; what the whole daemon does about revocation, with its
store and its control socket, in the tests of the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import ssl
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from secure_net.clock import SystemClock
from secure_net.errors import Refusal
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.policy import Grant, Policy
from secure_net.identity.revocation import Revocations
from secure_net.limits import ConnectionLimits
from secure_net.wire.tls import TLSPolicy, client_context
from tests.support.loopback import Server, ask, each_engine, in_thread, read_all, serving  # noqa: F401
from tests.support.loops import in_loop
from tests.support.machines import LineService
from tests.support.pki import PKI, make_pki

pytestmark = pytest.mark.usefixtures("each_engine")

QUICK = ConnectionLimits(handshake_seconds=0.3)
REQUIRED = TLSPolicy(client_certificates="required")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def records_of(context: ssl.SSLContext, hostname: str | None = "localhost") -> bytes:
    """A ClientHello as OpenSSL sends it."""
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=hostname)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def by_hand(data: bytes) -> Callable[[Server], bytes]:
    """A client that sends these bytes and reads to the end."""

    def client(server: Server) -> bytes:
        with server.connect() as peer:
            peer.sendall(data)
            return read_all(peer)

    return client


async def served(server: Server) -> None:
    """An honest client is."""

    def client() -> bytes:
        with server.secure() as connection:
            return ask(connection, b"echo honest")

    assert await in_thread(client) == b"honest\n"


# -- plaintext, old versions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"EHLO localhost\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x80\x2e\x01\x00\x02" + bytes(41),  # an SSL 2 hello
        b"\x15\x03\x03\x00\x02\x02\x70" + b"x" * 40_000,  # begins like an alert
    ],
)
@in_loop
async def test_plaintext_to_a_tls_port(pki: PKI, first: bytes) -> None:
    async with serving(pki) as server:
        assert await in_thread(lambda: by_hand(first)(server)) == b""
        assert server.refused() == {"plaintext": 1}
        await served(server)
        await server.at_rest()


@pytest.mark.parametrize("first", [b"", b"\x16\x03", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
@in_loop
async def test_stray_bytes_and_silence_end_at_the_handshake_deadline(pki: PKI, first: bytes) -> None:
    async with serving(pki, limits=QUICK) as server:
        assert await in_thread(lambda: by_hand(first)(server)) == b""
        assert server.refused() == {"handshake_deadline": 1}
        await server.at_rest()


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"\x16\x03\x01\xff\xff", b"\x16" * 50]
)
@in_loop
async def test_what_only_looks_like_tls(pki: PKI, junk: bytes) -> None:
    async with serving(pki) as server:
        assert await in_thread(lambda: by_hand(junk)(server)) == b""
        assert server.refused() == {"client_hello": 1}
        await server.at_rest()


@pytest.mark.parametrize(
    ("version", "minimum"),
    [
        (ssl.TLSVersion.TLSv1, "1.2"),
        (ssl.TLSVersion.TLSv1_1, "1.2"),
        (ssl.TLSVersion.TLSv1_1, "1.3"),
        (ssl.TLSVersion.TLSv1_2, "1.3"),
    ],
)
@in_loop
async def test_a_version_below_the_minimum(pki: PKI, version: ssl.TLSVersion, minimum: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(pki.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    policy = TLSPolicy(minimum=minimum)  # type: ignore[arg-type]  # one of two
    async with serving(pki, LineService(policy)) as server:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await in_thread(lambda: server.secure(context))
        assert server.refused() == {"handshake": 1}
        assert server.logged[-1][1]["detail"] == "UNSUPPORTED_PROTOCOL"
        await server.at_rest()


@in_loop
async def test_1_2_without_forward_secrecy_or_aead(pki: PKI) -> None:
    context = client_context(pki.ca, minimum="1.2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(pki, LineService(TLSPolicy(minimum="1.2"))) as server:
        for ciphers in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"):
            context.set_ciphers(ciphers)
            with pytest.raises(ssl.SSLError):
                await in_thread(lambda: server.secure(context))
        assert server.refused() == {"handshake": 2}


# -- the silent and the half-hearted, in numbers ------------------------------------------------------

SILENT = HALF = 1000


def sources() -> Iterator[str]:
    """Addresses all over 127.0.0.0/8: no bound by source holds these back."""
    return (f"127.{i % 199 + 1}.{i // 199 % 250 + 1}.{i % 7 + 1}" for i in range(SILENT + HALF))


async def intrude(server: Server, source: str, first: bytes) -> socket.socket:
    loop = asyncio.get_running_loop()
    peer = socket.socket()
    peer.setblocking(False)
    peer.bind((source, 0))
    await loop.sock_connect(peer, server.address)
    with contextlib.suppress(ConnectionError):  # it may have been dropped already
        await loop.sock_sendall(peer, first)
    return peer


async def has_ended(peer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while await loop.sock_recv(peer, 1 << 16):
            pass


@in_loop
async def test_a_thousand_silent_peers_and_a_thousand_stopped_in_mid_handshake(pki: PKI) -> None:
    """Honest clients keep 100% success all the while; the others are closed by the deadline."""
    hello, latencies = records_of(client_context(pki.ca)), []
    over = asyncio.Event()
    async with serving(pki, limits=ConnectionLimits(handshake_seconds=2.0)) as server:

        def call() -> float:
            begun = time.perf_counter()
            with server.secure() as connection:
                assert ask(connection, b"echo honest") == b"honest\n"
            return time.perf_counter() - begun

        async def honest() -> None:
            while not over.is_set():
                latencies.append(await in_thread(call))

        clients = [asyncio.create_task(honest()) for _ in range(3)]
        intruders = []
        for number, source in enumerate(sources()):
            intruders.append(await intrude(server, source, hello if number % 2 else b""))
        async with asyncio.timeout(30):
            await asyncio.gather(*map(has_ended, intruders))
        over.set()
        await asyncio.gather(*clients)  # raises where one honest client failed
        assert len(latencies) > 30
        assert sorted(latencies)[int(len(latencies) * 0.99)] < 1.0
        refused = server.refused()
        assert set(refused) <= {"handshakes", "handshake_deadline"}
        assert sum(refused.values()) == SILENT + HALF
        for peer in intruders:
            peer.close()
        await server.at_rest()


@pytest.mark.parametrize("says", ["nothing", "hello"])
@in_loop
async def test_a_flood_of_peers_that_come_back_as_soon_as_they_are_dropped(pki: PKI, says: str) -> None:
    hello = records_of(client_context(pki.ca)) if says == "hello" else b""
    over = asyncio.Event()
    async with serving(pki) as server:

        async def insist(source: str) -> None:
            while not over.is_set():
                peer = await intrude(server, source, hello)
                waiting = asyncio.create_task(has_ended(peer))
                await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                peer.close()

        stopping = asyncio.create_task(over.wait())
        intruders = [asyncio.create_task(insist(source)) for source in itertools.islice(sources(), 300)]
        await server.until(lambda: server.refused().get("handshakes", 0) > 300)
        for _ in range(10):
            await served(server)
        over.set()
        await asyncio.gather(*intruders)
        await server.at_rest()


@in_loop
async def test_one_source_cannot_take_all_the_room(pki: PKI) -> None:
    """Those who have shaken hands are bounded by source, those who have not make room."""
    limits = ConnectionLimits(connections_per_source_count=20, handshakes_count=12, handshakes_random_count=8)
    async with serving(pki, limits=limits) as server:
        held = [await in_thread(lambda: server.secure(source="127.9.9.9")) for _ in range(15)]
        silent = [await intrude(server, "127.9.9.9", b"") for _ in range(50)]
        assert server.shell.live.from_source("127.9.9.9") <= 20
        await served(server)
        await server.until(lambda: sum(server.refused().values()) >= 45)
        assert set(server.refused()) <= {"connections_per_source", "handshakes"}
        for peer in (*held, *silent):
            peer.close()
        await server.at_rest()


# -- names and protocols ------------------------------------------------------------------------------


@in_loop
async def test_alpaca_a_wrong_server_name(pki: PKI) -> None:
    async with serving(pki) as server:
        for name in ("elsewhere.example", "localhost.example", "127.0.0.1.example"):
            with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
                await in_thread(lambda name=name: server.secure(hostname=name))
        assert server.refused() == {"server_name": 3}
        await server.at_rest()


@in_loop
async def test_alpaca_only_protocols_of_others(pki: PKI) -> None:
    async with serving(pki, LineService(TLSPolicy(alpn=("http/1.1",)))) as server:
        for offer in (("smtp",), ("h2", "ftp"), ("http/1.0",)):
            with pytest.raises(ssl.SSLError, match="alert no application protocol"):
                await in_thread(lambda offer=offer: server.secure(client_context(pki.ca, alpn=offer)))
        assert server.refused() == {"alpn": 3}
        with await in_thread(lambda: server.secure(client_context(pki.ca, alpn=("h2", "http/1.1")))) as peer:
            assert peer.selected_alpn_protocol() == "http/1.1"
        await server.at_rest()


@in_loop
async def test_absent_names_and_absent_protocols_are_accepted(pki: PKI) -> None:
    context = client_context(pki.ca)
    context.check_hostname = False
    async with serving(pki, LineService(TLSPolicy(alpn=("http/1.1",)))) as server:
        with await in_thread(lambda: server.secure(context, hostname=None)) as peer:
            assert await in_thread(lambda: ask(peer, b"echo x")) == b"x\n"
            assert peer.selected_alpn_protocol() is None
        with await in_thread(lambda: server.secure(hostname="127.0.0.1")) as peer:
            assert await in_thread(lambda: ask(peer, b"echo y")) == b"y\n"


@in_loop
async def test_an_address_for_a_server_name_is_taken_as_absent(pki: PKI) -> None:
    """lftp sends the literal, which RFC 6066 forbids. Written into the hello by hand: the transcript no
    longer fits, so that the server's flight is all that can be had, and no alert stands in it."""
    hello = records_of(client_context(pki.ca), "9charname").replace(b"9charname", b"127.0.0.1")
    async with serving(pki, limits=QUICK) as server:
        answer = await in_thread(lambda: by_hand(hello)(server))
        assert answer.startswith(b"\x16\x03\x03")
        assert server.refused() == {"handshake_deadline": 1}


# -- client certificates ------------------------------------------------------------------------------


def alert_seen(server: Server, context: ssl.SSLContext) -> str:
    """The client's handshake has succeeded by the time it is refused: it writes, and learns when it reads."""
    with server.secure(context) as peer:
        try:
            peer.sendall(b"echo x\n" * 20)
            return f"got {peer.recv(100)!r}"
        except OSError as error:
            return getattr(error, "reason", "") or str(error)


@in_loop
async def test_a_certificate_required_and_missing_the_client_notices_at_its_first_read(pki: PKI) -> None:
    async with serving(pki, LineService(REQUIRED)) as server:
        seen = [await in_thread(lambda: alert_seen(server, client_context(pki.ca))) for _ in range(20)]
        assert seen == ["TLSV13_ALERT_CERTIFICATE_REQUIRED"] * 20
        assert server.refused() == {"certificate_required": 20}
        assert server.service.sessions == []


@in_loop
async def test_a_certificate_of_another_authority_hears_of_it_20_times_of_20(
    pki: PKI, tmp_path: Path
) -> None:
    foreign = trustme.CA().issue_cert("demo@example.org")
    certificate, key = tmp_path / "c.pem", tmp_path / "c.key"
    foreign.cert_chain_pems[0].write_to_path(str(certificate))
    foreign.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    async with serving(pki) as server:
        context = client_context(pki.ca, certificate)
        seen = [await in_thread(lambda: alert_seen(server, context)) for _ in range(20)]
        assert set(seen) <= {"TLSV1_ALERT_UNKNOWN_CA", "TLSV1_ALERT_DECRYPT_ERROR"}, seen
        assert len(seen) == 20
        assert server.refused() == {"certificate_invalid": 20}


class House:
    """Who decides whom a certificate names, and what was taken back."""

    def __init__(self, pki: PKI) -> None:
        self.revocations = Revocations()
        self.authenticator = Authenticator(
            clock=SystemClock(),
            trust_domain=pki.trust_domain,
            policy=Policy({"demo": Grant.parse(["*:*:**"])}),
            revocations=self.revocations,
            keys=pki.keys,
        )


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@in_loop
async def test_a_revoked_certificate_is_refused_fresh_and_resumed(pki: PKI, version: str) -> None:
    house, service = House(pki), LineService(TLSPolicy(minimum="1.2", client_certificates="required"))
    context = client_context(pki.ca, pki.client("demo")[0], minimum="1.2")
    if version == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(pki, service, identify=house.authenticator.certificate) as server:

        def call(session: ssl.SSLSession | None) -> tuple[bytes, bool | None, ssl.SSLSession | None]:
            plain = server.connect()
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as peer:
                peer.sendall(b"echo x\n")
                return peer.recv(100), peer.session_reused, peer.session

        answer, reused, session = await in_thread(lambda: call(None))
        assert (answer, reused) == (b"x\n", False)
        answer, reused, _ = await in_thread(lambda: call(session))
        # 1.3 has no tickets here; 1.2 resumes by its session id, which no option turns off.
        assert (answer, reused) == (b"x\n", version == "1.2")
        house.revocations.revoke_name("demo", time.time() + 1)
        for resumed in (None, session):
            assert (await in_thread(lambda resumed=resumed: call(resumed)))[0] == b"sorry: revoked\n"
        assert server.refused() == {"revoked": 2}
        await server.at_rest()


@in_loop
async def test_a_revoked_certificate_on_an_open_connection(pki: PKI) -> None:
    house = House(pki)
    async with serving(pki, identify=house.authenticator.certificate) as server:
        context = client_context(pki.ca, pki.client("demo")[0])
        peer = await in_thread(lambda: server.secure(context))
        assert await in_thread(lambda: ask(peer, b"echo x")) == b"x\n"
        begun = time.perf_counter()
        for connection in server.listener.connections:
            connection.refuse(Refusal.REVOKED)
        assert await in_thread(lambda: read_all(peer)) == b"sorry: revoked\n"
        assert time.perf_counter() - begun < 1.0
        peer.close()
        await server.at_rest()


# -- hellos in pieces ---------------------------------------------------------------------------------


class Pieces:
    """A blocking TLS client over memory BIOs, so that the test decides how its bytes travel."""

    def __init__(self, server: Server, context: ssl.SSLContext) -> None:
        self.peer = server.connect()
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake(self, carry: Callable[[socket.socket, bytes], None]) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                carry(self.peer, self.outgoing.read())
                self.incoming.write(self.peer.recv(1 << 16))
            else:
                self.peer.sendall(self.outgoing.read())
                return

    def ask(self, line: bytes) -> bytes:
        self.tls.write(line)
        self.peer.sendall(self.outgoing.read())
        while True:
            self.incoming.write(self.peer.recv(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                return self.tls.read(100)


def byte_by_byte(peer: socket.socket, data: bytes) -> None:
    for at in range(len(data)):
        peer.sendall(data[at : at + 1])


def over_many_records(peer: socket.socket, data: bytes) -> None:
    """The same handshake message in records of 50 bytes (RFC 8446, section 5.1 permits it)."""
    message = data[5:]
    for at in range(0, len(message), 50):
        piece = message[at : at + 50]
        peer.sendall(data[:3] + struct.pack(">H", len(piece)) + piece)


@pytest.mark.parametrize("carry", [byte_by_byte, over_many_records])
@in_loop
async def test_a_hello_in_pieces(pki: PKI, carry: Callable[[socket.socket, bytes], None]) -> None:
    async with serving(pki) as server:

        def client() -> bytes:
            pieces = Pieces(server, client_context(pki.ca))
            with pieces.peer:
                pieces.shake(carry)
                return pieces.ask(b"echo whole\n")

        assert await in_thread(client) == b"whole\n"
        await server.at_rest()


# -- cut streams --------------------------------------------------------------------------------------


def cut_by_fin(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_WR)


def cut_by_reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("cut", [cut_by_fin, cut_by_reset])
@in_loop
async def test_an_upload_cut_without_close_notify(pki: PKI, cut: Callable[[socket.socket], None]) -> None:
    async with serving(pki) as server:

        def client() -> None:
            pieces = Pieces(server, client_context(pki.ca))
            with pieces.peer:
                pieces.shake(socket.socket.sendall)
                pieces.ask(b"echo a whole line\n")
                pieces.tls.write(b"echo half a li")
                pieces.peer.sendall(pieces.outgoing.read())
                cut(pieces.peer)

        await in_thread(client)
        await server.at_rest()
        assert server.service.handled == [b"echo a whole line"]
        assert server.refused() == {"truncated": 1}


@in_loop
async def test_an_end_by_close_notify_is_answered_by_one(pki: PKI) -> None:
    async with serving(pki) as server:

        def client() -> socket.socket:
            connection = server.secure()
            ask(connection, b"echo x")
            return connection.unwrap()  # raises unless the server answers with its own

        (await in_thread(client)).close()
        await server.at_rest()
        assert server.refused() == {}


@in_loop
async def test_large_answers_both_ways_with_random_pauses_arrive_as_they_were_sent(pki: PKI) -> None:
    async with serving(pki) as server:
        # A deterministic walk: how much is read at a time, and when nothing is.
        sizes = [7, 60_000, 1, 16_384, 300_000, 4096, 99]

        def client() -> tuple[int, int]:
            with server.secure() as connection:
                up = b"echo " + bytes(range(11, 256)) * 3000 + b"\n"
                down = up[5:]
                received = bytearray()
                for turn in range(4):
                    connection.sendall(up)
                    connection.sendall(b"wait\n" if turn == 2 else b"echo \n")
                    wanted = len(received) + len(down)
                    while len(received) < wanted:
                        received += connection.recv(min(sizes[len(received) % 7], wanted - len(received)))
                    assert received[-len(down) :] == down
                    tail = b"waited\n" if turn == 2 else b"\n"
                    while tail:
                        tail = tail[len(connection.recv(len(tail))) :]
                return len(received), len(down)

        server.service.gate.set()
        received, each = await in_thread(client)
        assert received == 4 * each
        await server.at_rest()


@in_loop
async def test_out_of_ports_is_not_our_fault(pki: PKI) -> None:
    """A sanity check of the tests: addresses all over 127.0.0.0/8 are to be had."""
    async with serving(pki) as server:
        for source in ("127.1.2.3", "127.199.250.7"):
            try:
                server.connect(source).close()
            except OSError as error:  # pragma: no cover - a network namespace without them
                pytest.skip(f"{source}: {errno.errorcode.get(error.errno or 0)}")
        await server.at_rest()
