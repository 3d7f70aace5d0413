"""What the commands share: the configuration that counts, and how a client command reaches a service.

A value is taken from the flag, else the environment (``SECURE_NET_CLIENT__URL``), else ``[client]``, else it
is found beside the configuration: the address in the service's own table, the CA and the admin's
certificate under ``[tls].directory``.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from secure_net.errors import ConfigurationError

if TYPE_CHECKING:
    from secure_net.config import Configuration

F = TypeVar("F", bound=Callable[..., Any])

ADMIN_CERTIFICATE = Path("clients") / "admin.pem"


@dataclasses.dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where a client command goes and as whom. `ca` is None where only the system's CAs could be meant."""

    url: str
    ca: Path
    certificate: Path | None
    key: Path | None
    token: str
    token_file: Path | None


@dataclasses.dataclass(frozen=True, slots=True)
class ClientFlags:
    """What was said on the command line; None where nothing was."""

    url: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    token_file: Path | None = None


class CommandContext:
    """The object of every command (`click.pass_obj`)."""

    def __init__(self, config: Path | None = None) -> None:
        self._config = config

    @functools.cached_property
    def configuration(self) -> Configuration:
        """Raises `ConfigurationError` where there is none, naming `secure-net init`."""
        from secure_net import config

        return config.discover(self._config)

    def require_file(self) -> None:
        """Raises `ConfigurationError` where there is no configuration; it may be wrong all the same."""
        from secure_net import config

        if config.find(self._config) is None:
            raise config.not_found()

    @functools.cached_property
    def client_configuration(self) -> Configuration:
        """As `configuration`, but a client may do without a file: flags and environment can be enough."""
        from secure_net import config

        if config.find(self._config) is None:
            return config.parse("", None, os.environ)
        return self.configuration

    @property
    def state_directory(self) -> Path:
        return self.configuration.state_directory

    def client(self, service: str, path: str, flags: ClientFlags) -> ClientSettings:
        """How to reach `service`, whose URLs end in `path`."""
        configuration = self.client_configuration
        table = configuration.client
        certificate, key = self._certificate(configuration, flags)
        return ClientSettings(
            url=flags.url or table.url or _own_url(configuration, service, path),
            ca=flags.ca or _ca(configuration),
            certificate=certificate,
            key=key,
            token=table.token,
            token_file=flags.token_file
            or (configuration.path(table.token_file) if table.token_file else None),
        )

    def _certificate(
        self, configuration: Configuration, flags: ClientFlags
    ) -> tuple[Path | None, Path | None]:
        table = configuration.client
        certificate = flags.cert or (configuration.path(table.cert) if table.cert else None)
        if certificate is None:
            found = configuration.tls_directory / ADMIN_CERTIFICATE
            shows_token = flags.token_file or table.token_file or table.token
            certificate = found if found.is_file() and not shows_token else None
        if certificate is None:
            return None, None
        return certificate, _key(configuration, flags, certificate)


def _key(configuration: Configuration, flags: ClientFlags, certificate: Path) -> Path:
    if flags.key:
        return flags.key
    if configuration.client.key and not flags.cert:
        return configuration.path(configuration.client.key)
    return certificate.with_suffix(".key")


def _ca(configuration: Configuration) -> Path:
    if configuration.client.ca:
        return configuration.path(configuration.client.ca)
    found = configuration.tls_directory / "ca.pem"
    if not found.is_file():
        cure = (
            "give the daemon's ca.pem by --ca, $SECURE_NET_CLIENT__CA or [client], or run `secure-net init`"
        )
        raise ConfigurationError("client.ca", "no CA to verify the daemon with", cure)
    return found


def _own_url(configuration: Configuration, service: str, path: str) -> str:
    if service not in configuration.services:
        cure = "give its address by --url, $SECURE_NET_CLIENT__URL or [client]"
        raise ConfigurationError("client.url", f"no [{service}] table to take the address from", cure)
    address = configuration.addresses(service)[0]
    if not address.port:
        cure = "the daemon chose it; give it by --url, as it was printed at the start"
        raise ConfigurationError(f"{service}.listen", "port 0 names no port", cure)
    return f"https://{address.reachable(configuration.server.names[0])}{path}"


def https_url(text: str) -> str:
    """A URL of ours, kept as it is written."""
    import urllib.parse

    try:
        parts = urllib.parse.urlsplit(text)
        sound = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise click.BadParameter("no https URL: write https://host:8443/RPC2; there is no http")
    return text


def client_options(command: F) -> F:
    """``--url --ca --cert --key --token-file``; the command gets them as one `flags` (`ClientFlags`)."""
    path = click.Path(dir_okay=False, path_type=Path)

    @functools.wraps(command)
    def with_flags(
        *arguments: Any,
        url: str | None,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        token_file: Path | None,
        **others: Any,
    ) -> Any:
        return command(*arguments, flags=ClientFlags(url, ca, cert, key, token_file), **others)

    decorated: Any = with_flags
    for option in (
        click.option("--token-file", type=path, help="File that holds the access token."),
        click.option("--key", type=path, help="Its key (default: the certificate's name with .key)."),
        click.option("--cert", type=path, help="Client certificate (PEM)."),
        click.option("--ca", type=path, help="CA that signed the daemon's certificate (PEM)."),
        click.option("--url", type=https_url, help="Address of the service."),
    ):
        decorated = option(decorated)
    return cast(F, decorated)
