"""HTTPS load: wrk, one thread, one request in flight on each connection."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.loads.result import LoadResult, Target
from benchmarks.processes import BenchmarkError, pinned

SCRIPT = Path(__file__).with_name("wrk.lua")


def run(
    target: Target, path: str, headers: Mapping[str, str], seconds: int, body: bytes | None = None
) -> LoadResult:
    """Get `path`, or post `body` to it, so many seconds. Raises BenchmarkError when any request failed."""
    headers_file = write_headers(target.directory, headers)
    command = ["wrk", "--threads", "1", "--connections", str(target.connections), "--duration", f"{seconds}s"]
    command += ["--script", str(SCRIPT), f"https://localhost:{target.port}{path}"]
    command += ["--", str(headers_file)]
    if body is not None:
        body_file = target.directory / "load-body"
        body_file.write_bytes(body)
        command.append(str(body_file))
    with pinned(target.core):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30)
    return parse(done.stdout, done.stderr)


def write_headers(directory: Path, headers: Mapping[str, str]) -> Path:
    """A file of `name: value` lines: what is secret in them stands in no command line."""
    file = directory / "load-headers"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}: {text}\n" for name, text in headers.items()), encoding="ascii")
    return file


def parse(output: str, errors: str = "") -> LoadResult:
    """The last JSON line of wrk's output, as `wrk.lua` writes it."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise BenchmarkError(f"wrk said nothing that can be read: {errors.strip() or output.strip()}")
    said = json.loads(lines[-1])
    if said["errors"] or not said["operations"]:
        raise BenchmarkError(f"{said['errors']} of {said['operations']} requests failed")
    return LoadResult(
        operations=said["operations"],
        seconds=said["microseconds"] / 1e6,
        p50_us=said["p50"],
        p99_us=said["p99"],
        answer_bytes=said["bytes"] / said["operations"],
    )
