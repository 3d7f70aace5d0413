"""What ``secure-net check`` finds about the folders that files are served from."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from secure_net.http.site import Site, site_of
from secure_net.tables import FilesTable

Row = tuple[Literal["error", "warning", "notice"], str, str, str]  # level, where, problem, cure


def files_problems(table: FilesTable, base: Path) -> Iterator[Row]:
    """Level, key, problem and cure of each finding. `table` was checked when it was read."""
    site = site_of(table, base)
    if not site.roots:
        cure = 'add a [[files.roots]] with path = "/" and a directory'
        yield ("warning", "files.roots", "empty: there is nothing to serve", cure)
    for index, root in enumerate(site.roots):
        yield from _folder(Path(root.directory), f"files.roots[{index}].directory")
    yield from _overlaps(site)
    if "sandbox" not in table.content_security_policy and site.roots:
        problem = "has no `sandbox`: script in a served file runs in the name of every service on this host"
        yield ("notice", "files.content_security_policy", problem, "keep it where others may add files")


def _folder(directory: Path, where: str) -> Iterator[Row]:
    try:
        mode = directory.stat().st_mode
    except OSError as error:
        yield ("error", where, f"{directory}: {error.strerror}", "make it, or correct the path")
        return
    if not stat.S_ISDIR(mode):
        yield ("error", where, f"{directory} is no directory", "name a directory")
    elif not os.access(directory, os.R_OK | os.X_OK):
        yield ("error", where, f"{directory} may not be read", "correct its owner or mode")
    elif mode & 0o002:
        problem = f"{directory}: everybody on this machine can change what is served"
        yield ("warning", where, problem, f"run `chmod o-w {directory}`")


def _overlaps(site: Site) -> Iterator[Row]:
    """A folder that asks for a scope, and can be had without one through another root."""
    places = [(index, root, Path(root.directory).resolve()) for index, root in enumerate(site.roots)]
    for index, root, place in places:
        for other_index, other, outer in places:
            if root.public or not other.public or not place.is_relative_to(outer):
                continue
            hidden = any(name.startswith(".") for name in place.relative_to(outer).parts)
            if not hidden:
                problem = f"lies within that of files.roots[{other_index}], which is public"
                yield ("error", f"files.roots[{index}].directory", problem, "move one out of the other")
