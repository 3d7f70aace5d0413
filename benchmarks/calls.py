"""The benchmarks of calls: `rpc`, `rpc-large`, and how a call's cost grows with its size."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from benchmarks import payloads, table
from benchmarks.figures import Spread, digits_for, ratios, slopes, spread
from benchmarks.harness import CONNECTIONS, Bench, Outcome, Samples
from benchmarks.ours import NAME
from benchmarks.payloads import Workload
from benchmarks.subjects import GRPC_PEERS, NGINX, PYTHON_PEERS, Kind, Subject

ROUNDS = 5
LARGE_ROWS = 100
GROWTH_ROWS = (1, 3, 10, 30, 100, 300, 1000)
COLUMNS = ("", "CPU µs/call", "ours / it", "calls/s", "p50 ms", "p99 ms", "RSS MiB")


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """Ours may cost at most `share` of the cheapest peer of a kind, taken round by round."""

    text: str
    kind: Kind
    share: float


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
    samples = bench.in_turn(subjects, rounds, functools.partial(bench.calls, deployment, workload))
    measured = [subject for subject in subjects if subject.name in samples]
    met = _goals(samples, measured, goals)
    request = len(workload.request())
    title = (
        f"{workload.title}: {request:,} bytes of XML in, keep-alive TLS 1.3, {CONNECTIONS} connections, "
        f"{rounds} x {bench.options.seconds} s, median (lowest-highest)"
    )
    parts = [title, table.render(COLUMNS, [_row(subject.name, samples) for subject in measured])]
    if met:
        parts.append("Goals, by CPU per call\n" + table.notes([(word, text) for word, text, _ in met]))
    parts.append("Set up\n" + table.notes([(subject.name, subject.described()) for subject in measured]))
    data: dict[str, object] = {
        "workload": workload.title,
        "request_bytes": request,
        "connections": CONNECTIONS,
        "seconds": bench.options.seconds,
        "subjects": {
            subject.name: {
                "kind": subject.kind,
                "setup": subject.described(),
                "rounds": [dataclasses.asdict(sample) for sample in samples[subject.name]],
            }
            for subject in measured
        },
        "goals": [{"goal": text, "met": word == "met", "ratio": value} for word, text, value in met],
    }
    return Outcome("\n\n".join(parts), data)


def _costs(samples: Samples, name: str) -> list[float]:
    return [sample.cpu_us for sample in samples[name]]


def _row(name: str, samples: Samples) -> list[str]:
    mine = samples[name]
    cpu = spread(_costs(samples, name))
    against = "-"
    if name != NAME and NAME in samples:
        against = spread(ratios(_costs(samples, NAME), _costs(samples, name))).text(2)
    return [
        name,
        cpu.text(1 if cpu.median < 100 else 0),
        against,
        spread(sample.per_second for sample in mine).text(),
        f"{spread(sample.p50_us / 1000 for sample in mine).median:.2f}",
        f"{spread(sample.p99_us / 1000 for sample in mine).median:.2f}",
        f"{spread(sample.resident_kib / 1024 for sample in mine).median:.0f}",
    ]


def _goals(
    samples: Samples, measured: Sequence[Subject], goals: Sequence[Goal]
) -> list[tuple[str, str, dict[str, float]]]:
    """For each goal that can be judged: `met` or `MISSED`, its text with the figures, and the ratio."""
    judged = []
    for goal in goals:
        peers = [_costs(samples, subject.name) for subject in measured if subject.kind == goal.kind]
        if not peers or NAME not in samples:
            continue
        ratio = spread(ratios(_costs(samples, NAME), [min(costs) for costs in zip(*peers, strict=True)]))
        word = "met" if ratio.median <= goal.share else "MISSED"
        judged.append((word, f"{goal.text}: {ratio.text(2)}, goal {goal.share:g}", dataclasses.asdict(ratio)))
    return judged


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
            points.append((count, len(workload.request()), spread(_costs(samples, ours.name))))
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
