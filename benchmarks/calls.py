"""The benchmarks of calls: `rpc`, `rpc-large`, and how a call's cost grows with its size."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from benchmarks import payloads, table
from benchmarks.comparison import Goal, compare, costs, setups
from benchmarks.figures import Spread, digits_for, slopes, spread
from benchmarks.harness import CONNECTIONS, Bench, Outcome
from benchmarks.payloads import Workload
from benchmarks.subjects import GRPC_PEERS, NGINX, PYTHON_PEERS, Subject

ROUNDS = 5
LARGE_ROWS = 100
GROWTH_ROWS = (1, 3, 10, 30, 100, 300, 1000)


RPC_GOALS = (
    Goal("at most 1/2 of the best Python peer", "python", 0.5),
    Goal("at most 1/5 of gRPC Python", "grpc", 0.2),
    Goal("at most 4 times nginx's fixed string", "native", 4.0),
)
LARGE_GOALS = (Goal("ahead of every Python peer", "python", 1.0),)


def rpc(bench: Bench) -> Outcome:
    """A small call over keep-alive TLS."""
    return _compare(bench, payloads.DOUBLE, (*PYTHON_PEERS, *GRPC_PEERS, NGINX), RPC_GOALS)


def rpc_large(bench: Bench) -> Outcome:
    """A large call and a large answer. nginx is left out: there is no work it could do."""
    return _compare(bench, payloads.same(LARGE_ROWS), (*PYTHON_PEERS, *GRPC_PEERS), LARGE_GOALS)


def _compare(bench: Bench, workload: Workload, peers: Sequence[Subject], goals: Sequence[Goal]) -> Outcome:
    deployment = bench.deployment()
    subjects = bench.available((deployment.subject(), *peers))
    rounds = bench.options.rounds_or(ROUNDS)
    request = len(workload.request())
    title = (
        f"{workload.title}: {request:,} bytes of XML in, keep-alive TLS 1.3, {CONNECTIONS} connections, "
        f"{rounds} x {bench.options.seconds} s, median (lowest-highest)"
    )
    measure = functools.partial(bench.calls, deployment, workload)
    found = compare(bench, subjects, measure, title=title, operation="call", rounds=rounds, goals=goals)
    data: dict[str, object] = {
        "workload": workload.title,
        "request_bytes": request,
        "connections": CONNECTIONS,
        "seconds": bench.options.seconds,
        **found.data(),
    }
    return Outcome(f"{found.text()}\n\n{setups(found.subjects)}", data)


def rpc_growth(bench: Bench) -> Outcome:
    """CPU per call against payload size, ours alone: the cost of one more struct must stay the same."""
    deployment = bench.deployment()
    ours = deployment.subject()
    rounds = bench.options.rounds_or(3)
    points: list[tuple[int, int, Spread]] = []
    for count in GROWTH_ROWS:
        workload = payloads.same(count)
        samples = bench.in_turn([ours], rounds, functools.partial(bench.calls, deployment, workload))
        if ours.name in samples:
            points.append((count, len(workload.request()), spread(costs(samples, ours.name))))
    more = ["-", *(f"{slope:.2f}" for slope in slopes([(count, cost.median) for count, _, cost in points]))]
    lines = [
        [f"{count:,}", f"{size / 1024:,.1f}", cost.text(digits_for(cost.median)), each]
        for (count, size, cost), each in zip(points, more, strict=False)
    ]
    columns = ("structs", "KiB in", "CPU µs/call", "µs per struct more")
    data: dict[str, object] = {
        "points": [
            {"structs": count, "request_bytes": size, "cpu_us": dataclasses.asdict(cost)}
            for count, size, cost in points
        ]
    }
    title = f"How a call's cost grows with its size: structs of 5 members, the same back, {rounds} rounds"
    return Outcome("\n\n".join([title, table.render(columns, lines)]), data)
