"""The benchmark `start`: wall time of `secure-net --help`, and of `secure-net serve` until it is ready."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import table
from benchmarks.figures import spread
from benchmarks.harness import Bench, Outcome
from benchmarks.ours import CLI, Deployment, free_port
from benchmarks.processes import STOP_SECONDS, BenchmarkError, environment, pinned

ROUNDS = 11
QUICK_ROUNDS = 3
READY = "ready"


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    name: str
    goal_seconds: float | None
    measure: Callable[[Bench, Deployment], float]


def _run(bench: Bench, command: list[str]) -> float:
    with pinned(bench.server_core):
        begin = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, check=False, env=environment(), cwd=bench.directory
        )
        taken = time.perf_counter() - begin
    if done.returncode:
        raise BenchmarkError(f"exits {done.returncode}: {done.stderr.decode().strip()[-500:]}")
    return taken


def _interpreter(bench: Bench, _deployment: Deployment) -> float:
    return _run(bench, [sys.executable, "-c", "pass"])


def _help(bench: Bench, _deployment: Deployment) -> float:
    return _run(bench, [*CLI, "--help"])


def _serve(bench: Bench, deployment: Deployment) -> float:
    deployment.configure(free_port())
    log = (deployment.directory / "serve.log").open("wb")
    with log, pinned(bench.server_core):
        begin = time.perf_counter()
        server = subprocess.Popen(
            deployment.cli("serve"),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(),
            cwd=deployment.directory,
        )
    assert server.stdout is not None
    try:
        for line in server.stdout:
            if line.strip() == READY:
                return time.perf_counter() - begin
        raise BenchmarkError("`serve` ended before it was ready")
    finally:
        server.terminate()
        try:
            server.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()


STARTS = (
    Start("python -c pass", None, _interpreter),
    Start("secure-net --help", 0.15, _help),
    Start("secure-net serve, to ready", 0.7, _serve),
)


def start(bench: Bench) -> Outcome:
    """Several runs of each, in turn; the first, which reads files from disk, is not counted."""
    deployment = bench.deployment()
    rounds = QUICK_ROUNDS if bench.options.quick else bench.options.rounds_or(ROUNDS)
    taken: dict[str, list[float]] = {each.name: [] for each in STARTS}
    for number in range(rounds + 1):
        bench.say(f"round {number} of {rounds}")
        for each in STARTS:
            seconds = each.measure(bench, deployment)
            if number:
                taken[each.name].append(seconds)
    rows, judged = [], []
    for each in STARTS:
        found = spread(seconds * 1000 for seconds in taken[each.name])
        if each.goal_seconds is None:
            rows.append([each.name, found.text(), "-", "-"])
            continue
        met = found.median <= each.goal_seconds * 1000
        rows.append([each.name, found.text(), f"{each.goal_seconds * 1000:.0f}", "met" if met else "MISSED"])
        judged.append(
            {
                "goal": f"{each.name} within {each.goal_seconds:g} s",
                "met": met,
                "ms": dataclasses.asdict(found),
            }
        )
    title = f"Start: wall time on one core, {rounds} runs, median (lowest-highest)"
    text = "\n\n".join([title, table.render(("", "ms", "goal", ""), rows)])
    return Outcome(text, {"seconds": taken, "goals": judged})
