"""Of the benchmark `files`: the listing of a large folder, and how its cost grows with the entries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from benchmarks import processes, table
from benchmarks.figures import spread
from benchmarks.harness import Bench, Outcome
from benchmarks.loads.listing import Page, walk
from benchmarks.ours import NAME, Deployment
from benchmarks.processes import BenchmarkError, pinned
from benchmarks.subjects import Subject

NONE = ("starlette",)  # has no listings
GOAL_GROWTH = 1.5  # of the CPU per entry, from the second folder to the largest: a straight line
GOAL_PAGE_ENTRIES = 1_000  # files_listing_count


@dataclasses.dataclass(frozen=True, slots=True)
class Walk:
    """One way through all pages of a folder of `entries` files."""

    entries: int
    pages: tuple[Page, ...]
    cpu_seconds: float
    resident_kib: int  # more than before

    @property
    def each_us(self) -> float:
        """CPU per entry."""
        return self.cpu_seconds / self.entries * 1e6

    @property
    def later_ms(self) -> list[float]:
        return [page.seconds * 1000 for page in self.pages[1:]]


Walks = dict[str, list[list[Walk]]]  # of each subject: rounds of folders


def listing(
    bench: Bench, deployment: Deployment, subjects: Sequence[Subject], folders: Sequence[int], rounds: int
) -> Outcome:
    able = [subject for subject in subjects if subject.name not in NONE]
    found = bench.in_turn(able, rounds, lambda subject: _walks(bench, deployment, folders, subject))
    goals = judge(found.get(NAME, []))
    title = f"Listings, page by page where there are pages, {rounds} rounds, median (lowest-highest)"
    parts = [title, render(found, folders)]
    if goals:
        parts.append("Goals\n" + table.notes(goals))
    data: dict[str, object] = {
        "folders": list(folders),
        "subjects": {
            name: [[dataclasses.asdict(walk) for walk in walks] for walks in each]
            for name, each in found.items()
        },
        "goals": [{"goal": text, "met": word == "met"} for word, text in goals],
    }
    return Outcome("\n\n".join(parts), data)


def _walks(bench: Bench, deployment: Deployment, folders: Sequence[int], subject: Subject) -> list[Walk]:
    with bench.serving(subject, deployment) as (server, site):
        walks = []
        for count in folders:
            processes.settle(server)
            used, resident = server.cpu_seconds(), server.resident_kib()
            with pinned(bench.load_core):
                pages = walk(site.port, f"/folder-{count}/", subject.headers, deployment.authority)
            processes.settle(server)
            listed = sum(page.entries for page in pages)
            if listed != count:
                raise BenchmarkError(f"{listed} entries listed of {count}")
            used = server.cpu_seconds() - used
            walks.append(Walk(count, tuple(pages), used, server.resident_kib() - resident))
        return walks


def judge(rounds: Sequence[Sequence[Walk]]) -> list[tuple[str, str]]:
    """That no page has more than its share, and that the cost is a straight line."""
    if not rounds:
        return []
    largest = max(page.entries for walks in rounds for walk in walks for page in walk.pages)
    growth = spread(walks[-1].each_us / max(walks[-2].each_us, 1e-9) for walks in rounds)
    before, last = rounds[0][-2].entries, rounds[0][-1].entries
    return [
        (
            _word(largest <= GOAL_PAGE_ENTRIES),
            f"at most {GOAL_PAGE_ENTRIES:,} entries on a page: {largest:,}",
        ),
        (
            _word(growth.median <= GOAL_GROWTH),
            f"CPU per entry of {last:,} over that of {before:,}: {growth.text(2)}, goal {GOAL_GROWTH:g}",
        ),
    ]


def _word(met: bool) -> str:
    return "met" if met else "MISSED"


def render(found: Walks, folders: Sequence[int]) -> str:
    columns = [
        "",
        "entries",
        "pages",
        "first ms",
        "next ms",
        "slowest ms",
        "KiB at most",
        "CPU µs/entry",
        "RSS + MiB",
    ]
    rows = [
        _row(name, [walks[index] for walks in rounds])
        for name, rounds in found.items()
        for index in range(len(folders))
    ]
    return table.render(columns, rows)


def _row(name: str, walks: Sequence[Walk]) -> list[str]:
    later = [milliseconds for walk in walks for milliseconds in walk.later_ms]
    return [
        name,
        f"{walks[0].entries:,}",
        f"{len(walks[0].pages):,}",
        spread(walk.pages[0].seconds * 1000 for walk in walks).text(1),
        f"{spread(later).median:.1f}" if later else "-",
        f"{max(later):.1f}" if later else "-",
        f"{max(page.size for walk in walks for page in walk.pages) / 1024:,.0f}",
        spread(walk.each_us for walk in walks).text(1),
        f"{spread(walk.resident_kib / 1024 for walk in walks).median:.0f}",
    ]
