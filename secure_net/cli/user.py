"""``secure-net user``: the identities that the state knows, and their locks."""

from __future__ import annotations

from typing import Any

import click

from secure_net.cli import places
from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option
from secure_net.cli.revoke import felt


@click.group()
def user() -> None:
    """Identities: list, lock, unlock."""


@user.command("list")
@json_option
@click.pass_obj
def list_users(context: CommandContext, *, as_json: bool) -> None:
    """Every name the state knows; with a daemon running, those of its configuration too."""
    from secure_net.control.socket import reach

    with reach(context.state_directory) as control:
        names = control.request("list")["names"]
    output = Output(as_json=as_json)
    output.json(names)
    output.table(("NAME", "STATE", "CERTIFICATES", "SCOPES"), map(_row, names))


@user.command()
@click.argument("name", type=places.name)
@json_option
@click.pass_obj
def lock(context: CommandContext, name: str, *, as_json: bool) -> None:
    """Block NAME and cut its connections; what it holds works again once it is unlocked."""
    _change(context, "lock", "locked", name, as_json=as_json)


@user.command()
@click.argument("name", type=places.name)
@json_option
@click.pass_obj
def unlock(context: CommandContext, name: str, *, as_json: bool) -> None:
    """Accept NAME again. Tokens and certificates that were revoked stay so: issue new ones."""
    _change(context, "unlock", "unlocked", name, as_json=as_json)


def _change(context: CommandContext, act: str, done: str, name: str, *, as_json: bool) -> None:
    from secure_net.control.socket import reach

    with reach(context.state_directory) as control:
        answer = control.request(act, name=name)
    output = Output(as_json=as_json)
    output.json({"name": name, "daemon": control.running, **answer})
    output.line(f"{name} is {done}: {felt(answer['connections_cut'], running=control.running)}", "green")


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    state = "locked" if entry["locked"] else "revoked before" if entry["revoked_before"] else "active"
    return entry["name"], state, entry["certificates"], " ".join(entry["scopes"]) or "-"
