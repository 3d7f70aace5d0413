"""``secure-net audit``: read the trail, and prove that it is whole. Neither needs the daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option

if TYPE_CHECKING:
    from secure_net.audit.chain import Position

FOLLOW_SECONDS = 0.5
# Shown first, in this order; what else a line holds follows.
_FIELDS = ("time", "where", "who", "service", "what", "outcome")


@click.group()
def audit() -> None:
    """Show or verify the audit trail."""


@audit.command()
@click.option("-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until interrupted.")
@json_option
@click.pass_obj
def tail(context: CommandContext, *, lines: int, follow: bool, as_json: bool) -> None:
    """Show the last lines of the trail."""
    from secure_net.audit.reader import Reader

    reader = Reader(_directory(context))
    _show(reader.last(lines), as_json=as_json)
    while follow:
        time.sleep(FOLLOW_SECONDS)
        _show(reader.more(), as_json=as_json)


@audit.command()
@click.option("--head", metavar="SEQUENCE:HASH", help="One that was logged: finds an end that was cut off.")
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A copy of audit.pub that was kept elsewhere (default: the one in the state).",
)
@click.option(
    "--first",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="SEQUENCE",
    help="The first line that should be here, where older files were archived.",
)
@json_option
@click.pass_obj
def verify(context: CommandContext, *, head: str | None, key: Path | None, first: int, as_json: bool) -> None:
    """Find lines that were changed, removed or moved. Exits with 1 when there are any."""
    import msgspec

    from secure_net.audit.reader import verify as verified
    from secure_net.audit.trail import PUBLIC_KEY_FILE, public_key
    from secure_net.errors import StateDamagedError

    directory = _directory(context)
    vouching = public_key(key or context.state_directory / PUBLIC_KEY_FILE)
    report = verified(directory, vouching, head=_position(head), first=first)
    output = Output(as_json=as_json)
    output.json({"sound": report.sound, **msgspec.to_builtins(report)})
    for problem in report.problems:
        output.line(problem, "red")
    for warning in report.warnings:
        output.line(f"note: {warning}", "yellow")
    if not report.sound:
        raise StateDamagedError(f"{directory} is not as it was written ({len(report.problems)} problems)")
    output.line(
        f"sound: lines {report.first} to {report.last}, signed up to {report.signed_to}; head {report.head}",
        "green",
    )


def _directory(context: CommandContext) -> Path:
    from secure_net.audit.trail import DIRECTORY
    from secure_net.errors import StateError

    directory = context.state_directory / DIRECTORY
    if not directory.is_dir():
        raise StateError(f"{directory}: no audit trail yet; the first `secure-net serve` begins it")
    return directory


def _position(text: str | None) -> Position | None:
    from secure_net.audit.chain import Position

    if text is None:
        return None
    try:
        return Position.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--head") from error


def _show(lines: Iterable[bytes], *, as_json: bool) -> None:
    output = Output()
    for line in lines:
        # A line is a JSON object in ASCII as it stands; whoever changed it may have changed that too.
        text = line.decode("ascii", "backslashreplace")
        output.line(text if as_json else _readable(text))


def _readable(text: str) -> str:
    try:
        fields = json.loads(text)
    except ValueError:
        return text
    if not isinstance(fields, dict):
        return text
    told = {key: value for key, value in fields.items() if key not in {*_FIELDS, "previous"}}
    sequence, details = told.pop("sequence", "?"), told.pop("details", {})
    words = [str(fields.get(key) or "-") for key in _FIELDS]
    rest = [f"{key}={_word(value)}" for source in (details, told) for key, value in _items(source)]
    return " ".join([f"{sequence:>6}", *words, *rest])


def _items(source: Any) -> Iterable[tuple[str, Any]]:
    return source.items() if isinstance(source, dict) else [("details", source)]


def _word(value: Any) -> str:
    return value if isinstance(value, str) and " " not in value else json.dumps(value, ensure_ascii=True)
