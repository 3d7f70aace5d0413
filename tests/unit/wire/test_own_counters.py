"""What threads count, and that nothing of it is lost."""

from __future__ import annotations

import threading

from secure_net.errors import Refusal
from secure_net.metrics import AuthMethod, AuthOutcome, ConnectionOutcome, ServiceCounters
from secure_net.wire.own_counters import OwnCounters


def test_bytes_and_frames_are_added_up() -> None:
    service = ServiceCounters("echo")
    own = OwnCounters(service, threading.Lock())
    own.bytes_received += 5
    own.bytes_sent += 7
    own.frames_received += 1
    own.frames_sent += 2
    assert (service.bytes_received, service.frames_sent) == (0, 0)
    for _ in range(2):  # and once
        own.add_up()
        assert (service.bytes_received, service.bytes_sent) == (5, 7)
        assert (service.frames_received, service.frames_sent) == (1, 2)


def test_everything_else_is_the_service_s() -> None:
    service = ServiceCounters("echo")
    service.connections_open = 3
    own = OwnCounters(service, threading.Lock())
    assert own.name == "echo"
    own.connections_open += 1
    own.refuse(Refusal.IDLE)
    own.connection(ConnectionOutcome.CLEAN)
    own.authenticated(AuthMethod.CERTIFICATE, AuthOutcome.ACCEPTED)
    own.handshakes.observe(0.1)
    own.response(200)
    assert service.connections_open == 4
    assert service.refused[Refusal.IDLE] == 1
    assert service.connections[ConnectionOutcome.CLEAN] == 1
    assert service.auth[AuthMethod.CERTIFICATE, AuthOutcome.ACCEPTED] == 1
    assert service.handshakes.count == 1
    assert service.responses == {200: 1}


def test_many_threads_lose_no_count() -> None:
    service, lock = ServiceCounters("echo"), threading.Lock()

    def count() -> None:
        own = OwnCounters(service, lock)
        for _ in range(5000):
            own.bytes_received += 1
            own.frames_sent += 1
            own.add_up()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (service.bytes_received, service.frames_sent) == (20_000, 20_000)
