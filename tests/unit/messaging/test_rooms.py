from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from secure_net.limits import FrameLimits
from secure_net.messaging.protocol import Framing, frame_framing
from secure_net.metrics import ServiceCounters
from tests.support.chat import World, codes, say_id
from tests.support.loops import in_loop

LIVE = "live.a"


# ---------------------------------------------------------------------------- live rooms


@in_loop
async def test_a_live_room_numbers_at_once_and_delivers_at_the_end_of_the_turn() -> None:
    world = World()
    ann, bob = world.member("ann"), world.member("bob")
    (joined,) = await world.join(ann, LIVE)
    assert len(joined.pop("incarnation")) == 32
    assert joined == {"type": "joined", "room": LIVE, "seq": 0, "first": 1, "members": 1}
    await world.join(bob, LIVE)
    ann.take()
    ids = [world.say(ann, LIVE, n) for n in range(3)]
    assert ann.got == []
    world.turn()
    at = world.clock.wall()
    said = [
        {"type": "message", "room": LIVE, "seq": n + 1, "from": "ann", "at": at, "body": n} for n in range(3)
    ]
    assert bob.take() == said
    acks = [{"type": "ack", "id": id_.decode(), "seq": n + 1} for n, id_ in enumerate(ids)]
    assert ann.take() == acks + said
    assert len(ann.writes) == 3, "a joined, a presence, a turn"
    assert world.broker.published == []
    assert (world.counters.messages, world.counters.deliveries) == (3, 6)


@in_loop
async def test_all_members_get_the_very_same_bytes() -> None:
    world = World()
    members = [world.member(f"m{n}") for n in range(5)]
    for member in members:
        await world.join(member, LIVE)
    for member in members:
        member.take()
    world.say(members[0], LIVE, "x")
    world.say(members[0], LIVE, "y")
    world.turn()
    shared = {id(member.writes[-1]) for member in members[1:]}
    assert len(shared) == 1


@in_loop
async def test_a_fault_in_one_room_costs_the_others_neither_messages_nor_acknowledgements() -> None:
    """Whatever raises in the middle of a turn: what was not sent yet has the next one."""

    def fail(payloads: Sequence[bytes]) -> bytes:
        raise LookupError

    world = World()
    ann, bob = world.member("ann"), world.member("bob")
    odd = world.member("odd")
    rooms = ["live.a", "live.b", "live.c"]
    for room in rooms:
        await world.join(bob, room)
    await world.join(odd, "live.b")
    world.turn()
    bob.take()
    odd.machine.framing = Framing(fail, ServiceCounters("chat"))
    world.rooms._rooms["live.b"].stop(odd)
    world.rooms._rooms["live.b"].audience[odd.machine.framing] = {odd: odd.machine.outgoing}
    for room in rooms:
        world.say(ann, room, room)
    with pytest.raises(LookupError):
        world.turn()
    world.turn()
    said = {got["room"] for got in bob.take() if got["type"] == "message"}
    assert {"live.a", "live.c"} <= said
    assert [got["type"] for got in ann.take()] == ["ack"] * 3
    world.say(ann, "live.a", "again")  # no room is stuck behind what happened
    world.turn()
    assert [got["body"] for got in bob.take()] == ["again"]


@in_loop
async def test_one_member_in_several_rooms_gets_one_write() -> None:
    world = World()
    ann = world.member("ann")
    for room in ("live.a", "live.b"):
        await world.join(ann, room)
    writes = len(ann.writes)
    for room in ("live.a", "live.b", "live.a"):
        world.say(ann, room, room)
    world.turn()
    assert len(ann.writes) == writes + 1
    assert [item["type"] for item in ann.take()] == ["ack"] * 3 + ["message"] * 3


@in_loop
async def test_one_turn_is_scheduled_however_much_is_said() -> None:
    world = World()
    ann = world.member("ann")
    await world.join(ann, LIVE)
    world.turn()
    for n in range(10):
        world.say(ann, LIVE, n)
    assert len(world.scheduled) == 1
    world.turn()
    assert world.scheduled == []
    world.say(ann, LIVE, 10)
    assert len(world.scheduled) == 1


@in_loop
async def test_each_framing_is_encoded_for_itself_and_counted_for_itself() -> None:
    world = World()
    calls: list[int] = []

    def encode(payloads: Any) -> bytes:
        calls.append(len(payloads))
        return world.framing.encode_many(payloads)

    web = Framing(encode, ServiceCounters("chat-web"))
    ann, bob, eve = world.member("ann"), world.member("bob", web), world.member("eve", web)
    for member in (ann, bob, eve):
        await world.join(member, LIVE)
    world.turn()
    for member in (ann, bob, eve):
        member.take()
    calls.clear()
    before = web.counters.frames_sent
    world.say(ann, LIVE, 1)
    world.say(ann, LIVE, 2)
    world.turn()
    assert calls == [2], "once for both"
    assert bob.take() == eve.take()
    assert web.counters.frames_sent == before + 4


@in_loop
async def test_a_live_room_is_forgotten_when_it_is_empty() -> None:
    world = World()
    ann = world.member("ann")
    first = (await world.join(ann, LIVE))[0]["incarnation"]
    world.say(ann, LIVE, 1)
    world.turn()
    voice = world.rooms.voice(LIVE, "ann")
    assert voice is not None
    world.rooms.leave(ann, LIVE)
    assert voice.room.is_forgotten
    assert (world.counters.rooms(), world.counters.members()) == (0, 0)
    ann.take()
    (joined,) = await world.join(ann, LIVE)
    assert (joined["seq"], joined["incarnation"] != first) == (0, True)


@in_loop
async def test_who_speaks_into_an_empty_live_room_is_answered_and_nothing_is_kept() -> None:
    world = World()
    ann = world.member("ann")
    world.say(ann, LIVE, 1)
    world.say(ann, LIVE, 2)
    world.turn()
    assert [item["seq"] for item in ann.take("ack")] == [1, 2]
    assert world.counters.rooms() == 0


# ---------------------------------------------------------------------------- durable rooms


@in_loop
async def test_a_durable_room_delivers_and_acknowledges_after_the_commit() -> None:
    world = World()
    ann, bob = world.member("ann"), world.member("bob")
    assert await world.join(ann, "ops") == [
        {"type": "joined", "room": "ops", "seq": 0, "first": 1, "members": 1}
    ]
    await world.join(bob, "ops")
    ann.take()
    world.broker.held = True
    ids = [world.say(bob, "ops", n) for n in range(3)]
    await world.settle()
    assert (ann.take(), bob.take()) == ([], [])
    assert bob.machine.unacknowledged == 3
    assert world.broker.published == [3], "all of a turn in one call"
    world.broker.commit()
    await world.settle()
    assert ann.bodies() == [(1, 0), (2, 1), (3, 2)]
    assert [(a["id"], a["seq"]) for a in bob.take("ack")] == [
        (id_.decode(), n + 1) for n, id_ in enumerate(ids)
    ]
    assert (bob.machine.unacknowledged, bob.machine.unacknowledged_bytes) == (0, 0)
    assert (world.counters.messages, world.counters.deliveries) == (3, 6)


@in_loop
async def test_calls_overlap_and_keep_their_order() -> None:
    world = World()
    ann = world.member("ann")
    await world.join(ann, "ops")
    world.broker.held = True
    for n in range(4):
        world.say(ann, "ops", n)
        world.clock.advance(1.0)
        world.turn()
    assert world.broker.published == [1] * 4
    world.broker.commit(3)
    await world.settle()
    assert ann.bodies() == [(1, 0), (2, 1), (3, 2)]
    world.broker.commit()
    await world.settle()
    assert ann.bodies() == [(4, 3)]


@in_loop
async def test_the_time_of_a_message_is_the_one_that_is_kept() -> None:
    world = World()
    ann, bob = world.member("ann"), world.member("bob")
    await world.join(ann, "ops")
    world.clock.advance(0.123456)
    world.say(ann, "ops", 1)
    world.turn()
    world.clock.advance(5)
    await world.settle()
    (live,) = ann.take("message")
    await world.join(bob, "ops", 0)
    await world.pull(bob)
    assert bob.take("message") == [live]
    assert live["at"] == round(live["at"], 3)


@in_loop
async def test_an_id_that_was_said_before() -> None:
    world = World()
    ann = world.member("ann")
    await world.join(ann, "ops")
    world.say(ann, "ops", "x", say_id(99))
    await world.settle()
    ann.take()
    world.say(ann, "ops", "x", say_id(99))
    world.say(ann, "ops", "y", say_id(99))
    world.say(ann, "ops", "z")
    await world.settle()
    got = ann.take()
    assert [(item["id"], item["seq"]) for item in got if item["type"] == "ack"] == [
        (say_id(99).decode(), 1),
        (say_id(1).decode(), 2),
    ]
    (error,) = (item for item in got if item["type"] == "error")
    assert (error["code"], error["room"], error["id"]) == ("id_reused", "ops", say_id(99).decode())
    assert [item["body"] for item in got if item["type"] == "message"] == ["z"]
    assert (ann.machine.unacknowledged, world.counters.messages) == (0, 2)


@in_loop
async def test_a_room_too_many_at_the_broker() -> None:
    world = World()
    world.broker.rooms_count = 0
    ann = world.member("ann")
    world.say(ann, "ops", 1)
    await world.settle()
    assert codes(ann.take()) == [("rooms", "ops")]
    assert (world.counters.rooms(), ann.machine.unacknowledged) == (0, 0)


@in_loop
async def test_what_cannot_be_kept_is_answered_so_one_by_one() -> None:
    world = World()
    ann = world.member("ann")
    await world.join(ann, "ops")
    world.broker.full = True
    ids = [world.say(ann, "ops", n).decode() for n in range(2)]
    await world.settle()
    assert [(e["code"], e["id"]) for e in ann.take()] == [("unavailable", id_) for id_ in ids]
    assert (ann.machine.unacknowledged, ann.machine.unacknowledged_bytes) == (0, 0)
    world.broker.full = False
    world.say(ann, "ops", 0, ids[0].encode())
    await world.settle()
    assert ann.bodies() == [(1, 0)]


def test_a_fault_of_ours_is_answered_and_raised() -> None:
    raised: list[BaseException] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, c: raised.append(c["exception"]))
        world = World()
        world.broker.full, world.broker.error = True, RuntimeError("a secret")
        ann = world.member("ann")
        world.say(ann, "ops", 1)
        await world.settle()
        assert codes(ann.take()) == [("internal", "ops")]

    asyncio.run(body())
    assert [str(error) for error in raised] == ["a secret"]


@in_loop
async def test_whoever_is_gone_is_not_answered_and_its_message_is_delivered() -> None:
    world = World()
    ann, bob = world.member("ann"), world.member("bob")
    await world.join(ann, "ops")
    for full in (False, True):
        world.broker.held = True
        world.say(bob, "ops", "last words")
        world.say(bob, LIVE, "not even these")
        world.turn()
        world.rooms.forget(bob)
        world.broker.held, world.broker.full = False, full
        world.broker.commit()
        await world.settle()
    assert ann.bodies() == [(1, "last words")]
    assert bob.writes[1:] == []


@in_loop
async def test_acknowledgements_of_one_who_goes_in_the_same_turn_are_dropped() -> None:
    world = World()
    bob = world.member("bob")
    world.say(bob, LIVE, 1)
    world.rooms.forget(bob)
    world.turn()
    assert bob.take() == []


# ---------------------------------------------------------------------------- members that end


@in_loop
async def test_a_member_that_cannot_be_reached_is_forgotten_and_the_rest_go_on() -> None:
    world = World()
    ann, bob, eve = (world.member(name) for name in ("ann", "bob", "eve"))
    for member in (ann, bob, eve):
        await world.join(member, LIVE)
    world.turn()
    eve.take()
    bob.is_open = False
    world.say(ann, LIVE, 1)
    world.turn()
    assert bob.gone
    assert world.counters.members() == 2
    world.turn()
    assert [item["type"] for item in eve.take()] == ["message", "presence"]
    world.rooms.forget(bob)


@in_loop
async def test_a_wider_header_for_larger_frames() -> None:
    framing = frame_framing(FrameLimits(frame_bytes=200_000), ServiceCounters("chat"))
    assert framing.encode(b"{}") == b"000002{}"
