"""The benchmark `files`: static files, small and large, 200 downloads at once, listings."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import table
from benchmarks.comparison import Comparison, Goal, compare, setups
from benchmarks.figures import ratios, spread
from benchmarks.files_listing import listing
from benchmarks.files_many import many
from benchmarks.harness import CONNECTIONS, Bench, Outcome, Sample, right_size
from benchmarks.loads import curl, http, probe
from benchmarks.loads.result import LoadResult, Target
from benchmarks.ours import FILES_SCOPES, NAME, Deployment
from benchmarks.processes import BenchmarkError
from benchmarks.subjects import Subject, file_peers

ROUNDS = 5
KIB, MIB = 1024, 1024 * 1024
SMALL_BYTES = 10 * KIB
LARGE_BYTES = 512 * MIB
FOLDERS = (1_000, 10_000, 100_000)
QUICK_FOLDERS = (1_000, 10_000)
# 200 downloads of one principal; all other limits are the defaults.
LIMITS: dict[str, float] = {"connections_per_principal_count": 256}
SMALL_GOALS = (Goal("ahead of every Python server", "python", 1.0),)
# Ours carries 0.9 times as many bytes in a CPU second: it costs 1/0.9 as much.
LARGE_GOALS = (Goal("at least 0.9 times nginx's bytes per CPU second, by cost", "native", round(1 / 0.9, 3)),)


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """The folder that all serve: `small`, `large`, and `folder-N` with N files each."""

    directory: Path
    small: bytes

    @classmethod
    def made(cls, directory: Path, folders: Sequence[int]) -> Content:
        """Real bytes, not holes: all of it is in the page cache afterwards, for everyone."""
        small = os.urandom(SMALL_BYTES)
        (directory / "small").write_bytes(small)
        block = os.urandom(MIB)
        with (directory / "large").open("wb") as file:
            for _ in range(LARGE_BYTES // MIB):
                file.write(block)
        for count in folders:
            folder = directory / f"folder-{count}"
            folder.mkdir()
            for number in range(count):
                (folder / f"entry-{number:06d}").touch()
        return cls(directory, small)


def files(bench: Bench) -> Outcome:
    """Four parts, each with all subjects in turn."""
    folders = QUICK_FOLDERS if bench.options.quick else FOLDERS
    bench.say("making files")
    content = Content.made(Path(tempfile.mkdtemp(prefix="files-", dir=bench.directory)), folders)
    deployment = bench.deployment(LIMITS, FILES_SCOPES)
    subjects = bench.available((deployment.files(content.directory), *file_peers(content.directory)))
    rounds = bench.options.rounds_or(ROUNDS)
    during = f"TLS 1.3, {rounds} x {bench.options.seconds} s, median (lowest-highest)"
    small = compare(
        bench,
        subjects,
        functools.partial(_small, bench, deployment, content),
        title=f"{SMALL_BYTES // KIB} KiB, keep-alive, {CONNECTIONS} connections, {during}",
        operation="request",
        rounds=rounds,
        goals=SMALL_GOALS,
    )
    large = compare(
        bench,
        small.subjects,
        functools.partial(_large, bench, deployment),
        title=f"{LARGE_BYTES // MIB} MiB to curl, one after the other, {during}",
        operation="MiB",
        rounds=rounds,
        goals=LARGE_GOALS,
    )
    at_once = many(bench, deployment, small.subjects, LARGE_BYTES, rounds)
    listed = listing(bench, deployment, small.subjects, folders, rounds)
    widened = ", ".join(f"{name} = {value:,.0f}" for name, value in LIMITS.items())
    parts = [small.text(), large_text(large), at_once.text, listed.text, setups(small.subjects)]
    parts.append(f"Limits of ours that are wider: {widened}.")
    data: dict[str, object] = {
        "seconds": bench.options.seconds,
        "connections": CONNECTIONS,
        "cases": {"small": small.data(), "large": large.data(), "many": at_once.data, "listing": listed.data},
    }
    return Outcome("\n\n".join(parts), data)


def _small(bench: Bench, deployment: Deployment, content: Content, subject: Subject) -> Sample:
    with bench.serving(subject, deployment) as (server, site):
        size = probe.file(site.port, "/small", subject.headers, content.small, deployment.authority)
        target = Target(site.port, CONNECTIONS, bench.load_core, site.directory)
        sample, result = bench.sampled(
            server, lambda seconds: http.run(target, "/small", subject.headers, seconds)
        )
        if not right_size(result, size):
            raise BenchmarkError(f"answers of {result.answer_bytes:.0f} bytes, where {size} are right")
        return sample


def _large(bench: Bench, deployment: Deployment, subject: Subject) -> Sample:
    with bench.serving(subject, deployment) as (server, site):
        target = Target(site.port, 1, bench.load_core, site.directory)

        def load(seconds: int) -> LoadResult:
            return curl.run(
                target,
                "/large",
                subject.headers,
                seconds,
                authority=deployment.authority,
                size=LARGE_BYTES,
            )

        return bench.sampled(server, load)[0]


def large_text(found: Comparison) -> str:
    """The table of the large file: bytes, where the others have operations."""
    columns = ["", "MiB/CPU s", "CPU µs/MiB", "ours / it", "GB/s", "RSS MiB", "load busy"]
    rows = [large_row(subject.name, found.samples) for subject in found.subjects]
    parts = [found.title, table.render(columns, rows)]
    if found.judged:
        parts.append("Goals\n" + table.notes([(word, text) for word, text, _ in found.judged]))
    return "\n\n".join(parts)


def large_row(name: str, samples: dict[str, list[Sample]]) -> list[str]:
    """`ours / it` is of the cost, as everywhere."""
    mine = samples[name]
    costs = [sample.cpu_us for sample in mine]
    against = "-"
    if name != NAME and NAME in samples:
        against = spread(ratios([sample.cpu_us for sample in samples[NAME]], costs)).text(2)
    return [
        name,
        spread(1e6 / cost for cost in costs).text(),
        spread(costs).text(),
        against,
        spread(sample.per_second * MIB / 1e9 for sample in mine).text(2),
        f"{spread(sample.resident_kib / KIB for sample in mine).median:.0f}",
        f"{spread(sample.load_busy or 0.0 for sample in mine).median:.0%}",
    ]
