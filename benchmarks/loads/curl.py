"""A load of large files: curl, one download after the other."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import percentile
from benchmarks.loads.http import write_headers
from benchmarks.loads.result import LoadResult, Target
from benchmarks.processes import BenchmarkError, pinned

SAYS = '{"status": %{response_code}, "bytes": %{size_download}, "seconds": %{time_total}}'
LIMIT_SECONDS = 120
MIB = 1024 * 1024


def run(
    target: Target, path: str, headers: Mapping[str, str], seconds: int, *, authority: Path, size: int
) -> LoadResult:
    """Fetch a file of `size` bytes for so many seconds, once at least; an operation is a MiB of it.

    Raises BenchmarkError when it did not come whole.
    """
    file = write_headers(target.directory, headers)
    command = ["curl", "--silent", "--show-error", "--http1.1", "--tlsv1.3", "--cacert", str(authority)]
    command += ["--header", f"@{file}", "--output", "/dev/null", "--write-out", SAYS]
    command.append(f"https://localhost:{target.port}{path}")
    taken: list[float] = []
    used, begin = _used(), time.perf_counter()
    while not taken or time.perf_counter() < begin + seconds:
        with pinned(target.core):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
        taken.append(parse(done.stdout, done.stderr, size))
    wall = time.perf_counter() - begin
    return result(taken, size, (_used() - used) / wall)


def parse(output: str, errors: str, size: int) -> float:
    """How long curl says that it took. Raises BenchmarkError where it did not get `size` bytes."""
    try:
        said = json.loads(output)
    except ValueError:
        raise BenchmarkError(f"curl said nothing that can be read: {errors.strip() or output}") from None
    if said["status"] != 200 or said["bytes"] != size:
        raise BenchmarkError(f"status {said['status']} and {said['bytes']} bytes: {errors.strip()}")
    return float(said["seconds"])


def result(taken: Sequence[float], size: int, busy: float) -> LoadResult:
    """`taken`: seconds of each download. The starts of curl between them do not count."""
    ordered = sorted(taken)
    return LoadResult(
        operations=len(taken) * size // MIB,
        seconds=sum(taken),
        p50_us=percentile(ordered, 0.5) * 1e6,
        p99_us=percentile(ordered, 0.99) * 1e6,
        answer_bytes=float(MIB),
        busy=busy,
    )


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
