"""Load processes of our own, on the load's core: told by lines on stdin, heard on stdout."""

from __future__ import annotations

import dataclasses
import json
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Bench, Sample
from benchmarks.loads.result import LoadResult, Plan
from benchmarks.ours import Deployment
from benchmarks.processes import BenchmarkError, environment, pinned
from benchmarks.subjects import Site, Subject

START_SECONDS = 60.0
OVERTIME_SECONDS = 60.0
HOLD_SECONDS = 300.0  # to open thousands of connections


class Child:
    """Such a process: each line that it is told it answers with one."""

    def __init__(self, module: str, arguments: Sequence[str], core: int) -> None:
        """Start `loads/MODULE.py`."""
        with pinned(core):
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.loads.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )

    def ask(self, line: str, seconds: float) -> str:
        """Tell it a line, return its answer. Raises BenchmarkError with what it said when there is none."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        return self.hear(seconds)

    def hear(self, seconds: float) -> str:
        """Its next line, within so many seconds."""
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        text = b""
        while not text.endswith(b"\n"):
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            data = self._process.stdout.read1() if readable else b""  # type: ignore[attr-defined]  # buffered
            if not data:
                self._process.kill()
                _, errors = self._process.communicate()
                said = errors.decode(errors="replace").strip()
                raise BenchmarkError(f"load: {said[-500:] or f'no answer in {seconds:g} s'}")
            text += data
        return text.decode().strip()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Load:
    """A load that measures (`loads.child`): connected and idle until it is told to run."""

    def __init__(self, module: str, plan: Plan, directory: Path, core: int) -> None:
        """Raises BenchmarkError when it does not get ready."""
        file = directory / "plan.json"
        plan.write(file)
        self._child = Child(module, [str(file)], core)
        self.close = self._child.close
        if self._child.hear(START_SECONDS) != "ready":
            raise BenchmarkError("the load did not get ready")

    def run(self, seconds: float) -> LoadResult:
        """Measure for so long. Raises BenchmarkError when anything was lost, refused or not right."""
        result = LoadResult(**json.loads(self._child.ask(str(seconds), seconds + OVERTIME_SECONDS)))
        if not result.operations:
            raise BenchmarkError("the load did nothing")
        return result


class Holder:
    """A load that holds connections open and measures nothing (`loads.opener`, `loads.members`)."""

    def __init__(self, module: str, arguments: Sequence[str], core: int) -> None:
        self._child = Child(module, arguments, core)
        self.close = self._child.close

    def hold(self, line: str) -> None:
        """Return when it holds what the line says. Raises BenchmarkError when that fails."""
        if self._child.ask(line, HOLD_SECONDS) != line:
            raise BenchmarkError(f"the load does not hold {line}")


def planned(plan: Plan, deployment: Deployment, subject: Subject, site: Site) -> Plan:
    """The plan with what it lacks: where the server is, and as whom the load comes."""
    mine = subject.kind == "ours"
    return dataclasses.replace(
        plan,
        dialect=subject.dialect,
        port=site.port,
        authority=str(deployment.authority),
        token=deployment.token if mine else "",
        certificate=str(deployment.client_certificate) if mine and subject.dialect == "echo" else "",
    )


def measure(bench: Bench, deployment: Deployment, module: str, plan: Plan, subject: Subject) -> Sample:
    """Start a subject, drive it by `loads/MODULE.py`, stop it. What the plan lacks is filled in."""
    with bench.serving(subject, deployment) as (server, site):
        filled = planned(plan, deployment, subject, site)
        load = Load(module, filled, site.directory, bench.load_core)
        try:
            sample, _ = bench.sampled(server, load.run)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{server.output()}") from None
        finally:
            load.close()
        return sample
