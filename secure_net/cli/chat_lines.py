"""Chat for scripts: lines of stdin into a room, its messages onto stdout, one a line."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from secure_net.errors import HistoryGapError, LocalProtocolError
from secure_net.text import escape

if TYPE_CHECKING:
    from secure_net.messaging.client import ChatClient
    from secure_net.messaging.client_messages import Message

LONGEST_LINE = 48 * 1024  # bytes: the server takes no longer ones
PIECES_AHEAD = 4  # read from stdin and not looked at yet


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for. `follow`: go on when stdin has ended; `listen`: be in the room."""

    room: str
    after: int | None
    history: int
    follow: bool
    listen: bool


def body_text(body: Any) -> str:
    """A body as people read it: text as it is, anything else as compact JSON. Not escaped yet."""
    if isinstance(body, str):
        return body
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def message_line(message: Message, *, as_json: bool) -> str:
    """A message as one line, safe on a terminal."""
    if as_json:
        record = {
            "room": message.room,
            "seq": message.seq,
            "from": message.sender,
            "at": message.at,
            "body": message.body,
        }
        return json.dumps(record, ensure_ascii=True, separators=(",", ":"))
    at = datetime.datetime.fromtimestamp(message.at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{at} {message.sender}: {escape(body_text(message.body), markup=False)}"


async def lines_of(file: int) -> AsyncIterator[str]:
    """The lines of a file descriptor, whatever it is: files, pipes and terminals cannot all be polled.

    Raises `LocalProtocolError` for a line that is not UTF-8 or too long.
    """
    pieces: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    places = threading.Semaphore(PIECES_AHEAD)
    reader = threading.Thread(
        target=_read, args=(file, asyncio.get_running_loop(), pieces, places), name="stdin", daemon=True
    )
    reader.start()
    rest = b""
    while True:
        piece = await pieces.get()
        places.release()
        if isinstance(piece, OSError):
            raise piece
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield _text(line)
        if len(rest) > LONGEST_LINE:
            raise LocalProtocolError(f"a line of more than {LONGEST_LINE} bytes")
        if not piece:
            break
    if rest:
        yield _text(rest)


def _read(
    file: int,
    loop: asyncio.AbstractEventLoop,
    pieces: asyncio.Queue[bytes | OSError],
    places: threading.Semaphore,
) -> None:
    """In a thread of its own. Not through `sys.stdin`, whose lock would be held when the interpreter ends."""
    piece: bytes | OSError = b"."
    while piece and not isinstance(piece, OSError):
        places.acquire()
        try:
            piece = os.read(file, LONGEST_LINE)
        except OSError as error:
            piece = error
        try:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)
        except RuntimeError:  # the loop has ended: nobody reads any more
            return


def _text(line: bytes) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise LocalProtocolError("a line that is not UTF-8") from error


class Conversation:
    """One run of the command. `show` gets each message, `warn` a line for people."""

    def __init__(
        self,
        client: ChatClient,
        wish: Wish,
        show: Callable[[Message], None],
        warn: Callable[[str], None],
    ) -> None:
        self._client, self._wish, self._show, self._warn = client, wish, show, warn
        self._shown = 0  # the newest message
        self._due = 0  # messages up to this one are shown before the end
        self._more = asyncio.Event()  # one of the two has changed

    async def run(self, lines: AsyncIterator[str]) -> None:
        """Until stdin has ended and everything is acknowledged; to `follow`, until it is interrupted."""
        async with self._client:
            if self._wish.listen:
                await self._enter()
            said: asyncio.Queue[asyncio.Future[int] | None] = asyncio.Queue()
            try:
                async with asyncio.TaskGroup() as group:
                    listening = group.create_task(self._listen()) if self._wish.listen else None
                    acknowledged = group.create_task(self._acknowledged(said))
                    async for line in lines:
                        said.put_nowait(await self._client.say_soon(self._wish.room, line))
                    said.put_nowait(None)
                    await acknowledged
                    if listening is not None:
                        await self._until_shown()
                        listening.cancel()
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None

    async def _enter(self) -> None:
        wish = self._wish
        joined = await self._client.join(wish.room, wish.after)
        self._shown = joined.seq
        if wish.after is not None:
            self._shown, self._due = wish.after, joined.seq
        if wish.history:
            for message in await self._client.history(wish.room, before=joined.seq + 1, limit=wish.history):
                self._show(message)

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._client.receive(self._wish.room)
            except HistoryGapError as gap:
                self._warn(str(gap))
                self._shown, self._due = gap.first - 1, min(self._due, gap.seq)
            else:
                self._show(message)
                self._shown = message.seq
            self._more.set()

    async def _acknowledged(self, said: asyncio.Queue[asyncio.Future[int] | None]) -> None:
        while (answer := await said.get()) is not None:
            self._due = max(self._due, await answer)

    async def _until_shown(self) -> None:
        while self._wish.follow or self._shown < self._due:
            self._more.clear()
            await self._more.wait()
