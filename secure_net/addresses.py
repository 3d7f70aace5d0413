"""Where a service listens, as the configuration writes it: ``127.0.0.1:8443``, ``[::1]:8443``. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from secure_net.errors import ConfigurationError

_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, never bound


class Address(NamedTuple):
    """Where a service listens. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def reachable(self, name: str) -> Address:
        """As a client on this machine writes it: a wildcard is nowhere to connect to, `name` is."""
        return self._replace(host=name) if self.host in _WILDCARDS else self


def listen_addresses(listen: str | Iterable[str], path: str) -> tuple[Address, ...]:
    """``host:port``, ``[v6]:port`` or a list of them. Raises `ConfigurationError` naming `path`."""
    written = (listen,) if isinstance(listen, str) else tuple(listen)
    if not written:
        raise ConfigurationError(path, "no address", "write it as 127.0.0.1:8443, or leave the table out")
    return tuple(_address(text, path) for text in written)


_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[\w.-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)


def _address(text: str, path: str) -> Address:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            path, f"{text!r} is not an address", "write it as 127.0.0.1:8443 or [::1]:8443"
        )
    port = int(match["port"])
    if port > 65535:
        raise ConfigurationError(
            path, f"there is no port {port}", "ports end at 65535; 0 lets the system choose"
        )
    if match["v6"]:
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError as error:
            raise ConfigurationError(path, f"{match['v6']!r} is not an IPv6 address") from error
    return Address(match["v6"] or match["host"], port)
