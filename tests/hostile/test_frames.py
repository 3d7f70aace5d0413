"""THREATS, "Frames and chat": what is no frame, on the real daemon, on both engines of echo and on chat."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator

import pytest

from tests.support.daemon import RunningDaemon, run_daemon
from tests.support.scrape import metric
from tests.support.waiting import until

SECONDS = 20.0
FRAME_SECONDS = 0.5

Stream = ssl.SSLSocket


@pytest.fixture(scope="module", params=["asyncio", "threads"])
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDaemon]:
    environ = {
        "SECURE_NET_ECHO__ENGINE": request.param,
        "SECURE_NET_LIMITS__FRAME_SECONDS": str(FRAME_SECONDS),
    }
    with run_daemon(tmp_path_factory.mktemp("frames"), environ=environ) as running:
        yield running


SERVICES = ["echo", "chat"]
FIRST = {"echo": b"00005hello", "chat": b'00016{"type":"hello"}'}


@contextlib.contextmanager
def connected(daemon: RunningDaemon, service: str) -> Iterator[Stream]:
    with (
        socket.create_connection(daemon.addresses[service], SECONDS) as plain,
        daemon.context().wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as peer,
    ):
        yield peer


def read(peer: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = peer.recv(count - len(data))
        assert chunk, f"closed after {data!r}"
        data += chunk
    return data


def frame(peer: Stream) -> bytes:
    return read(peer, int(read(peer, 5)))


def rest(peer: Stream) -> bytes:
    """Everything until the daemon has closed."""
    data = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while chunk := peer.recv(65_536):
            data += chunk
    return data


def refused(daemon: RunningDaemon, service: str, reason: str) -> float:
    return metric(daemon, "refused_total", service=service, reason=reason)


def is_served(daemon: RunningDaemon, service: str) -> bool:
    with connected(daemon, service) as peer:
        peer.sendall(FIRST[service])
        return frame(peer) == b"ECHO: hello" or service == "chat"


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"99999", "too_large"),
        (b"65537", "too_large"),
        (b"-0001", "malformed"),
        (b"+0012", "malformed"),
        (b"1_000", "malformed"),
        (b"0x010", "malformed"),
        (b" 0012", "malformed"),
        (b"1e003", "malformed"),
        ("０００１２".encode(), "malformed"),  # noqa: RUF001 - digits to `int`, and to nobody else
        (b"hello", "malformed"),
        (b"GET /", "malformed"),
        (b"\x00\x00\x00\x05", "malformed"),
    ],
)
def test_a_wrong_header_is_refused_before_any_payload(
    daemon: RunningDaemon, service: str, header: bytes, reason: str
) -> None:
    before = refused(daemon, service, reason)
    with connected(daemon, service) as peer:
        peer.sendall(FIRST[service])
        first = frame(peer)
        peer.sendall(header)  # and not one byte more: nothing is waited for
        last = rest(peer)
    assert first
    assert b"Traceback" not in last
    if service == "echo":
        assert last == b""
    else:
        assert b'"type":"error"' in last
    assert refused(daemon, service, reason) == before + 1
    assert is_served(daemon, service)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("part", [b"0", b"0000", b"00010", b"00010half", b"65530" + bytes(1000)])
def test_half_a_header_or_payload_and_then_silence_is_dropped_at_the_deadline(
    daemon: RunningDaemon, service: str, part: bytes
) -> None:
    before = refused(daemon, service, "read_deadline")
    with connected(daemon, service) as peer:
        peer.sendall(FIRST[service])
        assert frame(peer)
        peer.sendall(part)
        rest(peer)
    assert refused(daemon, service, "read_deadline") == before + 1


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("part", [b"000", b"00010half"])
@pytest.mark.parametrize("way", ["close_notify", "fin", "reset"])
def test_half_a_header_or_payload_and_then_the_end_is_truncated(
    daemon: RunningDaemon, service: str, part: bytes, way: str
) -> None:
    before = refused(daemon, service, "truncated")
    with connected(daemon, service) as peer:
        peer.sendall(FIRST[service] + FIRST["echo"] * (service == "echo"))
        assert frame(peer)
        peer.sendall(part)
        if way == "close_notify":
            with contextlib.suppress(OSError):
                peer.unwrap()
        elif way == "fin":
            peer.shutdown(socket.SHUT_WR)
        else:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        if way == "fin":
            rest(peer)
    until(lambda: refused(daemon, service, "truncated") == before + 1)


@pytest.mark.parametrize("service", SERVICES)
def test_one_byte_at_a_time_buys_no_time(daemon: RunningDaemon, service: str) -> None:
    before = refused(daemon, service, "read_deadline")
    with connected(daemon, service) as peer:
        peer.sendall(FIRST[service])
        assert frame(peer)
        with contextlib.suppress(OSError):  # closed while we send
            for byte in b"65000" + bytes(65_000):
                peer.sendall(bytes([byte]))
                peer.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not peer.recv(65_536):
                        break
    assert refused(daemon, service, "read_deadline") == before + 1


def test_good_frames_before_a_bad_one_are_answered(daemon: RunningDaemon) -> None:
    with connected(daemon, "echo") as peer:
        peer.sendall(b"00001a00001b0000x")
        assert rest(peer) == b"00007ECHO: a00007ECHO: b"


def test_a_message_whose_answer_would_not_fit_is_refused(daemon: RunningDaemon) -> None:
    with connected(daemon, "echo") as peer:
        peer.sendall(b"65530" + b"x" * 65_530)
        assert frame(peer) == b"ECHO: " + b"x" * 65_530
        peer.sendall(b"65531")
        assert rest(peer) == b""


def test_frames_of_one_peer_do_not_slow_another(daemon: RunningDaemon) -> None:
    """Fifty peers in the middle of a frame; one honest one is answered at once."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connected(daemon, "echo")).sendall(b"65000" + bytes(30_000))
        with connected(daemon, "echo") as honest:
            for _ in range(20):
                honest.sendall(FIRST["echo"])
                assert frame(honest) == b"ECHO: hello"


def test_without_the_scope_nothing_is_echoed(daemon: RunningDaemon) -> None:
    before = refused(daemon, "echo", "not_permitted")
    context = daemon.context("metrics")
    with (
        socket.create_connection(daemon.addresses["echo"], SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        peer.sendall(FIRST["echo"])
        assert rest(peer) == b""
    assert refused(daemon, "echo", "not_permitted") == before + 1


def test_without_a_certificate_the_handshake_fails(daemon: RunningDaemon) -> None:
    with (
        socket.create_connection(daemon.addresses["echo"], SECONDS) as plain,
        daemon.context(None).wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        peer.sendall(FIRST["echo"])
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            peer.recv(1)


def test_an_open_echo_is_cut_within_a_second_of_its_revocation(daemon: RunningDaemon) -> None:
    daemon.cli("ca", "issue", "client", "leaver", "--scope", "echo:use")
    with (
        socket.create_connection(daemon.addresses["echo"], SECONDS) as plain,
        daemon.context("leaver").wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        peer.sendall(FIRST["echo"])
        assert frame(peer) == b"ECHO: hello"
        daemon.cli("revoke", "leaver")
        peer.settimeout(1.0)
        assert rest(peer) == b""
