"""One connection of a load: plain bytes in and out over TLS 1.3, for a loop that waits by epoll.

TLS is an `ssl.SSLObject` between two BIOs: one `recv` takes many records, one `send` gives many.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from benchmarks.loads.dialects import Dialect, Step
from benchmarks.loads.opener import source
from benchmarks.loads.probe import SECONDS, context
from benchmarks.loads.result import Plan
from benchmarks.loads.tallies import Records
from benchmarks.processes import BenchmarkError

READ = 256 * 1024
RECORD = 16 * 1024  # what one record holds at most
SINK = 1024 * 1024


# One for all: a buffer of that size for each `recv` would be a mapping of memory each time.
_BUFFER = memoryview(bytearray(READ))


def tls_context(plan: Plan) -> ssl.SSLContext:
    """Verifies chain and name, takes TLS 1.3 alone, and has a certificate where the server wants one."""
    verifying = context(Path(plan.authority))
    if plan.certificate:
        verifying.load_cert_chain(plan.certificate, str(Path(plan.certificate).with_suffix(".key")))
    return verifying


def connected(port: int, index: int, greeting: bytes = b"") -> socket.socket:
    """A TCP connection on which TLS comes next: the line of a server that greets before it has been read."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=SECONDS, source_address=(source(index), 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line = b""
    while greeting and not line.endswith(b"\n"):
        data = plain.recv(READ)  # the server waits for TLS now: there is nothing behind the line
        if not data or not (line + data).startswith(greeting):
            raise BenchmarkError(f"no {greeting!r} but {line + data!r}")
        line += data
    return plain


class Link:
    """A connection that has shaken hands and waits for nothing once `ready` was called."""

    def __init__(self, port: int, tls: ssl.SSLContext, index: int, greeting: bytes = b"") -> None:
        """`index` tells its source address; see `opener`."""
        self.socket = connected(port, index, greeting)
        self.fileno = self.socket.fileno()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._unsent = b""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._incoming.write(self._arrived())
            else:
                break
        self.socket.sendall(self._outgoing.read())

    def say(self, steps: Sequence[Step]) -> None:
        """Send, and wait for the answer, step by step. Only before `ready`."""
        for step in steps:
            self._tls.write(step.send)
            self.socket.sendall(self._outgoing.read())
            answer = b""
            while step.until not in answer:
                self._incoming.write(self._arrived())
                answer += self._plaintext()
                if len(answer) > READ:
                    raise BenchmarkError(f"no {step.until!r} in {answer[-300:]!r}")

    def ready(self) -> None:
        """From here on nothing blocks."""
        self.socket.setblocking(False)

    @property
    def stuck(self) -> bool:
        """Something could not be sent yet: call `flush` when the socket takes more."""
        return bool(self._unsent)

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._unsent += self._outgoing.read()
        self.flush()

    def flush(self) -> None:
        if not self._unsent:
            return
        try:
            sent = self.socket.send(self._unsent)
        except BlockingIOError:
            return
        self._unsent = self._unsent[sent:]

    def receive(self) -> bytes:
        """What is there, perhaps nothing yet. Raises BenchmarkError when the server closed."""
        try:
            self._incoming.write(self._arrived())
        except BlockingIOError:
            return b""
        return self._plaintext()

    def cipher(self) -> str:
        known = self._tls.cipher()
        return known[0] if known else ""

    def _arrived(self) -> memoryview:
        try:
            size = self.socket.recv_into(_BUFFER)
        except TimeoutError:
            raise BenchmarkError(f"the server says nothing for {SECONDS:g} s") from None
        if not size:
            raise BenchmarkError(f"the server closed the connection: {self._plaintext()[-500:]!r}")
        return _BUFFER[:size]

    def _plaintext(self) -> bytes:
        """All that is there. One record, the usual case, is read without the exception that ends others."""
        incoming, pending = self._incoming, self._tls.pending
        try:
            data = self._tls.read(RECORD)
            if not incoming.pending and not pending():
                return data
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            return b""
        chunks = [data]
        try:
            while data and (incoming.pending or pending()):
                data = self._tls.read(RECORD)
                chunks.append(data)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # half a record, or a close_notify: the next `recv` has the rest, or sees the end
        return b"".join(chunks)


def wanted(link: Link) -> int:
    """The events to wait for."""
    return select.EPOLLIN | select.EPOLLOUT if link.stuck else select.EPOLLIN


def say(connection: ssl.SSLSocket, steps: Sequence[Step]) -> None:
    """Send, and wait for the answer, step by step, on a connection that blocks."""
    for step in steps:
        connection.sendall(step.send)
        answer = b""
        while step.until not in answer:
            data = connection.recv(READ)
            if not data:
                raise BenchmarkError(f"the server closed the connection: {answer[-300:]!r}")
            answer += data


class Sink:
    """A member that measures what it gets by the headers of the TLS records, and decrypts nothing.

    The handshake and the first answers are OpenSSL's own, which reads a record at a time and never further:
    what the socket holds afterwards begins with a header.
    """

    def __init__(self, port: int, tls: ssl.SSLContext, index: int, dialect: Dialect) -> None:
        plain = connected(port, index, dialect.greeting)
        connection = tls.wrap_socket(plain, server_hostname="localhost")
        say(connection, (*dialect.opening, dialect.subscribing))
        self.socket = socket.socket(fileno=connection.detach())
        self.fileno = self.socket.fileno()
        self.socket.setblocking(False)
        self.records = Records()

    def drain(self, buffer: memoryview) -> None:
        """Take what is there, once. Raises BenchmarkError when the server closed."""
        try:
            size = self.socket.recv_into(buffer)
        except BlockingIOError:
            return
        if not size:
            raise BenchmarkError("the server closed the connection of a member")
        self.records.count(buffer[:size])
