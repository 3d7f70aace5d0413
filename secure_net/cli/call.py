"""``secure-net call``: one remote call, its result as JSON."""

from __future__ import annotations

import base64
import datetime
import json
import sys
from typing import Any

import click

from secure_net.cli.context import ClientFlags, CommandContext, client_options


@click.command()
@click.argument("method")
@click.argument("params", nargs=-1, metavar="[JSON]...")
@click.option("--deadline", type=click.FloatRange(min=0, min_open=True), help="Seconds the call may take.")
@client_options("rpc")
@click.pass_obj
def call(
    context: CommandContext, method: str, params: tuple[str, ...], deadline: float | None, flags: ClientFlags
) -> None:
    """Call METHOD; print its result as JSON.

    Each parameter is JSON: 21, true, null, '"text"', '[1, 2]', '{"a": 1}'. Bytes are written {"$base64": …}
    and times {"$time": "2026-01-31T12:00:00Z"}, here and in the result.
    """
    from secure_net.rpc.client import RPCClient
    from secure_net.rpc.faults import EncodeError

    values = [_parameter(text) for text in params]
    settings = context.client("rpc", flags)
    with RPCClient(settings.url, **settings.credentials) as client:
        try:
            result = client.call(method, *values, deadline_seconds=deadline)
        except EncodeError as error:
            raise click.UsageError(str(error)) from error
    # ASCII only: what a server says cannot act on a terminal.
    sys.stdout.write(json.dumps(result, default=_as_json, ensure_ascii=True) + "\n")


def _parameter(text: str) -> Any:
    try:
        return json.loads(text, object_hook=_from_object, parse_constant=_refuse_constant)
    except (ValueError, TypeError, RecursionError) as error:
        cure = f"write it as '\"{text}\"'" if text.isalnum() else "see --help"
        raise click.UsageError(f"the parameter {text[:60]!r} is not JSON; {cure}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _from_object(members: dict[str, Any]) -> Any:
    if members.keys() == {"$base64"}:
        return base64.b64decode(members["$base64"], validate=True)
    if members.keys() == {"$time"}:
        return datetime.datetime.fromisoformat(members["$time"])
    return members


def _as_json(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, datetime.datetime):
        return {"$time": value.isoformat().replace("+00:00", "Z")}
    raise TypeError(f"XML-RPC has no {type(value).__name__}")  # the decoder makes nothing else
