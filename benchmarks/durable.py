"""The benchmark `durable`: publishes that are on the disk before they are acknowledged."""

from __future__ import annotations

import functools

from benchmarks import driven
from benchmarks.comparison import Comparison, Goal, compare, setups
from benchmarks.harness import Bench, Outcome
from benchmarks.loads.result import Plan
from benchmarks.ours import CHAT, CHAT_SCOPES, NAME
from benchmarks.subjects import DURABLE_PEERS

ROUNDS = 5
PUBLISHERS = 64
SIZE = 128
IN_FLIGHT = (1, 16)
SETUP = "durable room, history and idempotence kept, token authentication, policy, limits, metrics: all on"
GOALS = (
    Goal("ahead of both, by messages acknowledged in a second", "broker", 1.0, by="rate"),
    Goal("ahead of both, by CPU per message", "broker", 1.0),
)


def durable(bench: Bench) -> Outcome:
    """64 publishers to one room, stream or log, with one and with several unacknowledged on each."""
    deployment = bench.deployment(scopes=CHAT_SCOPES)
    subjects = bench.available((deployment.messaging(NAME, CHAT, "chat", SETUP), *DURABLE_PEERS))
    rounds = bench.options.rounds_or(ROUNDS)
    found: dict[str, Comparison] = {}
    for in_flight in IN_FLIGHT:
        title = (
            f"{PUBLISHERS} publishers of {SIZE} bytes with {in_flight} unacknowledged on each, synced to "
            f"disk before the answer, TLS 1.3, {rounds} x {bench.options.seconds} s, median (lowest-highest)"
        )
        plan = Plan(size=SIZE, connections=PUBLISHERS, in_flight=in_flight)
        found[f"{in_flight} in flight"] = compare(
            bench,
            subjects,
            functools.partial(driven.measure, bench, deployment, "closed_loop", plan),
            title=title,
            operation="message",
            rounds=rounds,
            goals=GOALS,
        )
    data: dict[str, object] = {
        "bytes": SIZE,
        "publishers": PUBLISHERS,
        "seconds": bench.options.seconds,
        "cases": {name: case.data() for name, case in found.items()},
    }
    return Outcome("\n\n".join([*(case.text() for case in found.values()), setups(subjects)]), data)
