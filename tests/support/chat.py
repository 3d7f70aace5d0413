"""Rooms in the hand of a test: a broker in memory, members without a connection, turns that the test ends.

`World` has rooms whose turns end when the test says so (`turn`), or, with what the broker has to say, when
`settle` is awaited. A `FakeMember` keeps the objects that it was sent in `got`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from secure_net.errors import StateFullError
from secure_net.limits import ChatLimits, FrameLimits
from secure_net.messaging.messages import Say
from secure_net.messaging.protocol import ChatMachine, Framing, frame_framing
from secure_net.messaging.room import Member
from secure_net.messaging.rooms import Rooms
from secure_net.metrics import ChatCounters, ServiceCounters
from secure_net.store.broker import Message, Publication, Standing, Verdict
from tests.support.clock import FakeClock
from tests.support.transport import turns

LIVE = "live."  # rooms whose names begin so have no history


def say_id(number: int) -> bytes:
    """The 32 digits of an id."""
    return b"%032x" % number


def frames(*objects: dict[str, Any] | bytes) -> bytes:
    """What a client sends."""
    payloads = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in objects]
    return b"".join(b"%05d%b" % (len(payload), payload) for payload in payloads)


def objects(data: bytes) -> list[Any]:
    """What a client reads; every frame must be whole."""
    found = []
    while data:
        length = int(data[:5])
        assert len(data) >= 5 + length, "half a frame"
        found.append(json.loads(data[5 : 5 + length]))
        data = data[5 + length :]
    return found


class FakeBroker:
    """Implements `secure_net.store.broker.Broker` in memory.

    What is asked is done in order, when the loop turns; while `held`, only at `commit`. `full`: what is asked
    fails. `keep`: messages a room keeps. `error` takes the place of `StateFullError`.
    """

    def __init__(self) -> None:
        self.kept: dict[str, list[Message]] = {}
        self.last: dict[str, int] = {}
        self.ids: dict[tuple[str, str, bytes], tuple[int, bytes]] = {}
        self.held = self.full = False
        self.error: Exception = StateFullError("full")
        self.keep = 10_000
        self.rooms_count = 10_000
        self.published: list[int] = []  # how many in each call
        self.pages: list[dict[str, Any]] = []
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    def _later(self, act: Callable[[], Any]) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((act, future))
        if not self.held:
            asyncio.get_running_loop().call_soon(self.commit)
        return future

    def commit(self, count: int | None = None) -> None:
        """Do what waits, or the first `count`."""
        now, self._waiting = self._waiting[:count], self._waiting[len(self._waiting[:count]) :]
        for act, future in now:
            if future.done():
                continue
            if self.full:
                future.set_exception(self.error)
            else:
                future.set_result(act())

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def publish(self, publications: list[Publication]) -> asyncio.Future[list[Verdict]]:
        self.published.append(len(publications))
        return self._later(lambda: [self._keep(publication) for publication in publications])

    def _keep(self, said: Publication) -> Verdict:
        key = (said.room, said.sender, said.id)
        if key in self.ids:
            seq, body = self.ids[key]
            return Verdict(said, seq, "again" if body == said.body else "conflict")
        if said.room not in self.last and len(self.last) >= self.rooms_count:
            return Verdict(said, 0, "rooms")
        seq = self.last[said.room] = self.last.get(said.room, 0) + 1
        self.ids[key] = (seq, said.body)
        room = self.kept.setdefault(said.room, [])
        room.append(Message(said.room, seq, said.sender, said.at, said.body))
        del room[: -self.keep]
        return Verdict(said, seq, "new")

    def _stand(self, room: str) -> Standing:
        last, kept = self.last.get(room, 0), self.kept.get(room)
        return Standing(last, kept[0].seq if kept else last + 1)

    def standing(self, room: str) -> asyncio.Future[Standing]:
        return self._later(lambda: self._stand(room))

    def page(
        self,
        room: str,
        *,
        after: int | None = None,
        before: int | None = None,
        upto: int | None = None,
        count: int,
        size: int,
    ) -> asyncio.Future[tuple[Standing, list[Message]]]:
        self.pages.append({"after": after, "before": before, "upto": upto, "count": count, "size": size})

        def read() -> tuple[Standing, list[Message]]:
            kept = self.kept.get(room, [])
            if after is not None:
                found = [m for m in kept if after < m.seq and (upto is None or m.seq <= upto)][:count]
            else:
                found = [m for m in kept if before is None or m.seq < before][-count:]
            return self._stand(room), found

        return self._later(read)


class FakeMember(Member):
    """Takes what it is sent until `slow`; `scopes` are the rooms that it may hear (None: all)."""

    def __init__(self, world: World, name: str, framing: Framing | None = None) -> None:
        machine = ChatMachine(
            world.limits, FrameLimits(), framing or world.framing, authentication_seconds=10.0
        )
        super().__init__(machine)
        self.name = name
        self.world = world
        self.got: list[Any] = []
        self.writes: list[bytes] = []
        self.scopes: set[str] | None = None
        self.is_open = True

    def may_subscribe(self, room: str) -> bool:
        return self.scopes is None or room in self.scopes

    def flush(self) -> bool:
        if not self.is_open:
            return False
        data = self.machine.data_to_send()
        if data:
            self.writes.append(data)
            self.got += objects(data)
        return True

    def take(self, *types: str) -> list[Any]:
        """What it was sent since this was last asked, of these types (of all where none is named)."""
        self.flush()
        got, self.got = self.got, []
        return [item for item in got if not types or item["type"] in types]

    def bodies(self) -> list[Any]:
        """(seq, body) of the messages that it was sent since something was last taken."""
        return [(item["seq"], item["body"]) for item in self.take("message")]


class World:
    """Rooms, their broker, and the end of a turn."""

    def __init__(self, limits: ChatLimits | None = None, *, largest: int = 65_536) -> None:
        self.limits = limits or ChatLimits()
        self.broker = FakeBroker()
        self.counters = ChatCounters()
        self.framing = frame_framing(FrameLimits(), ServiceCounters("chat"))
        self.clock = FakeClock()
        self.epoch = 1
        self.scheduled: list[Callable[[], None]] = []
        self._said = 0
        self.rooms = Rooms(
            self.limits,
            self.broker,
            self.counters,
            largest=largest,
            wall=self.clock.wall,
            schedule=self.scheduled.append,
            epoch=lambda: self.epoch,
            is_live=lambda name: name.startswith(LIVE),
        )

    def member(self, name: str, framing: Framing | None = None) -> FakeMember:
        return FakeMember(self, name, framing)

    def turn(self) -> None:
        """The loop's turn ends."""
        scheduled, self.scheduled[:] = list(self.scheduled), []
        for callback in scheduled:
            callback()

    async def settle(self) -> None:
        """Turn until nothing is left to do but what the broker holds back."""
        for _ in range(20):
            self.turn()
            await turns(3)

    def say(self, member: Member, room: str, body: Any, id_: bytes | None = None) -> bytes:
        """As a session does it; the id."""
        if id_ is None:
            self._said += 1
            id_ = say_id(self._said)
        request = Say(room, id_, json.dumps(body).encode())
        voice = self.rooms.voice(room, member.name)
        assert voice is not None
        self.rooms.say(member, voice, request.id, request.body)
        return id_

    async def join(self, member: FakeMember, room: str, after: int | None = None) -> list[Any]:
        """Join and settle; what the member was sent."""
        if room.startswith(LIVE):
            self.rooms.join_live(member, room)
        else:
            await self.along(self.rooms.join(member, room, after))
        return member.take()

    async def along(self, act: Coroutine[Any, Any, None]) -> None:
        """Await what has to be waited for, while turns go on."""
        task = asyncio.get_running_loop().create_task(act)
        await self.settle()
        assert task.done(), "it waits for what does not come"
        await task

    async def pull(self, member: FakeMember) -> int:
        """Give a member its past, as long as there is more; how many pages it took."""
        count = 0
        while member.machine.pulling:
            await self.along(self.rooms.pull(member, member.machine.pulling.popleft()))
            count += 1
        return count


def codes(objects: list[Any]) -> list[tuple[str, Any]]:
    """(code, room) of the errors."""
    return [(item["code"], item.get("room")) for item in objects if item["type"] == "error"]


async def spoken(world: World, room: str, *bodies: Any) -> FakeMember:
    """Somebody has said this."""
    speaker = world.member("speaker")
    for body in bodies:
        world.say(speaker, room, body)
    await world.settle()
    return speaker
