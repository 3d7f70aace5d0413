"""kill -9 under load, and nothing that was acknowledged is lost: the whole daemon, over real TLS.

Publishers and members speak raw frames over the standard library's TLS, and remember on their own what they
were told. The daemon is killed at a random instant, started again, and everybody comes back: publishers say
again what was not acknowledged, members go on behind the last message they have. In the end every member has
every message once, in order, each acknowledged one under the number it was acknowledged with.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, init, start_daemon
from tests.support.loops import in_loop

ROUNDS = 20
SOAK_ROUNDS = 300
ROOMS = ("lobby", "ops", "trades")
PUBLISHERS = 6
MEMBERS_PER_ROOM = 2
OUTSTANDING = 32
MOST_ACKNOWLEDGED = 900  # in one round, before the daemon is killed
SECONDS = 30.0  # how long anything may take before the test has failed
ENVIRON = {
    "SECURE_NET_LIMITS__CHAT_HISTORY_COUNT": "10000000",
    "SECURE_NET_LIMITS__CHAT_HISTORY_BYTES": "10000000000",
}

LOST = (OSError, asyncio.IncompleteReadError)  # how the end of a killed daemon looks from here


class Link:
    """Raw frames over TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> dict[str, Any]:
        length = int(await self._reader.readexactly(5))
        found: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        return found

    def send(self, **what: Any) -> None:
        payload = json.dumps(what).encode()
        self._writer.write(b"%05d%b" % (len(payload), payload))


class House:
    """The daemon, killed and started in one folder, and what all peers share."""

    def __init__(self, directory: Path) -> None:
        self._directory = init(directory)
        self._daemon: RunningDaemon | None = None
        self._context: ssl.SSLContext | None = None

    async def start(self) -> None:
        self._daemon = await asyncio.to_thread(start_daemon, self._directory, environ=ENVIRON)
        self._context = self._context or self._daemon.context()

    async def kill(self) -> None:
        assert self._daemon is not None
        await asyncio.to_thread(self._daemon.kill)

    async def stop(self) -> None:
        assert self._daemon is not None
        assert await asyncio.to_thread(self._daemon.stop) == 0

    @contextlib.asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        assert self._daemon is not None
        host, port = self._daemon.addresses["chat"]
        reader, writer = await asyncio.open_connection(
            host, port, ssl=self._context, server_hostname="localhost"
        )
        try:
            link = Link(reader, writer)
            link.send(type="hello")
            assert (await link.read())["type"] == "welcome"
            yield link
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Publisher:
    """Says numbered messages, and says again under the same id what was not acknowledged."""

    def __init__(self, number: int, acknowledged: Callable[[], None]) -> None:
        self._name = f"p{number}"
        self._acknowledged = acknowledged
        self._random = random.SystemRandom()
        self._count = 0
        self.unacknowledged: dict[str, tuple[str, str]] = {}  # id: room, body
        self.told: dict[tuple[str, int], str] = {}  # room, number: body
        self.finishing = False

    async def run(self, link: Link) -> None:
        for id_, (room, body) in self.unacknowledged.items():
            link.send(type="say", room=room, id=id_, body=body)
        while not self.finishing or self.unacknowledged:
            while not self.finishing and len(self.unacknowledged) < OUTSTANDING:
                self._say(link)
            answer = await link.read()
            assert answer["type"] == "ack", answer
            room, body = self.unacknowledged.pop(answer["id"])
            assert self.told.setdefault((room, answer["seq"]), body) == body
            self._acknowledged()

    def _say(self, link: Link) -> None:
        self._count += 1
        id_, room = secrets.token_hex(16), self._random.choice(ROOMS)
        body = f"{self._name}-{self._count}-" + "x" * self._random.randrange(200)
        self.unacknowledged[id_] = (room, body)
        link.send(type="say", room=room, id=id_, body=body)


class Member:
    """Keeps what it received, and goes on behind it; fails at the first gap or repetition."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.received: list[str] = []  # number n stands at n - 1
        self.wanted = 0  # in the end: how many there must be
        self.resumed = 0

    async def run(self, link: Link) -> None:
        link.send(type="join", room=self.room, after=len(self.received))
        self.resumed += bool(self.received)
        while not self.wanted or len(self.received) < self.wanted:
            found = await link.read()
            if found["type"] == "message":
                assert found["seq"] == len(self.received) + 1
                self.received.append(found["body"])
            else:
                assert found["type"] in {"joined", "presence"}, found


class Trial:
    """All publishers and members, and what they were told."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._random = random.SystemRandom()
        self._left = 0
        self._enough = asyncio.Event()
        self.publishers = [Publisher(number, self._one_more) for number in range(PUBLISHERS)]
        self.members = [Member(room) for room in ROOMS for _ in range(MEMBERS_PER_ROOM)]

    def _one_more(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._enough.set()

    async def round(self) -> None:
        """Start, let everybody in, kill at a random instant, and see everybody lose the connection."""
        self._left = self._random.randint(1, MOST_ACKNOWLEDGED)
        self._enough.clear()
        await self._house.start()
        peers = [asyncio.create_task(self._until_lost(peer)) for peer in (*self.members, *self.publishers)]
        enough = asyncio.create_task(self._enough.wait())
        await asyncio.wait([enough, *peers], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await self._house.kill()
        await asyncio.wait_for(asyncio.gather(*peers), SECONDS)
        assert await enough

    async def _until_lost(self, peer: Publisher | Member) -> None:
        with contextlib.suppress(*LOST):
            async with self._house.link() as link:
                await peer.run(link)

    async def _until_done(self, peer: Publisher | Member) -> None:
        async with self._house.link() as link:
            await peer.run(link)

    async def finish(self) -> None:
        """The last start: all is acknowledged, and received by those who were there and by newcomers."""
        await self._house.start()
        for publisher in self.publishers:
            publisher.finishing = True
        await asyncio.wait_for(asyncio.gather(*map(self._until_done, self.publishers)), SECONDS)
        self.members += [Member(room) for room in ROOMS]
        told = self.told()
        for member in self.members:
            member.wanted = max(seq for room, seq in told if room == member.room)
        await asyncio.wait_for(asyncio.gather(*map(self._until_done, self.members)), 10 * SECONDS)
        await self._house.stop()

    def told(self) -> dict[tuple[str, int], str]:
        """Every acknowledgement of every publisher."""
        found: dict[tuple[str, int], str] = {}
        for publisher in self.publishers:
            assert not found.keys() & publisher.told.keys(), "a number was given twice"
            found |= publisher.told
        return found


async def kill_again_and_again(directory: Path, rounds: int) -> None:
    trial = Trial(House(directory))
    for _ in range(rounds):
        await trial.round()
    await trial.finish()
    told = trial.told()
    assert len(told) >= rounds
    for member in trial.members:
        acknowledged = [told.get((member.room, seq)) for seq in range(1, member.wanted + 1)]
        # Every number is an acknowledged message's: what was unacknowledged at the end was said again.
        assert member.received == acknowledged
        assert len(set(member.received)) == len(member.received)
    assert sum(member.resumed for member in trial.members) > rounds


@in_loop
async def test_kill_9_under_load_loses_and_doubles_nothing_for_members_that_resume(tmp_path: Path) -> None:
    await kill_again_and_again(tmp_path, ROUNDS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@in_loop
async def test_kill_9_under_load_loses_and_doubles_nothing_300_times(tmp_path: Path) -> None:
    await kill_again_and_again(tmp_path, SOAK_ROUNDS)
