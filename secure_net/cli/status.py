"""``secure-net status``: the running daemon at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option
from secure_net.cli.places import date

if TYPE_CHECKING:
    from secure_net.control.status import Status

WATCH_SECONDS = 2.0
_SOON_DAYS = 21.0


@click.command()
@click.option("--watch", is_flag=True, help="Show it live, until interrupted; in a pipe, again and again.")
@json_option
@click.pass_obj
def status(context: CommandContext, watch: bool, as_json: bool) -> None:
    """Show the running daemon: services, connections, certificates, revocations."""
    import sys
    import time

    if watch and not as_json and sys.stdout.isatty():
        from rich.console import Console

        from secure_net.cli import status_view

        status_view.watch(lambda: _ask(context), Console(), WATCH_SECONDS)
    output = Output(as_json=as_json)
    _show(output, _ask(context))
    while watch:
        time.sleep(WATCH_SECONDS)
        _show(output, _ask(context))


def _ask(context: CommandContext) -> dict[str, Any]:
    from secure_net.control.socket import SOCKET_FILE, ControlClient
    from secure_net.errors import StateError

    client = ControlClient(context.state_directory / SOCKET_FILE)
    if not client.answers():
        raise StateError("no daemon is running here")
    return client.request("status")


def _show(output: Output, answer: dict[str, Any]) -> None:
    import msgspec

    from secure_net.control.status import Status
    from secure_net.control.view import span, view_of

    output.json(answer)
    found = msgspec.convert(answer, Status)
    word = "draining" if found.draining else "serving"
    output.line(
        f"secure-net {found.version} {word}, process {found.process}, up {span(found.uptime_seconds)}"
    )
    output.line()
    output.table(
        ("service", "address", "open", "total", "refused"),
        [
            (
                service.name,
                address,
                service.connections_open,
                service.connections_total,
                service.refused_total,
            )
            for service in found.services
            for address in service.addresses or ("-",)
        ],
    )
    for service in found.services:
        if service.error:
            output.line(f"{service.name}: {service.error}", "yellow")
        for reason, count in service.refused.items():
            output.line(f"{service.name} refused {count}: {reason}")
    for name, problem in found.problems.items():
        output.line(f"not ready: {name}: {problem}", "red")
    for chart in view_of(found).charts:
        output.line(chart.label)
    _show_trust(output, found)


def _show_trust(output: Output, found: Status) -> None:
    output.line()
    for certificate in found.certificates:
        ends = f"{certificate.file} ends {date(certificate.not_after)}, in {certificate.days_left:.0f} days"
        output.line(ends, "yellow" if certificate.days_left < _SOON_DAYS else None)
    gone = found.revocations
    if gone.crl_expires_at:
        output.line(f"crl.pem ends {date(gone.crl_expires_at)}")
    output.line(
        f"refused: {gone.certificates} certificates, {gone.tokens} tokens, {gone.names_blocked} names"
    )
    if found.principals:
        connected = ", ".join(f"{name} ({count})" for name, count in found.principals.items())
        output.line(f"connected: {connected}")
    if found.chat is not None:
        said = f"{found.chat.messages} messages since the start"
        output.line(f"rooms: {found.chat.rooms} in memory with {found.chat.members} members, {said}")
    if found.records.audit_dropped or found.records.log_dropped:
        dropped = f"{found.records.audit_dropped} audit records, {found.records.log_dropped} log lines"
        output.line(f"dropped: {dropped}", "red")
