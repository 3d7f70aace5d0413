"""A process that publishes to rooms as fast as it can, and says what was acknowledged, until it is killed.

``python -m tests.support.broker_writer STATE PREFIX KEPT FRESH``: each line on stdout is the number of a
message whose verdict came, the sequence number it was given, and the outcome. KEPT bounds the messages of a
room, FRESH the ids in memory. What message a number means is told by `message`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sys
from pathlib import Path
from typing import Any

from secure_net.limits import ChatLimits
from secure_net.store.broker import Publication, Verdict
from secure_net.store.ledger import Ledger
from secure_net.store.sqlite import SQLiteStore
from secure_net.store.sqlite_broker import SQLiteBroker

WRITERS = 64
ROOMS = 5
BODY_BYTES = (2, 400)  # from, to


def message(prefix: str, number: int) -> Publication:
    """The same for the process that is killed and the one that looks afterwards."""
    digest = hashlib.sha256(f"{prefix}-{number}".encode()).digest()
    low, high = BODY_BYTES
    body = b'"%s"' % (digest.hex().encode() * 7)[: low + digest[16] % (high - low)]
    return Publication(f"r{number % ROOMS}", f"user{digest[17] % 8}", digest[:16], 1.0, body, number)


class Writers:
    """Each says the next message when its last was acknowledged; those of one turn go in one call."""

    def __init__(self, broker: SQLiteBroker, prefix: str) -> None:
        self._broker, self._prefix = broker, prefix
        self._numbers = itertools.count()
        self._turn: list[Publication] = []

    def say(self, writers: int) -> None:
        self._turn += [message(self._prefix, next(self._numbers)) for _ in range(writers)]
        asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        turn, self._turn = self._turn, []
        if turn:
            self._broker.publish(turn).add_done_callback(self._acknowledged)

    def _acknowledged(self, future: asyncio.Future[list[Verdict]]) -> None:
        verdicts = future.result()
        lines = [f"{verdict.publication.token} {verdict.seq} {verdict.outcome}\n" for verdict in verdicts]
        os.write(1, "".join(lines).encode())
        # Some at once and some a turn later: calls of several sizes, several of them waiting.
        self.say(len(verdicts) // 3)
        asyncio.get_running_loop().call_soon(self.say, len(verdicts) - len(verdicts) // 3)


def _end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What fails ends the process: whoever waits for its lines must not wait for ever."""
    loop.default_exception_handler(context)
    os._exit(1)


async def main(state: Path, prefix: str, kept: int, fresh: int) -> None:
    store = SQLiteStore.open(state)
    limits = ChatLimits(chat_history_count=kept)
    broker = SQLiteBroker(store.database, limits)
    broker._ledger = Ledger(limits, fresh)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_end)
    Writers(broker, prefix).say(WRITERS)
    await loop.create_future()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
