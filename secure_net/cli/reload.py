"""``secure-net reload``: the running daemon reads everything anew."""

from __future__ import annotations

import click

from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option


@click.command()
@json_option
@click.pass_obj
def reload(context: CommandContext, as_json: bool) -> None:
    """Make the running daemon read everything anew.

    Certificates, CRL, keys, policy and configuration, with no connection dropped. When something is wrong the
    daemon goes on with what it had, and the exit code is 1.
    """
    from secure_net.control.socket import SOCKET_FILE, ControlClient
    from secure_net.errors import ConfigurationError, StateError

    context.require_file()
    try:
        client = ControlClient(context.state_directory / SOCKET_FILE)
        if not client.answers():
            raise StateError("no daemon is running here")
        answer = client.request("reload")
    except ConfigurationError as error:
        # A daemon that runs is well: what failed is the reload.
        raise StateError(f"not reloaded, a running daemon goes on as it was: {error}") from error
    output = Output(as_json=as_json)
    output.json(answer)
    output.line("reloaded", "green")
    for key in answer["needs_restart"]:
        output.line(f"{key} changed, and needs a restart", "yellow")
