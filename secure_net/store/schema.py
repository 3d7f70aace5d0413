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
    (  # chat's rooms; see `ledger`
        "INSERT INTO counters VALUES ('chat_writes', 0)",
        """CREATE TABLE rooms (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, creator TEXT NOT NULL, seq INTEGER NOT NULL,
            first INTEGER NOT NULL, size INTEGER NOT NULL, indexed INTEGER NOT NULL)""",
        """CREATE TABLE messages (
            key INTEGER PRIMARY KEY, sender TEXT NOT NULL, id BLOB NOT NULL, at REAL NOT NULL,
            body BLOB NOT NULL)""",
        """CREATE TABLE ids (
            room INTEGER NOT NULL, id BLOB NOT NULL, sender TEXT NOT NULL, seq INTEGER NOT NULL,
            PRIMARY KEY (room, id, sender)) WITHOUT ROWID""",
    ),
)
