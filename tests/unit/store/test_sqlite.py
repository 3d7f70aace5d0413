"""The store's operations, and what is there after it is opened again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_net.errors import StateDamagedError, StateLockedError
from secure_net.store import CertificateRecord, NameRecord, Snapshot, Store, TokenKeyRecord
from secure_net.store.sqlite import STORE_FILE, SQLiteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore.open(tmp_path)
    yield store
    store.close()


def reopened(store: SQLiteStore, directory: Path) -> Snapshot:
    store.close()
    again = SQLiteStore.open(directory)
    try:
        return again.snapshot()
    finally:
        again.close()


def test_it_is_a_store_and_begins_empty(store: SQLiteStore) -> None:
    seam: Store = store
    assert seam.snapshot() == Snapshot()
    assert asyncio.run(seam.read_snapshot()) == Snapshot()


def test_everything_is_there_after_a_restart(store: SQLiteStore, tmp_path: Path) -> None:
    certificate = CertificateRecord("0a", "reports", "client", 1.0, 2.0)

    async def main() -> list[object]:
        await store.record_certificate(certificate)
        await store.record_token_key(TokenKeyRecord("k1", 1.0))
        await store.record_token_key(TokenKeyRecord("k1", 1.0, 9.0))
        return [
            await store.revoke_certificate("0a", at=5.0, reason="lost"),
            await store.revoke_certificate("0a", at=6.0),
            await store.revoke_token("j1", at=5.0, forget_at=100.0),
            await store.put_identity("reports", ("rpc:call:a.*", "ftp:read:/**"), at=5.0),
            await store.put_identity("reports", ("rpc:call:b",), at=6.0),
            await store.import_crl(7, {"0a": 1.0, "0b": 2.0}),
            await store.import_crl(7, {"0c": 1.0}),
            await store.import_crl(6, {"0d": 1.0}),
        ]

    assert asyncio.run(main()) == [1, 2, 3, 4, 5, True, False, False]
    assert reopened(store, tmp_path) == Snapshot(
        epoch=6,
        crl_number=7,
        revoked_certificates={"0a": 5.0, "0b": 2.0},
        revoked_tokens={"j1": 5.0},
        identities={"reports": ("rpc:call:b",)},
        certificates={"0a": certificate},
        token_keys={"k1": TokenKeyRecord("k1", 1.0, 9.0)},
    )


def test_names_are_blocked_and_unlocked_but_stay_revoked(store: SQLiteStore) -> None:
    def names() -> dict[str, NameRecord]:
        return dict(store.snapshot().names)

    asyncio.run(store.lock_name("bob", at=1.0))
    assert names() == {"bob": NameRecord(1.0, None)}
    asyncio.run(store.revoke_name("bob", at=2.0))
    assert names() == {"bob": NameRecord(1.0, 2.0)}
    asyncio.run(store.unlock_name("bob"))
    assert names() == {"bob": NameRecord(None, 2.0)}
    asyncio.run(store.revoke_name("bob", at=1.5))  # the clock went back: what was revoked stays so
    assert names() == {"bob": NameRecord(1.5, 2.0)}
    asyncio.run(store.lock_name("bob", at=9.0))
    assert names() == {"bob": NameRecord(1.5, 2.0)}
    asyncio.run(store.unlock_name("stranger"))
    assert "stranger" not in names()


def test_revoked_tokens_are_forgotten_once_they_would_have_expired(store: SQLiteStore) -> None:
    asyncio.run(store.revoke_token("short", at=0.0, forget_at=10.0))
    asyncio.run(store.revoke_token("long", at=0.0, forget_at=10.0))
    asyncio.run(store.revoke_token("long", at=1.0, forget_at=100.0))
    asyncio.run(store.revoke_token("new", at=50.0, forget_at=100.0))
    assert store.snapshot().revoked_tokens == {"long": 0.0, "new": 50.0}


def test_the_state_is_held_until_it_is_closed(store: SQLiteStore, tmp_path: Path) -> None:
    with pytest.raises(StateLockedError):
        SQLiteStore.open(tmp_path)
    store.close()
    SQLiteStore.open(tmp_path).close()


def test_a_store_that_cannot_be_opened_is_not_held(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(StateDamagedError):
            SQLiteStore.open(tmp_path)


def test_a_backup_is_a_store(store: SQLiteStore, tmp_path: Path) -> None:
    asyncio.run(store.revoke_name("bob", at=2.0))
    (tmp_path / "restored").mkdir()
    asyncio.run(store.backup(tmp_path / "restored" / STORE_FILE))
    again = SQLiteStore.open(tmp_path / "restored")
    assert again.snapshot() == store.snapshot()
    again.close()
