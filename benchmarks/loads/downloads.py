"""Downloads of one large file, all at once, spread over 127.0.0.0/8.

    python -m benchmarks.loads.downloads PLAN.json REQUEST-FILE

The plan's `connections` ask, and take the head of their answer and no more, so that the server has to wait
for them; then it says `ready`. For each line with a number of seconds they all take what comes for so long,
and stop again: the answer is a `Taken` as a line of JSON. Nothing is decrypted but the head: the size of the
plaintext is told by the headers of the TLS records.
"""

from __future__ import annotations

import dataclasses
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import raise_open_files
from benchmarks.loads.child import Stopwatch
from benchmarks.loads.link import READ, connected, tls_context
from benchmarks.loads.result import Plan
from benchmarks.loads.tallies import Records
from benchmarks.processes import BenchmarkError

WAIT_SECONDS = 0.1
SOCKET_BYTES = 256 * 1024  # in the kernel, of each; it would grow to some MiB while it is read


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """Bytes of plaintext that all downloads got, and the least and the most favoured of them."""

    total: int
    least: int
    most: int
    busy: float  # share of its core that the load used itself

    @classmethod
    def of(cls, each: Sequence[int], busy: float) -> Taken:
        return cls(sum(each), min(each), max(each), busy)


class Download:
    """One connection; from the end of the record that its answer's head came in, bytes are only counted."""

    def __init__(self, plan: Plan, tls: ssl.SSLContext, index: int, request: bytes) -> None:
        plain = connected(plan.port, index)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        connection = tls.wrap_socket(plain, server_hostname="localhost")
        connection.sendall(request)
        check(_head(connection), plan.size)
        self.socket = socket.socket(fileno=connection.detach())
        self.socket.setblocking(False)
        self.records = Records()

    def take(self, buffer: memoryview) -> None:
        """What is there, once. Raises BenchmarkError when the server closed."""
        try:
            size = self.socket.recv_into(buffer)
        except BlockingIOError:
            return
        if not size:
            raise BenchmarkError("the server closed a download")
        self.records.count(buffer[:size])


def _head(connection: ssl.SSLSocket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = connection.recv(READ)
        if not data:
            raise BenchmarkError(f"the server closed a download: {answer[:300]!r}")
        answer += data
    return answer


def check(answer: bytes, size: int) -> None:
    """Raises BenchmarkError unless this begins a 200 of `size` bytes."""
    head = answer.partition(b"\r\n\r\n")[0].lower()
    if head.split(b" ", 2)[1] != b"200" or f"content-length: {size}".encode() not in head.split(b"\r\n"):
        raise BenchmarkError(f"wrong answer: {head.decode('latin-1')}")


class Load:
    def __init__(self, plan: Plan, request: bytes) -> None:
        tls = tls_context(plan)
        self._buffer = memoryview(bytearray(READ))
        downloads = [Download(plan, tls, index, request) for index in range(plan.connections)]
        self._downloads = {download.socket.fileno(): download for download in downloads}
        self._epoll = select.epoll()
        for number in self._downloads:
            self._epoll.register(number, select.EPOLLIN)

    def take(self, seconds: float) -> Taken:
        """All take what comes for so long."""
        watch, before = Stopwatch(), self._counts()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for number, _ in self._epoll.poll(WAIT_SECONDS):
                self._downloads[number].take(self._buffer)
        each = [after - start for after, start in zip(self._counts(), before, strict=True)]
        return Taken.of(each, watch.busy())

    def _counts(self) -> list[int]:
        return [download.records.plaintext_bytes for download in self._downloads.values()]


def main() -> int:
    raise_open_files()
    try:
        load = Load(Plan.read(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes())
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(dataclasses.asdict(load.take(float(line)))), flush=True)
    except (BenchmarkError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
