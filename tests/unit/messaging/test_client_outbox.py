"""What is said, until it is acknowledged. Over connections and losses: `test_client.py`."""

from __future__ import annotations

import asyncio

import pytest

from secure_net.errors import (
    LocalProtocolError,
    NotPermittedError,
    OutcomeUnknownError,
    TransportError,
)
from secure_net.messaging.client_outbox import Outbox, Said
from tests.support.loops import in_loop

IDS = [f"{number:032x}" for number in range(9)]


class Chat:
    """As much of a machine as is asked: it takes `window` at a time, and nothing longer than ten bytes."""

    def __init__(self, window: int = 2) -> None:
        self.window = window
        self.said: list[str] = []

    def may_say(self, size: int) -> bool:
        return len(self.said) < self.window

    def say(self, room: str, id_: str, body: bytes) -> None:
        if len(body) > 10:
            raise LocalProtocolError("too long")
        self.said.append(id_)


class Session:
    def __init__(self, window: int = 2) -> None:
        self.chat = Chat(window)
        self.takes_requests = True
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


def said(number: int, body: bytes = b"1", room: str = "ops") -> Said:
    return Said(room, IDS[number], body)


def never(_: str) -> bool:
    return False


@in_loop
async def test_said_in_order_as_far_as_the_server_takes_it() -> None:
    outbox, session = Outbox(), Session()
    outbox.online(session)  # type: ignore[arg-type]
    messages = [said(number) for number in range(4)]
    puts = [asyncio.create_task(outbox.put(message)) for message in messages]
    await asyncio.sleep(0)
    assert session.chat.said == IDS[:2]
    assert [message.sent.is_set() for message in messages] == [True, True, False, False]
    session.chat.window = 3
    outbox.settled(IDS[0], 1)
    assert session.chat.said == IDS[:3]
    assert await messages[0].answer == 1
    outbox.settled(IDS[1], NotPermittedError())
    with pytest.raises(NotPermittedError):
        await messages[1].answer
    session.chat.window = 9
    outbox.push()
    await asyncio.gather(*puts)
    assert session.chat.said == IDS[:4]


@in_loop
async def test_what_cannot_be_said_does_not_stand_in_the_way() -> None:
    outbox, session = Outbox(), Session()
    outbox.online(session)  # type: ignore[arg-type]
    long, given_up, sound = said(0, b"1" * 11), said(1), said(2)
    given_up.answer.cancel()
    for message in (long, sound):
        await outbox.put(message)
    putting = asyncio.create_task(outbox.put(given_up))
    await asyncio.sleep(0)
    assert session.chat.said == [IDS[2]]
    with pytest.raises(LocalProtocolError):
        await long.answer
    putting.cancel()


@in_loop
async def test_what_is_not_acknowledged_is_said_again_but_not_in_live_rooms() -> None:
    outbox, session = Outbox(), Session(9)
    outbox.online(session)  # type: ignore[arg-type]
    messages = [said(0), said(1, room="live"), said(2), said(3)]
    for message in messages:
        await outbox.put(message)
    messages[2].answer.cancel()
    outbox.settled(IDS[3], 1)
    outbox.offline(lambda room: room == "live")
    with pytest.raises(OutcomeUnknownError):
        await messages[1].answer
    late = said(4)
    putting = asyncio.create_task(outbox.put(late))
    await asyncio.sleep(0)
    again = Session(9)
    again.takes_requests = False
    outbox.online(again)  # type: ignore[arg-type]
    assert again.chat.said == []
    again.takes_requests = True
    outbox.push()
    await putting
    assert again.chat.said == [IDS[0], IDS[4]]


@in_loop
async def test_an_answer_that_nobody_wants_any_more() -> None:
    outbox, session = Outbox(), Session()
    outbox.online(session)  # type: ignore[arg-type]
    for outcome in (1, NotPermittedError()):
        message = said(0)
        await outbox.put(message)
        message.answer.cancel()
        outbox.settled(IDS[0], outcome)
        assert message.answer.cancelled()


@in_loop
async def test_the_end_says_what_is_known() -> None:
    outbox, session = Outbox(), Session(2)
    outbox.online(session)  # type: ignore[arg-type]
    sent, again, waiting = said(0), said(1), said(2)
    await outbox.put(again)
    outbox.offline(never)
    session.chat.window = 0
    outbox.online(session)  # type: ignore[arg-type]
    putting = asyncio.create_task(outbox.put(waiting))
    await asyncio.sleep(0)
    outbox.end(TransportError("over"))
    await putting
    with pytest.raises(OutcomeUnknownError):
        await again.answer
    with pytest.raises(TransportError, match="over"):
        await waiting.answer
    with pytest.raises(TransportError, match="over"):
        await outbox.put(sent)
