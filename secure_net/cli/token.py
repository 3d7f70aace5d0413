"""``secure-net token``: access tokens. A token is never an argument: others could read it there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secure_net.cli import places
from secure_net.cli.context import CommandContext
from secure_net.cli.output import Output, json_option

if TYPE_CHECKING:
    from secure_net.identity.tokens import Claims


@click.group()
def token() -> None:
    """Access tokens: issue, inspect, revoke, rotate."""


@token.command()
@click.argument("subject", type=places.name)
@click.option(
    "--scope",
    "scopes",
    type=places.scope,
    multiple=True,
    required=True,
    metavar="S",
    help="What it allows, such as rpc:call:math.*",
)
@places.ttl_option("1h", longest="24h")
@click.option(
    "--bind",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CERT",
    help="Client certificate (PEM) without which it is worth nothing.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it into a new file that only you can read, instead of to stdout.",
)
@places.ca_option
@click.pass_obj
def issue(
    context: CommandContext,
    subject: str,
    *,
    scopes: tuple[str, ...],
    ttl: float,
    bind: Path | None,
    out: Path | None,
    ca_directory: Path | None,
) -> None:
    """Issue a token for SUBJECT; prints the token alone.

    It never allows more than SUBJECT's own entry, where there is one.
    """
    from secure_net.clock import SystemWall
    from secure_net.identity import files
    from secure_net.identity.setup import load_signer

    signer = load_signer(places.load_authority(context, ca_directory))
    thumbprint = None if bind is None else _thumbprint(bind)
    with places.audited(context, "token.issue", name=subject, scopes=scopes) as found:
        text = signer.issue(subject, scopes, now=SystemWall().wall(), lifetime=ttl, thumbprint=thumbprint)
        found["jti"] = _token_id(text)
        if out is not None:
            files.write_new(out, text.encode() + b"\n", cure="remove it, or choose another name")
    if out is None:
        click.echo(text)


@token.command()
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False, path_type=Path), default="-")
@json_option
@click.pass_obj
def inspect(context: CommandContext, file: Path, as_json: bool) -> None:
    """Show what the token in FILE, or on stdin, says, and whether the daemon would believe it.

    Revocations are the daemon's to know, and are not looked at. Exits with 77 for a token that is refused.
    """
    from secure_net.clock import SystemWall
    from secure_net.errors import AuthenticationError
    from secure_net.identity.setup import load_keys
    from secure_net.identity.tokens import TokenVerifier

    verifier = TokenVerifier(
        load_keys(places.certificates_directory(context)),
        context.client_configuration.server.audience,
        context.client_configuration.limits.token,
    )
    text = _read(file, context.client_configuration.limits.token.token_bytes)
    output = Output(as_json=as_json)
    try:
        claims = verifier.verify(text, SystemWall().wall())
    except AuthenticationError as error:
        output.json({"valid": False, "problem": error.detail})
        raise
    report = _report(claims)
    output.json({"valid": True, **report})
    for name, value in report.items():
        output.line(f"{name:<12} {' '.join(value) if isinstance(value, list) else value}")


@token.command()
@click.argument("jti")
@click.pass_obj
def revoke(context: CommandContext, jti: str) -> None:
    """Refuse the token whose id (jti) is JTI from now on; `token inspect` shows it."""
    from secure_net.errors import ConfigurationError
    from secure_net.identity.tokens import is_token_id

    if not is_token_id(jti):
        raise click.BadParameter("not a token's id; never give the token itself", param_hint="JTI")
    if not places.tell(context, "revoke_token", jti=jti):
        raise ConfigurationError(
            str(context.client_configuration.state_directory),
            "no daemon has run here",
            "run this where it does",
        )
    Output().line(f"revoked {jti}")


@token.command()
@places.ca_option
@click.pass_obj
def rotate(context: CommandContext, ca_directory: Path | None) -> None:
    """Sign with a new key from now on; older ones retire when no token of theirs can be valid any more."""
    from secure_net.clock import SystemWall
    from secure_net.identity.setup import rotate_signing_key

    clock = SystemWall()
    keys = rotate_signing_key(
        places.load_authority(context, ca_directory), places.certificates_directory(context), clock
    ).keys
    new, *older = keys
    now = clock.wall()
    places.tell(context, "record_token_key", kid=new.id, created_at=now)
    for former in older[:1]:  # those behind it were retired by earlier rotations
        places.tell(context, "record_token_key", kid=former.id, created_at=now, retired_at=now)
    taken = places.reload_daemon(context)
    output = Output()
    for key in keys:
        state = "signs from now on" if key.retires_at is None else f"retires at {places.date(key.retires_at)}"
        output.line(f"{key.id} {state}")
    if not taken:
        output.line("no daemon runs here: one elsewhere needs token-keys.json and a reload before it is used")


def _thumbprint(path: Path) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    from secure_net.identity.certificates import thumbprint

    return thumbprint(places.load_pem(path).public_bytes(Encoding.DER))


def _token_id(text: str) -> str:
    """The `jti` of a token of our own making."""
    import json

    from secure_net.identity import jose

    return str(json.loads(jose.decode(text.split(".")[1].encode()))["jti"])


def _read(file: Path, longest: int) -> bytes:
    """The token, without the line's end; a byte more than the longest shows that it is too long."""
    if str(file) == "-":
        return sys.stdin.buffer.read(longest + 2).strip()
    from secure_net.identity.files import told_clearly

    with told_clearly(file), file.open("rb") as stream:
        return stream.read(longest + 2).strip()


def _report(claims: Claims) -> dict[str, Any]:
    from secure_net.identity import jose

    return {
        "subject": claims.subject,
        "scopes": [str(scope) for scope in claims.grant.scopes],
        "issued_at": places.date(claims.issued_at),
        "expires_at": places.date(claims.expires_at),
        "jti": claims.token_id,
        "kid": claims.key_id,
        "bound_to": jose.encode(claims.thumbprint) if claims.thumbprint else None,
    }
