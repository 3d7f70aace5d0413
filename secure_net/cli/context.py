"""What the commands share: the configuration that counts, and how a client command reaches a service.

A value is taken from the flag, else as `secure_net.discovery` finds it: from the environment
(``SECURE_NET_CLIENT__URL``), ``[client]``, or beside the configuration.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from secure_net.errors import ConfigurationError

if TYPE_CHECKING:
    from secure_net.config import Configuration
    from secure_net.discovery import Credentials

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where a client command goes and as whom."""

    url: str
    ca: Path
    certificate: Path | None
    key: Path | None
    token: str | None
    token_file: Path | None

    @property
    def credentials(self) -> Credentials:
        """As the keyword arguments of a client."""
        pair = None if self.certificate is None or self.key is None else (self.certificate, self.key)
        return {
            "ca": self.ca,
            "certificate": pair,
            "token": self.token,
            "token_file": self.token_file,
        }


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
        from secure_net import discovery

        return discovery.client_configuration(self._config)

    @property
    def state_directory(self) -> Path:
        return self.configuration.state_directory

    def client(self, service: str, flags: ClientFlags) -> ClientSettings:
        """How to reach `service`, by the name of its table."""
        from secure_net import discovery

        found = self.client_configuration
        own = discovery.own_credential(
            found, certificate=flags.cert, key=flags.key, token_file=flags.token_file
        )
        certificate, key = own.certificate or (None, None)
        return ClientSettings(
            url=flags.url or discovery.own_url(found, service),
            ca=flags.ca or discovery.own_ca(found),
            certificate=certificate,
            key=key,
            token=own.token,
            token_file=own.token_file,
        )


def service_url(service: str) -> Callable[[str], str]:
    """The type of ``--url``: a URL of `service`, kept as it is written."""

    def url(text: str) -> str:
        from secure_net.discovery import parse_url

        try:
            parse_url(service, text)
        except ConfigurationError as error:
            raise click.BadParameter(f"{error.problem}: {error.cure}") from error
        return text

    return url


def client_options(service: str) -> Callable[[F], F]:
    """``--url --ca --cert --key --token-file``; the command gets them as one `flags` (`ClientFlags`)."""
    path = click.Path(dir_okay=False, path_type=Path)

    def decorate(command: F) -> F:
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
            click.option("--url", type=service_url(service), help="Address of the service."),
        ):
            decorated = option(decorated)
        return cast(F, decorated)

    return decorate
