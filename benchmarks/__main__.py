"""`python -m benchmarks [NAME...]`: a table for people on stdout, JSON for programs in `results/`."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.calls import rpc, rpc_growth, rpc_large
from benchmarks.chat_memory import chat_memory
from benchmarks.durable import durable
from benchmarks.echo import echo
from benchmarks.fan_out import fan_out, fan_out_growth
from benchmarks.files import files
from benchmarks.harness import SECONDS, Bench, Options, Outcome, machine
from benchmarks.idle import idle
from benchmarks.processes import BenchmarkError
from benchmarks.start import start

BENCHMARKS: Mapping[str, Callable[[Bench], Outcome]] = {
    "rpc": rpc,
    "rpc-large": rpc_large,
    "rpc-growth": rpc_growth,
    "echo": echo,
    "fan-out": fan_out,
    "fan-out-growth": fan_out_growth,
    "durable": durable,
    "chat-memory": chat_memory,
    "files": files,
    "idle": idle,
    "start": start,
}
RESULTS = Path(__file__).with_name("results")
QUIET_LOAD = 0.5


def main() -> int:
    """Run the benchmarks named, or all. The exit code is 1 when a subject failed or is not installed."""
    given = _arguments()
    options = Options(
        rounds=given.rounds,
        seconds=given.seconds or (1 if given.quick else SECONDS),
        quick=given.quick,
        only=tuple(given.only.split(",")) if given.only else (),
    )
    taken, about = datetime.datetime.now(datetime.UTC), machine()
    texts = [_header(about)]
    print(texts[0], flush=True)
    results: dict[str, object] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="secure-net-bench-") as directory:
        for name in given.names or BENCHMARKS:
            bench = Bench(Path(directory), options)
            text, data = _one(name, bench)
            bench.say("")
            print(text, flush=True)
            texts.append(text)
            results[name] = {**data, "failures": bench.failures}
            failed = failed or bool(bench.failures)
    report = json.dumps({"taken": taken.isoformat(), "machine": about, "benchmarks": results}, indent=1)
    _keep(taken, "\n".join(texts), report, given.json)
    return int(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each subject is measured")
    parser.add_argument("--seconds", type=int, metavar="S", help=f"length of one measurement ({SECONDS})")
    parser.add_argument("--quick", action="store_true", help="one short round: that it works, not how fast")
    parser.add_argument("--only", metavar="SUBJECT,...", help="measure only these, named as in the table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here as well")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return given


def _one(name: str, bench: Bench) -> tuple[str, dict[str, object]]:
    """Run one benchmark; its text and its data, with whatever failed named in both."""
    outcome = Outcome("", {})
    try:
        outcome = BENCHMARKS[name](bench)
    except BenchmarkError as error:
        bench.failures.append(f"{name}: {error}")
    failures = "\n".join(f"FAILED {failure}" for failure in bench.failures)
    parts = [f"\n== {name} ==", outcome.text, failures]
    return "\n\n".join(part for part in parts if part), outcome.data


def _header(about: dict[str, object]) -> str:
    lines = ["{cpu}, {cores} cores, Linux {kernel}, CPython {python}, {openssl}".format(**about)]
    load = about["load_before"]
    if isinstance(load, float) and load > QUIET_LOAD:
        lines.append(f"The machine is not quiet (load {load}): what follows is not to be quoted.")
    return "\n".join(lines)


def _keep(taken: datetime.datetime, text: str, report: str, elsewhere: Path | None) -> None:
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / taken.strftime("%Y%m%dT%H%M%SZ")
    stem.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    stem.with_suffix(".json").write_text(report + "\n", encoding="utf-8")
    if elsewhere is not None:
        elsewhere.write_text(report + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
