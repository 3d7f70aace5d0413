"""gRPC load: h2load, one thread, one call in flight on each HTTP/2 connection.

A unary gRPC call is a POST whose body is five bytes of prefix (not compressed, length) and the message,
so any HTTP/2 client can make it. A call that fails has no DATA in its answer: the bytes received show it.
"""

from __future__ import annotations

import re
import struct
import subprocess

from benchmarks.figures import percentile
from benchmarks.loads.result import LoadResult, Target
from benchmarks.processes import BenchmarkError, pinned

FIELDS = {
    "requests": re.compile(
        r"^requests: .* (?P<ok>\d+) succeeded, (?P<failed>\d+) failed, (?P<errored>\d+) errored",
        re.MULTILINE,
    ),
    "seconds": re.compile(r"^finished in (?P<number>[\d.]+)(?P<unit>us|ms|s|m)\b", re.MULTILINE),
    "data": re.compile(r"^traffic: .* \((?P<bytes>\d+)\) data$", re.MULTILINE),
    "tls": re.compile(r"^TLS Protocol: (?P<version>\S+)$", re.MULTILINE),
}
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def framed(message: bytes) -> bytes:
    """A gRPC Length-Prefixed-Message, not compressed."""
    return struct.pack(">BI", 0, len(message)) + message


def run(target: Target, path: str, message: bytes, seconds: int) -> LoadResult:
    """Call `path` for so many seconds. Raises BenchmarkError when any call failed."""
    body, log = target.directory / "load-body", target.directory / "load-log"
    body.write_bytes(framed(message))
    log.unlink(missing_ok=True)
    command = ["h2load", "--threads=1", f"--clients={target.connections}", "--max-concurrent-streams=1"]
    command += [f"--duration={seconds}", f"--data={body}", f"--log-file={log}"]
    command += ["--header=content-type: application/grpc", "--header=te: trailers"]
    command += [f"https://localhost:{target.port}{path}"]
    with pinned(target.core):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30)
    latencies = [float(line.split("\t")[2]) for line in log.read_text(encoding="ascii").splitlines()]
    return parse(done.stdout, latencies)


def parse(output: str, latencies_us: list[float]) -> LoadResult:
    """h2load's summary, and the microseconds that each call took."""
    found = {name: pattern.search(output) for name, pattern in FIELDS.items()}
    requests, seconds, data, tls = found["requests"], found["seconds"], found["data"], found["tls"]
    if requests is None or seconds is None or data is None or tls is None:
        raise BenchmarkError(f"h2load said nothing that can be read: {output.strip()[-500:]}")
    if tls["version"] != "TLSv1.3":
        raise BenchmarkError(f"h2load spoke {tls['version']}, not TLSv1.3")
    operations = int(requests["ok"])
    if int(requests["failed"]) or int(requests["errored"]) or not operations or not latencies_us:
        raise BenchmarkError(f"h2load: {requests[0]}")
    ordered = sorted(latencies_us)
    return LoadResult(
        operations=operations,
        seconds=float(seconds["number"]) * UNITS[seconds["unit"]],
        p50_us=percentile(ordered, 0.50),
        p99_us=percentile(ordered, 0.99),
        answer_bytes=int(data["bytes"]) / operations,
    )
