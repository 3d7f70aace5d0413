"""The real peers of the interop tests: where they are, and how they are installed.

::

    curl = peers.need("curl")          # its path; skips the test (fails it with CI=true) where it is missing

`python -m tests.support.peers --install` installs what is missing as Debian packages, where that can be done;
`--report` says again which tests the last run skipped, so that `make test` ends with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

# Program: the Debian package that has it.
PACKAGES: Mapping[str, str] = {
    "curl": "curl",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "nginx": "nginx-light",
    "systemd-analyze": "systemd",
    "ip": "iproute2",
    "yq": "yq",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "certutil": "libnss3-tools",
    "pk12util": "libnss3-tools",
    "unshare": "util-linux",
}

CACHE_KEY = "secure_net/peers"
LAST_REPORT = Path(".pytest_cache") / "v" / CACHE_KEY

_skipped: Counter[str] = Counter()


def find(program: str) -> Path | None:
    """Its path, looked for in the system's folders as well: they are not in every user's PATH."""
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    return Path(found) if found else None


def need(program: str) -> Path:
    """The path of a peer. Where it is missing the test is skipped, or fails when CI=true."""
    found = find(program)
    if found is not None:
        return found
    package = PACKAGES[program]
    reason = f"peer missing: {program} (Debian package {package})"
    if in_ci():
        pytest.fail(reason)
    _skipped[program] += 1
    pytest.skip(reason)


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def report() -> list[str]:
    """A line for each peer whose tests were skipped."""
    return [f"peer missing: {program}, {count} tests skipped" for program, count in sorted(_skipped.items())]


def last_report() -> list[str]:
    """What `report` gave to the last run of pytest."""
    try:
        return [str(line) for line in json.loads(LAST_REPORT.read_text())]
    except FileNotFoundError:
        return []


def missing() -> dict[str, str]:
    """Program: package, of all that cannot be found."""
    return {program: package for program, package in PACKAGES.items() if find(program) is None}


def install() -> None:
    """Install what is missing where this is Debian and we are root; else say what stays missing."""
    packages = sorted(set(missing().values()))
    if not packages:
        return
    if os.geteuid() != 0 or find("apt-get") is None:
        sys.stdout.write(f"on Debian, as root: apt-get install {' '.join(packages)}\n")
        return
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # A service that a package would start could take a port that a test wants to be free.
    with _no_services():
        for command in (
            ["apt-get", "update", "--quiet=2"],
            ["apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends", *packages],
        ):
            subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, check=False)


class _no_services:  # noqa: N801 - used as a context manager, like a function
    """Debian's own way to forbid starting services: /usr/sbin/policy-rc.d that exits with 101."""

    PATH = Path("/usr/sbin/policy-rc.d")

    def __enter__(self) -> None:
        self._ours = not self.PATH.exists()
        if self._ours:
            self.PATH.write_text("#!/bin/sh\nexit 101\n")
            self.PATH.chmod(0o755)

    def __exit__(self, *error: object) -> None:
        if self._ours:
            self.PATH.unlink()


if __name__ == "__main__":
    if "--install" in sys.argv[1:]:
        install()
    said = last_report() if "--report" in sys.argv[1:] else map(" -> ".join, missing().items())
    sys.stdout.write("".join(f"{line}\n" for line in said))
