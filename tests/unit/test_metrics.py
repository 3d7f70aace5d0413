"""Counters in plain integers, and what Prometheus reads of them."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from secure_net.errors import Refusal
from secure_net.metrics import (
    CALL_BUCKETS,
    AuthMethod,
    AuthOutcome,
    CallOutcome,
    ConnectionOutcome,
    Histogram,
    Metrics,
)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted(labels.items()))]


def test_a_histogram_counts_each_value_in_the_bucket_whose_bound_it_does_not_pass() -> None:
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 2.0, 2.5, 100.0):
        histogram.observe(seconds)
    assert histogram.cumulative() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 6.0)]
    assert (histogram.count, histogram.total) == (6, 107.5)


def test_connections() -> None:
    metrics = Metrics()
    service = metrics.service("rpc")
    assert metrics.service("rpc") is service
    service.connections_open += 3
    service.connection(ConnectionOutcome.CLEAN)
    service.refuse(Refusal.PLAINTEXT)
    service.handshakes.observe(0.003)
    service.bytes_received += 7
    service.bytes_sent += 9
    service.frames_received += 4
    service.frames_sent += 5
    for status in (200, 200, 401):
        service.response(status)
    assert value(metrics, "secure_net_connections_open", service="rpc") == 3
    assert value(metrics, "secure_net_connections_total", service="rpc", outcome="clean") == 1
    assert value(metrics, "secure_net_refused_total", service="rpc", reason="plaintext") == 1
    assert value(metrics, "secure_net_tls_handshake_seconds_count", service="rpc") == 1
    assert value(metrics, "secure_net_tls_handshake_seconds_sum", service="rpc") == 0.003
    assert value(metrics, "secure_net_tls_handshake_seconds_bucket", service="rpc", le="0.005") == 1
    assert value(metrics, "secure_net_tls_handshake_seconds_bucket", service="rpc", le="0.0025") == 0
    assert value(metrics, "secure_net_bytes_total", service="rpc", direction="received") == 7
    assert value(metrics, "secure_net_bytes_total", service="rpc", direction="sent") == 9
    assert value(metrics, "secure_net_frames_total", service="rpc", direction="received") == 4
    assert value(metrics, "secure_net_frames_total", service="rpc", direction="sent") == 5
    assert value(metrics, "secure_net_http_responses_total", service="rpc", code="200") == 2
    assert value(metrics, "secure_net_http_responses_total", service="rpc", code="401") == 1


def test_authentication() -> None:
    metrics = Metrics()
    metrics.service("rpc").authenticated(AuthMethod.TOKEN, AuthOutcome.REFUSED)
    metrics.revocations += 2
    labels = {"service": "rpc", "method": "token"}
    assert value(metrics, "secure_net_auth_total", **labels, outcome="refused") == 1
    assert value(metrics, "secure_net_auth_total", **labels, outcome="accepted") == 0
    assert value(metrics, "secure_net_revocations_total") == 2


def test_calls() -> None:
    metrics = Metrics()
    method = metrics.rpc_method("math.double")
    assert metrics.rpc_method("math.double") is method
    method.finished(CallOutcome.OK, CALL_BUCKETS[0])
    assert value(metrics, "secure_net_rpc_calls_total", method="math.double", outcome="ok") == 1
    assert value(metrics, "secure_net_rpc_call_seconds_bucket", method="math.double", le="0.0001") == 1
    assert value(metrics, "secure_net_rpc_calls_total", method="other", outcome="not_found") == 0
    assert [counted.name for counted in metrics.methods()] == ["other", "math.double"]


def test_chat() -> None:
    metrics = Metrics()
    metrics.chat.messages += 2
    metrics.chat.deliveries += 20
    metrics.chat.slow_consumers += 1
    metrics.chat.rooms = lambda: 3
    metrics.chat.members = lambda: 10
    assert value(metrics, "secure_net_chat_messages_total") == 2
    assert value(metrics, "secure_net_chat_deliveries_total") == 20
    assert value(metrics, "secure_net_chat_slow_consumers_total") == 1
    assert value(metrics, "secure_net_chat_rooms") == 3
    assert value(metrics, "secure_net_chat_members") == 10


def test_files() -> None:
    metrics = Metrics()
    metrics.files.downloads_open = 2
    metrics.files.reads_cached, metrics.files.reads_waited, metrics.files.changed = 30, 4, 1
    metrics.files.kept = lambda: 5
    assert value(metrics, "secure_net_files_downloads_open") == 2
    assert value(metrics, "secure_net_files_kept") == 5
    assert value(metrics, "secure_net_files_reads_total", source="memory") == 30
    assert value(metrics, "secure_net_files_reads_total", source="disk") == 4
    assert value(metrics, "secure_net_files_changed_total") == 1


def test_the_daemon() -> None:
    metrics = Metrics(version="1.2.3")
    names = {name for name, _ in samples(metrics)}
    assert "secure_net_crl_expiry_timestamp_seconds" not in names
    metrics.loop_lag.observe(0.2)
    metrics.store_commit.observe(0.001)
    metrics.stuck_threads = 1
    metrics.log_lines_dropped = lambda: 4
    metrics.buffered_bytes = lambda: 5
    metrics.certificates = lambda: {"server": 1e9}
    metrics.crl_expiry = lambda: 2e9
    assert value(metrics, "secure_net_loop_lag_seconds_sum") == 0.2
    assert value(metrics, "secure_net_store_commit_seconds_count") == 1
    assert value(metrics, "secure_net_rpc_threads_stuck") == 1
    assert value(metrics, "secure_net_log_lines_dropped_total") == 4
    assert value(metrics, "secure_net_buffered_bytes") == 5
    assert value(metrics, "secure_net_certificate_expiry_timestamp_seconds", certificate="server") == 1e9
    assert value(metrics, "secure_net_crl_expiry_timestamp_seconds") == 2e9
    assert b'secure_net_build_info{python="' in metrics.render()


def test_a_stranger_adds_no_series() -> None:
    """Every label's values are known beforehand: whatever is counted, the series stay the same."""
    metrics = Metrics()
    service = metrics.service("rpc")
    service.response(200)
    before = set(samples(metrics))
    for reason in Refusal:
        service.refuse(reason)
    for outcome in ConnectionOutcome:
        service.connection(outcome)
    for method in AuthMethod:
        for verdict in AuthOutcome:
            service.authenticated(method, verdict)
    for ended in CallOutcome:
        metrics.rpc_method("other").finished(ended, 1.0)
    assert set(samples(metrics)) == before


@pytest.mark.parametrize("name", sorted({name for name, _ in samples(Metrics())}))
def test_names_are_prefixed_and_in_base_units(name: str) -> None:
    assert re.fullmatch(r"secure_net_[a-z_]+", name)
    assert not re.search(r"milli|micro|_ms\b|kib|mib", name)


def test_the_registry_does_not_collect_to_learn_the_names() -> None:
    assert list(Metrics().describe()) == []


def test_services_in_the_order_of_their_making() -> None:
    metrics = Metrics()
    metrics.service("rpc")
    metrics.service("admin")
    assert [service.name for service in metrics.services()] == ["rpc", "admin"]
