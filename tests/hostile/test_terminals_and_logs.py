"""THREATS, "Terminals and logs".

ANSI and control characters, rich markup, `from 1.2.3.4`, newlines in user, room, method, file, subject:
escaped on every terminal and in every line; the peer's address stands before any name.
"""

from __future__ import annotations

import asyncio
import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from secure_net import log
from secure_net.audit.chain import files_of
from secure_net.audit.trail import DIRECTORY, AuditTrail
from secure_net.cli.main import run
from secure_net.cli.output import Output
from secure_net.errors import Refusal
from secure_net.log import configure, get_logger
from secure_net.text import escape
from tests.support.clock import FakeClock

PEER = "10.1.2.3:4567"
FIELDS = ("principal", "room", "method", "file", "subject")
TRIES = {
    "ansi": "\x1b[2J\x1b[31mroot\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "c1": "\x9b31m\x90\x9c",
    "bell_backspace_delete": "\a\b\b\b\x7f",
    "newline": 'bob\n{"event":"login_accepted","peer":"10.0.0.1:1"}',
    "carriage_return": "bob\rroot",
    "unicode_newlines": "bob\u2028root\u2029\x85\x0b\x0c",
    "bidi": "bob\u202eexe.fdp\u2066\u2069\u200f",
    "invisible": "b\u200bo\u2060b\ufeff\U000e0041",
    "markup": "[bold red]root[/bold red][link=http://x]y[/link]",
    "escaped_markup": "\\[bold]root",
    "address": "bob from 1.2.3.4",
    "field": 'bob" peer="1.2.3.4:5',
    "key_value": "bob peer=1.2.3.4:5",
    "nul": "bob\x00root",
    "surrogate": "bob\ud800",
    "long": "A" * 100_000,
}

every_try = pytest.mark.parametrize("text", TRIES.values(), ids=TRIES.keys())
every_field = pytest.mark.parametrize("field", FIELDS)


def logged(form: Any, **fields: object) -> str:
    stream = io.StringIO()
    writer = configure(stream, form=form, wall=lambda: 0.0)
    get_logger("rpc").warning("login_refused", **fields)
    writer.close()
    log._Current.writer = None
    return stream.getvalue()


def assert_harmless(line: str) -> None:
    """One line, in which nothing acts on a terminal or on rich."""
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line) < 10_000


@every_field
@every_try
def test_in_a_json_line(field: str, text: str) -> None:
    line = logged("json", **{field: text, "peer": PEER})
    assert_harmless(line)
    assert line.isascii()
    fields = json.loads(line)
    assert fields["peer"] == PEER
    assert list(fields).index("peer") < list(fields).index(field)
    # What a reader prints after decoding is harmless as well.
    assert fields[field].isprintable()
    assert "[bold" not in fields[field].replace("\\[bold", "")


@every_field
@every_try
def test_in_a_line_on_a_terminal(field: str, text: str) -> None:
    line = logged("text", **{field: text, "peer": PEER})
    assert_harmless(line)
    assert line.index(PEER) < line.index(f"{field}=")
    # Read as it is written, the line has one peer: what a name says is inside its quotes.
    words = shlex.split(line.replace("\\", "\\\\").replace('\\\\"', '\\"'))
    assert [word for word in words if word.startswith("peer=")] == [f"peer={PEER}"]
    assert len([word for word in words if word.startswith(f"{field}=")]) == 1


@every_try
def test_in_an_exception_s_text(text: str) -> None:
    stream = io.StringIO()
    writer = configure(stream, form="json", wall=lambda: 0.0)
    try:
        int(text)
    except ValueError:
        get_logger("rpc").exception("call_failed", peer=PEER)
    writer.close()
    log._Current.writer = None
    (line,) = stream.getvalue().splitlines()
    assert_harmless(line + "\n")


@every_try
def test_in_the_audit_trail_and_its_tail(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trail = AuditTrail.open(state_under(tmp_path), FakeClock())
    asyncio.run(trail.require("rpc.call", who=text, service="rpc", where=PEER, method=text))
    trail.refused("rpc", Refusal.CREDENTIAL, text)
    trail.close()
    raw = [
        line for path in files_of(tmp_path / "state" / DIRECTORY) for line in path.read_bytes().splitlines()
    ]
    assert len(raw) == 3
    for line in raw:
        assert_harmless(line.decode("ascii") + "\n")
    fields = json.loads(raw[0])
    assert list(fields).index("where") < list(fields).index("who")
    assert fields["who"].isprintable()
    monkeypatch.chdir(tmp_path)
    for arguments in (["audit", "tail"], ["audit", "tail", "--json"]):
        assert run(arguments) == 0
        shown = capsys.readouterr().out.splitlines(keepends=True)
        assert len(shown) == 3
        for line in shown:
            assert_harmless(line)
    assert shown[0].index(PEER) < shown[0].index("who")


def state_under(folder: Path) -> Path:
    """A configuration, and the state that belongs to it."""
    (folder / "state").mkdir()
    (folder / "secure-net.toml").write_text("")
    return folder / "state"


@pytest.mark.parametrize(
    "forged", [b"\x1b[2J\n", b'{"who":"\x1b[2J"}\n', b'["\\u001b[2J"]\n', b'{"who":"\\u001b[2J"}\n']
)
def test_a_trail_that_somebody_wrote_into(
    forged: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = state_under(tmp_path) / DIRECTORY
    directory.mkdir()
    (directory / f"{1:020d}.jsonl").write_bytes(forged)
    monkeypatch.chdir(tmp_path)
    for arguments in (["audit", "tail"], ["audit", "tail", "--json"]):
        assert run(arguments) == 0
        assert_harmless(capsys.readouterr().out)


@every_try
def test_on_the_terminal_of_a_command(text: str) -> None:
    stream = io.StringIO()
    output = Output(stream=stream)
    output.line(text[:1000])
    output.table(("NAME", "ROOM"), [(text[:1000], text[:1000])])
    for line in stream.getvalue().splitlines(keepends=True):
        assert_harmless(line)


@every_try
def test_in_the_error_line_of_a_command(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    name = text[:200].replace("\x00", "").replace("\ud800", "")
    assert run(["--config", name, "user", "list"]) != 0
    for line in capsys.readouterr().err.splitlines(keepends=True):
        assert_harmless(line)


@every_try
def test_escaped_text_keeps_what_was_said(text: str) -> None:
    """Nothing is thrown away: who investigates sees what was tried."""
    kept = [character for character in text if character.isprintable()]
    shown = iter(escape(text))
    assert all(character in shown for character in kept)
