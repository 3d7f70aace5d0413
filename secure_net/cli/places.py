"""What the commands on identities share: where ``ca/`` and ``certs/`` are, and how the state learns.

The CA may rest on a machine without a daemon, where there is no configuration: then ``ca/`` and
``certs/`` are looked for here, nobody is told, and no audit trail has a line of it: ``ca/index.json`` is then
the record of what was issued and taken back.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from secure_net.cli.context import CommandContext

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from secure_net.identity.authority import Authority
    from secure_net.identity.policy import Policy

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Mapping[str, int] = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
_DURATION = re.compile(r"([1-9][0-9]{0,9})([smhdw]?)")


def duration(text: str) -> float:
    """Seconds of a whole number and its unit, such as 90d, 12h, 30m or 45s; without one, of seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise click.BadParameter("write a number and its unit: 90d, 12h, 30m or 45s")
    return float(int(match[1]) * _UNITS[match[2]])


def name(text: str) -> str:
    """The name of an identity."""
    from secure_net.identity.names import is_name

    if not is_name(text):
        raise click.BadParameter("names are [a-z0-9][a-z0-9._-]{0,63}")
    return text


def scope(text: str) -> str:
    """A scope, kept as it is written."""
    from secure_net.identity.policy import Scope

    try:
        return str(Scope.parse(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def ttl_option(default: str, longest: str = "") -> Callable[[F], F]:
    """``--ttl D``, where it has a bound of at most `longest`; the command gets `ttl`, in seconds."""

    def bounded(_: click.Context, __: click.Parameter, ttl: float) -> float:
        if longest and ttl > duration(longest):
            raise click.BadParameter(f"it lives for up to {longest}")
        return ttl

    return click.option(
        "--ttl",
        type=duration,
        default=default,
        callback=bounded,
        show_default=True,
        metavar="D",
        help="How long it is valid" + (f", up to {longest}." if longest else "."),
    )


def ca_option(command: F) -> F:
    """``--ca-directory DIR``; the command gets `ca_directory`."""
    return click.option(
        "--ca-directory",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Where the CA's key rests (default: ca/ beside the configuration).",
    )(command)


def load_authority(context: CommandContext, ca_directory: Path | None) -> Authority:
    """The CA in `ca_directory`, or beside the configuration. Raises `ConfigurationError`."""
    from secure_net.clock import SystemWall
    from secure_net.identity.authority import Authority

    return Authority.load(ca_directory or context.client_configuration.base / "ca", SystemWall())


def certificates_directory(context: CommandContext) -> Path:
    """``certs/``, or whatever [tls].directory says."""
    return context.client_configuration.tls_directory


def tell(context: CommandContext, act: str, **arguments: Any) -> bool:
    """As `ask`; False where there is no state that could learn of it."""
    return ask(context, act, **arguments) is not None


def ask(context: CommandContext, act: str, **arguments: Any) -> dict[str, Any] | None:
    """Have the daemon do `act`, or do it on its state while it is not running; returns what it answers.

    None where there is no state that could learn of it: on the CA's own machine. Raises what the act raises.
    """
    configuration = context.client_configuration
    if configuration.file is None or not configuration.state_directory.is_dir():
        return None
    from secure_net.control.socket import reach

    with reach(configuration.state_directory) as control:
        return control.request(act, **arguments)


@contextlib.contextmanager
def audited(context: CommandContext, what: str, **said: Any) -> Iterator[dict[str, str]]:
    """An act with the CA's keys, between two lines of the audit trail where there is a state with one.

    Raises before anything is done when the first line cannot be written. What is put into the dict that
    this gives (`serial`, `jti`) stands in the second.
    """
    found: dict[str, str] = {}
    answer = ask(context, "begin", what=what, **said)
    outcome = "failed"
    try:
        yield found
        outcome = "done"
    finally:
        if answer is not None:
            ask(context, "end", what=what, begun=answer["begun"], outcome=outcome, **found)


def reload_daemon(context: CommandContext) -> bool:
    """Have the daemon read its files anew. False where none is running. Raises what the reload raises."""
    from secure_net.control.socket import SOCKET_FILE, ControlClient

    client = ControlClient(context.client_configuration.state_directory / SOCKET_FILE)
    if not client.answers():
        return False
    client.request("reload")
    return True


def load_policy(context: CommandContext) -> Policy:
    """The configuration's entries, overlaid by those of the state where there is one."""
    from secure_net.control.socket import reach
    from secure_net.identity.policy import Grant, Policy
    from secure_net.store.sqlite import STORE_FILE

    configuration = context.configuration
    configured = {name: Grant.parse(entry.scopes) for name, entry in configuration.identities.items()}
    if not (configuration.state_directory / STORE_FILE).exists():
        return Policy(configured)
    with reach(configuration.state_directory) as control:
        names = control.request("list")["names"]
    # A running daemon lists its configuration's entries among the others.
    listed = {entry["name"]: Grant.parse(entry["scopes"]) for entry in names if entry["scopes"]}
    stored = {name: grant for name, grant in listed.items() if grant != configured.get(name)}
    return Policy(configured, stored)


def date(seconds: float) -> str:
    """Unix time as people and programs both read it."""
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def load_pem(path: Path) -> Certificate:
    """The certificate in a file. Raises `ConfigurationError`."""
    from cryptography import x509

    from secure_net.errors import ConfigurationError
    from secure_net.identity import files

    try:
        return x509.load_pem_x509_certificate(files.read(path))
    except ValueError as error:
        raise ConfigurationError(str(path), "not a PEM certificate") from error
