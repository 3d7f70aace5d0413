"""The past of a room on its way to a member: pages, the tail behind them, and the end where it is live."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from secure_net.errors import StateFullError
from secure_net.limits import ChatLimits
from secure_net.messaging import rooms as module
from tests.support.chat import FakeMember, World, codes, spoken
from tests.support.loops import in_loop
from tests.support.transport import turns


@in_loop
async def test_the_past_is_replayed_and_then_it_is_live() -> None:
    world = World()
    speaker = await spoken(world, "ops", *range(5))
    ann = world.member("ann")
    assert (await world.join(ann, "ops", 2))[0] == {
        "type": "joined",
        "room": "ops",
        "seq": 5,
        "first": 1,
        "members": 1,
    }
    assert await world.pull(ann) == 1
    world.say(speaker, "ops", "live")
    await world.settle()
    assert ann.bodies() == [(3, 2), (4, 3), (5, 4), (6, "live")]


@in_loop
async def test_a_place_at_the_end_is_live_at_once() -> None:
    world = World()
    speaker = await spoken(world, "ops", 1)
    ann = world.member("ann")
    await world.join(ann, "ops", 1)
    assert not ann.machine.pulling
    world.say(speaker, "ops", 2)
    await world.settle()
    assert ann.bodies() == [(2, 2)]


@in_loop
async def test_what_is_said_while_a_page_is_read_comes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLAY_COUNT", 3)
    world = World()
    speaker = await spoken(world, "ops", *range(7))
    ann = world.member("ann")
    await world.join(ann, "ops", 0)
    for n in range(3):
        world.broker.held = True
        page = world.rooms.pull(ann, ann.machine.pulling.popleft())
        page.send(None)
        assert ann.bodies() == [(m, m - 1) for m in range(3 * n - 2, 3 * n + 1) if m > 0] if n else True
        world.say(speaker, "ops", f"meanwhile {n}")
        world.turn()
        world.broker.held = False
        world.broker.commit()
        await world.settle()
        with pytest.raises(StopIteration):
            page.send(None)
    # The first two pages ended before what was said behind them; the third reached the end of its time.
    assert await world.pull(ann) == 1 or not ann.machine.pulling
    await world.settle()
    rest = ann.bodies()
    assert [seq for seq, _ in rest] == list(range(7, 11))


@in_loop
async def test_a_tail_that_grows_too_large_is_dropped_and_read_from_the_store() -> None:
    world = World(ChatLimits(chat_outbox_bytes=300))
    speaker = await spoken(world, "ops", 1)
    ann = world.member("ann")
    await world.join(ann, "ops", 0)
    world.broker.held = True
    page = world.rooms.pull(ann, ann.machine.pulling.popleft())
    page.send(None)
    standing = world.broker._waiting.pop()  # the page comes behind what is said meanwhile
    for n in range(6):
        world.say(speaker, "ops", f"meanwhile {n}")
        world.turn()
    world.broker.commit()
    await world.settle()
    world.broker._waiting.append(standing)
    world.broker.held = False
    world.broker.commit()
    with pytest.raises(StopIteration):
        page.send(None)
    assert list(ann.machine.pulling) == ["ops"]
    assert await world.pull(ann) == 1
    assert [seq for seq, _ in ann.bodies()] == list(range(1, 8))


@pytest.mark.parametrize("after", [0, 1, 6, 100])
def test_a_place_that_is_gone_or_not_there_yet(after: int) -> None:
    @in_loop
    async def body() -> None:
        world = World()
        world.broker.keep = 3
        await spoken(world, "ops", *range(5))  # 3, 4 and 5 are kept
        ann = world.member("ann")
        (answer,) = await world.join(ann, "ops", after)
        assert (answer["code"], answer["room"], answer["first"], answer["seq"]) == (
            "history_gap",
            "ops",
            3,
            5,
        )
        assert (ann.joined, world.counters.rooms()) == ({}, 0)
        assert (await world.join(ann, "ops", 2))[0]["first"] == 3
        await world.pull(ann)
        assert [seq for seq, _ in ann.bodies()] == [3, 4, 5]
        # One who is in the room already is out of it.
        assert codes(await world.join(ann, "ops", after)) == [("history_gap", "ops")]
        assert ann.joined == {}

    body()


@in_loop
async def test_what_is_trimmed_while_one_follows_is_a_gap() -> None:
    for trimmed in (1, 3):
        world = World()
        await spoken(world, "ops", *range(3))
        ann, bob = world.member("ann"), world.member("bob")
        await world.join(bob, "ops")
        await world.join(ann, "ops", 0)
        del world.broker.kept["ops"][:trimmed]
        assert await world.pull(ann) == 1
        (gap,) = ann.take()
        assert (gap["code"], gap["first"], gap["seq"]) == ("history_gap", 1 + trimmed, 3)
        assert "ops" not in ann.joined
        world.turn()
        assert [item["online"] for item in bob.take("presence")] == [True, False]


@in_loop
async def test_a_store_that_cannot_be_read() -> None:
    world = World()
    await spoken(world, "ops", 1)
    ann = world.member("ann")
    world.broker.full = True
    assert codes(await world.join(ann, "ops")) == [("unavailable", "ops")]
    assert world.counters.rooms() == 0
    await world.along(world.rooms.history(ann, "ops", None, 5))
    assert codes(ann.take()) == [("unavailable", "ops")]
    world.broker.full = False
    await world.join(ann, "ops", 0)
    world.broker.full, world.broker.error = True, StateFullError("full")
    assert await world.pull(ann) == 1
    assert codes(ann.take()) == [("unavailable", "ops")]
    assert ann.joined == {}


@in_loop
async def test_joining_again_replays_anew() -> None:
    world = World()
    speaker = await spoken(world, "ops", 1, 2)
    ann = world.member("ann")
    await world.join(ann, "ops")
    assert [item["type"] for item in await world.join(ann, "ops", 0)] == ["joined"]
    await world.join(ann, "ops", 1)
    assert list(ann.machine.pulling) == ["ops"]
    await world.pull(ann)
    assert ann.bodies() == [(2, 2)]
    await world.join(ann, "ops", 0)
    await world.join(ann, "ops")
    assert not ann.machine.pulling, "without a place it is live"
    world.say(speaker, "ops", 3)
    await world.settle()
    assert ann.bodies() == [(3, 3)]
    assert world.counters.members() == 1


@in_loop
async def test_who_leaves_or_goes_while_its_page_is_read() -> None:
    for goes in (True, False):
        world = World()
        await spoken(world, "ops", 1, 2)
        ann = world.member("ann")
        await world.join(ann, "ops", 0)
        world.broker.held = True
        page = world.rooms.pull(ann, ann.machine.pulling.popleft())
        page.send(None)
        if goes:
            world.rooms.forget(ann)
        else:
            world.epoch += 1
            ann.scopes = set()
            world.rooms._review(world.rooms._rooms["ops"])
        world.broker.commit()
        with pytest.raises(StopIteration):
            page.send(None)
        assert ann.bodies() == []
        assert world.counters.members() == 0


@in_loop
async def test_who_is_put_out_before_the_page_that_was_decided_on_is_asked_for() -> None:
    """A session's task begins behind the end of the turn, which may have a message for that room."""
    world = World()
    speaker = await spoken(world, "ops", 1, 2)
    ann = world.member("ann")
    await world.join(ann, "ops", 0)
    world.say(speaker, "ops", "secret")
    world.turn()
    page = world.rooms.pull(ann, ann.machine.pulling.popleft())
    world.epoch += 1
    ann.scopes = set()
    await world.settle()
    pages = len(world.broker.pages)
    with pytest.raises(StopIteration):
        page.send(None)
    assert codes(ann.take()) == [("not_permitted", "ops")]
    assert len(world.broker.pages) == pages


@in_loop
async def test_who_is_put_out_while_a_page_is_read_that_cannot_be_is_told_one_reason() -> None:
    world = World()
    speaker = await spoken(world, "ops", 1, 2)
    ann = world.member("ann")
    await world.join(ann, "ops", 0)
    world.say(speaker, "ops", "secret")
    world.turn()
    page = world.rooms.pull(ann, ann.machine.pulling.popleft())
    await turns()
    world.broker.held = True
    page.send(None)
    world.epoch += 1
    ann.scopes = set()
    world.rooms._review(world.rooms._rooms["ops"])
    world.broker.full = True
    world.broker.commit()
    with pytest.raises(StopIteration):
        page.send(None)
    world.turn()
    assert codes(ann.take()) == [("not_permitted", "ops")]


@in_loop
async def test_who_goes_while_it_enters() -> None:
    world = World()
    ann = world.member("ann")
    world.broker.held = True
    act = world.rooms.join(ann, "ops", None)
    act.send(None)
    world.rooms.forget(ann)
    world.broker.commit()
    with pytest.raises(StopIteration):
        act.send(None)
    assert (ann.take(), world.counters.rooms(), world.counters.members()) == ([], 0, 0)


@in_loop
async def test_who_is_called_off_while_it_enters_leaves_nothing_behind() -> None:
    world = World()
    ann = world.member("ann")
    world.broker.held = True
    act = world.rooms.join(ann, "ops", None)
    act.send(None)
    act.close()
    assert world.counters.rooms() == 0


@in_loop
async def test_two_who_enter_a_room_at_once_while_its_first_message_is_kept() -> None:
    """What the standing already counts is not delivered to who joined behind it."""
    world = World()
    speaker, ann = world.member("speaker"), world.member("ann")
    world.broker.held = True
    world.say(speaker, "ops", "first")
    world.turn()
    act = world.rooms.join(ann, "ops", None)
    future = act.send(None)
    (publish, verdicts), (stand, standing) = world.broker._waiting
    world.broker._waiting.clear()
    result = publish()  # committed, but the verdict is late
    standing.set_result(stand())
    assert future is standing
    with pytest.raises(StopIteration):
        act.send(None)
    assert ann.take()[0]["seq"] == 1
    verdicts.set_result(result)
    await world.settle()
    assert ann.bodies() == []
    assert speaker.take()[0]["seq"] == 1


@in_loop
async def test_a_page_of_history() -> None:
    world = World(ChatLimits(chat_page_count=3))
    await spoken(world, "ops", *range(5))
    ann = world.member("ann")

    async def history(before: int | None, limit: int, room: str = "ops") -> tuple[list[int], bool]:
        await world.along(world.rooms.history(ann, room, before, limit))
        (answer,) = ann.take()
        assert (answer["type"], answer["room"]) == ("history", room)
        return [message["seq"] for message in answer["messages"]], answer["more"]

    assert await history(None, 2) == ([4, 5], True)
    assert await history(None, 100) == ([3, 4, 5], True)
    assert await history(3, 100) == ([1, 2], False)
    assert await history(1, 100) == ([], False)
    assert await history(None, 1, "empty") == ([], False)
    assert world.counters.rooms() == 0, "looking is not entering"


class Crowd:
    """Members that come, leave and come back where they were, while somebody speaks and the broker waits."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a test that fails has to fail again
        self.world = World()
        self.world.broker.held = True
        self.speaker = self.world.member("speaker")
        self.members = [self.world.member(f"m{n}") for n in range(3)]
        self.heard: dict[FakeMember, list[int]] = {member: [] for member in self.members}
        self.acts: dict[FakeMember, asyncio.Task[None]] = {}

    def drive(self, member: FakeMember) -> None:
        """The next thing that this member's session does."""
        act, rooms = self.acts.get(member), self.world.rooms
        self.listen(member)
        if act is not None:
            if act.done():
                act.result()
                del self.acts[member]
        elif "ops" not in member.joined:
            place = self.heard[member][-1] if self.heard[member] else 0
            self.begin(member, rooms.join(member, "ops", place))
        elif member.machine.pulling:
            self.begin(member, rooms.pull(member, member.machine.pulling.popleft()))
        elif self.dice.random() < 0.1:
            rooms.leave(member, "ops")

    def begin(self, member: FakeMember, act: Coroutine[Any, Any, None]) -> None:
        self.acts[member] = asyncio.get_running_loop().create_task(act)

    def listen(self, member: FakeMember) -> None:
        self.heard[member] += [seq for seq, _ in member.bodies()]

    async def step(self) -> None:
        for _ in range(self.dice.randrange(3)):
            self.world.say(self.speaker, "ops", "x")
        steps: list[Callable[[], object]] = [
            *(functools.partial(self.drive, member) for member in self.members),
            self.world.turn,
            lambda: self.world.broker.commit(self.dice.randrange(6)),
        ]
        self.dice.shuffle(steps)
        for step in steps:
            step()
        await turns(2)

    async def come_to_rest(self) -> None:
        """Nobody speaks or leaves any more, and everybody gets what there is."""
        self.world.broker.held = False
        for _ in range(200):
            self.world.broker.commit()
            await self.world.settle()
            for member in self.members:
                if member in self.acts or "ops" not in member.joined or member.machine.pulling:
                    self.drive(member)
                self.listen(member)
            if not self.acts and not any(member.machine.pulling for member in self.members):
                return
        raise AssertionError("it does not come to rest")


@pytest.mark.parametrize("seed", range(20))
def test_no_gap_and_no_double_whatever_happens(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLAY_COUNT", 4)

    @in_loop
    async def body() -> None:
        crowd = Crowd(seed)
        for _ in range(150):
            await crowd.step()
        await crowd.come_to_rest()
        everything = list(range(1, crowd.world.broker.last["ops"] + 1))
        assert [crowd.heard[member] for member in crowd.members] == [everything] * 3
        assert len(everything) > 100

    body()
