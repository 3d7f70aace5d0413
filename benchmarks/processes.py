"""Server processes: started on a core of their own, their costs read from /proc (proc(5)), stopped by id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

PROC = Path("/proc")
STOP_SECONDS = 5.0
SETTLE_SECONDS = 10.0
CALM_SECONDS = 0.1


class BenchmarkError(Exception):
    """A subject or a load did not do what it must; its figures would mean nothing."""


def cpu_ticks(stat: str) -> int:
    """User and system time in clock ticks, waited-for children included, from the text of /proc/PID/stat."""
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold spaces and brackets
    return sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime


def parent_of(stat: str) -> int:
    """The parent's id, from the text of /proc/PID/stat."""
    return int(stat.rpartition(")")[2].split()[1])


def resident_kib(status: str) -> int:
    """VmRSS in KiB, from the text of /proc/PID/status; 0 for a process that is ending."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def peak_kib(status: str) -> int:
    """VmHWM, the most that was ever resident, in KiB, from the text of /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def descendants(root: int, parents: Mapping[int, int]) -> list[int]:
    """`root` and everything below it, given each process's parent."""
    found = [root]
    for process in found:  # grows while it is walked
        found.extend(child for child, parent in parents.items() if parent == process)
    return found


def _read(process: int, name: str) -> str | None:
    try:
        return (PROC / str(process) / name).read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None  # ended meanwhile


def tree(root: int) -> list[int]:
    """The ids of a process and of everything it started and that still runs."""
    processes = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    stats = ((process, _read(process, "stat")) for process in processes)
    return descendants(root, {process: parent_of(stat) for process, stat in stats if stat is not None})


def cores() -> tuple[int, int]:
    """The server's core and the load's: the first two this process may use, or one for both."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1] if len(allowed) > 1 else allowed[0]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes started inside inherit this one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """One server under measurement, with whatever processes it starts below itself."""

    def __init__(self, command: Sequence[str], directory: Path, core: int) -> None:
        """Start it in `directory`, where its output goes to `output.txt`."""
        self._output = directory / "output.txt"
        with self._output.open("wb") as output, pinned(core):
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """The last of what it said."""
        return "\n".join(self._output.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])

    def cpu_seconds(self) -> float:
        """User and system time used so far by the process tree."""
        stats = (_read(process, "stat") for process in tree(self._process.pid))
        return sum(cpu_ticks(stat) for stat in stats if stat) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        """Resident memory of the process tree in KiB; pages that its processes share count for each."""
        statuses = (_read(process, "status") for process in tree(self._process.pid))
        return sum(resident_kib(status) for status in statuses if status)

    def peak_kib(self) -> int:
        """The most that the processes of the tree ever had resident, each for itself, in KiB."""
        statuses = (_read(process, "status") for process in tree(self._process.pid))
        return sum(peak_kib(status) for status in statuses if status)

    def open_files(self) -> int:
        """File descriptors that the process tree holds."""
        return sum(
            sum(1 for _ in (PROC / str(process) / "fd").iterdir()) for process in tree(self._process.pid)
        )

    def stop(self) -> None:
        """Ask by TERM; whatever of its own session is left after some seconds is killed."""
        if self.running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the session is its own: start_new_session
        self._process.wait()


def environment() -> dict[str, str]:
    """The environment of every subject: this checkout can be imported, nothing else is changed."""
    root = str(Path(__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}


def wait_until(condition: Callable[[], bool], server: Server, seconds: float = 20.0) -> None:
    """Poll `condition()` until it is true. Raises BenchmarkError when the server ends or time runs out."""
    end = time.monotonic() + seconds
    while not condition():
        if not server.running or time.monotonic() > end:
            raise BenchmarkError(f"did not come up: {server.output().strip() or 'no output'}")
        time.sleep(0.02)


def settle(server: Server) -> None:
    """Wait until the server has worked off what a load left behind: calls that it took and nobody awaits."""
    end = time.monotonic() + SETTLE_SECONDS
    used = -1.0
    while used != (used := server.cpu_seconds()) and time.monotonic() < end:
        time.sleep(CALM_SECONDS)
