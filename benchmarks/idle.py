"""The benchmark `idle`: what an open TLS connection that does nothing costs in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from benchmarks import payloads, table
from benchmarks.driven import Holder, planned
from benchmarks.figures import Spread, ratios, slopes, spread
from benchmarks.harness import Bench, Outcome, raise_open_files
from benchmarks.loads import probe
from benchmarks.loads.result import Plan
from benchmarks.ours import CHAT, CHAT_SCOPES, NAME, RPC_SCOPES, Deployment
from benchmarks.processes import BenchmarkError, Server
from benchmarks.subjects import IDLE_PEERS, Site, Subject

CONNECTIONS = 10_000
QUICK_CONNECTIONS = 500
RESERVE = 500  # descriptors that a server needs for other things
STEPS = 4
ROUNDS = 3
GOAL_KIB = 25.0
WARM_UP = 50
MEMBERS = 100  # of a room, where a connection is a member of one
ECHO = b"one line, echoed before the connection falls idle\n"
# Held open are as many connections as ours takes by default, of one principal, for as long as it takes to
# open them all. The limits stay on, these five are wider; those per source address are the defaults.
LIMITS: dict[str, float] = {
    "connections_count": 16_000,
    "connections_per_principal_count": 16_000,
    "idle_seconds": 900.0,
    "http_keep_alive_seconds": 900.0,
    "chat_rooms_per_principal_count": 1_000,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    connections: int
    resident_kib: int


def idle(bench: Bench) -> Outcome:
    """Open 10,000 TLS connections in steps, and read the server's memory at each."""
    allowed = raise_open_files() - RESERVE
    wanted = QUICK_CONNECTIONS if bench.options.quick else CONNECTIONS
    count = min(wanted, allowed)
    deployment = bench.deployment(LIMITS, (*RPC_SCOPES, *CHAT_SCOPES))
    chat = deployment.messaging(f"{NAME} chat", CHAT, "chat", f"each a member of a room of {MEMBERS}")
    subjects = bench.available((deployment.subject(), chat, *IDLE_PEERS))
    rounds = bench.options.rounds_or(ROUNDS)
    points = bench.in_turn(subjects, rounds, lambda subject: _hold(bench, subject, deployment, count))
    return _outcome([subject for subject in subjects if subject.name in points], points, count, wanted)


def _hold(bench: Bench, subject: Subject, deployment: Deployment, count: int) -> list[Point]:
    with bench.serving(subject, deployment) as (server, site):
        steps = (WARM_UP, *(count * step // STEPS for step in range(1, STEPS + 1)))
        module, arguments, lines = _told(subject, deployment, site)
        holder = Holder(module, arguments, bench.load_core)
        try:
            return [_point(server, holder, lines, number) for number in steps]
        finally:
            holder.close()


def _told(subject: Subject, deployment: Deployment, site: Site) -> tuple[str, list[str], Sequence[str]]:
    """Which load holds the connections, what it is started with, and what it is told for so many."""
    file = site.directory / "request"
    if subject.dialect:
        plan = Plan(size=1, connections=0, in_flight=MEMBERS)
        planned(plan, deployment, subject, site).write(file)
        return "members", [str(file)], ("connections {}", "members {}")
    request, answer_bytes = ECHO, len(ECHO)
    if subject.kind == "ours":
        request = probe.http_request(site.port, payloads.DOUBLE.request(), subject.headers)
        answer_bytes = probe.http(site.port, payloads.DOUBLE, subject.headers, deployment.authority)
    file.write_bytes(request)
    return "opener", [str(site.port), str(deployment.authority), str(file), str(answer_bytes)], ("{}",)


def _point(server: Server, holder: Holder, lines: Sequence[str], count: int) -> Point:
    for line in lines:
        holder.hold(line.format(count))
    if (files := server.open_files()) < count:
        raise BenchmarkError(f"{count} connections, but only {files} files open in the server")
    return Point(count, server.resident_kib())


def each_kib(points: Sequence[Point]) -> float:
    """KiB per connection over the whole range."""
    first, last = points[0], points[-1]
    return (last.resident_kib - first.resident_kib) / (last.connections - first.connections)


def _outcome(
    subjects: Sequence[Subject], points: dict[str, list[list[Point]]], count: int, wanted: int
) -> Outcome:
    costs = {name: [each_kib(taken) for taken in rounds] for name, rounds in points.items()}
    fewer = "" if count == wanted else f" (fewer than {wanted:,}: the limit on open files)"
    parts = [
        f"Idle TLS 1.3 connections: {count:,}{fewer}, each after one exchange, spread over 127.0.0.0/8",
        _table(points, costs),
    ]
    goals = [
        _goal(subject.name, spread(costs[subject.name])) for subject in subjects if subject.kind == "ours"
    ]
    if goals:
        parts.append(
            "Goals\n" + table.notes([("met" if goal.met else "MISSED", goal.goal) for goal in goals])
        )
    parts.append("Set up\n" + table.notes([(subject.name, subject.described()) for subject in subjects]))
    widened = ", ".join(f"{name} = {value:,.0f}" for name, value in LIMITS.items())
    parts.append(
        "Ours makes an authenticated call first, the brokers subscribe, the others echo a line. "
        f"Its limits: {widened}."
    )
    data: dict[str, object] = {
        "connections": count,
        "subjects": {
            name: {
                "kib_each": costs[name],
                "rounds": [[dataclasses.asdict(point) for point in taken] for taken in rounds],
            }
            for name, rounds in points.items()
        },
        "goals": [dataclasses.asdict(goal) for goal in goals],
    }
    return Outcome("\n\n".join(parts), data)


@dataclasses.dataclass(frozen=True, slots=True)
class _Goal:
    goal: str
    met: bool
    kib: Spread


def _goal(name: str, kib: Spread) -> _Goal:
    text = f"{name}: at most {GOAL_KIB:g} KiB for each idle connection: {kib.text(1)}"
    return _Goal(text, kib.median <= GOAL_KIB, kib)


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
