"""Where state rests: the `Store` and `Broker` seams, and what a store holds.

=================== ==========================================================================
`files`             the one door to plain files that must survive a crash
`lock`              one process holds the state
`batches`           a thread that takes all that waits in one go
`database`          SQLite: opened, checked, migrated; many waiting writes, one commit
`schema`            every version of the tables, oldest first
`sqlite`            the embedded `Store`
`broker`            the `Broker` seam: rooms whose messages are kept
`ledger`            rooms in SQL: numbers, ids that are known, what is trimmed
`sqlite_broker`     the embedded `Broker`, in the same file: a backup holds the history too
=================== ==========================================================================

The store is the authority on who was revoked, and on scopes that were given by a command; the daemon
keeps a `Snapshot` of it in memory, and every change goes to the store first and to memory after its
commit. Each write returns when it is on the disk, and raises `StateFullError` when it is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class NameRecord:
    """What was decided about a name. Times are Unix seconds; None: never, or no longer.

    While `blocked_since` is set nothing that bears the name is accepted. Credentials issued at or
    before `revoked_before` are refused for good, also after the name is unlocked.
    """

    blocked_since: float | None = None
    revoked_before: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A certificate that our CA issued. `serial` is lower-case hex; times are Unix seconds."""

    serial: str
    name: str
    kind: Literal["server", "client"]
    not_before: float
    not_after: float


@dataclasses.dataclass(frozen=True, slots=True)
class TokenKeyRecord:
    """A token signing key's public side: `retired_at` is None while it may still sign."""

    kid: str
    created_at: float
    retired_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a daemon must know, as it was at one commit.

    `epoch` grows with every change that can take something away from somebody.
    """

    epoch: int = 0
    crl_number: int = -1  # of the newest CRL that was imported; -1: none
    revoked_certificates: Mapping[str, float] = dataclasses.field(default_factory=dict)  # serial: when
    revoked_tokens: Mapping[str, float] = dataclasses.field(default_factory=dict)  # jti: when
    names: Mapping[str, NameRecord] = dataclasses.field(default_factory=dict)
    identities: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # name: scopes
    certificates: Mapping[str, CertificateRecord] = dataclasses.field(default_factory=dict)  # by serial
    token_keys: Mapping[str, TokenKeyRecord] = dataclasses.field(default_factory=dict)  # by kid


class Store(Protocol):
    """Named operations, each durable when it returns. `at` is Unix time; the store reads no clock.

    All raise `StateFullError` when the disk takes no more, `StateDamagedError` when what rests there
    cannot be trusted; then nothing has changed.
    """

    def snapshot(self) -> Snapshot:
        """All of it, now. Blocks: for the start, and for commands; else `read_snapshot`."""
        ...

    async def read_snapshot(self) -> Snapshot: ...

    async def revoke_certificate(self, serial: str, *, at: float, reason: str = "") -> int:
        """Refuse this certificate for good; revoking again keeps the first `at`. Returns the epoch."""
        ...

    async def revoke_token(self, jti: str, *, at: float, forget_at: float) -> int:
        """Refuse this token; `forget_at` is when it has expired whatever happens. Returns the epoch."""
        ...

    async def revoke_name(self, name: str, *, at: float) -> int:
        """Refuse all that was issued to `name` until `at`, and block it. Returns the epoch."""
        ...

    async def lock_name(self, name: str, *, at: float) -> int:
        """Block `name`; what it holds works again once it is unlocked. Returns the epoch."""
        ...

    async def unlock_name(self, name: str) -> int:
        """Lift the block. What was revoked stays revoked. Returns the epoch."""
        ...

    async def import_crl(self, number: int, revoked: Mapping[str, float]) -> bool:
        """Add serials (serial: when) of a CRL. False, and nothing done, unless `number` is the highest."""
        ...

    async def put_identity(self, name: str, scopes: tuple[str, ...], *, at: float) -> int:
        """Set the scopes of `name`, replacing what it had here. Returns the epoch."""
        ...

    async def record_certificate(self, certificate: CertificateRecord) -> None: ...

    async def record_token_key(self, key: TokenKeyRecord) -> None:
        """Add a key, or say that one is retired."""
        ...

    async def backup(self, target: Path) -> None:
        """A consistent copy while writes go on: mode 0600, synced. Refuses to overwrite (`StateError`)."""
        ...

    def close(self) -> None:
        """Finish what waits, and give the state free."""
        ...
