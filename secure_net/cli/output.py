"""What a command says: text for people, coloured on a terminal only, or JSON for programs.

Every value that is printed may come from a stranger (a name, a subject, a file), so every line is escaped
here; a command cannot print raw text to a terminal by accident.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TextIO, TypeVar

import click

from secure_net.text import escape

Colour = Literal["red", "green", "yellow", "cyan"]
F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Give a command that reports its ``--json``; the command gets it as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Report as JSON.")(command)


class Output:
    """stdout. `json` is for programs; `line` and `table` are for people, and silent with ``--json``."""

    def __init__(self, *, as_json: bool = False, stream: TextIO | None = None) -> None:
        self.as_json = as_json
        self._stream = stream or sys.stdout
        self._coloured = self._stream.isatty() and "NO_COLOR" not in os.environ

    def json(self, value: Any) -> None:
        """The report as one JSON document. Does nothing without ``--json``."""
        if self.as_json:
            # ASCII only: neither control characters nor look-alikes can act on a terminal.
            self._stream.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")
            self._stream.flush()

    def line(self, text: str = "", colour: Colour | None = None) -> None:
        """A line for people. Does nothing with ``--json``."""
        if not self.as_json:
            self._stream.write(self._styled(escape(text, markup=False), colour) + "\n")
            self._stream.flush()

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Columns as wide as their widest cell. Does nothing with ``--json``."""
        cells = [[escape(str(cell), markup=False) for cell in row] for row in rows]
        if self.as_json:
            return
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        self._stream.write(self._styled(_row(headings, widths), "cyan") + "\n")
        for row in cells:
            self._stream.write(_row(row, widths) + "\n")
        self._stream.flush()

    def _styled(self, text: str, colour: Colour | None) -> str:
        return click.style(text, fg=colour) if colour and self._coloured else text


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
