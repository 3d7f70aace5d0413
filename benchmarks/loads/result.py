"""What a load is pointed at, and what it reports. Pure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where a load goes, from how many connections, on which core it runs, where it may write."""

    port: int
    connections: int
    core: int
    directory: Path


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What one of our own load processes is told, as a file of JSON.

    `connections`: clients, or members of the room; `in_flight`: requests unanswered on each; `size`: bytes of
    payload; `token`, `certificate`: how it authenticates, empty where the server asks for nothing.
    """

    size: int
    connections: int
    in_flight: int = 1
    room: str = "bench.0"
    dialect: str = ""
    port: int = 0
    authority: str = ""
    token: str = ""
    certificate: str = ""

    def write(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.write_text(json.dumps(dataclasses.asdict(self)), encoding="ascii")

    @classmethod
    def read(cls, path: Path) -> Plan:
        return cls(**json.loads(path.read_text(encoding="ascii")))


@dataclasses.dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load did, with the latency of one operation in microseconds."""

    operations: int
    seconds: float
    p50_us: float
    p99_us: float
    answer_bytes: float  # received per operation: shows that the answers were the right ones
    busy: float | None = None  # share of its core that the load used itself; None where it is not ours
    cipher: str = ""
