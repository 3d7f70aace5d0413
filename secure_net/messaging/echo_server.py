"""The echo service, under either engine: authenticated, permitted by ``echo:use``, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from secure_net.errors import AuthenticationError, NotPermittedError
from secure_net.limits import FrameLimits
from secure_net.messaging.echo import EchoMachine
from secure_net.wire.tls import TLSPolicy

if TYPE_CHECKING:
    from secure_net.identity.authenticator import Authenticator
    from secure_net.identity.policy import Principal
    from secure_net.wire.connection import Connection


class EchoSession:
    """One peer's messages."""

    __slots__ = ("_authenticator", "_connection", "_principal", "machine")

    def __init__(self, connection: Connection, authenticator: Authenticator, limits: FrameLimits) -> None:
        self.machine = EchoMachine(limits)
        self._connection, self._authenticator = connection, authenticator
        self._principal: Principal | None = None

    def handle(self, messages: list[bytes]) -> None:
        """Answer them. Raises `RefusedError` for whoever may not use the service, or may no longer."""
        connection = self._connection
        # The shell knows no more of it than a name; it came from our authenticator.
        principal = self._principal or cast("Principal | None", connection.principal)
        if principal is None:
            raise AuthenticationError("echo: no certificate was shown")
        self._principal = principal = self._authenticator.current(principal)
        if not principal.permits("echo", "use"):
            raise NotPermittedError("echo:use")
        connection.counters.frames_received += len(messages)
        self.machine.answer(messages)
        connection.counters.frames_sent += len(messages)

    def closed(self) -> None:
        """Nothing is kept for a peer."""


class EchoService:
    """What a listener serves. A certificate is the one credential that the protocol has room for."""

    authentication = True

    def __init__(self, name: str, authenticator: Authenticator, limits: FrameLimits, tls: TLSPolicy) -> None:
        self.name, self.tls = name, tls
        self._authenticator, self._limits = authenticator, limits

    def session(self, connection: Connection) -> EchoSession:
        return EchoSession(connection, self._authenticator, self._limits)
