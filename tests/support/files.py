"""A file server without a socket: an application, a folder, and the answers as a client would have them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

from secure_net.errors import Refusal, RefusedError
from secure_net.http.disk import Disk
from secure_net.http.files import FilesApplication
from secure_net.http.head import parse_head
from secure_net.http.protocol import Request
from secure_net.http.response import Response, Stream
from secure_net.http.site import Site
from secure_net.http.targets import Root
from secure_net.identity.policy import Grant, Principal
from secure_net.limits import FilesLimits, HTTPLimits
from secure_net.metrics import FileCounters
from secure_net.rpc.pool import Pool
from secure_net.wire.connection import Connection
from tests.support.clock import FakeClock

NOBODY = cast(Connection, None)
LONG_AGO = 1_000_000_000  # of files whose age matters


def principal(*scopes: str) -> Principal:
    return Principal("somebody", (Grant.parse(scopes),), (), 2e9, 1)


def write(path: Path, content: bytes = b"content", modified: int | None = LONG_AGO) -> Path:
    """A file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if modified is not None:
        os.utime(path, (modified, modified))
    return path


@dataclasses.dataclass
class Asked:
    """An answer, whole."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    length: int  # as it is told
    streamed: bool

    def __getitem__(self, name: bytes) -> bytes | None:
        return self.headers.get(name)


class FileServer:
    """An application, on threads of its own. `logged` is what it said."""

    def __init__(self, site: Site, limits: FilesLimits | None = None) -> None:
        self.clock = FakeClock()
        self.counters = FileCounters()
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.pool = Pool(4, 100)
        self.disk = Disk(self.pool)
        self.application = FilesApplication(
            site,
            limits or FilesLimits(),
            disk=self.disk,
            clock=self.clock,
            counters=self.counters,
            log=lambda event, **fields: self.logged.append((event, fields)),
        )

    def close(self) -> None:
        self.application.close()
        self.pool.close()

    async def ask(
        self,
        target: str,
        *fields: bytes,
        method: str = "GET",
        who: Principal | None = None,
        host: str = "localhost",
    ) -> Asked:
        """What somebody gets, who reads all of it."""
        response = await self.respond(target, *fields, method=method, who=who, host=host)
        headers = dict(response.headers)
        if not isinstance(response, Stream):
            return Asked(response.status, headers, response.body, len(response.body), False)
        body = b""
        try:
            while method != "HEAD" and len(body) < response.length:
                piece = response.source.next_piece()
                body += await piece if isinstance(piece, Coroutine) else piece
        finally:
            response.source.close()
        return Asked(response.status, headers, body, response.length, True)

    async def respond(
        self,
        target: str,
        *fields: bytes,
        method: str = "GET",
        who: Principal | None = None,
        host: str = "localhost",
    ) -> Response:
        """The answer as the session gets it."""
        lines = (f"{method} {target} HTTP/1.1".encode(), b"Host: " + host.encode(), *fields, b"", b"")
        head = parse_head(b"\r\n".join(lines), HTTPLimits(), any_path=True)
        refusal = self.application.admit(head, who)
        if refusal is not None:
            return refusal
        answer = self.application.respond(Request(head, b""), who, NOBODY)
        return answer if isinstance(answer, Response) else await answer


@contextlib.contextmanager
def served(directory: Path, *, limits: FilesLimits | None = None, **root: Any) -> Iterator[FileServer]:
    """One root at the top, for everybody unless told. Nothing may be left open behind it."""
    before = descriptors()
    about = {"public": True} | root
    server = FileServer(Site((Root((), str(directory), **about),)), limits)
    try:
        yield server
    finally:
        server.close()
        assert server.counters.downloads_open == 0
        assert descriptors() <= before


def descriptors() -> set[str]:
    """What regular files and folders this process has open, by their paths."""
    found = set()
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            path = str(number.readlink())
            if path.startswith("/") and not path.startswith(("/dev", "/proc")):
                found.add(path)
    return found


class HeldThreads:
    """Threads that do nothing until they are told: implements `secure_net.http.disk.Threads`."""

    def __init__(self) -> None:
        self.waiting: list[HeldJob] = []
        self.running: list[HeldJob] = []
        self.full = False

    def submit(self, function: Callable[..., Any], arguments: Any, on_done: Callable[[Any], None]) -> HeldJob:
        if self.full:
            raise RefusedError(Refusal.OVERLOAD)
        job = HeldJob(function, arguments, on_done)
        self.waiting.append(job)
        return job

    def cancel(self, job: HeldJob) -> bool:
        if job not in self.waiting:
            return False
        self.waiting.remove(job)
        return True

    def begin(self) -> None:
        """What waits has its thread now."""
        self.running += self.waiting
        self.waiting.clear()

    def finish(self) -> None:
        """What runs, or waits, is done."""
        self.begin()
        jobs, self.running = self.running, []
        for job in jobs:
            job.run()


class HeldJob:
    def __init__(self, function: Callable[..., Any], arguments: Any, on_done: Callable[[Any], None]) -> None:
        self.function, self.arguments, self.on_done = function, arguments, on_done
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.value = self.function(*self.arguments)
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            self.error = error
        self.on_done(self)
