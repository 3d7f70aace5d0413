"""A blocking socket behind a transport's face: what the kernel takes, what waits, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from secure_net.wire.blocking_transport import NOW, BlockingTransport


class Paused(asyncio.BufferedProtocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


class Pair:
    """A transport with little room in the kernel, and the peer's end."""

    def __init__(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.peer = socket.socket()
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.peer.connect(listening.getsockname())
        self.peer.settimeout(10)
        plain, _ = listening.accept()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listening.close()
        self.channel = Paused()
        self.transport = BlockingTransport(self.channel, plain)
        self.plain = plain

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.peer.recv(count - len(data))):
            data += more
        return data


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.transport.free()
    made.peer.close()


DATA = bytes(range(256)) * 4096  # 1 MiB, more than either kernel buffer takes


def test_what_the_kernel_takes_does_not_wait(pair: Pair) -> None:
    pair.transport.write(b"hello")
    pair.transport.write(b"")
    assert pair.read(5) == b"hello"
    assert pair.transport.get_write_buffer_size() == 0
    assert pair.channel.told == []
    assert pair.transport.get_extra_info("socket") is pair.plain
    pair.transport.set_write_buffer_limits(high=1)


def test_the_rest_waits_in_order_and_a_thread_sends_it(pair: Pair) -> None:
    transport = pair.transport
    transport.write(DATA)
    transport.write(b"behind")
    assert pair.channel.told == ["pause"]
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pair.read(len(DATA) + 6)))
    reader.start()
    while transport.waiting:
        transport.sent(transport.send(bytes(transport.waiting)))
    reader.join()
    assert received == [DATA + b"behind"]
    assert pair.channel.told == ["pause", "resume"]


def test_a_loop_sends_what_there_is_room_for(pair: Pair) -> None:
    transport = pair.transport
    transport.write(DATA)
    while count := transport.send_now():  # room that came meanwhile
        transport.sent(count)
    transport.sent(0)
    before = len(transport.waiting)
    assert pair.channel.told == ["pause"]
    pair.read(len(DATA) - before)
    while len(transport.waiting) == before:
        transport.sent(transport.send_now())
    assert pair.channel.told == ["pause"]


def test_the_end_stands_behind_what_waits(pair: Pair) -> None:
    transport = pair.transport
    transport.write(DATA)
    transport.write_eof()
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pair.read(len(DATA) + 1)))
    reader.start()
    transport.sent(transport.send(bytes(transport.waiting)))
    reader.join()
    assert received == [DATA]
    assert not transport.over


def test_close_is_over_once_what_waits_is_sent(pair: Pair) -> None:
    transport = pair.transport
    transport.write(DATA)
    transport.close()
    assert transport.is_closing()
    assert not transport.over
    transport.sent(len(transport.waiting))
    assert transport.over
    transport.write(b"too late")
    assert transport.get_write_buffer_size() == 0


def test_close_with_nothing_waiting(pair: Pair) -> None:
    pair.transport.close()
    assert pair.transport.over


def test_reading_stops_when_paused_ended_or_over(pair: Pair) -> None:
    transport = pair.transport
    assert transport.reading
    transport.pause_reading()
    assert not transport.reading
    transport.resume_reading()
    assert transport.reading
    transport.ended = True
    assert not transport.reading


def test_receive_waits_or_does_not(pair: Pair) -> None:
    buffer = memoryview(bytearray(100))
    with pytest.raises(BlockingIOError):
        pair.transport.receive(buffer, NOW)
    pair.peer.sendall(b"abc")
    assert pair.transport.receive(buffer) == 3
    assert pair.transport.fileno() == pair.plain.fileno()


@pytest.mark.parametrize("full", [False, True])
def test_abort_ends_what_a_thread_waits_in(pair: Pair, full: bool) -> None:
    transport = pair.transport
    if full:
        transport.write(DATA)
    seen: list[object] = []
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        try:
            seen.append(
                transport.send(bytes(transport.waiting))
                if full
                else transport.receive(memoryview(bytearray(9)))
            )
        except OSError as error:
            seen.append(error)

    worker = threading.Thread(target=wait)
    worker.start()
    begun.wait()
    transport.abort()
    worker.join(10)
    assert not worker.is_alive()
    assert len(seen) == 1  # an error, or how much was sent before, or the end
    assert transport.over
    assert transport.get_write_buffer_size() == 0
    transport.abort()


def test_a_peer_that_is_gone(pair: Pair) -> None:
    transport = pair.transport
    pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.peer.close()
    while not transport.over:
        transport.write(b"x")
    assert isinstance(transport.error, ConnectionError)
    first = transport.error
    transport.lost(OSError("another"))
    assert transport.error is first
    with pytest.raises(OSError, match="not connected"):
        transport.write_eof()


def test_a_peer_that_is_gone_before_the_end_is_sent(pair: Pair) -> None:
    transport = pair.transport
    transport.write(DATA)
    transport.write_eof()
    pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.peer.close()
    with pytest.raises(ConnectionResetError):
        transport.receive(memoryview(bytearray(9)))
    transport.sent(len(transport.waiting))
    assert transport.over
    assert transport.error is not None
