"""What the load generators say, and what is refused as a result."""

from __future__ import annotations

import pytest

from benchmarks.loads import grpc, http
from benchmarks.loads.opener import PER_SOURCE, source
from benchmarks.loads.result import LoadResult
from benchmarks.processes import BenchmarkError

WRK = """Running 2s test @ https://localhost:18443/RPC2
  31455 requests in 2.00s, 6.45MB read
{"operations": 1000, "microseconds": 2000000, "bytes": 215000, "p50": 840, "p99": 2741, "errors": ERRORS}
"""
H2LOAD = """TLS Protocol: TLSv1.3
Cipher: TLS_AES_256_GCM_SHA384
Application protocol: h2

finished in 2.00s, 5384.50 req/s, 1.05MB/s
requests: 1000 total, 1016 started, 1000 done, 1000 succeeded, FAILED failed, 0 errored, 0 timeout
status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.05MB (1100000) total, 315.00KB (322560) headers (space savings 45.31%), 73.61KB (7000) data
"""


def test_wrk() -> None:
    assert http.parse(WRK.replace("ERRORS", "0")) == LoadResult(1000, 2.0, 840, 2741, 215.0)


@pytest.mark.parametrize("said", [WRK.replace("ERRORS", "3"), "unable to connect to localhost:1\n"])
def test_wrk_with_errors_is_no_result(said: str) -> None:
    with pytest.raises(BenchmarkError):
        http.parse(said)


def test_h2load() -> None:
    latencies = [float(number) for number in range(1000, 0, -1)]
    assert grpc.parse(H2LOAD.replace("FAILED", "0"), latencies) == LoadResult(1000, 2.0, 500, 990, 7.0)


@pytest.mark.parametrize(
    "said",
    [
        H2LOAD.replace("FAILED", "3"),
        H2LOAD.replace("FAILED", "0").replace("TLSv1.3", "TLSv1.2"),
        "could not connect\n",
    ],
)
def test_h2load_with_errors_or_another_tls_is_no_result(said: str) -> None:
    with pytest.raises(BenchmarkError):
        grpc.parse(said, [1.0])


def test_a_grpc_message_is_framed() -> None:
    assert grpc.framed(b"\x08\x07") == b"\x00\x00\x00\x00\x02\x08\x07"


def test_idle_connections_spread_over_many_sources() -> None:
    sources = [source(index) for index in range(10_000)]
    assert sources[0] == "127.1.0.1"
    assert all(address.startswith("127.") for address in sources)
    assert max(sources.count(address) for address in set(sources)) == PER_SOURCE
