"""A terminal for tests: a pair of a pseudo-terminal, and the screen that a person would see.

It understands what our views write: text, CR, LF, cursor right, erase line, home and erase screen, colours.
Anything else that would act on a terminal fails the test.
"""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import re
import struct
import termios
from collections.abc import Callable

SECONDS = 10.0
_SEQUENCE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")
_BEGINNING = re.compile(r"\x1b(\[[0-9;]*)?\Z")


class Rendered:
    """The screen: its `lines`, the `column` of the cursor in the last, and every style that was used."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.column = 0
        self.styles: set[str] = set()
        self._rest = ""

    def feed(self, text: str) -> None:
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                if _BEGINNING.match(text, at):
                    self._rest = text[at:]
                    return
                found = _SEQUENCE.match(text, at)
                assert found is not None, f"an unknown sequence: {text[at : at + 10]!r}"
                self._act(found[2], found[1])
                at = found.end()
                continue
            self._character(text[at])
            at += 1

    def _act(self, what: str, parameters: str) -> None:
        if what == "m":
            self.styles.add(parameters)
        elif what == "K":
            self.lines[-1] = self.lines[-1][: self.column]
        elif what == "C":
            self.column = min(self.columns - 1, self.column + int(parameters))
        elif what == "J":
            assert parameters == "2"
            self.lines = [""]
        else:
            assert what == "H", what
            self.column = 0

    def _character(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.lines.append("")
        else:
            assert character.isprintable(), f"it acts on the terminal: {character!r}"
            if self.column == self.columns:
                self.lines.append("")
                self.column = 0
            line = self.lines[-1].ljust(self.column)
            self.lines[-1] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1


class Terminal:
    """`slave` is what the program under test has; the test types and looks."""

    def __init__(self, columns: int = 80) -> None:
        self.master, self.slave = os.openpty()
        self.resize(columns)
        self.screen = Rendered(columns)
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def type(self, keys: str | bytes) -> None:
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def look(self) -> None:
        """Take what has been written."""
        os.set_blocking(self.master, False)
        try:
            while data := os.read(self.master, 65536):
                self.screen.feed(self._decoder.decode(data))
        except (BlockingIOError, OSError):
            return

    async def until(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Until the screen's lines are so; gives them."""
        async with asyncio.timeout(SECONDS):
            while True:
                self.look()
                if condition(self.screen.lines):
                    return self.screen.lines
                await asyncio.sleep(0.001)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)
