"""Whom a client calls, and as whom: found once, for every protocol's client and for the command line.

A value is what was given, else what ``[client]`` says (or the environment: ``SECURE_NET_CLIENT__CA``), else
what stands beside the configuration: the address in the service's own table, the CA and the admin's
certificate under ``[tls].directory``. A credential that was found is for the server that was found with it: a
server that the caller names itself is shown only what the caller gives, and is verified by the CA that was
found.
"""

from __future__ import annotations

import dataclasses
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from ssl import SSLContext
from typing import NamedTuple, TypedDict

from secure_net import config
from secure_net.errors import ConfigurationError
from secure_net.wire.tls import client_context

ADMIN_CERTIFICATE = Path("clients") / "admin.pem"


class Protocol(NamedTuple):
    """What a client speaks to a service. `scheme`, `port` and `path` are those of its URLs."""

    scheme: str
    port: int  # where a URL names none
    path: str  # where a URL names none; "" where the protocol has no paths
    alpn: tuple[str, ...]
    example: str


# By the service's table in the configuration. There is no scheme without TLS.
PROTOCOLS: Mapping[str, Protocol] = {
    "rpc": Protocol("https", 443, "/RPC2", ("http/1.1",), "https://host:8443/RPC2"),
    "echo": Protocol("echo", 9800, "", (), "echo://host:9800"),
    "chat": Protocol("chat", 9802, "", (), "chat://host:9802"),
}


class Credentials(TypedDict, total=False):
    """The keyword arguments of every client that say whom it trusts and who it is.

    `ca` is the PEM file of the CA that signed the server's certificate. The credential is `token`, or
    `token_file` (read again when it has changed), or `certificate`, the PEM files of a client certificate and
    its key. `context` takes the place of `ca` and `certificate`.
    """

    ca: str | Path | None
    token: str | None
    token_file: str | Path | None
    certificate: tuple[str | Path, str | Path] | None
    context: SSLContext | None


@dataclasses.dataclass(frozen=True, slots=True)
class Destination:
    """Whom a client calls, and as whom."""

    host: str
    port: int
    path: str
    context: SSLContext
    token: Token


class Token:
    """An access token, given as text or as a file that is read again when it has changed."""

    def __init__(self, token: str | None, file: Path | None) -> None:
        if token is not None and file is not None:
            raise ConfigurationError("token", "given twice", "give either token or token_file")
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._text = _token(token) if token is not None else None

    def text(self) -> str | None:
        """The token as it is now, None without one. Raises `ConfigurationError`."""
        if self._file is None:
            return self._text
        try:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._text = _token(self._file.read_text(encoding="ascii"))
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(str(self._file), "the token cannot be read") from error
        return self._text


def _token(text: str) -> str:
    text = text.strip()
    if not text.isascii() or not text.isprintable() or " " in text or not text:
        raise ConfigurationError("token", "is no access token", "give what `secure-net token issue` printed")
    return text


def find(
    service: str,
    address: str | tuple[str, int] | None = None,
    *,
    ca: str | Path | None = None,
    token: str | None = None,
    token_file: str | Path | None = None,
    certificate: tuple[str | Path, str | Path] | None = None,
    context: SSLContext | None = None,
) -> Destination:
    """Whom a client of `service` calls: `address` is a URL, or host and port, or None for what is configured.

    With host and port and nothing else, the found certificate is shown (no secret leaves us by that), but no
    found token. Raises `ConfigurationError` for what is missing, unreadable, or no address.
    """
    shows_nothing = token is None and token_file is None and certificate is None
    if address is None or (ca is None and context is None):
        found = client_configuration()
        if shows_nothing and not isinstance(address, str):
            own = own_credential(found)
            certificate = own.certificate
            token, token_file = (own.token, own.token_file) if address is None else (None, None)
        address = address or own_url(found, service)
        ca = ca or (own_ca(found) if context is None else None)
    protocol = PROTOCOLS[service]
    host, port, path = parse_url(service, address) if isinstance(address, str) else (*address, protocol.path)
    if context is None:
        pem, key = (None, None) if certificate is None else map(Path, certificate)
        context = client_context(Path(str(ca)), pem, key, alpn=protocol.alpn)
    return Destination(
        host, port, path, context, Token(token, None if token_file is None else Path(token_file))
    )


def parse_url(service: str, url: str) -> tuple[str, int, str]:
    """Host, port and path of a URL of `service`. Raises `ConfigurationError` that does not repeat the URL."""
    protocol = PROTOCOLS[service]
    problem, cure = f"is no {protocol.scheme} URL", f"write it as {protocol.example}"
    if protocol.scheme == "https":
        cure += "; there is no http"
    try:
        parts = urllib.parse.urlsplit(url)
        port = protocol.port if parts.port is None else parts.port
    except ValueError as error:
        raise ConfigurationError("url", problem, cure) from error
    if parts.scheme != protocol.scheme or not parts.hostname or not url.isascii() or not port:
        raise ConfigurationError("url", problem, cure)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("url", "has more than host, port and path", "a token goes into token_file")
    path = "" if parts.path == "/" else parts.path
    if path and not protocol.path:
        raise ConfigurationError("url", "has a path", cure)
    return parts.hostname, port, path or protocol.path


# --- the discovered configuration ---------------------------------------------------------------------


class Credential(NamedTuple):
    """What is shown to a server: a token or its file, certificate and key, or both."""

    token: str | None
    token_file: Path | None
    certificate: tuple[Path, Path] | None


def client_configuration(flag: Path | None = None) -> config.Configuration:
    """As `config.discover`, but a client may do without a file: the environment can be enough."""
    if config.find(flag) is None:
        return config.parse("", None, os.environ)
    return config.discover(flag)


def own_url(found: config.Configuration, service: str) -> str:
    """The address of `service`: ``[client].url`` unless it is another service's, else from its own table."""
    protocol = PROTOCOLS[service]
    scheme = found.client.url.partition(":")[0].lower()
    if scheme and scheme not in {other.scheme for other in PROTOCOLS.values() if other is not protocol}:
        return found.client.url
    if service not in found.services:
        cure = "give a url (--url), $SECURE_NET_CLIENT__URL or [client], or run `secure-net init`"
        raise ConfigurationError("client.url", f"no [{service}] table to take the address from", cure)
    address = found.addresses(service)[0]
    if not address.port:
        cure = "the daemon chose it; give it by --url, as it was printed at the start"
        raise ConfigurationError(f"{service}.listen", "port 0 names no port", cure)
    return f"{protocol.scheme}://{address.reachable(found.server.names[0])}{protocol.path}"


def own_ca(found: config.Configuration) -> Path:
    """The CA's file: what ``[client]`` names, else the one beside the daemon's certificates."""
    if found.client.ca:
        return found.path(found.client.ca)
    beside = found.tls_directory / "ca.pem"
    if not beside.is_file():
        cure = (
            "give the daemon's ca.pem by --ca, $SECURE_NET_CLIENT__CA or [client], or run `secure-net init`"
        )
        raise ConfigurationError("client.ca", "no CA to verify the daemon with", cure)
    return beside


def own_credential(
    found: config.Configuration,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    token_file: Path | None = None,
) -> Credential:
    """What is given here, else what ``[client]`` names, else the admin's certificate where no token is shown.

    A certificate's key is beside it as ``.key`` where none is named.
    """
    table = found.client
    token = table.token or None
    if token_file is not None:
        token = None
    elif table.token_file:
        token_file = found.path(table.token_file)
    if certificate is None:
        if table.cert:
            certificate = found.path(table.cert)
            key = key or (found.path(table.key) if table.key else None)
        elif not token and not token_file and (beside := found.tls_directory / ADMIN_CERTIFICATE).is_file():
            certificate = beside
    if certificate is None:
        return Credential(token, token_file, None)
    return Credential(token, token_file, (certificate, key or certificate.with_suffix(".key")))
