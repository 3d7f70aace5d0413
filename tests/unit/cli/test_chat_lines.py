"""Chat line by line. The command as a whole: `test_chat.py`."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from secure_net.cli.chat_lines import LONGEST_LINE, body_text, lines_of, message_line
from secure_net.errors import LocalProtocolError
from secure_net.messaging.client_messages import Message
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
