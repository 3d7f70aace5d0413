"""``secure-net policy``: who may do what, and by which rule."""

from __future__ import annotations

import dataclasses

import click

from secure_net.cli import places
from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option


@click.group()
def policy() -> None:
    """Explain who may do what, and by which rule."""


@policy.command()
@click.argument("name", type=places.name)
@click.argument("action")
@json_option
@click.pass_obj
def explain(context: CommandContext, name: str, action: str, as_json: bool) -> None:
    """May NAME do ACTION (such as rpc:call:math.double), and which rule says so?

    Reads the configuration and the state; no daemon needs to run. Exits with 77 when it is not permitted.
    A token of NAME allows what both it and this entry allow.
    """
    from secure_net.errors import NotPermittedError

    try:
        explanation = places.load_policy(context).explain(name, action)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="ACTION") from error
    output = Output(as_json=as_json)
    output.json(dataclasses.asdict(explanation))
    if not explanation.permitted:
        raise NotPermittedError(explanation.reason)
    output.line(f"yes: {explanation.reason}", "green")
