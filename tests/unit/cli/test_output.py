"""What a command says: escaped, coloured on a terminal only, or JSON."""

from __future__ import annotations

import io
import json

import pytest

from secure_net.cli.output import Output

HOSTILE = "\x1b[31mred\nline"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_text_for_people_is_escaped() -> None:
    stream = io.StringIO()
    output = Output(stream=stream)
    output.line(HOSTILE, "red")
    output.table(("name", "n"), [(HOSTILE, 1), ("x", 22)])
    output.json({"not": "shown"})
    assert stream.getvalue().splitlines() == [
        "\\x1b[31mred\\x0aline",
        "name                 n",
        "\\x1b[31mred\\x0aline  1",
        "x                    22",
    ]


def test_json_for_programs_is_ascii_and_alone() -> None:
    stream = io.StringIO()
    output = Output(as_json=True, stream=stream)
    output.line("not shown")
    output.table(("not",), [("shown",)])
    output.json({"name": HOSTILE + "\u202e"})
    assert json.loads(stream.getvalue()) == {"name": HOSTILE + "\u202e"}
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    Output(stream=terminal).line("x", "green")
    assert terminal.getvalue() == "\x1b[32mx\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    Output(stream=terminal).line("x", "green")
    assert terminal.getvalue() == "x\n"


def test_a_table_without_rows_is_its_headings() -> None:
    stream = io.StringIO()
    Output(stream=stream).table(("one", "two"), [])
    assert stream.getvalue() == "one  two\n"
