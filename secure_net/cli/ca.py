"""``secure-net ca``: the private CA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secure_net.cli import places
from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option

if TYPE_CHECKING:
    from secure_net.identity.authority import Issued, Kind, Record

OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to write NAME.pem and NAME.key (default: under certs/).",
)


@click.group()
def ca() -> None:
    """The private CA: issue, renew, revoke, list.

    Needs ca/, which the daemon does not: it may rest on another machine, or on a stick in a safe. Where the
    daemon's state is at hand each act is a line of its audit trail; elsewhere ca/index.json is the record.
    """


@ca.group()
def issue() -> None:
    """Issue a certificate and its key."""


@issue.command()
@click.argument("name", type=places.name)
@click.option("--dns", multiple=True, metavar="N", help="A host name or address it bears (default: NAME).")
@places.ttl_option("397d", longest="397d")
@OUT
@places.ca_option
@click.pass_obj
def server(
    context: CommandContext,
    name: str,
    *,
    dns: tuple[str, ...],
    ttl: float,
    out: Path | None,
    ca_directory: Path | None,
) -> None:
    """Issue a server's certificate.

    NAME "server" is the daemon beside this configuration: it bears all names the CA may sign, unless --dns
    says otherwise.
    """
    authority = places.load_authority(context, ca_directory)
    names = dns or (() if name == "server" else (name,))
    _require_free(_stem(context, "server", name, out), name)
    with places.audited(context, "ca.issue", kind="server", name=name) as found:
        issued = authority.issue_server(name, names, lifetime=ttl)
        found["serial"] = issued.record.serial
        _deliver(context, issued, _stem(context, "server", name, out))


@issue.command()
@click.argument("name", type=places.name)
@click.option(
    "--scope",
    "scopes",
    type=places.scope,
    multiple=True,
    metavar="S",
    help="What NAME may do, such as rpc:call:math.*",
)
@places.ttl_option("90d", longest="397d")
@OUT
@places.ca_option
@click.pass_obj
def client(
    context: CommandContext,
    name: str,
    *,
    scopes: tuple[str, ...],
    ttl: float,
    out: Path | None,
    ca_directory: Path | None,
) -> None:
    """Issue a certificate for the identity NAME.

    Its scopes stand in [identities.NAME], or are given here by --scope and kept in the state.
    """
    from secure_net.errors import ConfigurationError

    authority = places.load_authority(context, ca_directory)
    _require_free(_stem(context, "client", name, out), name)
    with places.audited(context, "ca.issue", kind="client", name=name, scopes=scopes) as found:
        issued = authority.issue_client(name, lifetime=ttl)
        found["serial"] = issued.record.serial
        _deliver(context, issued, _stem(context, "client", name, out))
    if scopes and not places.tell(context, "put_identity", name=name, scopes=list(scopes)):
        raise ConfigurationError(
            f"identities.{name}",
            "the certificate is issued, but there is no state here to keep its scopes",
            "put them into the daemon's configuration",
        )


@ca.command()
@click.argument("name", type=places.name)
@click.option("--kind", type=click.Choice(["server", "client"]), help="Where NAME has certificates of both.")
@click.option(
    "--dns", multiple=True, metavar="N", help="A host name or address it bears now (default: as before)."
)
@OUT
@places.ca_option
@click.pass_obj
def renew(
    context: CommandContext,
    name: str,
    *,
    kind: Kind | None,
    dns: tuple[str, ...],
    out: Path | None,
    ca_directory: Path | None,
) -> None:
    """Issue NAME's last certificate anew, with a fresh key, in the place of the old one.

    The old certificate stays valid until it expires or is revoked. `secure-net reload` makes the daemon take
    a new "server".
    """
    authority = places.load_authority(context, ca_directory)
    chosen = kind or _kind_of(authority.records(), name)
    if dns and chosen == "client":
        raise click.UsageError(f"{name} is a client: its certificate names no host")
    with places.audited(context, "ca.renew", kind=chosen, name=name) as found:
        issued = authority.renew(chosen, name, dns)
        found["serial"] = issued.record.serial
        _deliver(context, issued, _stem(context, chosen, name, out), replace=True)


@ca.command()
@click.argument("certificate", metavar="SERIAL|FILE")
@places.ca_option
@click.pass_obj
def revoke(context: CommandContext, certificate: str, ca_directory: Path | None) -> None:
    """Take back one certificate, by its serial or file: at once in the daemon, and in crl.pem.

    To cut off an identity with all it holds, use `secure-net revoke NAME`.
    """
    from secure_net.identity.setup import write_crl

    authority = places.load_authority(context, ca_directory)
    serial = _serial(certificate)
    with places.audited(context, "ca.revoke", serial=serial[:80]):
        record = authority.revoke(serial)
        told = places.tell(context, "revoke_certificate", serial=record.serial)
        path = write_crl(places.certificates_directory(context), authority)
    output = Output()
    output.line(f"revoked {record.kind} {record.name} {record.serial}")
    output.line(f"wrote {path}" + ("" if told else "; copy it to the daemon and run `secure-net reload`"))


@ca.command("list")
@json_option
@places.ca_option
@click.pass_obj
def list_(context: CommandContext, ca_directory: Path | None, as_json: bool) -> None:
    """List every certificate that was issued."""
    from secure_net.clock import SystemWall

    now = SystemWall().wall()
    rows = [_row(record, now) for record in places.load_authority(context, ca_directory).records()]
    output = Output(as_json=as_json)
    output.json(rows)
    output.table(
        ("SERIAL", "KIND", "NAME", "ISSUED", "EXPIRES", "STATE"),
        [
            (row["serial"], row["kind"], row["name"], row["issued_at"], row["not_after"], row["state"])
            for row in rows
        ],
    )


@ca.command()
@json_option
@places.ca_option
@click.pass_obj
def show(context: CommandContext, ca_directory: Path | None, as_json: bool) -> None:
    """Show the CA's certificate, its fingerprint, and the names it may sign."""
    from cryptography.hazmat.primitives import hashes

    authority = places.load_authority(context, ca_directory)
    fingerprint = authority.certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    expires = places.date(authority.certificate.not_valid_after_utc.timestamp())
    names = authority.constraints.names
    output = Output(as_json=as_json)
    output.json(
        {
            "sha256": fingerprint,
            "trust_domain": authority.trust_domain,
            "names": names,
            "not_after": expires,
            "pem": authority.pem.decode(),
        }
    )
    output.line(f"SHA-256 fingerprint  {fingerprint}")
    output.line(f"trust domain         {authority.trust_domain}")
    output.line(f"may sign             {', '.join(names)}")
    output.line(f"expires              {expires}")
    for line in authority.pem.decode().splitlines():
        output.line(line)


@ca.command()
@places.ttl_option("30d")
@places.ca_option
@click.pass_obj
def crl(context: CommandContext, ttl: float, ca_directory: Path | None) -> None:
    """Sign a new list of revoked certificates, in the place of crl.pem."""
    from secure_net.identity.setup import write_crl

    authority = places.load_authority(context, ca_directory)
    with places.audited(context, "ca.crl"):
        path = write_crl(places.certificates_directory(context), authority, lifetime=ttl)
    Output().line(f"wrote {path}")


def _stem(context: CommandContext, kind: Kind, name: str, out: Path | None) -> Path:
    """Where a certificate goes, without its suffix: the daemon's own is certs/server."""
    certs = places.certificates_directory(context)
    if out is not None:
        return out / name
    if kind == "client":
        return certs / "clients" / name
    return certs / "server" if name == "server" else certs / "servers" / name


def _require_free(stem: Path, name: str) -> None:
    """Fail before the CA signs what could not be written."""
    from secure_net.errors import ExistsError

    for suffix in (".pem", ".key"):
        path = stem.with_name(stem.name + suffix)
        if path.exists():
            raise ExistsError(str(path), f"`secure-net ca renew {name}`, or --out DIR")


def _deliver(context: CommandContext, issued: Issued, stem: Path, *, replace: bool = False) -> None:
    """Tell the state what was issued, then hand it out."""
    from secure_net.identity.setup import write_pair

    record = issued.record
    places.tell(
        context,
        "record_certificate",
        serial=record.serial,
        name=record.name,
        kind=record.kind,
        not_before=record.issued_at,
        not_after=record.not_after,
    )
    certificate, key = write_pair(stem, issued, replace=replace)
    output = Output()
    output.line(f"wrote {certificate} and {key}")
    output.line(f"serial {record.serial}, expires {places.date(record.not_after)}")


def _kind_of(records: tuple[Record, ...], name: str) -> Kind:
    kinds = {record.kind for record in records if record.name == name}
    if len(kinds) == 2:
        raise click.UsageError(f"{name} has certificates of both kinds: say which by --kind")
    return kinds.pop() if kinds else "client"


def _serial(text: str) -> str:
    """The serial that is given, or that of the certificate in the file that is named."""
    path = Path(text)
    return f"{places.load_pem(path).serial_number:x}" if path.is_file() else text


def _row(record: Record, now: float) -> dict[str, Any]:
    state = "revoked" if record.revoked_at else "expired" if record.not_after <= now else "valid"
    return {
        "serial": record.serial,
        "kind": record.kind,
        "name": record.name,
        "names": record.names,
        "issued_at": places.date(record.issued_at),
        "not_after": places.date(record.not_after),
        "revoked_at": places.date(record.revoked_at) if record.revoked_at else None,
        "state": state,
    }
