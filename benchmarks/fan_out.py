"""The benchmarks `fan-out` (live rooms beside three brokers) and `fan-out-growth` (ours against members)."""

from __future__ import annotations

import dataclasses
import functools

from benchmarks import driven, table
from benchmarks.comparison import Comparison, Goal, compare, setups
from benchmarks.figures import Spread, digits_for, slopes, spread
from benchmarks.harness import Bench, Outcome
from benchmarks.loads.result import Plan
from benchmarks.ours import CHAT, CHAT_LIVE, CHAT_SCOPES, NAME, Deployment
from benchmarks.subjects import BROKERS, Subject

ROUNDS = 5
GROWTH_ROUNDS = 3
GROWTH_MEMBERS = (1, 3, 10, 30, 60, 100)
GROWTH_SIZE = 128
KIB = 1024
SETUP = "token authentication, policy, sequence numbers, limits, metrics: all on"
AHEAD = (Goal("ahead of all three", "broker", 1.0),)
# With one member there is nothing to share: a message is read, checked and written once, by anybody.
LEVEL = (Goal("level with NATS", "broker", 1.1, names=("NATS", "NATS (Debian)")),)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    size: int
    members: int
    goals: tuple[Goal, ...]

    def __str__(self) -> str:
        size = f"{self.size} B" if self.size < KIB else f"{self.size // KIB} KiB"
        return f"{size} to {self.members}"


CASES = (Case(128, 1, LEVEL), Case(128, 10, AHEAD), Case(128, 100, AHEAD), Case(4 * KIB, 10, AHEAD))


def _live(deployment: Deployment) -> Subject:
    return deployment.messaging(NAME, CHAT_LIVE, "chat", f"live room; {SETUP}")


def _durable(deployment: Deployment) -> Subject:
    setup = f"durable room, synced to disk before it is delivered; {SETUP}"
    return deployment.messaging(f"{NAME} durable", CHAT, "chat", setup)


def fan_out(bench: Bench) -> Outcome:
    """One publisher that keeps its window full, and so many members."""
    deployment = bench.deployment(scopes=CHAT_SCOPES)
    subjects = bench.available((_live(deployment), *BROKERS, _durable(deployment)))
    rounds = bench.options.rounds_or(ROUNDS)
    found: dict[str, Comparison] = {}
    for case in CASES:
        plan = Plan(size=case.size, connections=case.members)
        title = (
            f"{case} members of one room, TLS 1.3, {rounds} x {bench.options.seconds} s, "
            "median (lowest-highest)"
        )
        found[str(case)] = compare(
            bench,
            subjects,
            functools.partial(driven.measure, bench, deployment, "fan_out", plan),
            title=title,
            operation="delivery",
            rounds=rounds,
            goals=case.goals,
        )
    data: dict[str, object] = {
        "seconds": bench.options.seconds,
        "cases": {name: case.data() for name, case in found.items()},
    }
    return Outcome("\n\n".join([*(case.text() for case in found.values()), setups(subjects)]), data)


def fan_out_growth(bench: Bench) -> Outcome:
    """CPU per message against members, ours alone: the cost of one more member must stay the same."""
    deployment = bench.deployment(scopes=CHAT_SCOPES)
    ours = _live(deployment)
    rounds = bench.options.rounds_or(GROWTH_ROUNDS)
    points: list[tuple[int, Spread]] = []
    for members in GROWTH_MEMBERS:
        plan = Plan(size=GROWTH_SIZE, connections=members)
        measure = functools.partial(driven.measure, bench, deployment, "fan_out", plan)
        samples = bench.in_turn([ours], rounds, measure)
        if ours.name in samples:
            points.append((members, spread(sample.cpu_us * members for sample in samples[ours.name])))
    more = ["-", *(f"{slope:.3f}" for slope in slopes([(count, cost.median) for count, cost in points]))]
    lines = [
        [f"{count:,}", cost.text(digits_for(cost.median)), f"{cost.median / count:.3f}", each]
        for (count, cost), each in zip(points, more, strict=False)
    ]
    columns = ("members", "CPU µs/message", "µs/delivery", "µs per member more")
    title = f"How a message's cost grows with the members: {GROWTH_SIZE} bytes, a live room, {rounds} rounds"
    data: dict[str, object] = {
        "points": [{"members": count, "cpu_us": dataclasses.asdict(cost)} for count, cost in points]
    }
    return Outcome("\n\n".join([title, table.render(columns, lines)]), data)
