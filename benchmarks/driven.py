"""Load processes of our own, driven over their stdin; see `loads.child`."""

from __future__ import annotations

import dataclasses
import json
import select
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import Bench, Sample
from benchmarks.loads.result import LoadResult, Plan
from benchmarks.ours import Deployment
from benchmarks.processes import BenchmarkError, environment, pinned
from benchmarks.subjects import Subject

START_SECONDS = 60.0
OVERTIME_SECONDS = 30.0


class Load:
    """One such process, on the load's core: connected and idle until it is told to run."""

    def __init__(self, module: str, plan: Plan, directory: Path, core: int) -> None:
        """Raises BenchmarkError when it does not get ready."""
        file = directory / "plan.json"
        plan.write(file)
        with pinned(core):
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.loads.{module}", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
        if self._line(START_SECONDS) != "ready":
            raise BenchmarkError("the load did not get ready")

    def run(self, seconds: float) -> LoadResult:
        """Measure for so long. Raises BenchmarkError when anything was lost, refused or not right."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        self._process.stdin.flush()
        result = LoadResult(**json.loads(self._line(seconds + OVERTIME_SECONDS)))
        if not result.operations:
            raise BenchmarkError("the load did nothing")
        return result

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _line(self, seconds: float) -> str:
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


def measure(bench: Bench, deployment: Deployment, module: str, plan: Plan, subject: Subject) -> Sample:
    """Start a subject, drive it by `loads/MODULE.py`, stop it. The plan lacks only where and as whom."""
    with bench.serving(subject, deployment) as (server, site):
        mine = subject.kind == "ours"
        filled = dataclasses.replace(
            plan,
            dialect=subject.dialect,
            port=site.port,
            authority=str(deployment.authority),
            token=deployment.token if mine else "",
            certificate=str(deployment.client_certificate) if mine and subject.dialect == "echo" else "",
        )
        load = Load(module, filled, site.directory, bench.load_core)
        try:
            sample, _ = bench.sampled(server, load.run)
        finally:
            load.close()
        return sample
