"""A TLS stream on a thread: what it carries, how it ends, its deadlines, and being aborted."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from secure_net.errors import DeadlineExceededError, Refusal, RemoteProtocolError, TransportError
from secure_net.wire.blocking_stream import BlockingStream
from secure_net.wire.tls import HelloGate, TLSLayer, TLSMaterial, TLSPolicy, client_context
from tests.support.clock import FakeClock
from tests.support.pki import PKI

SECONDS = 20.0
BULK = bytes(range(256)) * 12_345


class Pair:
    """Our end of a connection, and a client that has not shaken hands yet."""

    def __init__(self, pki: PKI, policy: TLSPolicy, *, stall_seconds: float = SECONDS) -> None:
        material = TLSMaterial.load(pki.certs, policy)
        listening = socket.create_server(("127.0.0.1", 0))
        self.plain = socket.create_connection(listening.getsockname(), SECONDS)
        accepted, _ = listening.accept()
        listening.close()
        self.clock = FakeClock()
        layer = TLSLayer(material.contexts[policy], gate=HelloGate(material.names, policy.alpn))
        self.stream = BlockingStream(accepted, layer, self.clock.monotonic, stall_seconds=stall_seconds)
        self._pki = pki
        self._threads = concurrent.futures.ThreadPoolExecutor(2)

    def beside(self, act: Callable[..., Any], *arguments: Any) -> concurrent.futures.Future[Any]:
        return self._threads.submit(act, *arguments)

    def wrap(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        return (context or client_context(self._pki.ca)).wrap_socket(
            self.plain, server_hostname="localhost", suppress_ragged_eofs=False
        )

    def shake(self, context: ssl.SSLContext | None = None) -> tuple[ssl.SSLSocket, bytes | None]:
        shaken = self.beside(self.stream.handshake, SECONDS)
        self.plain = peer = self.wrap(context)
        return peer, shaken.result(SECONDS)

    def close(self) -> None:
        self.stream.abort()
        self.stream.free()
        self.plain.close()
        self._threads.shutdown()


@pytest.fixture
def pair(pki: PKI) -> Iterator[Pair]:
    with contextlib.closing(Pair(pki, TLSPolicy())) as made:
        yield made


def read_all(stream: BlockingStream) -> bytes:
    pieces = []
    while piece := stream.receive():
        pieces.append(piece)
    return b"".join(pieces)


def test_bulk_both_ways_and_an_orderly_end(pair: Pair, pki: PKI) -> None:
    context = client_context(pki.ca, pki.client("demo")[0])
    peer, certificate = pair.shake(context)
    with peer:
        assert certificate == pki.client_der("demo")
        reading = pair.beside(read_all, pair.stream)
        peer.sendall(BULK)
        ending = pair.beside(peer.unwrap)
        assert reading.result(SECONDS) == BULK
        assert pair.stream.receive() == b""
        pair.stream.close()
        ending.result(SECONDS).close()  # ours has answered theirs, or this raises


def test_what_is_sent_arrives_with_close_notify_behind_it(pair: Pair) -> None:
    peer, _ = pair.shake()
    with peer:
        pair.beside(lambda: (pair.stream.send(BULK), pair.stream.send(b""), pair.stream.close()))
        received = b""
        while data := peer.recv(1 << 16):  # raises where the end is ragged
            received += data
        assert received == BULK


def test_what_came_with_the_end_of_the_handshake(pair: Pair, pki: PKI) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(pki.ca).wrap_bio(incoming, outgoing, server_hostname="localhost")
    shaken = pair.beside(pair.stream.handshake, SECONDS)
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
            break
        pair.plain.sendall(outgoing.read())
        incoming.write(pair.plain.recv(1 << 16))
    tls.write(b"at once")
    pair.plain.sendall(outgoing.read())
    assert shaken.result(SECONDS) is None
    assert pair.stream.receive() == b"at once"


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("cut", [lambda peer: None, reset])
def test_a_cut_is_never_taken_for_the_end(pair: Pair, cut: Callable[[socket.socket], None]) -> None:
    peer, _ = pair.shake()
    peer.sendall(b"half")
    assert pair.stream.receive() == b"half"
    cut(peer)
    peer.close()
    with pytest.raises(RemoteProtocolError) as caught:
        pair.stream.receive()
    assert caught.value.reason is Refusal.TRUNCATED


def test_a_record_that_does_not_decrypt(pair: Pair) -> None:
    peer, _ = pair.shake()
    raw = socket.socket(fileno=peer.detach())
    with raw:
        raw.settimeout(SECONDS)
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(RemoteProtocolError) as caught:
            pair.stream.receive()
        assert caught.value.reason is Refusal.RECORD
        assert raw.recv(100)[:1] == b"\x17", "the alert, encrypted"


@pytest.mark.parametrize(
    ("first", "reason"),
    [(b"USER nobody\r\n", Refusal.PLAINTEXT), (b"\x16\x03\x01\xff\xff", Refusal.CLIENT_HELLO)],
)
def test_what_is_no_handshake(pair: Pair, first: bytes, reason: Refusal) -> None:
    pair.plain.sendall(first)
    pair.plain.shutdown(socket.SHUT_WR)
    with pytest.raises(RemoteProtocolError) as caught:
        pair.stream.handshake(SECONDS)
    assert caught.value.reason is reason


def test_an_end_within_the_handshake(pair: Pair) -> None:
    pair.plain.shutdown(socket.SHUT_WR)
    with pytest.raises(RemoteProtocolError) as caught:
        pair.stream.handshake(SECONDS)
    assert caught.value.reason is Refusal.TRUNCATED


def test_a_foreign_name_gets_its_alert(pair: Pair, pki: PKI) -> None:
    shaken = pair.beside(pair.stream.handshake, SECONDS)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        client_context(pki.ca).wrap_socket(pair.plain, server_hostname="elsewhere.example")
    with pytest.raises(RemoteProtocolError):
        shaken.result(SECONDS)


# -- deadlines --------------------------------------------------------------------------------------------


def test_a_peer_that_sends_nothing(pki: PKI) -> None:
    pair = Pair(pki, TLSPolicy(), stall_seconds=0.05)
    with contextlib.closing(pair), pytest.raises(DeadlineExceededError, match="sent nothing"):
        pair.stream.handshake(SECONDS)


def test_a_peer_that_takes_nothing(pki: PKI) -> None:
    with contextlib.closing(Pair(pki, TLSPolicy(), stall_seconds=0.5)) as pair:
        pair.shake()
        with pytest.raises(DeadlineExceededError, match="took nothing"):
            while True:
                pair.stream.send(BULK)


def test_a_point_on_the_clock_holds_for_all_that_comes_before_it(pair: Pair) -> None:
    peer, _ = pair.shake()
    with peer:
        pair.stream.ends_at = pair.clock.monotonic() + 10.0
        for _ in range(3):
            peer.sendall(b"x")
            assert pair.stream.receive() == b"x"
            pair.clock.advance(4.0)
        with pytest.raises(DeadlineExceededError, match="has passed"):
            pair.stream.receive()
        with pytest.raises(DeadlineExceededError, match="has passed"):
            pair.stream.send(b"x")


def test_a_trickle_does_not_prolong_the_handshake(pair: Pair) -> None:
    advancing = pair.clock.monotonic

    def passing() -> float:
        pair.clock.advance(1.0)  # each look at the clock
        return advancing()

    pair.stream._monotonic = passing
    pair.plain.sendall(b"\x16")

    def trickle() -> None:
        with contextlib.suppress(OSError):
            for _ in range(1000):
                pair.plain.sendall(b"\x03")

    begun = pair.beside(trickle)
    with pytest.raises((DeadlineExceededError, RemoteProtocolError)):
        pair.stream.handshake(3.0)
    pair.stream.abort()
    begun.result(SECONDS)


class Recorded(socket.socket):
    """Keeps which options were set."""

    __slots__ = ("options",)

    def setsockopt(self, *arguments: Any) -> None:
        self.options.append(arguments[1:])
        super().setsockopt(*arguments)


def test_the_kernel_is_told_only_what_has_changed(pki: PKI) -> None:
    pair = Pair(pki, TLSPolicy())
    with contextlib.closing(pair):
        peer, _ = pair.shake()
        stream = pair.stream
        recorded = Recorded(fileno=stream._plain.detach())
        recorded.options = []
        stream._plain = recorded
        stream._armed.clear()
        with peer:
            for _ in range(5):
                stream.send(b"x")
                peer.sendall(b"y")
                stream.receive()
            assert [option for option, _ in recorded.options] == [socket.SO_SNDTIMEO, socket.SO_RCVTIMEO]
            assert recorded.options[0][1] == struct.pack("ll", 20, 0)


# -- being aborted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sends", [False, True])
def test_another_thread_may_abort_it(pair: Pair, sends: bool) -> None:
    pair.shake()
    begun = threading.Event()

    def work() -> None:
        begun.set()
        while True:
            if sends:
                pair.stream.send(BULK)
            else:
                pair.stream.receive()

    working = pair.beside(work)
    begun.wait(SECONDS)
    pair.stream.abort()
    with pytest.raises(TransportError):
        working.result(SECONDS)


def test_an_abort_that_comes_too_late_is_harmless(pair: Pair) -> None:
    peer, _ = pair.shake()
    peer.close()
    pair.stream.close()
    pair.stream.abort()
    pair.stream.free()
    with pytest.raises((TransportError, RemoteProtocolError)):
        pair.stream.send(b"x")


def test_a_close_whose_peer_is_gone(pair: Pair) -> None:
    peer, _ = pair.shake()
    reset(peer)
    peer.close()
    pair.stream.close()
