"""``secure-net serve``: the daemon, in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from secure_net.cli.context import CommandContext


@click.command()
@click.pass_obj
@click.pass_context
def serve(click_context: click.Context, context: CommandContext) -> None:
    """Run the daemon in the foreground.

    Prints one line per service with its address, commands to try, and `ready`. TERM and INT drain and stop, a
    second INT stops at once; HUP reloads.
    """
    import asyncio

    from secure_net import config
    from secure_net.cli.main import INTERRUPTED
    from secure_net.daemon.life import Daemon

    path = context.configuration.file

    def load() -> config.Configuration:
        return config.discover(path)

    async def run() -> bool:
        return await Daemon(load, say=say, program=_program()).run()

    if not asyncio.run(run()):
        click_context.exit(INTERRUPTED)


def say(line: str) -> None:
    """A line for people, at once: a pipe would keep it back otherwise."""
    click.echo(line)
    sys.stdout.flush()


def _program() -> str:
    """How to call us from another terminal."""
    called = Path(sys.argv[0])
    return str(called.resolve()) if called.name == "secure-net" and called.is_file() else "secure-net"
