"""What a load is pointed at, and what it reports. Pure."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where a load goes, from how many connections, on which core it runs, where it may write."""

    port: int
    connections: int
    core: int
    directory: Path


@dataclasses.dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load did, with the latency of one operation in microseconds."""

    operations: int
    seconds: float
    p50_us: float
    p99_us: float
    answer_bytes: float  # received per operation: shows that the answers were the right ones
