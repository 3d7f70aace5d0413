"""``secure-net check``: every finding with its cure; nothing is started."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from secure_net.cli.context import CommandContext
from secure_net.cli.output import Colour, Output, json_option

if TYPE_CHECKING:
    from secure_net.daemon.posture import Finding, Level

_COLOURS: dict[Level, Colour] = {"error": "red", "warning": "yellow", "notice": "cyan"}


@click.command()
@json_option
@click.pass_obj
def check(context: CommandContext, as_json: bool) -> None:
    """Find what is wrong or unsafe; start nothing.

    Looks at the configuration, the registries it names, certificates, keys and their permissions. Exits with
    78 when a finding would keep the daemon from serving; warnings and notices do not change the exit code.
    """
    from secure_net.clock import SystemWall
    from secure_net.daemon.posture import examine
    from secure_net.daemon.registries import load_registries
    from secure_net.errors import ConfigurationError

    configuration = context.configuration
    findings = list(examine(configuration, SystemWall().wall()))
    try:
        load_registries(configuration)
    except ConfigurationError as error:
        from secure_net.daemon.posture import Finding

        findings.insert(0, Finding.of(error))
    _report(Output(as_json=as_json), findings)
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        where = str(configuration.file)
        raise ConfigurationError(where, f"{errors} finding{'s' * (errors > 1)} of level error")


def _report(output: Output, findings: list[Finding]) -> None:
    output.json([dataclasses.asdict(finding) for finding in findings])
    for finding in findings:
        output.line(f"{finding.level}: {finding.where}: {finding.problem}", _COLOURS[finding.level])
        if finding.cure:
            output.line(f"    cure: {finding.cure}")
    if not findings:
        output.line("nothing found", "green")
