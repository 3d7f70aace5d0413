"""A shell on the bench: the line service, a clock in the hand, peers without sockets."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from secure_net.limits import ConnectionLimits
from secure_net.metrics import ServiceCounters
from secure_net.wire.connection import Connection
from secure_net.wire.shell import Principal, Shell
from secure_net.wire.tls import HelloGate, TLSLayer, TLSMaterial, client_context, server_context
from tests.support.clock import FakeClock
from tests.support.machines import LineService
from tests.support.pki import PKI
from tests.support.transport import UNLIMITED, FakeTransport, TLSPeer

ADDRESS = ("127.0.0.1", 50_000)


@dataclasses.dataclass
class Bench:
    """One accepted connection, its transport, and the peer at the other end."""

    connection: Connection
    transport: FakeTransport
    peer: TLSPeer

    def ask(self, *lines: bytes) -> bytes:
        """Send the lines in one segment; the plaintext that has come back."""
        self.peer.send(b"".join(line + b"\n" for line in lines))
        return self.peer.read()


class Rig:
    """Makes connections of one `LineService` as a listener would, and keeps what was logged."""

    def __init__(
        self,
        pki: PKI,
        service: LineService | None = None,
        *,
        limits: ConnectionLimits | None = None,
        identify: Callable[[bytes], Principal] | None = None,
    ) -> None:
        self.pki = pki
        self.service = service or LineService()
        self.clock = FakeClock()
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.shell = Shell(self.clock, limits or ConnectionLimits(), identify, self._log)
        self.counters = ServiceCounters(self.service.name)
        self.lost: list[object] = []
        material = TLSMaterial.load(pki.certs)
        self._context = server_context(material, self.service.tls)
        self._gate = HelloGate(material.names, self.service.tls.alpn)

    def _log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    def refusals(self) -> list[tuple[str, str]]:
        """(reason, detail) of every refusal in the log, in order."""
        return [(f["reason"], f["detail"]) for event, f in self.logged if event == "connection_refused"]

    def refused(self) -> dict[str, int]:
        """What was counted, without the zeros."""
        return {reason.value: count for reason, count in self.counters.refused.items() if count}

    def outcomes(self) -> dict[str, int]:
        return {outcome.value: count for outcome, count in self.counters.connections.items() if count}

    def accept(
        self, *, room: int = UNLIMITED, address: tuple[str, int] = ADDRESS
    ) -> tuple[Connection, FakeTransport]:
        """A peer connects, and has said nothing yet."""
        connection = Connection(self.shell, self.service, self.counters, self.layer, self.lost.append)
        return connection, FakeTransport(connection, address, room).connect()

    def layer(self) -> TLSLayer:
        return TLSLayer(self._context, gate=self._gate)

    def context(self, certificate: Path | None = None, **options: Any) -> ssl.SSLContext:
        return client_context(self.pki.ca, certificate, **options)

    def open(
        self,
        certificate: Path | None = None,
        *,
        pieces: Callable[[], Iterable[int]] = tuple,
        address: tuple[str, int] = ADDRESS,
    ) -> Bench:
        """A peer connects and shakes hands."""
        connection, transport = self.accept(address=address)
        peer = TLSPeer(transport, self.context(certificate)).shake(pieces)
        return Bench(connection, transport, peer)

    def at_rest(self) -> bool:
        """Nothing is left of any connection."""
        live = self.shell.live
        return (
            self.counters.connections_open == 0
            and len(live) == 0
            and live.handshakes == 0
            and live.principals() == {}
            and self.shell.buffered_bytes == 0
            and self.clock.pending == 0
        )
