"""The embedded store: the `Store` seam's named operations as SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from secure_net.store import CertificateRecord, NameRecord, Snapshot, TokenKeyRecord
from secure_net.store.database import Database, open_database
from secure_net.store.files import DISK, Disk
from secure_net.store.lock import StateLock
from secure_net.store.schema import APPLICATION_ID, MIGRATIONS

STORE_FILE = "store.db"

# Plain SQL of 2020: an enterprise distribution's Python still brings SQLite 3.34.
_REVOKE_CERTIFICATE = "INSERT INTO revoked_certificates VALUES (?, ?, ?) ON CONFLICT (serial) DO NOTHING"
_REVOKE_JTI = """INSERT INTO revoked_tokens VALUES (?, ?, ?)
    ON CONFLICT (jti) DO UPDATE SET forget_at = max(forget_at, excluded.forget_at)"""
_REVOKE_NAME = """INSERT INTO names VALUES (?1, ?2, ?2) ON CONFLICT (name) DO UPDATE SET
    blocked_since = coalesce(blocked_since, excluded.blocked_since),
    revoked_before = max(coalesce(revoked_before, 0), excluded.revoked_before)"""
_LOCK_NAME = """INSERT INTO names VALUES (?, ?, NULL) ON CONFLICT (name) DO UPDATE SET
    blocked_since = coalesce(blocked_since, excluded.blocked_since)"""
_PUT_IDENTITY = """INSERT INTO identities VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET
    scopes = excluded.scopes, updated_at = excluded.updated_at"""
_RECORD_CERTIFICATE = "INSERT INTO certificates VALUES (?, ?, ?, ?, ?) ON CONFLICT (serial) DO NOTHING"
_RECORD_KEY = """INSERT INTO token_keys VALUES (?, ?, ?) ON CONFLICT (kid) DO UPDATE SET
    retired_at = excluded.retired_at"""


class SQLiteStore:
    """A state folder, locked and open. Implements `secure_net.store.Store`."""

    def __init__(self, database: Database, lock: StateLock) -> None:
        self.database = database
        self._lock = lock

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        monotonic: Callable[[], float] | None = None,
        observe: Callable[[float], None] | None = None,
        disk: Disk = DISK,
        connect: Callable[[Path], sqlite3.Connection] | None = None,
    ) -> SQLiteStore:
        """Take the lock on `directory` and open ``store.db`` in it, which is made where it is not there.

        `observe` gets the seconds that each commit took, read from `monotonic`, on the store's thread.
        Raises `StateLockedError`, `StateDamagedError`, `StateFullError`.
        """
        lock = StateLock.acquire(directory)
        try:
            database = open_database(
                directory / STORE_FILE,
                MIGRATIONS,
                APPLICATION_ID,
                monotonic=monotonic,
                observe=observe,
                disk=disk,
                connect=connect,
            )
        except BaseException:
            lock.release()
            raise
        return cls(database, lock)

    def close(self) -> None:
        self.database.close()
        self._lock.release()

    def snapshot(self) -> Snapshot:
        return self.database.write_and_wait(_read)

    async def read_snapshot(self) -> Snapshot:
        return await self.database.write(_read)

    async def revoke_certificate(self, serial: str, *, at: float, reason: str = "") -> int:
        return await self._change(_REVOKE_CERTIFICATE, serial, at, reason)

    async def revoke_token(self, jti: str, *, at: float, forget_at: float) -> int:
        def operation(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM revoked_tokens WHERE forget_at < ?", (at,))
            connection.execute(_REVOKE_JTI, (jti, at, forget_at))
            return _next_epoch(connection)

        return await self.database.write(operation)

    async def revoke_name(self, name: str, *, at: float) -> int:
        return await self._change(_REVOKE_NAME, name, at)

    async def lock_name(self, name: str, *, at: float) -> int:
        return await self._change(_LOCK_NAME, name, at)

    async def unlock_name(self, name: str) -> int:
        return await self._change("UPDATE names SET blocked_since = NULL WHERE name = ?", name)

    async def import_crl(self, number: int, revoked: Mapping[str, float]) -> bool:
        def operation(connection: sqlite3.Connection) -> bool:
            newer = connection.execute(
                "UPDATE counters SET value = ?1 WHERE name = 'crl_number' AND value < ?1", (number,)
            )
            if not newer.rowcount:
                return False
            rows = [(serial, at, "crl") for serial, at in revoked.items()]
            connection.executemany(_REVOKE_CERTIFICATE, rows)
            _next_epoch(connection)
            return True

        return await self.database.write(operation)

    async def put_identity(self, name: str, scopes: tuple[str, ...], *, at: float) -> int:
        return await self._change(_PUT_IDENTITY, name, " ".join(scopes), at)

    async def record_certificate(self, certificate: CertificateRecord) -> None:
        row = (
            certificate.serial,
            certificate.name,
            certificate.kind,
            certificate.not_before,
            certificate.not_after,
        )
        await self._record(_RECORD_CERTIFICATE, *row)

    async def record_token_key(self, key: TokenKeyRecord) -> None:
        await self._record(_RECORD_KEY, key.kid, key.created_at, key.retired_at)

    async def backup(self, target: Path) -> None:
        await self.database.backup(target)

    async def _change(self, statement: str, *values: Any) -> int:
        """A change that can take something away from somebody: a new epoch begins with it."""

        def operation(connection: sqlite3.Connection) -> int:
            connection.execute(statement, values)
            return _next_epoch(connection)

        return await self.database.write(operation)

    async def _record(self, statement: str, *values: Any) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            connection.execute(statement, values)

        await self.database.write(operation)


def _next_epoch(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'epoch'")
    (epoch,) = connection.execute("SELECT value FROM counters WHERE name = 'epoch'").fetchone()
    return int(epoch)


def _read(connection: sqlite3.Connection) -> Snapshot:
    def rows(statement: str) -> list[tuple[Any, ...]]:
        return connection.execute(statement).fetchall()

    counters: dict[str, int] = dict(rows("SELECT name, value FROM counters"))
    return Snapshot(
        epoch=counters["epoch"],
        crl_number=counters["crl_number"],
        revoked_certificates=dict(rows("SELECT serial, revoked_at FROM revoked_certificates")),
        revoked_tokens=dict(rows("SELECT jti, revoked_at FROM revoked_tokens")),
        names={name: NameRecord(*values) for name, *values in rows("SELECT * FROM names")},
        identities={
            name: tuple(scopes.split()) for name, scopes in rows("SELECT name, scopes FROM identities")
        },
        certificates={row[0]: _certificate(*row) for row in rows("SELECT * FROM certificates")},
        token_keys={row[0]: TokenKeyRecord(*row) for row in rows("SELECT * FROM token_keys")},
    )


def _certificate(
    serial: str, name: str, kind: Literal["server", "client"], not_before: float, not_after: float
) -> CertificateRecord:
    return CertificateRecord(serial, name, kind, not_before, not_after)
