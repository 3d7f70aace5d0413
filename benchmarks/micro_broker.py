"""What the embedded broker takes, in one process and without a socket.

``python -m benchmarks.micro_broker`` prints messages/s, commits/s and how long a commit takes, for
publishers that each wait for their verdict before they publish again, with history, ids, retention and fsync
on. All that is said in one turn of the event loop goes in one call, as the chat service does it. The state is
made under the current folder, or under the one that is given: what an fsync costs there decides.

What it cannot show is everything around it: ``python -m benchmarks durable`` has the whole.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from secure_net.limits import ChatLimits
from secure_net.store.broker import Publication, Verdict
from secure_net.store.sqlite import SQLiteStore
from secure_net.store.sqlite_broker import SQLiteBroker

SECONDS = 2.0
BODY = b'"%s"' % (b"x" * 126)  # 128 bytes, as in the comparison with the brokers
PAGE_BYTES = 65_536


class Load(NamedTuple):
    publishers: int
    rooms: int
    replaying: int = 0  # members that read page after page while messages are published


LOADS = (
    Load(1, 1),
    Load(16, 1),
    Load(64, 1),
    Load(256, 1),
    Load(64, 16),
    Load(64, 64),
    Load(256, 16),
    Load(64, 16, 300),
)


class Publishers:
    """Each publishes anew when its verdict came, until the time is over."""

    def __init__(self, broker: SQLiteBroker, load: Load) -> None:
        self.messages = 0
        self.over = asyncio.get_running_loop().create_future()
        self._broker, self._load = broker, load
        self._end = time.perf_counter() + SECONDS
        self._publish(list(range(load.publishers)))

    def _publish(self, publishers: list[int]) -> None:
        rooms = self._load.rooms
        these = [Publication(f"r{n % rooms}", f"user{n}", os.urandom(16), 1.5, BODY, n) for n in publishers]
        self._broker.publish(these).add_done_callback(self._came)

    def _came(self, future: asyncio.Future[list[Verdict]]) -> None:
        verdicts = future.result()
        self.messages += len(verdicts)
        if time.perf_counter() < self._end:
            self._publish([verdict.publication.token for verdict in verdicts])
        else:
            self.over.set_result(None)


async def replay(broker: SQLiteBroker, room: str, over: asyncio.Future[None]) -> int:
    """Read a room from its beginning, over and over; how many pages that were."""
    pages = after = 0
    while not over.done():
        _, page = await broker.page(room, after=after, count=100, size=PAGE_BYTES)
        pages += 1
        after = page[-1].seq if page else 0
    return pages


async def measure(state: Path, load: Load) -> str:
    """Run one load on a new state; its line of the table."""
    commits: list[float] = []
    store = SQLiteStore.open(state, monotonic=time.perf_counter, observe=commits.append)
    broker = SQLiteBroker(store.database, ChatLimits())
    begun = time.perf_counter()
    publishers = Publishers(broker, load)
    replays = [
        asyncio.create_task(replay(broker, f"r{n % load.rooms}", publishers.over))
        for n in range(load.replaying)
    ]
    await publishers.over
    seconds = time.perf_counter() - begun
    pages = sum(await asyncio.gather(*replays))
    log = (state / "store.db-wal").stat().st_size / 2**20
    broker.close()
    store.close()
    commits.sort()
    median, late = commits[len(commits) // 2], commits[len(commits) * 99 // 100]
    return (
        f"{load.publishers:10} {load.rooms:6} {load.replaying:9} | {publishers.messages / seconds:10,.0f}"
        f" {len(commits) / seconds:9,.0f} {median * 1e3:9.2f} {late * 1e3:9.2f}"
        f" {pages / seconds:9,.0f} {log:7.0f}"
    )


def main(directory: Path) -> None:
    print("publishers  rooms replaying | messages/s commits/s median ms    p99 ms   pages/s log MiB")
    for load in LOADS:
        with tempfile.TemporaryDirectory(dir=directory) as state:
            print(asyncio.run(measure(Path(state), load)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
