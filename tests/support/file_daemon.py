"""The running daemon with files to serve: one folder for everybody, one for those who have the scope."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.daemon import RunningDaemon, init, start_daemon

TABLE = """
[files]
[[files.roots]]
path = "/"
directory = "www"
access = "public"
listing = true
not_found = "404.html"
[[files.roots]]
path = "/manuals/"
directory = "manuals"
[[files.cache]]
pattern = "/assets/**"
control = "public, max-age=31536000, immutable"
"""

_OWN = re.compile(r"^\[\[?files\b.*?(?=^\[(?!\[?files\b)|\Z)", re.MULTILINE | re.DOTALL)


@contextlib.contextmanager
def run_file_daemon(directory: Path, *, environ: Mapping[str, str] | None = None) -> Iterator[RunningDaemon]:
    """A daemon whose `www` and `manuals` lie in its folder, and hold what the caller puts there."""
    house = init(directory / "house")
    configuration = house / "secure-net.toml"
    configuration.write_text(_OWN.sub("", configuration.read_text()) + TABLE)
    for name in ("www", "manuals"):
        (house / name).mkdir()
    daemon = start_daemon(house, environ=environ)
    try:
        yield daemon
    finally:
        daemon.stop()


def address(daemon: RunningDaemon) -> tuple[str, int]:
    return daemon.addresses["files"]


def url(daemon: RunningDaemon, path: str = "/") -> str:
    return f"https://localhost:{address(daemon)[1]}{path}"


def open_paths(daemon: RunningDaemon, below: Path) -> list[str]:
    """What the daemon has open below a folder; each as often as it is open."""
    found = []
    for number in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            path = os.fspath(number.readlink())
            if path.startswith(f"{below}/"):
                found.append(path)
    return found


def resident_bytes(daemon: RunningDaemon) -> int:
    """Memory of its own: not the page cache."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    match = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024
