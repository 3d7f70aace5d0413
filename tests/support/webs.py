"""A browser client's service on the bench, with a parrot where the chat would be."""

from __future__ import annotations

from secure_net.identity.authenticator import Authenticator
from secure_net.identity.policy import Policy, Principal
from secure_net.identity.revocation import Revocations
from secure_net.messaging.web import WebService
from secure_net.messaging.websocket import WebSocketReader
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSPolicy
from tests.support.machines import LineService
from tests.support.pki import PKI
from tests.support.rig import Rig
from tests.support.websocket import Parrot

ORIGIN = b"https://localhost:8446"


class ParrotSession:
    """Says everything again; `closings` counts how often it heard of the end."""

    def __init__(self, reader: WebSocketReader) -> None:
        self.machine = Parrot(reader)
        self.closings = 0

    def handle(self, event: list[bytes]) -> None:
        self.machine.answer(event)

    def closed(self) -> None:
        self.closings += 1


class WebRig(Rig):
    """`sessions` are the parrots that were begun; `origins` may be changed; `revocations` are in force."""

    def __init__(self, pki: PKI) -> None:
        super().__init__(
            pki,
            LineService(TLSPolicy(alpn=("http/1.1",)), name="chat-web"),
            identify=self._identify,
        )
        self.clock.jump_wall(pki.clock.wall() - self.clock.wall())  # certificates are of today
        self.sessions: list[ParrotSession] = []
        self.origins = frozenset({ORIGIN.decode()})
        self.revocations = Revocations()
        self.authenticator = Authenticator(
            clock=self.clock,
            trust_domain=pki.trust_domain,
            policy=Policy({}),
            revocations=self.revocations,
            keys=pki.keys,
        )
        self.service = WebService(  # type: ignore[assignment]  # as good a service as that of lines
            "chat-web",
            self._begin,
            self.authenticator,
            self.counters,
            clock=self.clock,
            origins=lambda: self.origins,
        )

    def _identify(self, der: bytes) -> Principal:
        return self.authenticator.certificate(der)

    def _begin(self, connection: Connection, reader: WebSocketReader) -> ParrotSession:
        self.sessions.append(ParrotSession(reader))
        return self.sessions[-1]
