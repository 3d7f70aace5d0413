from __future__ import annotations

import pytest

from secure_net.errors import Refusal
from secure_net.identity.certificates import RevocationList
from secure_net.identity.policy import Credential
from secure_net.identity.revocation import Revocations
from secure_net.store import NameRecord, Snapshot

SERIAL = "0" * 31 + "1"
CERTIFICATE = Credential("certificate", SERIAL, 100, 1000)
TOKEN = Credential("token", "jti", 100, 1000)
PASSWORD = Credential("password", "", 100, 1000)


def refused(revocations: Revocations, credential: Credential) -> Refusal | None:
    return revocations.refuses_credential("demo", credential)


@pytest.fixture
def revocations() -> Revocations:
    return Revocations()


def test_nothing_is_revoked_at_first(revocations: Revocations) -> None:
    assert [refused(revocations, shown) for shown in (CERTIFICATE, TOKEN, PASSWORD)] == [None] * 3
    assert revocations.epoch == 0


def test_a_certificate(revocations: Revocations) -> None:
    revocations.revoke_certificate(SERIAL)
    assert refused(revocations, CERTIFICATE) == Refusal.CERTIFICATE_REVOKED
    assert refused(revocations, TOKEN) is None
    revocations.revoke_certificate(SERIAL)
    assert revocations.epoch == 1


def test_a_token(revocations: Revocations) -> None:
    revocations.revoke_token("jti")
    revocations.revoke_token("jti")
    assert refused(revocations, TOKEN) == Refusal.REVOKED
    assert refused(revocations, CERTIFICATE) is None
    assert revocations.epoch == 1


def test_a_name_is_blocked_until_unlocked_and_what_came_before_stays_refused(
    revocations: Revocations,
) -> None:
    changes: list[int] = []
    revocations.on_change.append(lambda: changes.append(revocations.epoch))
    revocations.revoke_name("demo", 100)
    later = Credential("token", "later", 101, 1000)
    for credential in (CERTIFICATE, TOKEN, PASSWORD, later):
        assert refused(revocations, credential) == Refusal.REVOKED
    assert revocations.refuses_credential("other", TOKEN) is None
    revocations.unlock_name("demo")
    revocations.unlock_name("demo")
    assert refused(revocations, CERTIFICATE) == Refusal.REVOKED
    assert refused(revocations, TOKEN) == Refusal.REVOKED
    assert refused(revocations, PASSWORD) is None
    assert refused(revocations, later) is None
    assert changes == [1, 2]


def test_a_clock_set_back_does_not_unrevoke(revocations: Revocations) -> None:
    revocations.revoke_name("demo", 100)
    revocations.revoke_name("demo", 50)
    revocations.unlock_name("demo")
    assert refused(revocations, TOKEN) == Refusal.REVOKED


def test_a_lock_blocks_and_revokes_nothing(revocations: Revocations) -> None:
    revocations.lock_name("demo", 200)
    revocations.lock_name("demo", 300)
    assert refused(revocations, TOKEN) == Refusal.REVOKED
    revocations.unlock_name("demo")
    assert refused(revocations, TOKEN) is None
    assert revocations.epoch == 2


def test_the_store_s_snapshot_is_taken_over() -> None:
    snapshot = Snapshot(
        epoch=4,
        crl_number=3,
        revoked_certificates={SERIAL: 1},
        revoked_tokens={"jti": 1},
        names={"locked": NameRecord(5, None), "revoked": NameRecord(None, 100)},
    )
    revocations = Revocations.load(snapshot)
    assert (revocations.epoch, revocations.crl_number) == (4, 3)
    assert refused(revocations, CERTIFICATE) == Refusal.CERTIFICATE_REVOKED
    assert refused(revocations, TOKEN) == Refusal.REVOKED
    other = Credential("token", "other", 100, 1000)
    assert revocations.refuses_credential("locked", PASSWORD) == Refusal.REVOKED
    assert revocations.refuses_credential("revoked", PASSWORD) is None
    assert revocations.refuses_credential("revoked", other) == Refusal.REVOKED


def test_a_snapshot_is_taken_over() -> None:
    revocations = Revocations(
        certificates=[SERIAL], tokens=["other"], blocked={"demo": 5}, revoked_before={"demo": 5}, epoch=7
    )
    assert refused(revocations, CERTIFICATE) == Refusal.CERTIFICATE_REVOKED
    assert refused(revocations, TOKEN) == Refusal.REVOKED
    revocations.unlock_name("demo")
    assert refused(revocations, TOKEN) is None
    assert revocations.epoch == 8


def test_crls_are_united_and_an_older_one_is_ignored(revocations: Revocations) -> None:
    assert revocations.import_crl(RevocationList(2, 0, 10, frozenset({SERIAL}))) == {SERIAL}
    assert (revocations.crl_number, revocations.crl_expires_at, revocations.epoch) == (2, 10, 1)
    assert revocations.import_crl(RevocationList(1, 0, 99, frozenset({"f" * 32}))) == frozenset()
    assert (revocations.crl_number, revocations.crl_expires_at) == (2, 10)
    # A newer list without it takes nothing back, and one that says nothing new is no change.
    assert revocations.import_crl(RevocationList(3, 0, 20, frozenset())) == frozenset()
    assert refused(revocations, CERTIFICATE) == Refusal.CERTIFICATE_REVOKED
    assert revocations.epoch == 1
