"""The hash chain on disk: what a line of the audit trail is, and how it gets there.

Theory of operation. A trail is a folder of files, each named by the sequence number of its first line.
A line is a JSON object in ASCII; its ``previous`` is the SHA-256 of the line before (of its bytes, without
the newline; 64 zeros for the first), so that no line can be changed, taken out or moved without a break
behind it. A *head* is a line that signs the chain up to itself; only who holds the key can make one.

A file is begun whole, by a rename, and then only appended to. A crash can so leave nothing worse than a
fragment without a newline at the end of the last file. It stays there as it is; the next line begins a
new file and says how long the fragment is and what its SHA-256 is (``audit.torn``). After a write that
failed the same happens as after a crash: the file is looked at anew. `secure_net.audit.reader` has the
other end.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from secure_net.errors import StateDamagedError
from secure_net.store.files import DISK, Disk, atomic_write, full_is_said

GENESIS: Final = "0" * 64
ROTATE_BYTES: Final = 16 * 1024 * 1024  # a file is read whole when the trail is opened or followed
RECENT: Final = 64  # lines kept in memory, to be shown
HEAD: Final = "audit.head"
TORN: Final = "audit.torn"

Fields = dict[str, Any]
Entry = Callable[[int, str], Fields]
"""Given its sequence number and the hash before it, the line's fields (all but those two)."""


class Position(NamedTuple):
    """A place in the chain, written ``SEQUENCE:HASH``."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises `ValueError`."""
        number, _, digest = text.partition(":")
        if not (number.isdecimal() and number.isascii() and len(digest) == len(GENESIS)):
            raise ValueError("a head is SEQUENCE:HASH, as it was logged")
        return cls(int(number), digest.lower())


class Link(msgspec.Struct):
    """Of a line, what the chain needs."""

    sequence: int
    previous: str
    what: str
    time: str
    details: dict[str, Any] = {}


def encode(sequence: int, previous: str, fields: Mapping[str, Any]) -> bytes:
    """A line, without its newline. ASCII, so that no terminal acts upon what is in it."""
    line = {"sequence": sequence, **fields, "previous": previous}
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode()


def decode(line: bytes) -> Link | None:
    """None where this is no line of a trail."""
    try:
        return msgspec.json.decode(line, type=Link)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def signed_part(sequence: int, previous: str, time: str) -> bytes:
    """What a head's signature is over."""
    return f"secure-net audit head\n{sequence}\n{previous}\n{time}\n".encode()


def head_fields(time: str, signature: bytes) -> Fields:
    return {"time": time, "what": HEAD, "details": {"signature": base64.b64encode(signature).decode()}}


def files_of(directory: Path) -> list[Path]:
    """The trail's files, oldest first."""
    return sorted(path for path in directory.glob("*.jsonl") if path.stem.isdecimal())


class TrailFile:
    """The writing end of a trail. Not for two threads at once, nor for two processes: hold the state's lock.

    `position` is the last line's, `recent` are the last lines; another thread may read it.
    """

    def __init__(self, directory: Path, disk: Disk = DISK, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._directory = directory
        self._disk = disk
        self._rotate_bytes = rotate_bytes
        self._descriptor: int | None = None
        self._size = 0
        self.position = Position(0, GENESIS)
        self.recent: tuple[bytes, ...] = ()
        self._torn: Fields | None = None
        self._look()

    def append(self, entries: list[Entry], now: str) -> list[Position]:
        """Write these lines, and where they stand is returned once they are on the disk.

        `now` is the time, for a line of our own. Raises `StateFullError` or `OSError`: none of them counts.
        """
        if self._descriptor is None:
            self._look()
        if self._torn is not None:
            details = self._torn
            entries = [lambda *_: {"time": now, "what": TORN, "details": details}, *entries]
        lines, positions = self._chain(entries)
        data = b"".join(line + b"\n" for line in lines)
        with full_is_said(self._directory):
            if self._descriptor is None or self._size >= self._rotate_bytes:
                self._begin(positions[0].sequence, data)
            else:
                self._extend(self._descriptor, data)
        self._size += len(data)
        self.position = positions[-1]
        self.recent = (*self.recent, *lines[-RECENT:])[-RECENT:]
        return positions[1:] if self._torn_is_told() else positions

    def close(self) -> None:
        if self._descriptor is not None:
            self._disk.close(self._descriptor)
            self._descriptor = None

    def _chain(self, entries: list[Entry]) -> tuple[list[bytes], list[Position]]:
        lines, positions = [], []
        sequence, previous = self.position
        for entry in entries:
            sequence += 1
            line = encode(sequence, previous, entry(sequence, previous))
            previous = digest(line)
            lines.append(line)
            positions.append(Position(sequence, previous))
        return lines, positions

    def _torn_is_told(self) -> bool:
        told, self._torn = self._torn is not None, None
        return told

    def _begin(self, sequence: int, data: bytes) -> None:
        """A new file appears with its first lines in it."""
        self.close()
        path = self._directory / f"{sequence:020d}.jsonl"
        atomic_write(path, data, 0o600, replace=False, disk=self._disk)
        self._descriptor = self._disk.open_append(path)
        self._size = 0

    def _extend(self, descriptor: int, data: bytes) -> None:
        try:
            self._disk.write(descriptor, data)
            self._disk.sync(descriptor)
        except OSError:
            # What is there now is anybody's guess. Take it back if that can be done, and look again.
            with contextlib.suppress(OSError):
                self._disk.truncate(descriptor, self._size)
            self.close()
            raise

    def _look(self) -> None:
        """Find the last line, and whether a crash left a fragment behind it."""
        self.position, self._torn, self._size = Position(0, GENESIS), None, 0
        files = files_of(self._directory)
        if not files:
            return
        content = files[-1].read_bytes()
        whole, newline, fragment = content.rpartition(b"\n")
        self.position = self._last_line(files[-1], whole)
        self.recent = tuple(whole.rsplit(b"\n", RECENT)[-RECENT:])
        if fragment:
            self._torn = {"bytes": len(fragment), "sha256": digest(fragment)}
        else:
            self._descriptor = self._disk.open_append(files[-1])
            self._size = len(whole) + len(newline)

    def _last_line(self, path: Path, whole: bytes) -> Position:
        line = whole.rpartition(b"\n")[2]
        link = decode(line)
        if link is None:
            raise StateDamagedError(
                f"{path}: the last line is not one of the audit trail; "
                "keep a copy, and look at it with `secure-net audit verify`"
            )
        return Position(link.sequence, digest(line))
