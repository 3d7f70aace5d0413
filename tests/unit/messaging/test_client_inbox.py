"""What has arrived: in order, bounded, and nothing taken by whoever gives up."""

from __future__ import annotations

import asyncio

import pytest

from secure_net.errors import HistoryGapError, LocalProtocolError, NotPermittedError, TransportError
from secure_net.messaging.client_inbox import EVENT_BYTES, NEWS_COUNT, Inbox, Interrupted, Resumed
from secure_net.messaging.client_messages import Joined, Message
from tests.support.loops import in_loop


def message(seq: int, room: str = "ops") -> Message:
    return Message(room, seq, "ann", 1.0, "x")


def inbox_in(*rooms: str, most: int = 100_000) -> Inbox:
    inbox = Inbox(most)
    for room in rooms:
        inbox.add(room, None)
        inbox.joined(Joined(room, 0, 1, 1))
    return inbox


@in_loop
async def test_one_room_and_all_of_them() -> None:
    inbox = inbox_in("ops", "dev")
    inbox.received(message(1), 10)
    inbox.received(message(1, "dev"), 10)
    inbox.received(message(2), 10)
    assert await inbox.take(inbox.room("dev")) == message(1, "dev")
    assert [await inbox.take(None) for _ in range(2)] == [message(1), message(2)]
    assert inbox.room("ops").last == 2


@in_loop
async def test_whoever_gives_up_has_taken_nothing() -> None:
    inbox = inbox_in("ops")
    taking = asyncio.create_task(inbox.take(None))
    await asyncio.sleep(0)
    inbox.received(message(1), 10)
    taking.cancel()
    await asyncio.wait([taking])
    assert await inbox.take(None) == message(1)


@in_loop
async def test_everybody_who_waits_is_told() -> None:
    inbox = inbox_in("ops", "dev")
    first = asyncio.create_task(inbox.take(inbox.room("ops")))
    second = asyncio.create_task(inbox.take(inbox.room("dev")))
    await asyncio.sleep(0)
    inbox.received(message(1, "dev"), 10)
    assert await second == message(1, "dev")
    assert not first.done()
    inbox.received(message(1), 10)
    assert await first == message(1)


@in_loop
async def test_beyond_its_bound_it_asks_for_a_pause() -> None:
    inbox = inbox_in("ops", most=10 * EVENT_BYTES)
    for seq in range(1, 11):
        inbox.received(message(seq), 0)
    assert inbox.pause() is None
    inbox.received(message(11), 0)
    pause = inbox.pause()
    assert pause is not None
    pausing = asyncio.create_task(pause)
    for left in range(10, 4, -1):
        await asyncio.sleep(0)
        assert not pausing.done(), left
        await inbox.take(None)
    await pausing
    assert inbox.pause() is None


def test_a_room_is_joined_once_and_only_then_known() -> None:
    inbox = inbox_in("ops")
    with pytest.raises(LocalProtocolError):
        inbox.add("ops", None)
    with pytest.raises(LocalProtocolError):
        inbox.room("dev")


@in_loop
async def test_of_a_room_that_was_left_nothing_more_comes() -> None:
    inbox = inbox_in("ops")
    room = inbox.room("ops")
    inbox.received(message(1), 10)
    inbox.remove(room)
    inbox.received(message(2), 10)
    inbox.joined(Joined("ops", 5, 1, 1))
    inbox.put_out("ops", NotPermittedError())
    assert await inbox.take(room) is None
    assert not inbox.is_live("ops")
    # Another membership of the same room is another matter.
    again = inbox.add("ops", 5)
    inbox.remove(room)
    assert inbox.room("ops") is again


@in_loop
async def test_put_out_comes_behind_what_has_arrived() -> None:
    inbox = inbox_in("ops")
    room = inbox.room("ops")
    inbox.received(message(1), 10)
    inbox.put_out("ops", NotPermittedError())
    assert await inbox.take(room) == message(1)
    with pytest.raises(NotPermittedError):
        await inbox.take(room)
    assert await inbox.take(room) is None


@in_loop
async def test_whoever_reads_all_rooms_is_told_that_one_is_over() -> None:
    inbox = inbox_in("ops")
    inbox.put_out("ops", NotPermittedError())
    with pytest.raises(NotPermittedError):
        await inbox.take(None)
    # Once.
    inbox.add("dev", None)
    inbox.joined(Joined("dev", 0, 1, 1))
    inbox.received(message(1, "dev"), 1)
    assert await inbox.take(None) == message(1, "dev")


@in_loop
async def test_a_gap_stands_in_its_place() -> None:
    inbox = inbox_in("ops")
    room = inbox.room("ops")
    inbox.received(message(1), 10)
    inbox.lost(room, HistoryGapError("ops", 1, 5, 9))
    inbox.received(message(5), 10)
    assert await inbox.take(room) == message(1)
    with pytest.raises(HistoryGapError):
        await inbox.take(room)
    assert await inbox.take(room) == message(5)


@in_loop
async def test_news_are_kept_in_part() -> None:
    inbox = inbox_in("ops")
    for number in range(NEWS_COUNT):
        inbox.tell(Interrupted(TransportError(str(number))))
    inbox.tell(Resumed())
    first = await inbox.take(None)
    assert isinstance(first, Interrupted)
    assert str(first.error) == "1"


@in_loop
async def test_the_end() -> None:
    inbox = inbox_in("ops")
    inbox.received(message(1), 10)
    inbox.tell(Resumed())
    inbox.end(TransportError("over"))
    inbox.received(message(2), 10)
    assert await inbox.take(None) == message(1)
    assert await inbox.take(None) == Resumed()
    for room in (None, inbox.room("ops")):
        with pytest.raises(TransportError, match="over"):
            await inbox.take(room)
    closed = inbox_in("ops")
    closed.received(message(1), 10)
    closed.tell(Resumed())
    closed.end(None)
    assert await closed.take(None) is None
    assert await closed.take(closed.room("ops")) is None
