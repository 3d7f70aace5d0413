"""``secure-net revoke``: cut an identity off everywhere."""

from __future__ import annotations

from pathlib import Path

import click

from secure_net.cli import places
from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option


@click.command()
@click.argument("name", type=places.name)
@json_option
@places.ca_option
@click.pass_obj
def revoke(context: CommandContext, name: str, *, ca_directory: Path | None, as_json: bool) -> None:
    """Refuse every token, certificate and password of NAME, and cut its live connections.

    NAME is blocked until `secure-net user unlock NAME`; what was issued to it stays refused for good.
    Where the CA is at hand its certificates are taken back there as well, for those who read crl.pem.
    """
    from secure_net.control.socket import reach

    with reach(context.state_directory) as control:
        answer = control.request("revoke", name=name)
    output = Output(as_json=as_json)
    output.json({"name": name, "daemon": control.running, **answer})
    output.line(f"{name} is revoked: {felt(answer['connections_cut'], running=control.running)}", "green")
    _take_back(context, name, ca_directory)


def _take_back(context: CommandContext, name: str, ca_directory: Path | None) -> None:
    """What the daemon refuses already, in the CA's index and CRL too; or say what is left to do."""
    from secure_net.identity.setup import write_crl

    place = ca_directory or context.configuration.base / "ca"
    if ca_directory is None and not place.is_dir():
        click.echo(
            f"secure-net revoke: no CA in {place}: where it rests, `secure-net ca revoke SERIAL` takes back "
            f"each certificate of {name} for those who read crl.pem",
            err=True,
        )
        return
    authority = places.load_authority(context, ca_directory)
    if not any(record.kind == "client" and record.name == name for record in authority.records()):
        return
    with places.audited(context, "ca.revoke", name=name):
        authority.revoke_name(name)
        write_crl(places.certificates_directory(context), authority)


def felt(connections_cut: int, *, running: bool) -> str:
    """What a change of the state meant for those who were connected."""
    if not running:
        return "no daemon is running, the next one will know"
    return f"{connections_cut} connection{'' if connections_cut == 1 else 's'} cut"
