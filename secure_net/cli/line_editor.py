"""Editing of one line on a terminal, as pure text: keys in, finished lines out.

The usual keys: arrows, Home, End, Backspace, Delete, and those of Emacs (Ctrl-A, E, B, F, D, H, K, U, W). Up
and down go through the lines that were entered before.
"""

from __future__ import annotations

import codecs
import enum
import re
import unicodedata
from collections.abc import Callable, Mapping

LONGEST = 16 * 1024  # characters; more than that nobody types
REMEMBERED = 100  # lines entered before

# What terminals send for a key: CSI or SS3, parameters, a final byte; or Alt and a character.
_KEY = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])", re.DOTALL)
_BEGINNING = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?")


class Key(enum.Enum):
    """What is no text, and not for the line itself."""

    END = enum.auto()  # Ctrl-D on an empty line
    REDRAW = enum.auto()  # Ctrl-L


def cells(character: str) -> int:
    """Columns that a printable character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class LineEditor:
    """`text` is the line as it is, `cursor` the index of the character behind the cursor."""

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unread = ""  # the beginning of a key
        self._before: list[str] = []  # lines entered
        self._at = 0  # which of them is shown; one past the last is the new one
        self._new = ""  # the new one, while another is shown

    def feed(self, data: bytes) -> list[str | Key]:
        """Take what the terminal sent; the lines that were entered by it, and keys, in order."""
        text = self._unread + self._decoder.decode(data)
        self._unread = ""
        events: list[str | Key] = []
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                at = self._escape(text, at)
                continue
            event = self._character(text[at])
            if event is not None:
                events.append(event)
            at += 1
        return events

    def window(self, width: int) -> tuple[str, int]:
        """What of the line is shown in `width` columns, and the column of the cursor in it."""
        begin, column = self.cursor, 0
        while begin and column + cells(self.text[begin - 1]) < width:
            begin -= 1
            column += cells(self.text[begin])
        end, used = self.cursor, column
        while end < len(self.text) and used + cells(self.text[end]) < width:
            used += cells(self.text[end])
            end += 1
        return self.text[begin:end], column

    def _escape(self, text: str, at: int) -> int:
        """Press the key that begins at `at`; gives its end. What cannot become one is passed over."""
        key = _KEY.match(text, at)
        if key is not None:
            self._press(key[0])
            return key.end()
        beginning = _BEGINNING.match(text, at)
        end = at + 1 if beginning is None else beginning.end()
        if end == len(text):
            self._unread = text[at:]
        return end

    def _character(self, character: str) -> str | Key | None:
        if character in "\r\n":
            return self._enter()
        if character == "\x04" and not self.text:
            return Key.END
        if character == "\x0c":
            return Key.REDRAW
        if character.isprintable():
            if len(self.text) < LONGEST:
                self._replace(self.cursor, self.cursor, character)
        else:
            self._press(character)
        return None

    def _press(self, key: str) -> None:
        act = _KEYS.get(key)
        if act is not None:
            act(self)

    def _enter(self) -> str:
        line, self.text, self.cursor = self.text, "", 0
        if line and self._before[-1:] != [line]:
            self._before = [*self._before, line][-REMEMBERED:]
        self._at, self._new = len(self._before), ""
        return line

    def _replace(self, begin: int, end: int, text: str = "") -> None:
        self.text = self.text[:begin] + text + self.text[end:]
        self.cursor = begin + len(text)

    def _left(self) -> None:
        self.cursor = max(0, self.cursor - 1)

    def _right(self) -> None:
        self.cursor = min(len(self.text), self.cursor + 1)

    def _home(self) -> None:
        self.cursor = 0

    def _last(self) -> None:
        self.cursor = len(self.text)

    def _backspace(self) -> None:
        self._replace(max(0, self.cursor - 1), self.cursor)

    def _delete(self) -> None:
        self._replace(self.cursor, self.cursor + 1)

    def _kill_right(self) -> None:
        self._replace(self.cursor, len(self.text))

    def _kill_left(self) -> None:
        self._replace(0, self.cursor)

    def _kill_word(self) -> None:
        kept = self.text[: self.cursor].rstrip(" ")
        self._replace(kept.rfind(" ") + 1, self.cursor)

    def _up(self) -> None:
        self._show(self._at - 1)

    def _down(self) -> None:
        self._show(self._at + 1)

    def _show(self, at: int) -> None:
        if not 0 <= at <= len(self._before):
            return
        if self._at == len(self._before):
            self._new = self.text
        self._at = at
        self.text = self._new if at == len(self._before) else self._before[at]
        self.cursor = len(self.text)


_KEYS: Mapping[str, Callable[[LineEditor], None]] = {
    "\x01": LineEditor._home,
    "\x02": LineEditor._left,
    "\x04": LineEditor._delete,
    "\x05": LineEditor._last,
    "\x06": LineEditor._right,
    "\x08": LineEditor._backspace,
    "\x0b": LineEditor._kill_right,
    "\x0e": LineEditor._down,
    "\x10": LineEditor._up,
    "\x15": LineEditor._kill_left,
    "\x17": LineEditor._kill_word,
    "\x7f": LineEditor._backspace,
    **dict.fromkeys(("\x1b[D", "\x1bOD"), LineEditor._left),
    **dict.fromkeys(("\x1b[C", "\x1bOC"), LineEditor._right),
    **dict.fromkeys(("\x1b[A", "\x1bOA"), LineEditor._up),
    **dict.fromkeys(("\x1b[B", "\x1bOB"), LineEditor._down),
    **dict.fromkeys(("\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~"), LineEditor._home),
    **dict.fromkeys(("\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~"), LineEditor._last),
    "\x1b[3~": LineEditor._delete,
    "\x1b\x7f": LineEditor._kill_word,
}
