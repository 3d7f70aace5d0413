"""Who is in a room: entering, leaving, presence, bounds, and scopes that change meanwhile."""

from __future__ import annotations

import pytest

from secure_net.limits import ChatLimits
from tests.support.chat import World, codes, spoken
from tests.support.loops import in_loop

LIVE = "live.a"


@in_loop
async def test_who_enters_hears_what_comes_next_and_its_number_is_exact() -> None:
    for room in (LIVE, "ops"):
        world = World()
        ann, bob = world.member("ann"), world.member("bob")
        await world.join(ann, room)
        world.say(ann, room, "before")
        if room == "ops":
            await world.settle()
        (joined,) = await world.join(bob, room)
        assert (joined["seq"], joined["members"]) == (1, 2)
        world.say(ann, room, "after")
        await world.settle()
        assert bob.bodies() == [(2, "after")]
        assert ann.bodies() == [(1, "before"), (2, "after")]


@in_loop
async def test_who_leaves_gets_what_was_said_before() -> None:
    world = World()
    ann, bob = world.member("ann"), world.member("bob")
    for member in (ann, bob):
        await world.join(member, LIVE)
    ann.take()
    world.say(ann, LIVE, "before")
    world.rooms.leave(bob, LIVE)
    world.say(ann, LIVE, "after")
    world.turn()
    assert [item["type"] for item in bob.take()] == ["message", "left"]
    assert ann.bodies() == [(1, "before"), (2, "after")]


@in_loop
async def test_who_is_not_there_cannot_leave() -> None:
    world = World()
    ann = world.member("ann")
    world.rooms.leave(ann, "ops")
    assert codes(ann.take()) == [("not_joined", "ops")]


@in_loop
async def test_joining_again_answers_again_and_changes_nothing() -> None:
    for room in (LIVE, "ops"):
        world = World()
        ann = world.member("ann")
        await world.join(ann, room)
        (joined,) = await world.join(ann, room)
        assert (joined["type"], joined["members"], world.counters.members()) == ("joined", 1, 1)
        world.say(ann, room, 1)
        await world.settle()
        assert ann.bodies() == [(1, 1)]


@in_loop
async def test_presence_tells_the_others_of_a_principal_s_first_and_last_connection() -> None:
    world = World()
    ann, one, two = world.member("ann"), world.member("bob"), world.member("bob")
    await world.join(ann, LIVE)
    await world.join(one, LIVE)
    online = {"type": "presence", "room": LIVE, "member": "bob", "online": True}
    assert ann.take() == [online]
    assert (await world.join(two, LIVE))[0]["members"] == 2
    world.rooms.leave(one, LIVE)
    assert (ann.take(), two.take()) == ([], [])
    world.rooms.forget(two)
    world.turn()
    assert ann.take() == [online | {"online": False}]


@in_loop
async def test_presence_comes_between_the_messages_where_it_happened() -> None:
    world = World()
    ann, bob = world.member("ann"), world.member("bob")
    await world.join(ann, LIVE)
    world.say(ann, LIVE, 1)
    await world.join(bob, LIVE)
    world.say(ann, LIVE, 2)
    world.rooms.leave(bob, LIVE)
    world.turn()
    assert [item["type"] for item in ann.take() if item["type"] != "ack"] == [
        "message",
        "presence",
        "message",
        "presence",
    ]


@in_loop
async def test_a_large_room_announces_no_presence() -> None:
    world = World(ChatLimits(chat_presence_count=2))
    members = [world.member(f"m{n}") for n in range(3)]
    for member in members:
        await world.join(member, LIVE)
    assert [len(member.take("presence")) for member in members] == [1, 0, 0]
    world.rooms.leave(members[2], LIVE)
    world.turn()
    assert len(members[0].take("presence")) == 1


@in_loop
async def test_rooms_are_bounded_per_principal_and_in_all() -> None:
    world = World(ChatLimits(chat_rooms_per_principal_count=2, chat_rooms_count=3))
    one, two, bob = world.member("ann"), world.member("ann"), world.member("bob")
    for room in ("live.a", "b"):
        await world.join(one, room)
    for room in ("live.c", "c"):
        assert codes(await world.join(two, room)) == [("rooms", room)]
    assert (await world.join(two, "b"))[0]["type"] == "joined", "one that the principal is in"
    assert world.counters.rooms() == 2
    await world.join(bob, "d")
    for room in ("live.e", "e"):
        assert codes(await world.join(bob, room)) == [("rooms", room)]
    assert world.rooms.voice("live.e", "bob") is None
    world.say(bob, "e", "the broker bounds these")
    await world.settle()
    assert [item["type"] for item in bob.take()] == ["ack"]
    world.rooms.forget(one)
    world.rooms.forget(two)
    world.rooms.forget(bob)
    assert (world.counters.rooms(), world.counters.members(), world.rooms._joined) == (0, 0, {})


@in_loop
async def test_who_is_there_page_by_page() -> None:
    world = World(ChatLimits(chat_page_count=2))
    names = ["ann", "bob", "eve"]
    for name in reversed(names):
        await world.join(world.member(name), LIVE)
    asker = world.member("asker")

    def who(after: str | None, room: str = LIVE) -> tuple[list[str], bool]:
        world.rooms.who(asker, room, after)
        (answer,) = asker.take()
        assert (answer["type"], answer["room"]) == ("who", room)
        return answer["members"], answer["more"]

    assert who(None) == (["ann", "bob"], True)
    assert who("bob") == (["eve"], False)
    assert who("a") == (["ann", "bob"], True)
    assert who("zoe") == ([], False)
    assert who(None, "nobody") == ([], False)


@in_loop
async def test_a_page_of_names_fits_a_frame() -> None:
    world = World(ChatLimits(chat_page_count=1000, chat_rooms_per_principal_count=5), largest=1000)
    for n in range(30):
        await world.join(world.member(f"{n:064}"), LIVE)
    asker = world.member("asker")
    world.rooms.who(asker, LIVE, None)
    assert len(asker.machine.outgoing[0]) <= 1000 + 5
    assert asker.take()[0]["more"]


# ---------------------------------------------------------------------------- scopes that change


@in_loop
async def test_who_may_no_longer_hear_a_room_is_put_out_before_the_next_message() -> None:
    world = World()
    ann, bob, eve = (world.member(name) for name in ("ann", "bob", "eve"))
    for member in (ann, bob, eve):
        await world.join(member, LIVE)
    world.turn()
    for member in (ann, bob, eve):
        member.take()
    bob.scopes = eve.scopes = set()
    world.say(ann, LIVE, "seen, as nobody knows yet")
    world.turn()
    assert bob.bodies() == [(1, "seen, as nobody knows yet")]
    world.epoch += 1
    eve.scopes = {LIVE}
    world.say(ann, LIVE, "secret")
    world.turn()
    assert codes(bob.take()) == [("not_permitted", LIVE)]
    got = eve.take("message", "presence")
    assert [item.get("body", item.get("member")) for item in got] == [
        "seen, as nobody knows yet",
        "secret",
        "bob",
    ]
    assert got[-1] == {"type": "presence", "room": LIVE, "member": "bob", "online": False}
    assert LIVE not in bob.joined


@in_loop
async def test_presence_and_the_past_are_not_for_them_either() -> None:
    world = World()
    await spoken(world, "ops", 1, 2)
    ann, bob, eve = (world.member(name) for name in ("ann", "bob", "eve"))
    await world.join(ann, "ops")
    await world.join(bob, "ops", 0)
    world.epoch += 1
    ann.scopes = bob.scopes = set()
    assert await world.pull(bob) == 1
    assert codes(bob.take()) == [("not_permitted", "ops")]
    ann.take()
    assert (await world.join(eve, "ops"))[0]["members"] == 1
    assert ann.take() == []


@in_loop
async def test_leaving_a_room_that_one_was_put_out_of() -> None:
    world = World()
    ann = world.member("ann")
    await world.join(ann, LIVE)
    world.epoch += 1
    ann.scopes = set()
    world.rooms.leave(ann, LIVE)
    assert codes(ann.take()) == [("not_permitted", LIVE), ("not_joined", LIVE)]


@in_loop
async def test_the_right_is_looked_at_again_when_the_answer_is_here() -> None:
    world = World()
    ann = world.member("ann")
    world.broker.held = True
    act = world.rooms.join(ann, "ops", None)
    act.send(None)
    ann.scopes = set()
    world.broker.commit()
    with pytest.raises(StopIteration):
        act.send(None)
    assert codes(ann.take()) == [("not_permitted", "ops")]
    assert world.counters.rooms() == 0
