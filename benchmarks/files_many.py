"""Of the benchmark `files`: many downloads of a large file at once. Memory must not grow while they go on.

No rate is told: what lay in the sockets when the readers began comes at once. CPU is taken from full sockets
to full sockets, so that it is of as many bytes as were taken.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from benchmarks import processes, table
from benchmarks.driven import START_SECONDS, Child, planned
from benchmarks.figures import ratios, spread
from benchmarks.harness import WARM_UP_SECONDS, Bench, Outcome
from benchmarks.loads import probe
from benchmarks.loads.downloads import Taken
from benchmarks.loads.result import Plan
from benchmarks.ours import NAME, Deployment
from benchmarks.processes import BenchmarkError
from benchmarks.subjects import Subject

COUNT = 200
KIB, MIB = 1024, 1024 * 1024
GOAL_KIB = 512.0  # for each download, at the peak: a file has a thousand times as much
GOAL_GROWTH = 1.05  # of what is resident half way, at the end
OVERTIME_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Crowd:
    """One subject in one round; memory in KiB.

    `before`: serving nobody; `waiting`: all have asked and take nothing; `half`, `end`: of the time in which
    they take what comes; `peak`: the most there ever was; `after`: they have gone, amid their files.
    """

    before: int
    waiting: int
    half: int
    end: int
    peak: int
    after: int
    left_open: int  # descriptors more than before
    cpu_us: float  # per MiB
    least: float  # what the least favoured got, over the average
    most: float
    busy: float

    @property
    def each_kib(self) -> float:
        return (self.peak - self.before) / COUNT

    @property
    def growth(self) -> float:
        return self.end / self.half


def many(
    bench: Bench, deployment: Deployment, subjects: Sequence[Subject], size: int, rounds: int
) -> Outcome:
    found = bench.in_turn(subjects, rounds, lambda subject: _crowd(bench, deployment, size, subject))
    goals = judge(found.get(NAME, []))
    title = (
        f"{COUNT} downloads of {size // MIB} MiB at once, taking nothing at first and then what comes for "
        f"{bench.options.seconds} s, {rounds} rounds, median (lowest-highest)"
    )
    parts = [title, render(found)]
    if goals:
        parts.append("Goals\n" + table.notes([(word, text) for word, text in goals]))
    data: dict[str, object] = {
        "downloads": COUNT,
        "subjects": {name: [dataclasses.asdict(each) for each in rounds_] for name, rounds_ in found.items()},
        "goals": [{"goal": text, "met": word == "met"} for word, text in goals],
    }
    return Outcome("\n\n".join(parts), data)


def _crowd(bench: Bench, deployment: Deployment, size: int, subject: Subject) -> Crowd:
    with bench.serving(subject, deployment) as (server, site):
        processes.settle(server)
        before, files_before = server.resident_kib(), server.open_files()
        plan, request = site.directory / "plan.json", site.directory / "request"
        planned(Plan(size=size, connections=COUNT), deployment, subject, site).write(plan)
        request.touch(mode=0o600)
        request.write_bytes(probe.get_request(site.port, "/large", subject.headers))
        load = Child("downloads", [str(plan), str(request)], bench.load_core)
        try:
            load.hear(START_SECONDS)
            processes.settle(server)
            waiting = server.resident_kib()
            _take(load, WARM_UP_SECONDS)  # the sockets grow
            processes.settle(server)
            used = server.cpu_seconds()
            seconds = bench.options.seconds / 2
            first = _take(load, seconds)
            half = server.resident_kib()
            second = _take(load, seconds)
            end = server.resident_kib()
            processes.settle(server)
            used = server.cpu_seconds() - used
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{server.output()}") from None
        finally:
            load.close()
        processes.settle(server)
        both = first.total + second.total
        return Crowd(
            before=before,
            waiting=waiting,
            half=half,
            end=end,
            peak=server.peak_kib(),
            after=server.resident_kib(),
            left_open=server.open_files() - files_before,
            cpu_us=used / both * MIB * 1e6,
            least=(first.least + second.least) * COUNT / both,
            most=(first.most + second.most) * COUNT / both,
            busy=max(first.busy, second.busy),
        )


def _take(load: Child, seconds: float) -> Taken:
    taken = Taken(**json.loads(load.ask(str(seconds), seconds + OVERTIME_SECONDS)))
    if not taken.total:
        raise BenchmarkError("no download went on")
    return taken


def judge(rounds: Sequence[Crowd]) -> list[tuple[str, str]]:
    """The goals of memory: `met` or `MISSED`, and what."""
    if not rounds:
        return []
    each, growth = spread(one.each_kib for one in rounds), spread(one.growth for one in rounds)
    return [
        (
            _word(each.median <= GOAL_KIB),
            f"at most {GOAL_KIB:g} KiB for each download at the peak: {each.text()}",
        ),
        (
            _word(growth.median <= GOAL_GROWTH),
            f"flat while they go on, end over half way: {growth.text(2)}, goal {GOAL_GROWTH:g}",
        ),
    ]


def _word(met: bool) -> str:
    return "met" if met else "MISSED"


def render(found: Mapping[str, Sequence[Crowd]]) -> str:
    """RSS in MiB."""
    columns = ["", "RSS before", "waiting", "half", "end", "peak", "after", "KiB each", "left open"]
    columns += ["CPU µs/MiB", "ours / it", "least/mean", "most/mean", "load busy"]
    return table.render(columns, [_row(name, found) for name in found])


def _row(name: str, found: Mapping[str, Sequence[Crowd]]) -> list[str]:
    mine = found[name]
    costs = [one.cpu_us for one in mine]
    against = "-"
    if name != NAME and NAME in found:
        against = spread(ratios([one.cpu_us for one in found[NAME]], costs)).text(2)
    memory = [
        f"{spread(kib / KIB for kib in point).median:.0f}"
        for point in zip(
            *((one.before, one.waiting, one.half, one.end, one.peak, one.after) for one in mine), strict=True
        )
    ]
    return [
        name,
        *memory,
        spread(one.each_kib for one in mine).text(),
        f"{spread(one.left_open for one in mine).median:.0f}",
        spread(costs).text(),
        against,
        f"{spread(one.least for one in mine).median:.2f}",
        f"{spread(one.most for one in mine).median:.2f}",
        f"{spread(one.busy for one in mine).median:.0%}",
    ]
