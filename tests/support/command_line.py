"""The real `secure-net` as a process; what its exit codes and its one line on stderr must be."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.daemon import CLI, environment

DONE, FAILED, WRONG_USAGE, REFUSED, MISCONFIGURED, INTERRUPTED = 0, 1, 2, 77, 78, 130


def run(
    *arguments: str | Path, cwd: Path, stdin: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *map(str, arguments)],
        cwd=cwd,
        env=environment(**environ),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on stderr of a command that failed with `code`, and left stdout alone."""
    assert done.returncode == code, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("secure-net: ")
    assert "Traceback" not in line
    assert "Error(" not in line
    return line.removeprefix("secure-net: ")


def report(done: subprocess.CompletedProcess[str]) -> Any:
    assert (done.returncode, done.stderr) == (DONE, ""), done
    return json.loads(done.stdout)
