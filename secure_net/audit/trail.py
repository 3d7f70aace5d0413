"""The audit trail: who did what, from where, and what came of it, in an order that cannot be changed.

Theory of operation. Records go into a queue; one thread takes all that wait, chains them, writes them
and syncs once. An ordinary record costs the event loop a queue's `put`; when the disk cannot keep up or
is full, ordinary records are dropped, counted, and the trail itself says how many once it can. An act
that must not go unrecorded awaits `require`, which returns when its line is on the disk and raises when
it cannot get there. Refusals, of which a stranger can cause any number, become one line per second and
service.

Once a minute, when there is something new, a head is signed by a key that does nothing else, and is
announced (to the log), so that the trail cannot be cut or forged by who gets hold of the files alone.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secure_net.audit.chain import (
    HEAD,
    ROTATE_BYTES,
    Entry,
    Fields,
    TrailFile,
    decode,
    files_of,
    head_fields,
    signed_part,
)
from secure_net.clock import Clock, TimerHandle
from secure_net.errors import ConfigurationError, Refusal, StateDamagedError, StateError
from secure_net.log import clean_value
from secure_net.store.batches import AnyFuture, BatchThread, Outcome, settle
from secure_net.store.files import DISK, Disk, atomic_write, full_is_said

DIRECTORY: Final = "audit"
KEY_FILE: Final = "audit.key"
PUBLIC_KEY_FILE: Final = "audit.pub"

HEAD_SECONDS: Final = 60.0
REFUSALS_SECONDS: Final = 1.0
CAPACITY: Final = 10_000  # ordinary records that may wait; about 10 MiB at worst
SOURCES: Final = 16  # named in a line of refusals; the others are one number

Waiting = tuple[Entry, AnyFuture | None]


class AuditTrail:
    """The trail of one daemon. All methods are for the event loop's thread.

    `head` is the last one signed and announced. `failing`: the last write did not reach the disk.
    """

    def __init__(
        self,
        file: TrailFile,
        key: Ed25519PrivateKey,
        clock: Clock,
        *,
        announce: Callable[[str], None] | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        self.head = ""
        self.failing = False
        self._overflowed = 0  # the loop's thread counts these,
        self._lost = 0  # and the trail's thread these
        self._told = 0  # of those dropped, how many the trail itself speaks of
        self._file = file
        self._key = key
        self._clock = clock
        self._announce = announce
        self._capacity = capacity
        self._refusals = _Refusals()
        self._refusals_timer: TimerHandle | None = None
        self._head_timer: TimerHandle | None = None
        self._thread: BatchThread[Waiting] = BatchThread("audit", self._write)

    @classmethod
    def open(
        cls,
        state: Path,
        clock: Clock,
        *,
        announce: Callable[[str], None] | None = None,
        capacity: int = CAPACITY,
        rotate_bytes: int = ROTATE_BYTES,
        disk: Disk = DISK,
    ) -> AuditTrail:
        """The trail in ``state/audit/``, and its key; both are made where they are not there.

        Hold the state's lock (an open store does). `announce` gets every signed head, as
        ``SEQUENCE:HASH``, on the trail's thread. Raises `StateFullError`, `StateDamagedError`.
        """
        directory = state / DIRECTORY
        if not directory.is_dir():
            with full_is_said(directory):
                disk.make_directory(directory, 0o700)
                disk.sync_directory(state)
        file = TrailFile(directory, disk, rotate_bytes)
        return cls(file, signing_key(state, disk), clock, announce=announce, capacity=capacity)

    @property
    def dropped(self) -> int:
        """Ordinary records that did not reach the disk."""
        return self._overflowed + self._lost

    def recent(self, count: int) -> tuple[dict[str, Any], ...]:
        """The last lines, newest first, as they stand on the disk; heads are left out."""
        lines = (json.loads(line) for line in reversed(self._file.recent) if decode(line) is not None)
        return tuple(itertools.islice((line for line in lines if line["what"] != HEAD), count))

    def record(
        self,
        what: str,
        *,
        who: str = "",
        service: str = "",
        where: str = "",
        outcome: str = "ok",
        **details: Any,
    ) -> None:
        """Write a line when the disk gets to it. Never waits; what does not fit is dropped and counted.

        `what` is a constant of the code, such as ``rpc.call``. `where` is the peer's address.
        """
        if self._thread.waiting >= self._capacity:
            self._overflowed += 1
            return
        said = {"where": where, "who": who, "service": service, "what": what, "outcome": outcome}
        try:
            self._put(said, details, None)
        except StateError:  # closed: the daemon is all but gone
            self._overflowed += 1

    async def require(
        self,
        what: str,
        *,
        who: str = "",
        service: str = "",
        where: str = "",
        outcome: str = "ok",
        **details: Any,
    ) -> int:
        """Write a line and return its sequence number once it is on the disk.

        Raises `StateFullError` (or another `StateError`) when it cannot be written: do not act then.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        said = {"where": where, "who": who, "service": service, "what": what, "outcome": outcome}
        self._put(said, details, future)
        return await future

    def refused(self, service: str, reason: Refusal, where: str = "") -> None:
        """Count a refusal; within a second it is part of a line. `where` is the peer's address or source."""
        self._refusals.add(service, reason, where)
        if self._refusals_timer is None:
            when = self._clock.monotonic() + REFUSALS_SECONDS
            self._refusals_timer = self._clock.call_at(when, self._flush_refusals)

    def close(self) -> None:
        """Write what waits, sign the last head, and end."""
        self._flush_refusals()
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._sign()
        self._thread.stop()
        self._file.close()

    def _put(self, said: dict[str, str], details: dict[str, Any], future: AnyFuture | None) -> None:
        # The address stands before any name.
        fields: Fields = {"time": timestamp(self._clock.wall()), "where": clean_value("peer", said["where"])}
        fields |= {key: clean_value(key, value) for key, value in said.items() if key != "where"}
        if details:
            fields["details"] = clean_value("details", details)
        self._thread.put((lambda *_: fields, future))
        if self._head_timer is None:
            when = self._clock.monotonic() + HEAD_SECONDS
            self._head_timer = self._clock.call_at(when, self._sign)

    def _sign(self) -> None:
        self._head_timer = None
        self._thread.put((_Head(self._key, timestamp(self._clock.wall())), None))

    def _flush_refusals(self) -> None:
        if self._refusals_timer is not None:
            self._refusals_timer.cancel()
            self._refusals_timer = None
        for service, details in self._refusals.taken():
            self.record("refusals", service=service, outcome="refused", **details)

    # --- the trail's thread ------------------------------------------------------------------------

    def _write(self, batch: list[Waiting]) -> None:
        now = timestamp(self._clock.wall())
        missed = self.dropped - self._told
        entries = [entry for entry, _ in batch]
        if missed:
            entries.insert(0, lambda *_: {"time": now, "what": "audit.dropped", "details": {"count": missed}})
        try:
            positions = self._file.append(entries, now)
        except (StateError, OSError) as error:
            self.failing = True
            self._lost += sum(future is None and not isinstance(entry, _Head) for entry, future in batch)
            settle(self._failed(batch, error))
            return
        self.failing = False
        self._told += missed
        written = list(zip(batch, positions[-len(batch) :], strict=True))
        settle([(future, at.sequence, None) for (_, future), at in written if future])
        for (entry, _), position in written:
            if isinstance(entry, _Head):
                self._announce_head(str(position))

    def _announce_head(self, head: str) -> None:
        self.head = head
        if self._announce is not None:
            self._announce(head)

    @staticmethod
    def _failed(batch: list[Waiting], error: Exception) -> list[Outcome]:
        said = error if isinstance(error, StateError) else StateError(f"the audit trail: {error}")
        return [(future, None, type(said)(*said.args)) for _, future in batch if future]


class _Head:
    """An entry that signs the chain up to itself."""

    __slots__ = ("_key", "_time")

    def __init__(self, key: Ed25519PrivateKey, time: str) -> None:
        self._key, self._time = key, time

    def __call__(self, sequence: int, previous: str) -> Fields:
        return head_fields(self._time, self._key.sign(signed_part(sequence, previous, self._time)))


class _Refusals:
    """Those of one second, by service: how many for each reason, and from where."""

    def __init__(self) -> None:
        self._services: dict[str, tuple[dict[str, int], dict[str, int]]] = {}

    def add(self, service: str, reason: Refusal, where: str) -> None:
        reasons, sources = self._services.setdefault(service, ({}, {}))
        reasons[reason.value] = reasons.get(reason.value, 0) + 1
        if where not in sources and len(sources) >= SOURCES:
            where = "others"
        sources[where] = sources.get(where, 0) + 1

    def taken(self) -> list[tuple[str, dict[str, Any]]]:
        services, self._services = self._services, {}
        return [
            (service, {"reasons": reasons, "sources": sources})
            for service, (reasons, sources) in services.items()
        ]


def timestamp(wall: float) -> str:
    """RFC 3339, UTC, microseconds."""
    moment = datetime.datetime.fromtimestamp(wall, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def signing_key(state: Path, disk: Disk = DISK) -> Ed25519PrivateKey:
    """The key that signs heads and nothing else: ``state/audit.key``, made when the trail is."""
    path = state / KEY_FILE
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(str(path), "others may read it", f"chmod 600 {path}")
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except ValueError as error:
            raise StateDamagedError(f"{path} is not a key; restore it from a backup") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise StateDamagedError(f"{path} is not an Ed25519 key; restore it from a backup")
        return key
    if files_of(state / DIRECTORY):
        raise StateDamagedError(f"{path} is missing, though the trail it signed is there; restore it")
    return _new_key(state, disk)


def _new_key(state: Path, disk: Disk) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    atomic_write(state / PUBLIC_KEY_FILE, public, 0o644, disk=disk)
    atomic_write(state / KEY_FILE, private, 0o600, replace=False, disk=disk)
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key that verifies heads, from ``state/audit.pub`` or a copy kept elsewhere."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except FileNotFoundError as error:
        raise StateError(f"{path} is not there; the first `secure-net serve` makes it") from error
    except ValueError as error:
        raise StateDamagedError(f"{path} is not a public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StateDamagedError(f"{path} is not an Ed25519 public key")
    return key
