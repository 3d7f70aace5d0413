"""Every metric, and the closed set of values of each label.

Hot paths touch plain integers and lists (a `labels().inc()` of prometheus-client costs 2 µs, an
integer 30 ns); `Metrics.collect` turns them into metric families when somebody scrapes. A value that a
stranger can choose is never a label: services, methods and certificates are registered beforehand, the
rest comes from enumerations, and what is not registered counts as ``other``.
"""

from __future__ import annotations

import enum
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from secure_net.errors import Refusal

Metric = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily

OTHER = "other"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

HANDSHAKE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CALL_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0)
COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class ConnectionOutcome(enum.StrEnum):
    """How a connection ended."""

    __hash__ = str.__hash__  # an enumeration's own is a Python function, called at every count

    CLEAN = "clean"  # close_notify, or the protocol's own goodbye
    TRUNCATED = "truncated"  # the peer went without either
    REFUSED = "refused"  # we ended it; `refused_total` says why
    DRAINED = "drained"  # we ended it because the daemon stops


class AuthMethod(enum.StrEnum):
    """What a peer showed to say who it is."""

    CERTIFICATE = "certificate"
    TOKEN = "token"
    PASSWORD = "password"
    NONE = "none"


class AuthOutcome(enum.StrEnum):
    """What became of it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


class CallOutcome(enum.StrEnum):
    """How a call ended, as its caller saw it."""

    __hash__ = str.__hash__  # as above

    OK = "ok"
    FAULT = "fault"  # raised on purpose by the method (-32500)
    ERROR = "error"  # raised otherwise (-32603)
    INVALID = "invalid"  # parameters that do not fit (-32602)
    NOT_FOUND = "not_found"  # no such method, or not permitted (-32601)
    MALFORMED = "malformed"  # not a call (-32700, -32600)
    DEADLINE = "deadline"
    OVERLOAD = "overload"


class Histogram:
    """Buckets as a plain list; `observe` is one bisection and two additions."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, observations up to it), as Prometheus wants them."""
        running, rows = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            rows.append((bound, float(running)))
        return rows


class ServiceCounters:
    """What the shell and the sessions of one service count."""

    __slots__ = (
        "auth",
        "bytes_received",
        "bytes_sent",
        "connections",
        "connections_open",
        "frames_received",
        "frames_sent",
        "handshakes",
        "name",
        "refused",
        "responses",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections_open = 0
        self.connections = dict.fromkeys(ConnectionOutcome, 0)
        self.refused = dict.fromkeys(Refusal, 0)
        self.handshakes = Histogram(HANDSHAKE_BUCKETS)
        self.auth = {(method, outcome): 0 for method in AuthMethod for outcome in AuthOutcome}
        self.bytes_received = 0
        self.bytes_sent = 0
        self.frames_received = 0
        self.frames_sent = 0
        self.responses: dict[int, int] = {}

    def connection(self, outcome: ConnectionOutcome) -> None:
        self.connections[outcome] += 1

    def refuse(self, reason: Refusal) -> None:
        self.refused[reason] += 1

    def authenticated(self, method: AuthMethod, outcome: AuthOutcome) -> None:
        self.auth[method, outcome] += 1

    def response(self, status: int) -> None:
        """Count an HTTP answer. `status` is ours, so the set of values is closed."""
        self.responses[status] = self.responses.get(status, 0) + 1


class MethodCounters:
    """What the dispatcher counts for one registered method."""

    __slots__ = ("calls", "name", "seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = dict.fromkeys(CallOutcome, 0)
        self.seconds = Histogram(CALL_BUCKETS)

    def finished(self, outcome: CallOutcome, seconds: float) -> None:
        self.calls[outcome] += 1
        self.seconds.observe(seconds)


class ChatCounters:
    """What the rooms count; `rooms` and `members` say how many there are now."""

    __slots__ = ("deliveries", "members", "messages", "rooms", "slow_consumers")

    def __init__(self) -> None:
        self.messages = 0
        self.deliveries = 0
        self.slow_consumers = 0
        self.rooms: Callable[[], int] = int
        self.members: Callable[[], int] = int


class FileCounters:
    """What the file server counts. `kept` says how many files are kept open for the next who asks."""

    __slots__ = ("changed", "downloads_open", "kept", "reads_cached", "reads_waited")

    def __init__(self) -> None:
        self.downloads_open = 0
        self.reads_cached = 0
        self.reads_waited = 0
        self.changed = 0
        self.kept: Callable[[], int] = int


class Metrics(Collector):
    """All counters of a daemon, and the registry that Prometheus scrapes."""

    def __init__(self, version: str = "") -> None:
        self._version = version
        self._services: dict[str, ServiceCounters] = {}
        self._methods: dict[str, MethodCounters] = {OTHER: MethodCounters(OTHER)}
        self.chat = ChatCounters()
        self.files = FileCounters()
        self.loop_lag = Histogram(LAG_BUCKETS)
        self.store_commit = Histogram(COMMIT_BUCKETS)
        self.revocations = 0
        self.stuck_threads = 0
        self.log_lines_dropped: Callable[[], int] = int
        self.audit_records_dropped: Callable[[], int] = int
        self.buffered_bytes: Callable[[], int] = int
        self.certificates: Callable[[], Mapping[str, float]] = dict  # name -> notAfter, Unix seconds
        self.crl_expiry: Callable[[], float | None] = lambda: None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def service(self, name: str) -> ServiceCounters:
        """The counters of a service of ours, made at the first call."""
        return self._services.setdefault(name, ServiceCounters(name))

    def rpc_method(self, name: str) -> MethodCounters:
        """The counters of a registered method, made at the first call. Never call it with a wire name."""
        return self._methods.setdefault(name, MethodCounters(name))

    def services(self) -> Iterable[ServiceCounters]:
        return self._services.values()

    def methods(self) -> Iterable[MethodCounters]:
        return self._methods.values()

    def render(self) -> bytes:
        """The exposition in text format 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry need not collect in order to know the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "secure_net_build",
            "Version of the daemon.",
            value={"version": self._version, "python": platform.python_version()},
        )
        yield from self._connection_families()
        yield from self._authentication_families()
        yield from self._call_families()
        yield from self._chat_families()
        yield from self._file_families()
        yield from self._daemon_families()

    def _connection_families(self) -> Iterator[Metric]:
        opened = GaugeMetricFamily(
            "secure_net_connections_open", "Connections open now, handshakes included.", labels=["service"]
        )
        ended = CounterMetricFamily(
            "secure_net_connections", "Connections that ended, by how.", labels=["service", "outcome"]
        )
        refused = CounterMetricFamily(
            "secure_net_refused", "What was refused, by reason.", labels=["service", "reason"]
        )
        handshakes = HistogramMetricFamily(
            "secure_net_tls_handshake_seconds", "From accept to a verified handshake.", labels=["service"]
        )
        carried = CounterMetricFamily(
            "secure_net_bytes", "Application bytes inside TLS.", labels=["service", "direction"]
        )
        frames = CounterMetricFamily(
            "secure_net_frames", "Frames and WebSocket messages.", labels=["service", "direction"]
        )
        responses = CounterMetricFamily(
            "secure_net_http_responses", "HTTP answers by status.", labels=["service", "code"]
        )
        for service in self._services.values():
            opened.add_metric([service.name], service.connections_open)
            for outcome, count in service.connections.items():
                ended.add_metric([service.name, outcome.value], count)
            for reason, count in service.refused.items():
                refused.add_metric([service.name, reason.value], count)
            handshakes.add_metric([service.name], service.handshakes.cumulative(), service.handshakes.total)
            carried.add_metric([service.name, "received"], service.bytes_received)
            carried.add_metric([service.name, "sent"], service.bytes_sent)
            frames.add_metric([service.name, "received"], service.frames_received)
            frames.add_metric([service.name, "sent"], service.frames_sent)
            for status, count in sorted(service.responses.items()):
                responses.add_metric([service.name, str(status)], count)
        yield from (opened, ended, refused, handshakes, carried, frames, responses)

    def _authentication_families(self) -> Iterator[Metric]:
        auth = CounterMetricFamily(
            "secure_net_auth", "Credentials shown, by outcome.", labels=["service", "method", "outcome"]
        )
        for service in self._services.values():
            for (method, outcome), count in service.auth.items():
                auth.add_metric([service.name, method.value, outcome.value], count)
        yield auth
        yield CounterMetricFamily(
            "secure_net_revocations", "Revocations since the start.", value=self.revocations
        )

    def _call_families(self) -> Iterator[Metric]:
        calls = CounterMetricFamily("secure_net_rpc_calls", "Calls by outcome.", labels=["method", "outcome"])
        seconds = HistogramMetricFamily(
            "secure_net_rpc_call_seconds", "From a whole request to its answer.", labels=["method"]
        )
        for method in self._methods.values():
            for outcome, count in method.calls.items():
                calls.add_metric([method.name, outcome.value], count)
            seconds.add_metric([method.name], method.seconds.cumulative(), method.seconds.total)
        yield from (calls, seconds)

    def _chat_families(self) -> Iterator[Metric]:
        chat = self.chat
        for name, text, count in (
            ("secure_net_chat_messages", "Messages that were given a sequence number.", chat.messages),
            ("secure_net_chat_deliveries", "Messages sent to members.", chat.deliveries),
            ("secure_net_chat_slow_consumers", "Members that read too slowly.", chat.slow_consumers),
        ):
            yield CounterMetricFamily(name, text, value=count)
        yield GaugeMetricFamily("secure_net_chat_rooms", "Rooms in memory.", value=chat.rooms())
        yield GaugeMetricFamily("secure_net_chat_members", "Memberships in rooms.", value=chat.members())

    def _file_families(self) -> Iterator[Metric]:
        files = self.files
        yield GaugeMetricFamily(
            "secure_net_files_downloads_open", "Long answers under way.", value=files.downloads_open
        )
        yield GaugeMetricFamily(
            "secure_net_files_kept", "Files open for the next who asks.", value=files.kept()
        )
        reads = CounterMetricFamily(
            "secure_net_files_reads", "Reads of files, by where the data was.", labels=["source"]
        )
        reads.add_metric(["memory"], files.reads_cached)
        reads.add_metric(["disk"], files.reads_waited)
        yield reads
        yield CounterMetricFamily(
            "secure_net_files_changed", "Files that changed while they were sent.", value=files.changed
        )

    def _daemon_families(self) -> Iterator[Metric]:
        for name, text, histogram in (
            ("secure_net_loop_lag_seconds", "How late the event loop woke up.", self.loop_lag),
            ("secure_net_store_commit_seconds", "Time of a group commit.", self.store_commit),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.total)
        yield GaugeMetricFamily(
            "secure_net_buffered_bytes", "Bytes waiting for peers, all together.", value=self.buffered_bytes()
        )
        yield GaugeMetricFamily(
            "secure_net_rpc_threads_stuck",
            "Pool threads whose call outlived its deadline.",
            value=self.stuck_threads,
        )
        yield CounterMetricFamily(
            "secure_net_log_lines_dropped",
            "Log lines dropped because stderr stalled.",
            value=self.log_lines_dropped(),
        )
        yield CounterMetricFamily(
            "secure_net_audit_records_dropped",
            "Audit records that did not reach the disk.",
            value=self.audit_records_dropped(),
        )
        certificates = GaugeMetricFamily(
            "secure_net_certificate_expiry_timestamp_seconds", "notAfter, Unix time.", labels=["certificate"]
        )
        for name, not_after in self.certificates().items():
            certificates.add_metric([name], not_after)
        yield certificates
        expiry = self.crl_expiry()
        if expiry is not None:
            yield GaugeMetricFamily(
                "secure_net_crl_expiry_timestamp_seconds", "nextUpdate of the CRL, Unix time.", value=expiry
            )
