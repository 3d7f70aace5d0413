"""The session: binds the HTTP machine to a connection, an authenticator and an application.

Who is it? A bearer token decides where one is sent, else the connection's client certificate, else nobody:
the application says whether nobody may have what is asked for. A credential that is shown and wrong ends
the connection with one and the same 401, whatever is wrong with it.

What was decided on a head stands for the next one that is the same object (see `HTTPMachine`), as long as
the authenticator's epoch is unchanged and the credential has not ended.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, cast

from secure_net.clock import Clock
from secure_net.errors import (
    AuthenticationError,
    LocalProtocolError,
    Refusal,
    RefusedError,
    RemoteProtocolError,
)
from secure_net.http.head import Head
from secure_net.http.protocol import BodyWanted, HTTPMachine, Request, RequestHead
from secure_net.http.response import (
    UNAVAILABLE,
    BodyBrokenError,
    BodySource,
    Piece,
    Response,
    ResponseHeads,
    Stream,
)
from secure_net.limits import HTTPLimits
from secure_net.machine import Machine
from secure_net.metrics import AuthMethod, AuthOutcome, ServiceCounters
from secure_net.wire.tls import TLSPolicy

if TYPE_CHECKING:
    from secure_net.identity.authenticator import Authenticator
    from secure_net.identity.policy import Principal
    from secure_net.wire.connection import Connection

# RFC 6750 section 2.1; the scheme in any case (RFC 9110 section 11.1).
_BEARER = re.compile(rb"(?i:bearer) ++([A-Za-z0-9._~+/-]++=*+)")

# What stands in the way of somebody who was believed; any other refusal is a 401.
_STATUS = {Refusal.CONNECTIONS_PER_PRINCIPAL: 429, Refusal.PENALTY: 429}

_FOREVER = float("inf")

# A peer that takes a long body as fast as it comes lets the others have their turn every so many bytes.
TURN_BYTES = 1024 * 1024


class Application(Protocol):
    """What answers the requests of an HTTP service."""

    def admit(self, head: Head, principal: Principal | None) -> Response | None:
        """Refuse before the body is read (401, 403, 404, 405, 411, 415), or None.

        Shall depend on nothing but its arguments: a None is remembered while both stay the same.
        """
        ...

    def respond(
        self, request: Request, principal: Principal | None, connection: Connection
    ) -> Response | Coroutine[Any, Any, Response]:
        """Answer a request that was admitted: at once, or by a coroutine that the shell runs."""
        ...


class HTTPService:
    """One HTTP service, as a listener wants it: what all its connections share.

    A body of more than `body_bytes` gets 413; one slower than `body_bytes_per_second`, counted after
    `body_seconds`, gets 408. `authentication`: who has no principal within the authentication deadline is
    closed (for services without open pages). `any_path`: see `HTTPMachine`.
    """

    def __init__(
        self,
        name: str,
        application: Application,
        authenticator: Authenticator,
        counters: ServiceCounters,
        *,
        clock: Clock,
        limits: HTTPLimits | None = None,
        tls: TLSPolicy | None = None,
        authentication: bool = True,
        body_bytes: int = 0,
        body_seconds: float = 5.0,
        body_bytes_per_second: int = 1024,
        any_path: bool = False,
    ) -> None:
        self.name = name
        self.application = application
        self.authenticator = authenticator
        self.counters = counters
        self.clock = clock
        self.tls = tls or TLSPolicy(alpn=("http/1.1",))
        self.authentication = authentication
        self._limits = limits or HTTPLimits()
        self._heads = ResponseHeads(clock.wall)
        self._body_bytes = body_bytes
        self._body_seconds = body_seconds
        self._body_bytes_per_second = body_bytes_per_second
        self._any_path = any_path

    def machine(self) -> HTTPMachine:
        return HTTPMachine(
            self._limits,
            self._heads,
            body_bytes=self._body_bytes,
            body_seconds=self._body_seconds,
            body_bytes_per_second=self._body_bytes_per_second,
            responses=self.counters.responses,
            any_path=self._any_path,
        )

    def session(self, connection: Connection) -> HTTPSession:
        return HTTPSession(self, connection)


class HTTPSession:
    """One connection of an `HTTPService`."""

    __slots__ = (
        "_application",
        "_authenticator",
        "_by_certificate",
        "_connection",
        "_counters",
        "_epoch",
        "_head",
        "_http",
        "_principal",
        "_source",
        "_turn",
        "_until",
        "_wall",
        "machine",
    )

    def __init__(self, service: HTTPService, connection: Connection) -> None:
        self._http = service.machine()
        self.machine: Machine = self._http  # the shell's name for it
        self._application = service.application
        self._authenticator = service.authenticator
        self._counters = service.counters
        self._wall = service.clock.wall
        self._connection = connection
        # Who the certificate names, under the policy of the epoch when it was last looked at.
        # The shell has it from `Authenticator.certificate`, and needs to know no more than a name of it.
        self._by_certificate = cast("Principal | None", connection.certificate_principal)
        # The head that was admitted last, for whom, and how long that may stand.
        self._head: Head | None = None
        self._principal: Principal | None = None
        self._epoch = 0
        self._until = 0.0
        # Where the rest of the answer under way comes from, and what of it may go in this turn of the loop.
        self._source: BodySource | None = None
        self._turn = 0

    def handle(self, event: RequestHead | Request | BodyWanted) -> Coroutine[Any, Any, None] | None:
        """Admit and answer. Raises `RemoteProtocolError` with the status of the last words."""
        if isinstance(event, BodyWanted):
            return self._go_on_streaming()
        head, machine = event.head, self._http
        if (
            head is not self._head
            or self._epoch != self._authenticator.epoch
            or self._wall() >= self._until
            or machine.draining
        ):
            refusal = self._judge(head)
            if refusal is not None:
                machine.respond(refusal)
                return None
        if not isinstance(event, Request):
            machine.accept_body()
            return None
        answer = self._application.respond(event, self._principal, self._connection)
        if isinstance(answer, Response):
            if isinstance(answer, Stream):
                self._begin_streaming(answer)
            else:
                machine.respond(answer)
            return None
        return self._respond_later(answer)

    def closed(self) -> None:
        """Nothing outlives the connection."""
        self._end_streaming()

    async def _respond_later(self, answer: Coroutine[Any, Any, Response]) -> None:
        response = await answer
        if isinstance(response, Stream):
            self._begin_streaming(response)
        else:
            self._http.respond(response)

    # -- bodies in pieces -----------------------------------------------------------------------------

    def _begin_streaming(self, answer: Stream) -> None:
        self._source = answer.source
        self._turn = TURN_BYTES
        try:
            self._http.respond(answer)
        finally:
            if not self._http.streaming:
                self._end_streaming()

    def _end_streaming(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _go_on_streaming(self) -> Coroutine[Any, Any, None] | None:
        if self._source is None:
            raise LocalProtocolError("a body without a source")
        try:
            piece = self._source.next_piece()
        except BodyBrokenError as error:
            self._connection.drop(Refusal.INTERNAL, str(error))
            return None
        if not isinstance(piece, (bytes, memoryview)):
            return self._send_later(piece)
        self._send(piece)
        if self._turn > 0:
            return None
        self._turn = TURN_BYTES
        return _next_turn()

    async def _send_later(self, piece: Coroutine[Any, Any, Piece]) -> None:
        try:
            self._send(await piece)
        except BodyBrokenError as error:
            self._connection.drop(Refusal.INTERNAL, str(error))

    def _send(self, piece: Piece) -> None:
        self._turn -= len(piece)
        self._http.send_piece(piece)
        if not self._http.streaming:
            self._end_streaming()

    def _judge(self, head: Head) -> Response | None:
        """Who asks, and may they? Remembers a yes; gives the answer that says no."""
        self._head = None
        if self._http.draining:
            return UNAVAILABLE
        epoch = self._authenticator.epoch
        try:
            principal = self._authenticate(head)
        except RefusedError as error:
            status = _STATUS.get(error.reason, 401)
            raise RemoteProtocolError(error.reason, error.detail, status) from error
        refusal = self._application.admit(head, principal)
        if refusal is not None:
            if principal is None and refusal.status == 401:
                self._counters.authenticated(AuthMethod.NONE, AuthOutcome.REFUSED)
            return refusal
        self._head, self._principal, self._epoch = head, principal, epoch
        shown = (principal, self._by_certificate)
        self._until = min((who.expires_at for who in shown if who is not None), default=_FOREVER)
        return None

    def _authenticate(self, head: Head) -> Principal | None:
        if self._by_certificate is not None:  # beside a token too: the end of either ends the session
            self._by_certificate = self._authenticator.current(self._by_certificate)
        if head.authorization is not None:
            principal = self._by_token(head.authorization)
        elif self._by_certificate is not None:
            principal = self._by_certificate
        else:
            return None
        if principal is not self._connection.principal:
            self._connection.authenticated(principal)
        return principal

    def _by_token(self, authorization: bytes) -> Principal:
        try:
            principal = self._authenticator.bearer(bearer_token(authorization), self._connection.certificate)
        except AuthenticationError:
            self._counters.authenticated(AuthMethod.TOKEN, AuthOutcome.REFUSED)
            raise
        self._counters.authenticated(AuthMethod.TOKEN, AuthOutcome.ACCEPTED)
        return principal


async def _next_turn() -> None:
    await asyncio.sleep(0)


def bearer_token(authorization: bytes) -> bytes:
    """The token in an `Authorization` field (RFC 6750 section 2.1). Raises `AuthenticationError`."""
    bearer = _BEARER.fullmatch(authorization)
    if bearer is None:
        raise AuthenticationError("not a bearer token")
    return bearer[1]
