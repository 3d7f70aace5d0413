"""Every version of the tables, oldest first: migration N brings a database from version N to N + 1.

Migrations are never changed once released, only added. Times are Unix seconds.
"""

from __future__ import annotations

APPLICATION_ID = 0x53_4E_45_54
"""In the header of the file ("SNET"): a database that is not ours is not touched."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO counters VALUES ('epoch', 0), ('crl_number', -1)",
        """CREATE TABLE revoked_certificates (
            serial TEXT PRIMARY KEY, revoked_at REAL NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE revoked_tokens (
            jti TEXT PRIMARY KEY, revoked_at REAL NOT NULL, forget_at REAL NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE names (
            name TEXT PRIMARY KEY, blocked_since REAL, revoked_before REAL) WITHOUT ROWID""",
        """CREATE TABLE identities (
            name TEXT PRIMARY KEY, scopes TEXT NOT NULL, updated_at REAL NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE certificates (
            serial TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL,
            not_before REAL NOT NULL, not_after REAL NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE token_keys (
            kid TEXT PRIMARY KEY, created_at REAL NOT NULL, retired_at REAL) WITHOUT ROWID""",
    ),
)
