"""The method: subjects in turn, A B C A B C ..., the server on one core and the load on another.

The figure that counts is the server's CPU time per operation, over the whole process tree. Each round
starts every subject anew, checks one answer with a verifying client, warms up, and then measures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import resource
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks import processes
from benchmarks.loads import http, probe
from benchmarks.loads.result import LoadResult, Target
from benchmarks.ours import RPC_SCOPES, Deployment, free_port
from benchmarks.payloads import Workload
from benchmarks.processes import BenchmarkError, Server
from benchmarks.subjects import Site, Subject

CONNECTIONS = 16
SECONDS = 4
WARM_UP_SECONDS = 1
TOLERANCE = 0.02  # of an answer's size: a header field may vary


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    rounds: int | None = None  # None: the benchmark's own
    seconds: int = SECONDS
    quick: bool = False
    only: tuple[str, ...] = ()

    def rounds_or(self, usual: int) -> int:
        return self.rounds or (1 if self.quick else usual)

    def chosen(self, subjects: Sequence[Subject]) -> list[Subject]:
        return [subject for subject in subjects if not self.only or subject.name in self.only]


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One subject in one round."""

    cpu_us: float  # per operation
    per_second: float
    p50_us: float
    p99_us: float
    resident_kib: int
    operations: int
    load_busy: float | None = None  # share of its core that a load of our own used; None for wrk and h2load


@dataclasses.dataclass(slots=True)
class Outcome:
    """What a benchmark found: text for people, data for programs."""

    text: str
    data: dict[str, object]


Samples = dict[str, list[Sample]]
T = TypeVar("T")


class Bench:
    """One run: its scratch directory, its cores, its deployment of ours."""

    def __init__(self, directory: Path, options: Options) -> None:
        self.directory = directory
        self.options = options
        self.server_core, self.load_core = processes.cores()
        self.failures: list[str] = []

    def deployment(
        self, limits: dict[str, float] | None = None, scopes: Sequence[str] = RPC_SCOPES
    ) -> Deployment:
        """A fresh deployment of ours, whose certificate the peers use too."""
        self.say("secure-net init")
        return Deployment(Path(tempfile.mkdtemp(prefix="ours-", dir=self.directory)), limits, scopes)

    @contextlib.contextmanager
    def serving(self, subject: Subject, deployment: Deployment) -> Iterator[tuple[Server, Site]]:
        """A subject that accepts connections, for the length of the `with`."""
        scratch = Path(tempfile.mkdtemp(prefix="run-", dir=self.directory))
        site = Site(free_port(), scratch, deployment.certificate, deployment.key)
        server = Server(subject.command(site), scratch, self.server_core)
        try:
            processes.wait_until(lambda: probe.accepts(site.port), server)
            yield server, site
        finally:
            server.stop()

    def in_turn(
        self, subjects: Sequence[Subject], rounds: int, measure: Callable[[Subject], T]
    ) -> dict[str, list[T]]:
        """So many rounds over all subjects. One that fails is left out from then on, and named."""
        samples: dict[str, list[T]] = {subject.name: [] for subject in subjects}
        running = list(subjects)
        for number in range(1, rounds + 1):
            for subject in list(running):
                self.say(f"round {number} of {rounds}: {subject.name}")
                try:
                    samples[subject.name].append(measure(subject))
                except BenchmarkError as error:
                    self.failures.append(f"{subject.name}: {error}")
                    running.remove(subject)
        return {subject.name: samples[subject.name] for subject in running}

    def available(self, subjects: Sequence[Subject]) -> list[Subject]:
        """Those the command line asks for and this machine has; what is missing is named."""
        chosen = self.options.chosen(subjects)
        absent = {subject.name: subject.missing() for subject in chosen}
        self.failures.extend(f"{name}: not installed: {what}" for name, what in absent.items() if what)
        return [subject for subject in chosen if not absent[subject.name]]

    def say(self, text: str) -> None:
        """Progress, on a terminal only."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def calls(self, deployment: Deployment, workload: Workload, subject: Subject) -> Sample:
        """Start a subject, call it over and over, stop it."""
        with self.serving(subject, deployment) as (server, site):
            size, load = self._load(subject, deployment, workload, site)
            sample, result = self.sampled(server, load)
            if not right_size(result, size):
                raise BenchmarkError(f"answers of {result.answer_bytes:.0f} bytes, where {size} are right")
            return sample

    def sampled(self, server: Server, load: Callable[[int], LoadResult]) -> tuple[Sample, LoadResult]:
        """Warm up, let the server settle, and measure what a load costs it."""
        load(WARM_UP_SECONDS)
        processes.settle(server)
        before = server.cpu_seconds()
        result = load(self.options.seconds)
        used = server.cpu_seconds() - before
        sample = Sample(
            cpu_us=used / result.operations * 1e6,
            per_second=result.operations / result.seconds,
            p50_us=result.p50_us,
            p99_us=result.p99_us,
            resident_kib=server.resident_kib(),
            operations=result.operations,
            load_busy=result.busy,
        )
        return sample, result

    def _load(
        self, subject: Subject, deployment: Deployment, workload: Workload, site: Site
    ) -> tuple[int, Callable[[int], LoadResult]]:
        """The size of a right answer, as a client saw it that verifies, and what runs the load."""
        target = Target(site.port, CONNECTIONS, self.load_core, site.directory)
        if subject.kind == "grpc":
            from benchmarks.loads import grpc  # noqa: PLC0415 - needs the `bench` extra
            from benchmarks.peers import grpc_messages  # noqa: PLC0415

            path, message = grpc_messages.PATHS[workload.method], grpc_messages.request(workload)
            size = probe.grpc(site.port, workload, deployment.certificate)
            return size, lambda seconds: grpc.run(target, path, message, seconds)
        body = workload.request()
        size = probe.http(site.port, workload, subject.headers, deployment.authority)
        return size, lambda seconds: http.run(target, "/RPC2", subject.headers, seconds, body)


def right_size(result: LoadResult, size: int) -> bool:
    """Whether the load received answers of `size` bytes, besides those still under way when it stopped."""
    received = result.answer_bytes * result.operations
    right, slack = size * result.operations, max(2.0, TOLERANCE * size) * result.operations
    return right - slack <= received <= right + slack + size * CONNECTIONS


def raise_open_files() -> int:
    """Raise the soft limit on open files to the hard one, for this process and its children; the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "load_before": round(os.getloadavg()[0], 2),
    }
