"""The live view: the status page's words, on a terminal."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import msgspec
import pytest
from rich.console import Console

from secure_net.cli import status_view
from secure_net.control.status import Activity
from tests.unit.control.test_status import STATUS
from tests.unit.control.test_view import status

SEQUENCE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


def terminal(columns: int = 120) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=columns, height=60, color_system="standard")


def drawn(columns: int = 120, **changes: Any) -> str:
    console = terminal(columns)
    console.print(status_view.shown(status(**changes), columns))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(text: str) -> str:
    return SEQUENCE.sub("", text)


def test_what_is_shown() -> None:
    lines = ({"time": "2026-01-02T03:04:05Z", "what": f"revoke{number}"} for number in range(20))
    series = {"calls": (0.0, 8.0), "connections": (1.0, 1.0)}
    found = plain(drawn(audit=tuple(lines), activity=Activity(series=series), principals={"ana": 7}))
    for words in ("secure-net 0.1.0", "Serving", "127.0.0.1:8443", "server.pem", "ana", "revoke9"):
        assert words in found
    assert re.search(r"Calls per second +▁+▇ +4 +mean 4, peak 8 in 1 min", found), found
    assert "revoke10" not in found  # a terminal is not high
    assert "Nobody was refused" in found


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_keeps_to_its_columns(columns: int) -> None:
    found = plain(drawn(columns, activity=Activity(series={"calls": (1.0,) * 600})))
    assert max(map(len, found.splitlines())) <= columns


def test_strangers_names_act_neither_on_the_terminal_nor_as_markup() -> None:
    name = "a\x1b[2J\u202e[bold red]x[/]"
    found = drawn(principals={name: 1}, audit=({"what": name, "details": {name: name}},))
    assert "\x1b[2J" not in found
    assert "\u202e" not in found
    assert "[bold" in plain(found)


def test_it_is_shown_again_until_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    console, asked = terminal(), []

    def ask() -> dict[str, Any]:
        asked.append(1)
        return dict(msgspec.to_builtins(STATUS))

    with pytest.raises(KeyboardInterrupt):
        status_view.watch(ask, console, 2.0)
    assert (len(asked), slept) == (3, [2.0] * 3)
    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue()
    assert written.count("Serving") >= 6  # the state, and the service's health, three times
    assert written.index("\x1b[?1049h") < written.index("\x1b[?1049l")  # its screen is given back
