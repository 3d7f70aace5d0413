"""``secure-net echo``: one framed message, and what comes back."""

from __future__ import annotations

import click

from secure_net.cli.context import ClientFlags, CommandContext, client_options
from secure_net.cli.output import Output, json_option
from secure_net.errors import ConfigurationError, LocalProtocolError


@click.command()
@click.argument("text")
@click.option(
    "--deadline", type=click.FloatRange(min=0, min_open=True), default=10.0, help="Seconds it may take."
)
@client_options("echo")
@json_option
@click.pass_obj
def echo(context: CommandContext, text: str, deadline: float, flags: ClientFlags, as_json: bool) -> None:
    """Send TEXT to the echo service; print the answer.

    A client certificate is the one credential that the service has room for.
    """
    from secure_net.messaging.echo_client import EchoClient

    settings = context.client("echo", flags)
    pair = settings.credentials["certificate"]
    if pair is None:
        raise ConfigurationError("--cert", "no certificate, and echo takes nothing else", "give one")
    with EchoClient(url=settings.url, ca=settings.ca, certificate=pair, deadline_seconds=deadline) as client:
        try:
            answer = client.send(text)
        except LocalProtocolError as error:
            raise click.UsageError(str(error)) from error
    output = Output(as_json=as_json)
    output.json({"answer": answer})
    output.line(answer)
