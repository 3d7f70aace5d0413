"""What is read of the counters, second by second."""

from __future__ import annotations

import pytest

from secure_net.daemon.activity import ActivityLog
from secure_net.errors import Refusal
from secure_net.metrics import CallOutcome, Metrics


@pytest.mark.parametrize(
    ("services", "series"),
    [
        (("admin",), {"refused", "connections"}),
        (("rpc", "admin"), {"calls", "refused", "connections"}),
        (("files", "chat", "chat-web"), {"requests", "messages", "refused", "connections"}),
    ],
)
def test_series_are_of_the_services_there_are(services: tuple[str, ...], series: set[str]) -> None:
    assert set(ActivityLog(Metrics(), services).told.series) == series


def test_what_happened_in_a_second() -> None:
    metrics = Metrics()
    log = ActivityLog(metrics, ("rpc", "echo", "files"))
    log.take(10.0)
    metrics.rpc_method("a").finished(CallOutcome.OK, 0.1)
    metrics.rpc_method("b").finished(CallOutcome.DEADLINE, 0.1)
    metrics.service("echo").frames_received += 5
    metrics.service("files").response(200)
    metrics.service("files").response(404)
    metrics.service("files").response(404)
    metrics.service("rpc").refuse(Refusal.IDLE)
    metrics.service("rpc").connections_open = 4
    log.take(11.0)
    log.take(12.0)
    assert log.told.series == {
        "calls": (2, 0),
        "messages": (5, 0),
        "requests": (3, 0),
        "refused": (1, 0),
        "connections": (4, 4),
    }
    assert log.told.seconds == 1.0
