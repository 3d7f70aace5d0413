"""Chat line by line. The command as a whole: `test_chat.py`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secure_net.cli.chat_lines import LONGEST_LINE, Conversation, Wish, body_text, lines_of, message_line
from secure_net.errors import HistoryGapError, LocalProtocolError
from secure_net.messaging.client_messages import Joined, Message
from tests.support.loops import in_loop


def message(body: object, sender: str = "ann") -> Message:
    return Message("ops", 7, sender, 1_800_000_000.25, body)


def test_bodies() -> None:
    assert body_text("text") == "text"
    assert body_text({"a": [1, None, "gr\u00fc\u00df"]}) == '{"a":[1,null,"gr\u00fc\u00df"]}'


def test_a_message_is_one_line() -> None:
    assert message_line(message("a\nb\x1b[31m[bold]"), as_json=False) == (
        "2027-01-15T08:00:00Z ann: a\\x0ab\\x1b[31m[bold]"
    )
    assert message_line(message("gr\u00fc\u00df\n"), as_json=True) == (
        '{"room":"ops","seq":7,"from":"ann","at":1800000000.25,"body":"gr\\u00fc\\u00df\\n"}'
    )


async def all_lines(data: bytes, tmp_path: Path) -> list[str]:
    (tmp_path / "input").write_bytes(data)
    file = os.open(tmp_path / "input", os.O_RDONLY)
    try:
        return [line async for line in lines_of(file)]
    finally:
        await asyncio.to_thread(wait_for_readers)  # or one would read from what has this number next
        os.close(file)


def wait_for_readers() -> None:
    for thread in threading.enumerate():
        if thread.name == "stdin":
            thread.join(10)


@in_loop
async def test_lines_of_a_file(tmp_path: Path) -> None:
    assert await all_lines(b"", tmp_path) == []
    assert await all_lines("one\n\ngr\u00fc\u00df\r\nlast".encode(), tmp_path) == [
        "one",
        "",
        "gr\u00fc\u00df",
        "last",
    ]
    many = [str(number) for number in range(100_000)]
    assert await all_lines("\n".join(many).encode(), tmp_path) == many


@pytest.mark.parametrize("data", [b"\xff\n", b"x" * (LONGEST_LINE + 2)])
def test_what_cannot_be_said(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        asyncio.run(all_lines(data, tmp_path))


@in_loop
async def test_lines_of_a_pipe_come_as_they_are_written() -> None:
    reading, writing = os.pipe()
    lines = lines_of(reading)
    os.write(writing, b"one\ntw")
    assert await anext(lines) == "one"
    os.write(writing, b"o\n")
    assert await anext(lines) == "two"
    os.close(writing)
    assert await anext(lines, "end") == "end"
    await asyncio.to_thread(wait_for_readers)
    os.close(reading)


@in_loop
async def test_what_cannot_be_read(tmp_path: Path) -> None:
    file = os.open(tmp_path, os.O_RDONLY)  # a folder
    with pytest.raises(IsADirectoryError):
        await anext(lines_of(file))
    await asyncio.to_thread(wait_for_readers)
    os.close(file)


def test_whoever_stops_reading_leaves_no_error_behind() -> None:
    reading, writing = os.pipe()

    async def begin() -> None:
        lines = lines_of(reading)
        os.write(writing, b"one\n")
        assert await anext(lines) == "one"

    asyncio.run(begin())
    os.write(writing, b"two\n")  # the thread finds that the loop has ended, and says nothing
    wait_for_readers()
    os.close(writing)
    os.close(reading)


class FakeClient:
    """A room that stands at `seq` and sends `items`, the acknowledgement of a `say` being `answer`."""

    def __init__(self, seq: int, items: list[Message | HistoryGapError], answer: int = 0) -> None:
        self.seq, self.items, self.answer = seq, items, answer
        self.said: list[Any] = []

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def join(self, room: str, after: int | None) -> Joined:
        return Joined(room, self.seq, 1, 1)

    async def say_soon(self, room: str, body: Any) -> asyncio.Future[int]:
        self.said.append(body)
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(self.answer)
        return answer

    async def receive(self, room: str) -> Message:
        if not self.items:
            await asyncio.get_running_loop().create_future()
        item = self.items.pop(0)
        if isinstance(item, HistoryGapError):
            raise item
        return item


async def these(*lines: str) -> AsyncIterator[str]:
    for line in lines:
        yield line


async def converse(client: FakeClient, after: int | None, *lines: str) -> tuple[list[int], list[str]]:
    """The numbers that were shown, and the warnings, once it has ended by itself."""
    shown: list[int] = []
    warned: list[str] = []
    wish = Wish("ops", after, 0, follow=False, listen=True)
    conversation = Conversation(client, wish, lambda one: shown.append(one.seq), warned.append)  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        await conversation.run(these(*lines))
    return shown, warned


@in_loop
async def test_it_ends_where_nothing_came_behind_the_place_that_was_asked_for() -> None:
    assert await converse(FakeClient(7, []), 7) == ([], [])
    assert await converse(FakeClient(7, [message("x")]), 6) == ([7], [])
    assert await converse(FakeClient(7, []), None) == ([], [])


@in_loop
async def test_a_live_room_that_began_anew_numbers_anew() -> None:
    """What is said there is shown before the end, though higher numbers were shown before."""
    gap = HistoryGapError("ops", 7, 7, 6)
    client = FakeClient(6, [gap, message("mine")], answer=7)
    shown, warned = await converse(client, None, "mine")
    assert (shown, len(warned), client.said) == ([7], 1, ["mine"])
    client = FakeClient(50, [HistoryGapError("ops", 50, 1, 0), Message("ops", 1, "ann", 0.0, "x")], answer=1)
    shown, _ = await converse(client, None, "mine")
    assert shown == [1]
