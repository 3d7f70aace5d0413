"""The benchmark `idle`: what an open TLS connection that does nothing costs in memory."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import payloads, table
from benchmarks.figures import Spread, ratios, slopes, spread
from benchmarks.harness import Bench, Outcome, raise_open_files
from benchmarks.loads import probe
from benchmarks.ours import NAME, Deployment
from benchmarks.processes import BenchmarkError, Server, environment, pinned
from benchmarks.subjects import IDLE_PEERS, Site, Subject

CONNECTIONS = 10_000
QUICK_CONNECTIONS = 500
RESERVE = 500  # descriptors that a server needs for other things
STEPS = 4
ROUNDS = 3
GOAL_KIB = 25.0
WARM_UP = 50
ECHO = b"one line, echoed before the connection falls idle\n"
# Held open are as many connections as ours takes by default, of one principal, for as long as it takes to
# open them all. The limits stay on, these four are wider; those per source address are the defaults.
LIMITS: dict[str, float] = {
    "connections_count": 16_000,
    "connections_per_principal_count": 16_000,
    "idle_seconds": 900.0,
    "http_keep_alive_seconds": 900.0,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    connections: int
    resident_kib: int


class Opener:
    """The process that holds the connections open, on the load's core."""

    def __init__(self, site: Site, authority: Path, request: bytes, answer_bytes: int, core: int) -> None:
        file = site.directory / "request"
        file.write_bytes(request)
        command = [sys.executable, "-m", "benchmarks.loads.opener", str(site.port), str(authority), str(file)]
        with pinned(core):
            self._process = subprocess.Popen(
                [*command, str(answer_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            )

    def open(self, count: int) -> None:
        """Return when so many are open. Raises BenchmarkError when that fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != str(count):
            raise BenchmarkError(f"{count} connections: {self._process.stderr.read().strip()[-500:]}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def idle(bench: Bench) -> Outcome:
    """Open 10,000 TLS connections in steps, and read the server's memory at each."""
    allowed = raise_open_files() - RESERVE
    wanted = QUICK_CONNECTIONS if bench.options.quick else CONNECTIONS
    count = min(wanted, allowed)
    deployment = bench.deployment(LIMITS)
    subjects = bench.available((deployment.subject(), *IDLE_PEERS))
    rounds = bench.options.rounds_or(ROUNDS)
    points = bench.in_turn(subjects, rounds, lambda subject: _hold(bench, subject, deployment, count))
    return _outcome([subject for subject in subjects if subject.name in points], points, count, wanted)


def _hold(bench: Bench, subject: Subject, deployment: Deployment, count: int) -> list[Point]:
    with bench.serving(subject, deployment) as (server, site):
        request, answer_bytes = ECHO, len(ECHO)
        if subject.kind == "ours":
            request = probe.http_request(site.port, payloads.DOUBLE.request(), subject.headers)
            answer_bytes = probe.http(site.port, payloads.DOUBLE, subject.headers, deployment.authority)
        steps = (WARM_UP, *(count * step // STEPS for step in range(1, STEPS + 1)))
        opener = Opener(site, deployment.authority, request, answer_bytes, bench.load_core)
        try:
            return [_point(server, opener, number) for number in steps]
        finally:
            opener.close()


def _point(server: Server, opener: Opener, count: int) -> Point:
    opener.open(count)
    if (files := server.open_files()) < count:
        raise BenchmarkError(f"{count} connections, but only {files} files open in the server")
    return Point(count, server.resident_kib())


def _each(points: Sequence[Point]) -> float:
    """KiB per connection over the whole range."""
    first, last = points[0], points[-1]
    return (last.resident_kib - first.resident_kib) / (last.connections - first.connections)


def _outcome(
    subjects: Sequence[Subject], points: dict[str, list[list[Point]]], count: int, wanted: int
) -> Outcome:
    costs = {name: [_each(taken) for taken in rounds] for name, rounds in points.items()}
    fewer = "" if count == wanted else f" (fewer than {wanted:,}: the limit on open files)"
    parts = [
        f"Idle TLS 1.3 connections: {count:,}{fewer}, each after one exchange, spread over 127.0.0.0/8",
        _table(points, costs),
    ]
    ours = spread(costs[NAME]) if NAME in costs else None
    if ours is not None:
        word = "met" if ours.median <= GOAL_KIB else "MISSED"
        parts.append("Goal\n" + table.notes([(word, f"at most {GOAL_KIB:g} KiB each: {ours.text(1)}")]))
    parts.append("Set up\n" + table.notes([(subject.name, subject.described()) for subject in subjects]))
    widened = ", ".join(f"{name} = {value:,.0f}" for name, value in LIMITS.items())
    parts.append(f"Ours makes an authenticated call first, the others echo a line. Its limits: {widened}.")
    data: dict[str, object] = {
        "connections": count,
        "subjects": {
            name: {
                "kib_each": costs[name],
                "rounds": [[dataclasses.asdict(point) for point in taken] for taken in rounds],
            }
            for name, rounds in points.items()
        },
        "goals": [] if ours is None else [_goal(ours)],
    }
    return Outcome("\n\n".join(parts), data)


def _goal(ours: Spread) -> dict[str, object]:
    text = f"at most {GOAL_KIB:g} KiB for each idle connection"
    return {"goal": text, "met": ours.median <= GOAL_KIB, "kib": dataclasses.asdict(ours)}


def _table(points: dict[str, list[list[Point]]], costs: dict[str, list[float]]) -> str:
    steps = [point.connections for point in next(iter(points.values()))[0]] if points else []
    columns = ["", "KiB each", "ours / it", *(f"to {step:,}" for step in steps[1:])]
    rows = []
    for name, rounds in points.items():
        known = name != NAME and NAME in costs
        against = spread(ratios(costs[NAME], costs[name])).text(2) if known else "-"
        each = (slopes([(point.connections, point.resident_kib) for point in taken]) for taken in rounds)
        between = [f"{spread(step).median:.1f}" for step in zip(*each, strict=True)]
        rows.append([name, spread(costs[name]).text(1), against, *between])
    return table.render(columns, rows)
