from __future__ import annotations

import pytest

from secure_net.limits import FrameLimits
from secure_net.messaging.protocol import frame_framing
from secure_net.messaging.room import Member, Replay, Room, Voice
from secure_net.metrics import ServiceCounters
from tests.support.chat import World


def test_a_live_room_has_an_incarnation_of_its_own() -> None:
    live, other, durable = (Room("a", 1, is_live=flag) for flag in (True, True, False))
    assert live.incarnation != other.incarnation
    assert len(live.incarnation or "") == 32
    assert (live.is_known, durable.incarnation, durable.is_known) == (True, None, False)


def test_a_room_is_idle_when_nobody_and_nothing_is_in_it() -> None:
    member = World().member("ann")
    room = Room("a", 1, is_live=True)
    assert room.is_idle
    room.listen(member)
    assert not room.is_idle
    assert room.audience == {member.machine.framing: {member: member.machine.outgoing}}
    room.stop(member)
    room.stop(member)
    assert room.is_idle
    for attribute, value in (("pins", 1), ("pending", [b"{}"]), ("replays", {member: Replay(0)})):
        room = Room("a", 1, is_live=True)
        setattr(room, attribute, value)
        assert not room.is_idle


def test_everybody_is_the_audience_of_each_framing_and_those_on_their_way() -> None:
    world = World()
    other = frame_framing(FrameLimits(), ServiceCounters("other"))
    ann, bob, eve = world.member("ann"), world.member("bob", other), world.member("eve")
    room = Room("a", 1, is_live=False)
    room.listen(ann)
    room.listen(bob)
    room.replays[eve] = Replay(0)
    eve.machine.pulling.append("a")
    assert set(room.everybody()) == {ann, bob, eve}
    room.stop(bob)
    assert list(room.audience) == [world.framing]
    room.stop(eve)
    assert not eve.machine.pulling
    room.replays[eve] = Replay(0)  # its page is under way
    room.stop(eve)
    assert list(room.everybody()) == [ann]


def test_the_names_are_sorted_until_they_change() -> None:
    room = Room("a", 1, is_live=True)
    room.principals = {"eve": 1, "ann": 2}
    assert room.names() == ["ann", "eve"]
    assert room.names() is room.names()


def test_a_voice_holds_the_message_but_for_what_changes() -> None:
    voice = Voice(Room("a", 1, is_live=True), "ann")
    assert voice.template % (1, b"2.000", b'"x"') == (
        b'{"type":"message","room":"a","seq":1,"from":"ann","at":2.000,"body":"x"}'
    )


def test_a_session_says_how_a_member_is_reached() -> None:
    member = Member(World().member("ann").machine)
    with pytest.raises(NotImplementedError):
        member.may_subscribe("a")
    with pytest.raises(NotImplementedError):
        member.flush()
