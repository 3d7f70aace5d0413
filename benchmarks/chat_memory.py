"""The benchmark `chat-memory`: what a connection, a membership and a room cost in memory, ours alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from benchmarks import table
from benchmarks.driven import Holder, planned
from benchmarks.figures import slopes, spread
from benchmarks.harness import Bench, Outcome, raise_open_files
from benchmarks.idle import LIMITS as WIDER
from benchmarks.idle import RESERVE, STEPS, WARM_UP, Point, each_kib
from benchmarks.loads.result import Plan
from benchmarks.ours import CHAT, CHAT_SCOPES, NAME, Deployment
from benchmarks.subjects import Subject

ROUNDS = 3
COUNT = 10_000
QUICK_COUNT = 500
# All belong to one principal and one of them is in every room: what is counted are rooms, not principals.
LIMITS: dict[str, float] = {
    **WIDER,
    "chat_rooms_count": 20_000,
    "chat_rooms_per_principal_count": 20_000,
}
# What the load is told in turn, in one life of the server, and what it adds to what was there before.
PARTS = (
    ("connections", "connection, after its hello"),
    ("members", "membership, all in one room"),
    ("rooms", "room with one member"),
)
Points = dict[str, list[Point]]


def chat_memory(bench: Bench) -> Outcome:
    """Connections that said hello, then all of them in one room, then rooms with one member each."""
    wanted = QUICK_COUNT if bench.options.quick else COUNT
    count = min(wanted, raise_open_files() - RESERVE)
    deployment = bench.deployment(LIMITS, CHAT_SCOPES)
    ours = deployment.messaging(NAME, CHAT, "chat", "durable rooms")
    rounds = bench.options.rounds_or(ROUNDS)
    taken = bench.in_turn([ours], rounds, lambda subject: _grow(bench, subject, deployment, count))
    found = taken.get(NAME, [])
    title = f"Memory of chat, {count:,} of each, {rounds} rounds, median (lowest-highest)"
    widened = ", ".join(f"{name} = {value:,.0f}" for name, value in LIMITS.items())
    text = "\n\n".join([title, _table(found), f"Limits that are wider: {widened}."])
    data: dict[str, object] = {
        "count": count,
        "rounds": [
            {name: [dataclasses.asdict(point) for point in points] for name, points in each.items()}
            for each in found
        ],
    }
    return Outcome(text, data)


def _grow(bench: Bench, subject: Subject, deployment: Deployment, count: int) -> Points:
    steps = (WARM_UP, *(count * step // STEPS for step in range(1, STEPS + 1)))
    with bench.serving(subject, deployment) as (server, site):
        file = site.directory / "plan.json"
        planned(Plan(size=1, connections=0, in_flight=count), deployment, subject, site).write(file)
        holder = Holder("members", [str(file)], bench.load_core)
        points: Points = {}
        try:
            for name, _ in PARTS:
                points[name] = []
                for number in steps:
                    holder.hold(f"{name} {number}")
                    points[name].append(Point(number, server.resident_kib()))
        finally:
            holder.close()
        return points


def _table(rounds: Sequence[Points]) -> str:
    if not rounds:
        return "nothing was measured"
    steps = [point.connections for point in rounds[0][PARTS[0][0]]]
    columns = ["one more", "KiB each", *(f"to {step:,}" for step in steps[1:])]
    rows = []
    for name, text in PARTS:
        parts = [slopes([(point.connections, point.resident_kib) for point in each[name]]) for each in rounds]
        between = [f"{spread(part).median:.2f}" for part in zip(*parts, strict=True)]
        rows.append([text, spread(each_kib(each[name]) for each in rounds).text(2), *between])
    return table.render(columns, rows)
