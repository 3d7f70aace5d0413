"""What is served, as ``[files]`` of the configuration says: checked, and ready for use. Pure."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from secure_net.errors import ConfigurationError
from secure_net.http.targets import CacheRule, Root, is_visible, parse_prefix
from secure_net.tables import FilesRootTable, FilesTable

_VALUE = re.compile(r"[!-~]++(?: [!-~]++)*+")  # of a field, as we send it


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """`policy` is the `Content-Security-Policy` of every file, b"" for none.

    `cache`: the first rule that matches a path counts. `hsts_seconds`: 0 says nothing.
    """

    roots: tuple[Root, ...]
    cache: tuple[CacheRule, ...] = ()
    policy: bytes = b"sandbox"
    hsts_seconds: int = 0

    @property
    def is_open(self) -> bool:
        """Whether something is there for who has no credential."""
        return any(root.public for root in self.roots)


def site_of(table: FilesTable, base: Path) -> Site:
    """What `table` says; paths are relative to `base`. Raises `ConfigurationError`, which names the key."""
    roots = []
    taken: dict[tuple[str, ...], str] = {}
    for index, written in enumerate(table.roots):
        where = f"files.roots[{index}]"
        root = _root(written, base, where)
        if root.prefix in taken:
            raise ConfigurationError(f"{where}.path", f"is that of {taken[root.prefix]} as well", "keep one")
        taken[root.prefix] = where
        roots.append(root)
    _check_value("files.content_security_policy", table.content_security_policy, may_be_empty=True)
    return Site(
        tuple(roots), _rules(table), table.content_security_policy.encode("ascii"), table.hsts_seconds
    )


def _root(written: FilesRootTable, base: Path, where: str) -> Root:
    try:
        prefix = parse_prefix(written.path)
    except ValueError as error:
        raise ConfigurationError(f"{where}.path", str(error)) from error
    if not written.directory:
        raise ConfigurationError(f"{where}.directory", "is empty", "name a folder")
    for index, name in enumerate(written.index):
        if not is_visible(name):
            raise ConfigurationError(f"{where}.index[{index}]", f"{name!r} is no name that can be served")
    not_found = tuple(filter(None, written.not_found.split("/")))
    if not all(map(is_visible, not_found)):
        raise ConfigurationError(f"{where}.not_found", "names no file below `directory` that can be served")
    return Root(
        prefix,
        str((base / Path(written.directory).expanduser()).absolute()),
        public=written.access == "public",
        index=written.index,
        listing=written.listing,
        not_found=not_found,
        precompressed=written.precompressed,
    )


def _rules(table: FilesTable) -> tuple[CacheRule, ...]:
    rules = []
    for index, written in enumerate(table.cache):
        where = f"files.cache[{index}]"
        _check_value(f"{where}.control", written.control)
        try:
            rules.append(CacheRule.parse(written.pattern, written.control))
        except ValueError as error:
            raise ConfigurationError(f"{where}.pattern", str(error)) from error
    return tuple(rules)


def _check_value(where: str, value: str, *, may_be_empty: bool = False) -> None:
    if not (_VALUE.fullmatch(value) or (may_be_empty and not value)):
        raise ConfigurationError(where, "is no value of a header field", "write it in visible ASCII")
