"""The benchmark `echo`: the chapter's framed messages, sent back."""

from __future__ import annotations

import functools

from benchmarks import driven
from benchmarks.comparison import Comparison, Goal, compare, setups
from benchmarks.harness import CONNECTIONS, Bench, Outcome
from benchmarks.loads.result import Plan
from benchmarks.ours import ECHO, ECHO_SCOPES, ECHO_THREADS, NAME
from benchmarks.subjects import ECHO_PEERS

ROUNDS = 5
SIZE = 128
IN_FLIGHT = (1, 32)
THREADS = f"{NAME} threads"
SETUP = "client certificates required, scope echo:use, limits, deadlines, metrics, audit trail: all on"
GOALS = (
    Goal("ahead of all", "python", 1.0),
    Goal("threads: ahead of all", "python", 1.0, ours=THREADS),
)


def echo(bench: Bench) -> Outcome:
    """One message in flight on each connection, and 32."""
    deployment = bench.deployment(scopes=ECHO_SCOPES)
    subjects = bench.available(
        (
            deployment.messaging(NAME, ECHO, "echo", f"asyncio engine; {SETUP}"),
            deployment.messaging(THREADS, ECHO_THREADS, "echo", f"threads engine; {SETUP}"),
            *ECHO_PEERS,
        )
    )
    rounds = bench.options.rounds_or(ROUNDS)
    found: dict[str, Comparison] = {}
    for in_flight in IN_FLIGHT:
        plan = Plan(size=SIZE, connections=CONNECTIONS, in_flight=in_flight)
        title = (
            f"{SIZE}-byte messages framed, {CONNECTIONS} connections with {in_flight} in flight on each, "
            f"TLS 1.3, {rounds} x {bench.options.seconds} s, median (lowest-highest)"
        )
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
        "connections": CONNECTIONS,
        "seconds": bench.options.seconds,
        "cases": {name: case.data() for name, case in found.items()},
    }
    return Outcome("\n\n".join([*(case.text() for case in found.values()), setups(subjects)]), data)
