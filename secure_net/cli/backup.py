"""``secure-net backup``: a consistent copy of the state while the daemon runs."""

from __future__ import annotations

from pathlib import Path

import click

from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def backup(context: CommandContext, file: Path, *, as_json: bool) -> None:
    """Write a consistent copy of the state to FILE, which must not exist.

    The daemon writes it, as its own user. To restore: stop the daemon, remove store.db, store.db-wal and
    store.db-shm from the state, and put FILE there as store.db.
    """
    from secure_net.control.socket import reach

    with reach(context.state_directory) as control:
        # The daemon stands in another folder than we do.
        answer = control.request("backup", path=str(file.absolute()))
    output = Output(as_json=as_json)
    output.json(answer)
    output.line(f"written: {answer['path']}", "green")
