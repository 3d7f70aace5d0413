"""``secure-net revoke``: cut an identity off everywhere."""

from __future__ import annotations

import click

from secure_net.cli import places
from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option


@click.command()
@click.argument("name", type=places.name)
@json_option
@click.pass_obj
def revoke(context: CommandContext, name: str, *, as_json: bool) -> None:
    """Refuse every token, certificate and password of NAME, and cut its live connections.

    NAME is blocked until `secure-net user unlock NAME`; what was issued to it stays refused for good.
    """
    from secure_net.control.socket import reach

    with reach(context.state_directory) as control:
        answer = control.request("revoke", name=name)
    output = Output(as_json=as_json)
    output.json({"name": name, "daemon": control.running, **answer})
    output.line(f"{name} is revoked: {felt(answer['connections_cut'], running=control.running)}", "green")


def felt(connections_cut: int, *, running: bool) -> str:
    """What a change of the state meant for those who were connected."""
    if not running:
        return "no daemon is running, the next one will know"
    return f"{connections_cut} connection{'' if connections_cut == 1 else 's'} cut"
