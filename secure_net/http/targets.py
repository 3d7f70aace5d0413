"""What a request's path stands for: a root, and the names below it. Pure: nothing is looked up.

A path is split first and decoded after, once: ``%2e%2e`` is ``..``, ``%252e`` is a file with a percent sign
in its name, and ``a%2Fb`` is no file at all. Names that begin with a dot do not exist, nor do those with a
separator, of this system or of another one.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from secure_net.http.head import Head
from secure_net.identity.policy import Scope

_DEPTH_COUNT = 64  # folders below each other: each is a look at the disk
_NAME_BYTES = 255  # what file systems of any use allow
_FOREIGN = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]")

# What a path segment may hold unescaped (RFC 3986 section 3.3), but for the semicolon, at which old readers
# cut; `quote` knows the letters and digits.
_UNESCAPED = "!$&'()*+,=:@-._~"


@dataclasses.dataclass(frozen=True, slots=True)
class CacheRule:
    """Files whose paths match `pattern` (as scopes do) are sent with this `Cache-Control`."""

    pattern: Scope
    control: bytes

    @classmethod
    def parse(cls, pattern: str, control: str) -> CacheRule:
        """Raises `ValueError` where `pattern` is none."""
        if not pattern.startswith("/"):
            raise ValueError("a pattern begins with /")
        return cls(Scope.parse(f"files:cache:{pattern}"), control.encode("ascii"))

    def matches(self, path: str) -> bool:
        return self.pattern.matches("files", "cache", path)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Root:
    """What lies below one URL prefix. `prefix` is its names, `directory` an absolute path.

    `public`: for everybody; else the scope ``files:read:PATH`` is asked for. `index`: what stands for a
    folder, the first that is there. `listing`: folders without one are shown. `not_found`: the names of the
    file that is sent where there is none, or nothing. `precompressed`: twins are looked for.
    """

    prefix: tuple[str, ...]
    directory: str
    public: bool = False
    index: tuple[str, ...] = ("index.html",)
    listing: bool = False
    not_found: tuple[str, ...] = ()
    precompressed: bool = True


class Target(NamedTuple):
    """Where a path leads: `names` below `root`, and whether a slash follows them.

    `path` is the whole of it, decoded and normal: what scopes and cache rules are compared with.
    """

    root: Root
    names: tuple[str, ...]
    slash: bool
    path: str

    def below(self, *names: str) -> str:
        """The absolute path of `names` in the root's folder."""
        return "/".join((self.root.directory.rstrip("/"), *names))

    @property
    def location(self) -> str:
        """The path of the folder, with its slash, as a URL has it. Never begins with two slashes."""
        return "/" + "".join(f"{quoted(name)}/" for name in (*self.root.prefix, *self.names))


def quoted(name: str) -> str:
    """One name as a path segment."""
    return urllib.parse.quote(name, safe=_UNESCAPED)


def parse_prefix(path: str) -> tuple[str, ...]:
    """The names in a root's ``path`` such as ``/manuals/``. Raises `ValueError` where it is none."""
    names = tuple(filter(None, path.split("/")))
    if not path.startswith("/") or "//" in path or any(_FOREIGN.search(n) or n in {".", ".."} for n in names):
        raise ValueError("a path is / or /name/, with no empty name, dots or control characters")
    return names


def is_visible(name: str) -> bool:
    """Whether a file of this name can be asked for. What the file system has and UTF-8 has not cannot."""
    if not name or name.startswith(".") or _FOREIGN.search(name):
        return False
    try:
        return len(name.encode("utf-8")) <= _NAME_BYTES
    except UnicodeEncodeError:
        return False


class Targets:
    """All roots; where one lies within another, the longer path counts."""

    def __init__(self, roots: Iterable[Root]) -> None:
        self._roots: Sequence[Root] = sorted(roots, key=lambda root: -len(root.prefix))

    def find(self, head: Head) -> Target | None:
        """What the path of `head` stands for; None where nothing can be there."""
        if not head.path:
            return None
        segments = head.segments
        slash = not segments[-1]
        names = segments[:-1] if slash else segments
        for root in self._roots:
            depth = len(root.prefix)
            if names[:depth] == root.prefix:
                rest = names[depth:]
                if len(rest) > _DEPTH_COUNT or not all(map(is_visible, rest)):
                    return None
                path = "/" + "/".join(names) + ("/" if slash and names else "")
                return Target(root, rest, slash, path)
        return None
