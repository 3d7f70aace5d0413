"""Subjects beside one another: rounds in turn, a table, goals that are met or MISSED, data for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from benchmarks import table
from benchmarks.figures import Spread, ratios, spread
from benchmarks.harness import Bench, Sample, Samples
from benchmarks.ours import NAME
from benchmarks.subjects import Kind, Subject

BUSY = 0.97  # from here on the load has no more to give: the rate is its own


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """Ours may cost at most `share` of the cheapest peer of a kind, taken round by round.

    `names`: these peers alone; `ours`: which of our subjects; `by`: CPU per operation, or time per operation,
    which is what a synced disk makes.
    """

    text: str
    kind: Kind
    share: float
    names: tuple[str, ...] = ()
    ours: str = NAME
    by: Literal["cpu", "rate"] = "cpu"

    def costs(self, samples: Samples, name: str) -> list[float]:
        if self.by == "cpu":
            return costs(samples, name)
        return [1e6 / sample.per_second for sample in samples[name]]


Judged = tuple[str, str, dict[str, float]]  # `met` or `MISSED`, the goal with its figures, the ratio


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured, of whom, and what of it was to be reached."""

    title: str
    operation: str  # one word: call, delivery, message
    subjects: Sequence[Subject]
    samples: Samples
    judged: Sequence[Judged]

    def text(self) -> str:
        """The title, the table, the goals. Not how the subjects are set up: see `setups`."""
        rows = [row(subject.name, self.samples) for subject in self.subjects]
        parts = [self.title, table.render(columns(self.operation, self._measured()), rows)]
        if self.judged:
            parts.append("Goals\n" + table.notes([(word, text) for word, text, _ in self.judged]))
        bound = [name for name, mine in self.samples.items() if any(is_load_bound(each) for each in mine)]
        if bound:
            parts.append(f"The load had no more to give, and the rate is its own: {', '.join(bound)}.")
        return "\n\n".join(parts)

    def data(self) -> dict[str, object]:
        return {
            "title": self.title,
            "subjects": {
                subject.name: {
                    "kind": subject.kind,
                    "setup": subject.described(),
                    "rounds": [dataclasses.asdict(sample) for sample in self.samples[subject.name]],
                }
                for subject in self.subjects
            },
            "goals": [
                {"goal": text, "met": word == "met", "ratio": ratio} for word, text, ratio in self.judged
            ],
        }

    def _measured(self) -> list[Sample]:
        return [sample for mine in self.samples.values() for sample in mine]


def compare(
    bench: Bench,
    subjects: Sequence[Subject],
    measure: Callable[[Subject], Sample],
    *,
    title: str,
    operation: str,
    rounds: int,
    goals: Sequence[Goal],
) -> Comparison:
    """So many rounds over all subjects in turn."""
    samples = bench.in_turn(subjects, rounds, measure)
    measured = [subject for subject in subjects if subject.name in samples]
    return Comparison(title, operation, measured, samples, judge(samples, measured, goals))


def setups(subjects: Sequence[Subject]) -> str:
    return "Set up\n" + table.notes([(subject.name, subject.described()) for subject in subjects])


def costs(samples: Samples, name: str) -> list[float]:
    return [sample.cpu_us for sample in samples[name]]


def is_load_bound(sample: Sample) -> bool:
    return sample.load_busy is not None and sample.load_busy > BUSY


def columns(operation: str, samples: Sequence[Sample]) -> list[str]:
    busy = ["load busy"] if any(sample.load_busy is not None for sample in samples) else []
    each, rate = f"CPU µs/{operation}", f"{plural(operation)}/s"
    return ["", each, "ours / it", rate, "p50 ms", "p99 ms", "RSS MiB", *busy]


def plural(operation: str) -> str:
    return f"{operation.removesuffix('y')}ies" if operation.endswith("y") else f"{operation}s"


def row(name: str, samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    mine = samples[name]
    cpu = spread(sample.cpu_us for sample in mine)
    against = "-"
    if name != NAME and NAME in samples:
        ours = [sample.cpu_us for sample in samples[NAME]]
        against = spread(ratios(ours, [sample.cpu_us for sample in mine])).text(2)
    busy = [sample.load_busy for sample in mine if sample.load_busy is not None]
    return [
        name,
        cpu.text(_digits(cpu)),
        against,
        spread(sample.per_second for sample in mine).text(),
        f"{spread(sample.p50_us / 1000 for sample in mine).median:.2f}",
        f"{spread(sample.p99_us / 1000 for sample in mine).median:.2f}",
        f"{spread(sample.resident_kib / 1024 for sample in mine).median:.0f}",
        *([f"{spread(busy).median:.0%}"] if busy else []),
    ]


def _digits(cost: Spread) -> int:
    if cost.median < 10:
        return 2
    return 1 if cost.median < 100 else 0


def judge(samples: Samples, measured: Sequence[Subject], goals: Sequence[Goal]) -> list[Judged]:
    """Each goal that can be judged."""
    judged = []
    for goal in goals:
        peers = [
            goal.costs(samples, subject.name)
            for subject in measured
            if subject.kind == goal.kind and (not goal.names or subject.name in goal.names)
        ]
        if not peers or goal.ours not in samples:
            continue
        best = [min(each) for each in zip(*peers, strict=True)]
        ratio = spread(ratios(goal.costs(samples, goal.ours), best))
        word = "met" if ratio.median <= goal.share else "MISSED"
        judged.append((word, f"{goal.text}: {ratio.text(2)}, goal {goal.share:g}", dataclasses.asdict(ratio)))
    return judged
