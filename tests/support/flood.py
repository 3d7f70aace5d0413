"""Peers who connect and go no further, from many addresses of the loopback network."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import ssl
import time
from collections.abc import Iterator
from itertools import cycle, islice

SOURCES = tuple(f"127.0.0.{number}" for number in range(10, 30))


def client_hello() -> bytes:
    """The first flight of a client of ours, as OpenSSL writes it."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def connected(address: tuple[str, int], count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """`count` TCP connections that have sent `first`, and were accepted or refused by then."""
    raise_descriptor_limit()
    with contextlib.ExitStack() as stack:
        sockets = []
        for source in islice(cycle(SOURCES), count):
            plain = stack.enter_context(socket.create_connection(address, 10, source_address=(source, 0)))
            with contextlib.suppress(ConnectionError):
                plain.sendall(first)
            sockets.append(plain)
        yield sockets


def closed(sockets: list[socket.socket], seconds: float) -> int:
    """How many of them the other side closes within `seconds`, alerts before the end included."""
    ended = 0
    with selectors.DefaultSelector() as selector:
        for plain in sockets:
            plain.setblocking(False)
            selector.register(plain, selectors.EVENT_READ)
        end = time.monotonic() + seconds
        while selector.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if _has_ended(key.fileobj):
                    selector.unregister(key.fileobj)
                    ended += 1
    return ended


def _has_ended(plain: object) -> bool:
    assert isinstance(plain, socket.socket)
    try:
        return not plain.recv(65536)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
