"""What all connections of one daemon share: clock, bounds, the budget of bytes, and who is connected."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Container, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from secure_net.clock import Clock
from secure_net.limits import ConnectionLimits
from secure_net.machine import Machine
from secure_net.wire.tls import TLSPolicy

if TYPE_CHECKING:
    from secure_net.wire.channel import Channel
    from secure_net.wire.connection import Connection

RECEIVE_BYTES = 64 * 1024


class Principal(Protocol):
    """As much as the shell needs to know of who a session belongs to."""

    @property
    def name(self) -> str: ...

    @property
    def expires_at(self) -> float:
        """Unix time at which the credential behind the session ends."""
        ...


class Session(Protocol):
    """One connection's side of a service: its machine, and what to do with the machine's events."""

    @property
    def machine(self) -> Machine: ...

    def handle(self, event: Any) -> Coroutine[Any, Any, None] | None:
        """Act on an event. None: done. A coroutine is run as a task; until it is done the machine is
        asked for no further event."""
        ...

    def closed(self) -> None:
        """The connection is gone."""
        ...


class Service(Protocol):
    """What a listener serves. `name` is the `service` label of every metric and log line.

    `authentication`: a session without a principal is closed at the authentication deadline.
    """

    name: str
    tls: TLSPolicy
    authentication: bool

    def session(self, connection: Connection) -> Session: ...


def source_of(address: str) -> str:
    """The source that per-source bounds count by: an IPv4 address, or the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


class LiveConnections:
    """Every open connection, counted by source and by principal, and those still in their handshake."""

    __slots__ = ("_all", "_answered", "_by_principal", "_by_source", "_silent")

    def __init__(self) -> None:
        self._all: set[Channel] = set()
        self._by_source: dict[str, int] = {}
        self._by_principal: dict[str, set[Channel]] = {}
        # Those in their handshake, each in order of arrival: no hello from them yet, or ours is sent.
        self._silent: dict[Channel, None] = {}
        self._answered: dict[Channel, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Channel]:
        return iter(tuple(self._all))

    def opened(self, connection: Channel) -> None:
        self._all.add(connection)
        source = connection.source
        self._by_source[source] = self._by_source.get(source, 0) + 1

    def closed(self, connection: Channel) -> None:
        """Forget a connection wherever it stands. Harmless when it was never known."""
        if connection not in self._all:
            return
        self._all.discard(connection)
        self.handshake_done(connection)
        source = connection.source
        count = self._by_source[source] - 1
        if count:
            self._by_source[source] = count
        else:
            del self._by_source[source]
        if connection.principal is not None:
            self.unbound(connection, connection.principal.name)

    def from_source(self, source: str) -> int:
        return self._by_source.get(source, 0)

    def heaviest(self) -> Channel:
        """The connection for which the most is kept. Over the budget it is the one that goes: one hog must
        not cost the others what they need."""
        return max(self._all, key=lambda connection: connection.weight)

    def bound(self, connection: Channel, name: str) -> None:
        self._by_principal.setdefault(name, set()).add(connection)

    def unbound(self, connection: Channel, name: str) -> None:
        connections = self._by_principal.get(name, set())
        connections.discard(connection)
        if not connections:
            self._by_principal.pop(name, None)

    def of(self, name: str) -> int:
        return len(self._by_principal.get(name, ()))

    def principals(self) -> dict[str, int]:
        """Name to number of connections, for the status."""
        return {name: len(connections) for name, connections in sorted(self._by_principal.items())}

    def handshake_begun(self, connection: Channel) -> None:
        self._silent[connection] = None

    def handshake_answered(self, connection: Channel) -> None:
        """The peer's hello was whole and for us."""
        if connection in self._silent:
            del self._silent[connection]
            self._answered[connection] = None

    def handshake_done(self, connection: Channel) -> None:
        self._silent.pop(connection, None)
        self._answered.pop(connection, None)

    @property
    def handshakes(self) -> int:
        return len(self._silent) + len(self._answered)

    def longest_handshake(self, among: Container[Channel] | None = None) -> Channel | None:
        """The one that came first among those that have said nothing, or among those whose hello is answered:
        wherever more stand, for there the flood is. Only of those in `among`, where that is given."""
        silent: Iterable[Channel] = self._silent
        answered: Iterable[Channel] = self._answered
        more = len(self._silent) > len(self._answered)
        if among is not None:
            silent = [connection for connection in silent if connection in among]
            answered = [connection for connection in answered if connection in among]
            more = len(silent) > len(answered)
        return next(iter(silent if more else answered), None)


@dataclasses.dataclass(slots=True)
class Shell:
    """Shared by the listeners of a daemon; `limits` may be replaced at a reload.

    `identify` says who a verified client certificate (DER) names, or raises `RefusedError`; a client's
    shell has none, as OpenSSL verified the server's name already.
    `log` takes an event name and its fields.
    """

    clock: Clock
    limits: ConnectionLimits
    identify: Callable[[bytes], Principal] | None
    log: Callable[..., None]
    live: LiveConnections = dataclasses.field(default_factory=LiveConnections)
    buffered_bytes: int = 0
    receive_buffer: memoryview = dataclasses.field(
        default_factory=lambda: memoryview(bytearray(RECEIVE_BYTES))
    )

    @property
    def stressed(self) -> bool:
        """More connections than overload_percent of the cap: deadlines shorten."""
        return len(self.live) * 100 > self.limits.connections_count * self.limits.overload_percent

    def shortened(self, seconds: float) -> float:
        """A deadline that shrinks under overload, as Postfix's do under stress."""
        return seconds / self.limits.overload_divisor_ratio if self.stressed else seconds
