"""Chat for people: who is there, what was said, and what is said while one types.

The line being typed stands at the bottom. Whatever happens meanwhile is written above it: the line is wiped,
the news is written, the line is drawn again. Every name and text is escaped before it gets its colour.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import termios
import tty
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import click

from secure_net.cli.chat_lines import Wish, body_text
from secure_net.cli.line_editor import Key, LineEditor
from secure_net.clock import SystemWall
from secure_net.errors import HistoryGapError, SecureNetError
from secure_net.text import escape

if TYPE_CHECKING:
    from secure_net.messaging.client import ChatClient
    from secure_net.messaging.client_inbox import Item
    from secure_net.messaging.client_messages import Joined, Message

SAY_SECONDS = 24 * 3600.0  # a line waits for the connection to come back; whoever gives up presses Ctrl-C
USUAL_COLUMNS = 80  # of a terminal that does not say
NAMED_COUNT = 20  # members that are listed by name when one enters

_COLOURS = ("cyan", "green", "yellow", "blue", "magenta", "bright_cyan", "bright_green", "bright_magenta")
_HELP = "/who: who is here   /quit, Ctrl-D: leave   //text: say /text"


class Screen:
    """A terminal whose last line is being typed in."""

    def __init__(self, stream: TextIO, prompt: str, columns: Callable[[], int], *, coloured: bool) -> None:
        self.editor = LineEditor()
        self._stream, self._prompt, self._columns = stream, prompt, columns
        self._coloured = coloured

    def styled(self, text: str, **style: Any) -> str:
        """`text`, escaped, and coloured where colours are wanted."""
        text = escape(text, markup=False)
        return click.style(text, **style) if self._coloured else text

    def write(self, *lines: str) -> None:
        """Lines above the one that is typed. They are escaped by now."""
        self._stream.write("\r\x1b[K" + "".join(f"{line}\n" for line in lines) + self._line())
        self._stream.flush()

    def notice(self, text: str, colour: str | None = None) -> None:
        """A line of our own."""
        self.write(self.styled(f"- {text}", fg=colour, dim=colour is None))

    def draw(self) -> None:
        """The line that is typed, anew."""
        self._stream.write("\r\x1b[K" + self._line())
        self._stream.flush()

    def clear(self) -> None:
        """An empty screen but for the line that is typed."""
        self._stream.write("\x1b[H\x1b[2J")
        self.draw()

    def wipe(self) -> None:
        """Nothing in the last line."""
        self._stream.write("\r\x1b[K")
        self._stream.flush()

    def _line(self) -> str:
        columns = self._columns()
        prompt = self._prompt if columns >= 2 * len(self._prompt) else ""
        text, column = self.editor.window(columns - len(prompt))
        at = len(prompt) + column
        return f"{self.styled(prompt, bold=True)}{text}\r" + (f"\x1b[{at}C" if at else "")


@contextlib.contextmanager
def key_by_key(file: int, redraw: Callable[[], None]) -> Iterator[None]:
    """The terminal gives every key at once and shows none by itself; Ctrl-C and Ctrl-Z act as ever.

    `redraw` is called when the window's size has changed, and when we are back from the background.
    """
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(file)

    def back() -> None:
        tty.setcbreak(file, termios.TCSADRAIN)
        redraw()

    tty.setcbreak(file, termios.TCSADRAIN)
    loop.add_signal_handler(signal.SIGWINCH, redraw)
    loop.add_signal_handler(signal.SIGCONT, back)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_signal_handler(signal.SIGCONT)
        termios.tcsetattr(file, termios.TCSADRAIN, before)


class View:
    """One run of the command on a terminal. `file` is the keyboard's descriptor."""

    def __init__(self, client: ChatClient, wish: Wish, stream: TextIO, file: int, *, coloured: bool) -> None:
        self._client, self._wish, self._file = client, wish, file
        self._screen = Screen(
            stream,
            f"{wish.room}> ",
            lambda: os.get_terminal_size(file).columns or USUAL_COLUMNS,
            coloured=coloured,
        )
        self._entered: asyncio.Queue[str | None] = asyncio.Queue()  # lines; None: leave

    async def run(self) -> None:
        """Until Ctrl-D or /quit, and until what was said before is acknowledged."""
        async with self._client:
            await self._enter()
            with key_by_key(self._file, self._screen.draw), self._keyboard():
                self._screen.draw()
                try:
                    async with asyncio.TaskGroup() as group:
                        listening = group.create_task(self._listen())
                        await self._speak()
                        listening.cancel()
                except BaseExceptionGroup as failures:
                    raise failures.exceptions[0] from None
                finally:
                    self._screen.wipe()

    # -- what is shown --------------------------------------------------------------------------------

    async def _enter(self) -> None:
        wish, client = self._wish, self._client
        joined = await client.join(wish.room, wish.after)
        members = await client.who(wish.room)
        self._screen.notice(self._greeting(joined, members))
        if wish.history and wish.after is None and joined.incarnation is None:
            for message in await client.history(wish.room, before=joined.seq + 1, limit=wish.history):
                self._show(message)

    def _greeting(self, joined: Joined, members: list[str]) -> str:
        named = ", ".join(members[:NAMED_COUNT]) + (", ..." if len(members) > NAMED_COUNT else "")
        kept = "; nothing is kept in this room" if joined.incarnation else ""
        return f"{self._client.principal} in {joined.room}; here: {named}{kept}; /help"

    async def _listen(self) -> None:
        while True:
            try:
                async for item in self._client.events():
                    self._show(item)
            except HistoryGapError as gap:
                self._screen.notice(f"messages are missing here: {gap.reason}", "red")
            else:
                return

    def _show(self, item: Item) -> None:
        from secure_net.messaging.client_inbox import Interrupted, Resumed
        from secure_net.messaging.client_messages import Presence

        if isinstance(item, Presence):
            self._screen.notice(f"{item.member} {'is here' if item.online else 'has left'}")
        elif isinstance(item, Interrupted):
            self._screen.notice(f"the connection is lost ({item.error}); trying again", "yellow")
        elif isinstance(item, Resumed):
            self._screen.notice("connected again")
        else:
            self._screen.write(*self._message(item))

    def _message(self, message: Message) -> Iterator[str]:
        """Time, name and text; further lines of the text stand below the first."""
        screen = self._screen
        head, name = _clock_time(message.at), message.sender
        colour = _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
        first, *others = body_text(message.body).split("\n")
        yield f"{screen.styled(head, dim=True)} {screen.styled(name, fg=colour)}: {screen.styled(first)}"
        for line in others:
            yield " " * (len(head) + len(name) + 3) + screen.styled(line)

    # -- what is typed --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _keyboard(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._file, self._typed)
        try:
            yield
        finally:
            loop.remove_reader(self._file)

    def _typed(self) -> None:
        try:
            data = os.read(self._file, 4096)
        except OSError:  # the terminal is gone
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._file)
            self._entered.put_nowait(None)
            return
        screen = self._screen
        for event in screen.editor.feed(data):
            if event is Key.REDRAW:
                screen.clear()
            else:
                self._entered.put_nowait(None if event is Key.END else str(event))
        screen.draw()

    async def _speak(self) -> None:
        """Do what is entered, line by line; returns when everything is answered."""
        answers: set[asyncio.Task[None]] = set()
        while (line := await self._entered.get()) is not None:
            if line.startswith("/") and not line.startswith("//"):
                if line.strip() == "/quit":
                    break
                await _COMMANDS.get(line.strip(), View._help)(self)
            elif line:
                answer = asyncio.create_task(self._say(line.removeprefix("/") if line[0] == "/" else line))
                answers.add(answer)
                answer.add_done_callback(answers.discard)
                await asyncio.sleep(0)  # it is said before what is entered next
        await asyncio.gather(*answers)

    async def _say(self, text: str) -> None:
        try:
            await self._client.say(self._wish.room, text, deadline_seconds=SAY_SECONDS)
        except SecureNetError as error:
            self._screen.notice(f"not said: {text[:40]}: {error}", "red")

    async def _who(self) -> None:
        try:
            self._screen.notice("here: " + ", ".join(await self._client.who(self._wish.room)))
        except SecureNetError as error:
            self._screen.notice(str(error), "red")

    async def _help(self) -> None:
        self._screen.notice(_HELP)


_COMMANDS: Mapping[str, Callable[[View], Any]] = {"/who": View._who, "/help": View._help}


def _clock_time(at: float) -> str:
    """A time of today in hours and minutes, any other with its date; where the terminal is."""
    then, now = (
        datetime.datetime.fromtimestamp(seconds).astimezone() for seconds in (at, SystemWall().wall())
    )
    return then.strftime("%H:%M" if then.date() == now.date() else "%Y-%m-%d %H:%M")
