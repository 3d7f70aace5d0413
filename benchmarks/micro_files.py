"""What a file costs, large and small, in one process and without a socket.

``python -m benchmarks.micro_files`` prints MiB per CPU second of a large file, and µs per request of a small
one on a kept connection. It drives the daemon's own parts, with TLS, authentication, policy, limits and
metrics, through a transport that forgets what it is given. What it cannot show is the event loop and the
kernel's sockets: they cost as much again.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from benchmarks.micro_call_path import Client
from secure_net import config
from secure_net.cli.init import write
from secure_net.clock import SystemClock
from secure_net.daemon.core import Core
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.services import FilesPart, listener_of
from secure_net.metrics import Metrics
from secure_net.tables import FilesTable
from secure_net.wire.connection import Connection

LARGE_BYTES = 256 * 1024 * 1024
SMALL_BYTES = 10 * 1024
REQUESTS = 2_000
ROUNDS = 7
TABLE = '\n[files]\n[[files.roots]]\npath = "/"\ndirectory = "public"\naccess = "public"\n'


def request(path: str) -> bytes:
    return f"GET /{path} HTTP/1.1\r\nHost: localhost:8444\r\n\r\n".encode()


def prepare(directory: Path) -> config.Configuration:
    """A configuration that serves files, and the files."""
    write(directory, ("localhost",))
    public = directory / "public"
    public.mkdir()
    (public / "small").write_bytes(bytes(SMALL_BYTES))
    with (public / "large").open("wb") as file:
        for _ in range(LARGE_BYTES // (1 << 20)):
            file.write(bytes(1 << 20))
    return config.parse(TABLE, directory / config.FILE_NAME, {})


class Sink(Client):
    """Counts what comes, and lets go of it."""

    def drop(self) -> int:
        count = sum(map(len, self._transport.sent))
        self._transport.sent.clear()
        return count


async def large(client: Sink) -> float:
    """MiB per CPU second."""
    began, received = time.process_time(), 0
    client.feed(client.records(request("large"), 1)[0])
    while received < LARGE_BYTES:
        await asyncio.sleep(0)
        received += client.drop()
    return LARGE_BYTES / (1 << 20) / (time.process_time() - began)


async def small(client: Sink) -> float:
    """µs per request."""
    records = client.records(request("small"), REQUESTS)
    began = time.process_time()
    for record in records:
        client.feed(record)
        client.drop()
    return (time.process_time() - began) / REQUESTS * 1e6


async def warmed(client: Sink) -> None:
    """The small file is open, and its answer is right."""
    client.feed(client.records(request("small"), 1)[0])
    while not client._transport.sent:  # noqa: ASYNC110 - nobody tells a transport what to expect
        await asyncio.sleep(0.001)
    answer = client.answer()
    if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(bytes(1000)):
        raise RuntimeError(f"no answer to measure: {answer[:200]!r}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        configuration, clock = prepare(Path(place)), SystemClock()
        inputs = Inputs.load(configuration, clock.wall())
        core = Core(inputs, clock=clock, metrics=Metrics(), log=lambda *what, **more: print(what, more))
        part = FilesPart(core, configuration, cast(FilesTable, configuration.files))
        listener: Any = listener_of("files", core, part, inputs, [("127.0.0.1", 0)])
        bulk, requests = [], []
        for _ in range(ROUNDS):
            connection = Connection(core.shell, listener.service, listener.counters, listener._layer)
            client = Sink(connection, inputs.material.directory / "ca.pem")
            await warmed(client)
            requests.append(await small(client))
            bulk.append(await large(client))
            connection.connection_lost(None)
        part.close()
        print(f"large: {sorted(bulk)[ROUNDS // 2]:7.0f} MiB per CPU second (best {max(bulk):.0f})")
        print(f"small: {sorted(requests)[ROUNDS // 2]:7.1f} µs per request (best {min(requests):.1f})")


if __name__ == "__main__":
    asyncio.run(main())
