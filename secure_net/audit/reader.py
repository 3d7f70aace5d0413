"""The reading end of the audit trail: is it whole, and what does it say last."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secure_net.audit.chain import (
    GENESIS,
    HEAD,
    TORN,
    Link,
    Position,
    decode,
    digest,
    encode,
    files_of,
    head_fields,
    signed_part,
)

PROBLEMS: Final = 100  # reported; a trail that is broken throughout says so often enough
_UNSIGNED_SECONDS: Final = 120.0  # heads are signed every minute


class Report(msgspec.Struct, frozen=True):
    """What `verify` found. A trail with no `problems` is sound; `warnings` are what a crash explains.

    `signed_to` is the last line that a head vouches for; `head` is the end of the trail.
    """

    lines: int
    first: int
    last: int
    head: str
    signed_to: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.problems


class _Verifier:
    """Goes over a trail line by line and keeps what it needs to judge the next."""

    def __init__(self, key: Ed25519PublicKey, first: int, head: Position | None) -> None:
        self._key = key
        self._head = head
        self._expected = first
        self._previous: str | None = GENESIS if first == 1 else None
        self._fragment: tuple[str, bytes] | None = None
        self._begun = 0
        self._lines = 0
        self._signed_to = 0
        self._unsigned_since = ""
        self._time = ""
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def file(self, path: Path) -> None:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{path.name} line {number}"
                if line.endswith(b"\n"):
                    self._line(where, line[:-1], is_first=number == 1)
                else:
                    self._fragment = (where, line)

    def _line(self, where: str, line: bytes, *, is_first: bool) -> None:
        link = decode(line)
        if link is None:
            self.problems.append(f"{where}: changed: not a line of the trail")
            self._expected, self._previous = self._expected + 1, digest(line)
            return
        self._check_place(where, link)
        if self._fragment is not None or link.what == TORN:
            self._check_torn(where, link, is_first=is_first)
        if link.what == HEAD:
            self._check_head(where, line, link)
        else:
            self._unsigned_since = self._unsigned_since or link.time
        self._begun = self._begun or link.sequence
        self._lines += 1
        self._time = link.time
        self._expected, self._previous = link.sequence + 1, digest(line)
        head = self._head
        if head is not None and head.sequence == link.sequence and head.hash != self._previous:
            self.problems.append(f"{where}: changed: not the line {head.sequence} that was logged as head")

    def _check_place(self, where: str, link: Link) -> None:
        expected, linked = self._expected, self._previous in {None, link.previous}
        if link.sequence > expected:
            self.problems.append(f"{where}: missing: lines {expected} to {link.sequence - 1}")
        elif link.sequence < expected:
            self.problems.append(f"{where}: reordered: line {link.sequence} stands where {expected} should")
        elif not linked:
            self.problems.append(f"{where}: changed: line {expected - 1}, or the link to it")

    def _check_torn(self, where: str, link: Link, *, is_first: bool) -> None:
        place, fragment = self._fragment or (where, b"")
        said = {"bytes": len(fragment), "sha256": digest(fragment)}
        self._fragment = None
        if link.what != TORN or link.details != said or not is_first:
            self.problems.append(f"{place}: changed: a fragment, and no line that tells of a crash")
        else:
            self.warnings.append(f"{place}: {len(fragment)} bytes torn by a crash")

    def _check_head(self, where: str, line: bytes, link: Link) -> None:
        try:
            signature = base64.b64decode(str(link.details.get("signature")), validate=True)
            self._key.verify(signature, signed_part(link.sequence, link.previous, link.time))
        except (ValueError, InvalidSignature):
            self.problems.append(f"{where}: changed: the signature of head {link.sequence} does not verify")
            return
        if line != encode(link.sequence, link.previous, head_fields(link.time, signature)):
            self.problems.append(f"{where}: changed: head {link.sequence} says more than what was signed")
            return
        self._signed_to, self._unsigned_since = link.sequence, ""

    def report(self) -> Report:
        last = self._expected - 1 if self._lines else 0
        if self._fragment is not None:
            self.warnings.append(f"{self._fragment[0]}: being written, or torn by a crash")
        if self._head is not None and self._head.sequence > last:
            self.problems.append(f"cut off: ends at line {last}, and line {self._head.sequence} was logged")
        if self._unsigned_since and _seconds(self._unsigned_since, self._time) > _UNSIGNED_SECONDS:
            self.warnings.append(f"lines after {self._signed_to} were not signed within a minute")
        return Report(
            lines=self._lines,
            first=self._begun,
            last=last,
            head=str(Position(last, self._previous or GENESIS)),
            signed_to=self._signed_to,
            problems=tuple(self.problems[:PROBLEMS]),
            warnings=tuple(self.warnings[:PROBLEMS]),
        )


def verify(directory: Path, key: Ed25519PublicKey, *, head: Position | None = None, first: int = 1) -> Report:
    """Read a trail and say whether it is whole.

    `head` is one that was logged (to stderr, so outside the reach of who can write here): with it a trail
    whose end was cut off is found. `first` is the first line that should be there, where older files
    were archived. Lines that follow the last signed head could have been made by anybody.
    """
    verifier = _Verifier(key, first, head)
    for path in files_of(directory):
        verifier.file(path)
    return verifier.report()


def _seconds(earlier: str, later: str) -> float:
    """Between two times of lines; 0 where one is unreadable, or they ran backwards."""
    try:
        begin, end = (datetime.datetime.fromisoformat(text) for text in (earlier, later))
        return (end - begin).total_seconds()
    except (ValueError, TypeError):
        return 0.0


class Reader:
    """The reading end, for `audit tail`: the last lines, and then what is added."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path: Path | None = None
        self._offset = 0

    def last(self, count: int) -> list[bytes]:
        """The last `count` whole lines, oldest first; `more` goes on behind them."""
        lines: list[bytes] = []
        for path in reversed(files_of(self._directory)):
            here = self._whole_lines(path, 0)
            if self._path is None:
                self._path, self._offset = path, sum(len(line) + 1 for line in here)
            lines = here[max(0, len(here) - (count - len(lines))) :] + lines
            if len(lines) >= count:
                break
        return lines

    def more(self) -> Iterator[bytes]:
        """The whole lines that were added since."""
        for path in files_of(self._directory):
            if self._path is not None and path < self._path:
                continue
            offset = self._offset if path == self._path else 0
            lines = self._whole_lines(path, offset)
            self._path, self._offset = path, offset + sum(len(line) + 1 for line in lines)
            yield from lines

    @staticmethod
    def _whole_lines(path: Path, offset: int) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().split(b"\n")[:-1]
