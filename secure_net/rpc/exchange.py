"""What both clients have in common: whom they call, what they show, and what an answer may be.

Why not `xmlrpc.client.Transport`: it sends a call again when the connection was reset, though the first
may have run. Why not `http.client`: its timeout starts anew with every byte, so that a slow peer is never
late, and it takes framing that a strict reader refuses. Both clients run `http.client_protocol`'s machine.
"""

from __future__ import annotations

from typing import Any, Unpack

from secure_net import discovery
from secure_net.discovery import Credentials
from secure_net.errors import (
    AuthenticationError,
    NotPermittedError,
    OutcomeUnknownError,
    Refusal,
    RemoteProtocolError,
    UnavailableError,
)
from secure_net.http.client_protocol import Answer
from secure_net.limits import RPCLimits
from secure_net.rpc.decode import loads_answer

_ANSWER_MARGIN_SECONDS = 5.0  # the server's own deadline fault should reach us before ours passes
_MEDIA_TYPES = frozenset({b"text/xml", b"application/xml"})
_HEADERS = (
    (b"content-type", b"text/xml; charset=utf-8"),
    (b"accept", b"text/xml"),
    (b"user-agent", b"secure-net"),
)


class TargetOptions(Credentials, total=False):
    """The keyword arguments of both clients: whom they trust and who they are, bounds and deadline.

    A call may take `deadline_seconds`, connecting included; the default leaves the server time to answer
    with its own deadline's fault.
    """

    deadline_seconds: float | None
    limits: RPCLimits | None


class Target:
    """Whom a client calls, and as whom. The parameters are `RPCClient`'s."""

    def __init__(
        self,
        url: str | None,
        *,
        limits: RPCLimits | None = None,
        deadline_seconds: float | None = None,
        **credentials: Unpack[Credentials],
    ) -> None:
        self.limits = limits or RPCLimits()
        self.deadline_seconds = deadline_seconds or self.limits.rpc_call_seconds + _ANSWER_MARGIN_SECONDS
        found = discovery.find("rpc", url, **credentials)
        self.host, self.port, self.path, self.context = found.host, found.port, found.path, found.context
        self.host_field = _host_field(self.host, self.port)
        self._token = found.token

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        token = self._token.text()
        if token is None:
            return _HEADERS
        return (*_HEADERS, (b"authorization", b"Bearer " + token.encode("ascii")))

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
