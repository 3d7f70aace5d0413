"""The counters of one connection that a thread drives: what the thread counts, it counts for itself."""

from __future__ import annotations

import threading

from secure_net.metrics import ServiceCounters


class OwnCounters(ServiceCounters):
    """Bytes and frames are the connection's own until `add_up`; everything else is the service's, and the
    loop's thread alone counts it."""

    __slots__ = ("_lock", "_service")

    def __init__(self, service: ServiceCounters, lock: threading.Lock) -> None:
        """`lock` guards bytes and frames of `service` against its other connections."""
        self._service, self._lock = service, lock
        self.name = service.name
        self.connections, self.refused, self.auth = service.connections, service.refused, service.auth
        self.handshakes, self.responses = service.handshakes, service.responses
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.bytes_received = self.bytes_sent = self.frames_received = self.frames_sent = 0

    @property
    def connections_open(self) -> int:
        return self._service.connections_open

    @connections_open.setter
    def connections_open(self, count: int) -> None:
        self._service.connections_open = count

    def add_up(self) -> None:
        """Add what was counted to the service's."""
        service = self._service
        with self._lock:
            service.bytes_received += self.bytes_received
            service.bytes_sent += self.bytes_sent
            service.frames_received += self.frames_received
            service.frames_sent += self.frames_sent
        self._begin_anew()
