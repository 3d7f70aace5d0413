"""What both clients have in common: whom they call, what they show, and what an answer may be.

Why not `xmlrpc.client.Transport`: it sends a call again when the connection was reset, though the first
may have run. Why not `http.client`: its timeout starts anew with every byte, so that a slow peer is never
late, and it takes framing that a strict reader refuses. Both clients run `http.client_protocol`'s machine.
"""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from ssl import SSLContext
from typing import Any

from secure_net import config
from secure_net.errors import (
    AuthenticationError,
    ConfigurationError,
    NotPermittedError,
    OutcomeUnknownError,
    Refusal,
    RemoteProtocolError,
    UnavailableError,
)
from secure_net.http.client_protocol import Answer
from secure_net.limits import RPCLimits
from secure_net.rpc.decode import loads_answer
from secure_net.wire.tls import client_context

_PATH = "/RPC2"
_ALPN = ("http/1.1",)
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, never bound
_ANSWER_MARGIN_SECONDS = 5.0  # the server's own deadline fault should reach us before ours passes
_MEDIA_TYPES = frozenset({b"text/xml", b"application/xml"})
_HEADERS = (
    (b"content-type", b"text/xml; charset=utf-8"),
    (b"accept", b"text/xml"),
    (b"user-agent", b"secure-net"),
)


class Token:
    """An access token, given as text or as a file that is read again when it has changed."""

    def __init__(self, token: str | None, file: Path | None) -> None:
        if token is not None and file is not None:
            raise ConfigurationError("token", "given twice", "give either token or token_file")
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._authorization = self._field(token) if token is not None else None

    @staticmethod
    def _field(token: str) -> bytes:
        text = token.strip()
        if not text.isascii() or not text.isprintable() or " " in text or not text:
            raise ConfigurationError(
                "token", "is no access token", "give what `secure-net token issue` printed"
            )
        return f"Bearer {text}".encode("ascii")

    def authorization(self) -> bytes | None:
        """The `Authorization` field, None without a token. Raises `ConfigurationError`."""
        if self._file is None:
            return self._authorization
        try:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._authorization = self._field(self._file.read_text(encoding="ascii"))
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(str(self._file), "the token cannot be read") from error
        return self._authorization


class Target:
    """Whom a client calls, and as whom. The parameters are `RPCClient`'s."""

    def __init__(
        self,
        url: str | None,
        *,
        ca: str | Path | None,
        token: str | None,
        token_file: str | Path | None,
        certificate: tuple[str | Path, str | Path] | None,
        context: SSLContext | None,
        limits: RPCLimits | None,
        deadline_seconds: float | None,
    ) -> None:
        self.limits = limits or RPCLimits()
        self.deadline_seconds = deadline_seconds or self.limits.rpc_call_seconds + _ANSWER_MARGIN_SECONDS
        if url is None or (ca is None and context is None):
            found = config.discover()
            if url is None and token is None and token_file is None and certificate is None:
                token, token_file, certificate = _own_credential(found)
            url = url or found.client.url or _own_url(found)
            ca = ca or _own_ca(found)
        self.host, self.port, self.path = _parts(url)
        self.host_field = _host_field(self.host, self.port)
        self._token = Token(token, None if token_file is None else Path(token_file))
        if context is None:
            pem, key = (None, None) if certificate is None else map(Path, certificate)
            context = client_context(Path(str(ca)), pem, key, alpn=_ALPN)
        self.context = context

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        authorization = self._token.authorization()
        return _HEADERS if authorization is None else (*_HEADERS, (b"authorization", authorization))

    def value_of(self, answer: Answer) -> Any:
        """What the server answered with. Raises what `RPCClient.call` says, connection errors aside."""
        status = answer.status
        if status == 200:
            media_type = (answer.get(b"content-type") or b"").partition(b";")[0].strip().lower()
            if media_type not in _MEDIA_TYPES or answer.get(b"content-encoding") is not None:
                raise RemoteProtocolError(Refusal.UNSUPPORTED, "the answer is no plain XML", 200)
            return loads_answer(answer.body, self.limits)
        if status == 401:
            raise AuthenticationError("the server does not believe the credential, or was shown none")
        if status == 403:
            raise NotPermittedError("the credential has no scope rpc:call at all")
        if status in (429, 503):
            raise UnavailableError(f"the server answered {status}", _retry_after(answer))
        if status >= 500:
            raise OutcomeUnknownError(f"the server answered {status}: the call may have run")
        # A redirect is not followed: the credential is for this server alone.
        raise RemoteProtocolError(Refusal.UNSUPPORTED, f"the server answered {status}", status)


def _retry_after(answer: Answer) -> float | None:
    value = answer.get(b"retry-after") or b""
    return float(value) if value.isdigit() and len(value) < 10 else None


def _host_field(host: str, port: int) -> bytes:
    name = f"[{host}]" if ":" in host else host
    return (name if port == 443 else f"{name}:{port}").encode("ascii")


def _parts(url: str) -> tuple[str, int, str]:
    """Host, port and path of an https URL. Raises `ConfigurationError`."""
    problem = "is no https URL"
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or 443
    except ValueError as error:
        raise ConfigurationError("url", problem) from error
    if parts.scheme != "https" or not parts.hostname or not url.isascii():
        raise ConfigurationError("url", problem, "write it as https://host:8443/RPC2; there is no http")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("url", "has more than host, port and path", "a token goes into token_file")
    return parts.hostname, port, parts.path if parts.path not in ("", "/") else _PATH


# --- the discovered configuration ---------------------------------------------------------------------


def _own_url(found: config.Configuration) -> str:
    if found.rpc is None:
        raise ConfigurationError("rpc", "no such table to take the address from", "give a url")
    address = found.addresses("rpc")[0]
    if address.host in _WILDCARDS:
        address = address._replace(host=found.server.names[0])
    return f"https://{address}{_PATH}"


def _own_ca(found: config.Configuration) -> Path:
    return found.path(found.client.ca) if found.client.ca else found.tls_directory / "ca.pem"


def _own_credential(
    found: config.Configuration,
) -> tuple[str | None, Path | None, tuple[str | Path, str | Path] | None]:
    """Token, token file, certificate and key: what ``[client]`` names, else the admin's certificate."""
    table = found.client
    if table.token or table.token_file:
        return table.token or None, found.path(table.token_file) if table.token_file else None, None
    certificate = found.path(table.cert) if table.cert else found.tls_directory / "clients" / "admin.pem"
    if not table.cert and not certificate.is_file():
        return None, None, None
    key = found.path(table.key) if table.key else certificate.with_suffix(".key")
    return None, None, (certificate, key)
