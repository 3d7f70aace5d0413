"""What our own load processes share: told by a file, driven over stdin, heard on stdout.

    python -m benchmarks.loads.NAME PLAN.json

It connects, says `ready`, and then for each line with a number of seconds measures for so long, and answers
with a `LoadResult` as a line of JSON. What goes wrong is the last line of stderr.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import raise_open_files
from benchmarks.loads.result import LoadResult, Plan
from benchmarks.processes import BenchmarkError

GRACE_SECONDS = 30.0  # for what is under way when the time is over

Measure = Callable[[float], LoadResult]


def main(prepare: Callable[[Plan], Measure]) -> int:
    """Run a load: `prepare` connects and returns what measures. The exit code."""
    raise_open_files()
    try:
        measure = prepare(Plan.read(Path(sys.argv[1])))
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(dataclasses.asdict(measure(float(line)))), flush=True)
    except (BenchmarkError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


class Stopwatch:
    """Wall time, and the share of it that this process was busy."""

    def __init__(self) -> None:
        self._begin, self._used = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        return time.perf_counter() - self._begin

    def busy(self) -> float:
        return (time.process_time() - self._used) / self.seconds()
