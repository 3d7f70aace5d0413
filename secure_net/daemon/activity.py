"""What the services did in each of the last seconds, read from the counters at every beat of the pulse."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from secure_net.control.history import History
from secure_net.control.status import Activity
from secure_net.metrics import Metrics

# Series to the services whose doing it is; without one of them there is no such series.
_OF: Mapping[str, frozenset[str]] = {
    "calls": frozenset({"rpc"}),
    "messages": frozenset({"echo", "chat", "chat-web"}),
    "requests": frozenset({"files"}),
}


def _calls(metrics: Metrics) -> int:
    return sum(sum(method.calls.values()) for method in metrics.methods())


def _messages(metrics: Metrics) -> int:
    return sum(service.frames_received for service in metrics.services())


def _requests(metrics: Metrics) -> int:
    return sum(metrics.service("files").responses.values())


def _refused(metrics: Metrics) -> int:
    return sum(sum(service.refused.values()) for service in metrics.services())


def _connections(metrics: Metrics) -> int:
    return sum(service.connections_open for service in metrics.services())


_COUNTS: Mapping[str, Callable[[Metrics], int]] = {
    "calls": _calls,
    "messages": _messages,
    "requests": _requests,
    "refused": _refused,
}


class ActivityLog:
    """The series of those of our `services` that there are."""

    def __init__(self, metrics: Metrics, services: Collection[str]) -> None:
        self._metrics = metrics
        self._counts = {
            name: count
            for name, count in _COUNTS.items()
            if name not in _OF or not _OF[name].isdisjoint(services)
        }
        self._history = History(tuple(self._counts), ("connections",))

    def take(self, at: float) -> None:
        """At every beat; `at` is monotonic."""
        counted = {name: count(self._metrics) for name, count in self._counts.items()}
        self._history.take(at, {**counted, "connections": _connections(self._metrics)})

    @property
    def told(self) -> Activity:
        return Activity(series=self._history.series)
