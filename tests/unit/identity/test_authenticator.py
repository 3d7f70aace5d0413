from __future__ import annotations

from pathlib import Path

import pytest

from secure_net.errors import AuthenticationError, Refusal
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.certificates import serial_text
from secure_net.identity.jose import KeySet
from secure_net.identity.policy import NOTHING, Credential, Grant, Policy, Principal
from secure_net.identity.revocation import Revocations
from secure_net.limits import TokenLimits
from tests.support.clock import FakeClock
from tests.support.pki import PKI, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"), clock=FakeClock())


class House:
    """An authenticator and all it stands on."""

    def __init__(self, pki: PKI, limits: TokenLimits | None = None) -> None:
        self.clock = FakeClock()
        self.policy = Policy({"demo": Grant.parse(["rpc:call:math.*"])})
        self.revocations = Revocations()
        self.authenticator = Authenticator(
            clock=self.clock,
            trust_domain=pki.trust_domain,
            policy=self.policy,
            revocations=self.revocations,
            keys=pki.keys,
            limits=limits,
        )

    @property
    def remembered(self) -> int:
        return len(self.authenticator._remembered)


@pytest.fixture
def house(pki: PKI) -> House:
    return House(pki)


def reason(raised: pytest.ExceptionInfo[AuthenticationError]) -> Refusal:
    return raised.value.reason


def test_a_certificate_has_its_entry_s_scopes(pki: PKI, house: House) -> None:
    demo = house.authenticator.certificate(pki.client_der("demo"))
    assert demo.name == "demo"
    assert demo.permits("rpc", "call", "math.double")
    assert not demo.permits("echo", "use")
    (credential,) = demo.credentials
    assert (credential.kind, credential.issued_at) == ("certificate", house.clock.wall())
    assert demo.expires_at == house.clock.wall() + 90 * 24 * 3600
    stranger = house.authenticator.certificate(pki.client_der("stranger"))
    assert stranger.grants == (NOTHING,)


def test_a_certificate_that_is_not_valid_now(pki: PKI, house: House) -> None:
    der = pki.client_der("demo")
    for jump in (-301, 301 + 90 * 24 * 3600):
        house.clock.jump_wall(jump)
        with pytest.raises(AuthenticationError) as raised:
            house.authenticator.certificate(der)
        assert reason(raised) == Refusal.EXPIRED


def test_a_revoked_certificate(pki: PKI, house: House) -> None:
    serial = house.authenticator.certificate(pki.client_der("demo")).credentials[0].id
    house.revocations.revoke_certificate(serial)
    with pytest.raises(AuthenticationError) as raised:
        house.authenticator.certificate(pki.client_der("demo"))
    assert reason(raised) == Refusal.CERTIFICATE_REVOKED
    house.revocations.revoke_name("admin", house.clock.wall())
    with pytest.raises(AuthenticationError) as raised:
        house.authenticator.certificate(pki.client_der("admin"))
    assert reason(raised) == Refusal.REVOKED


def test_a_token_has_its_own_scopes_and_never_more_than_its_subject_s(pki: PKI, house: House) -> None:
    wide = house.authenticator.bearer(pki.token("demo").encode(), None)
    assert wide.permits("rpc", "call", "math.double")
    assert not wide.permits("rpc", "call", "time.now")
    narrow = house.authenticator.bearer(pki.token("demo", "rpc:call:math.double").encode(), None)
    assert not narrow.permits("rpc", "call", "math.halve")
    # Without an entry, the token's own scopes stand alone.
    assert house.authenticator.bearer(pki.token("guest").encode(), None).permits("echo", "use")


def test_a_verified_token_is_remembered(pki: PKI, house: House) -> None:
    token = pki.token("demo").encode()
    first = house.authenticator.bearer(token, None)
    assert house.authenticator.bearer(token, b"any certificate") is first
    assert house.remembered == 1


def test_a_token_that_is_too_long_is_not_even_hashed(house: House) -> None:
    with pytest.raises(AuthenticationError):
        house.authenticator.bearer(b"a" * 8193, None)


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(pki: PKI) -> None:
    house = House(pki, TokenLimits(token_cache_count=2))
    tokens = [pki.token("demo").encode() for _ in range(3)]
    first, second, third = (house.authenticator.bearer(token, None) for token in tokens)
    assert house.remembered == 2
    assert house.authenticator.bearer(tokens[2], None) is third
    assert house.authenticator.bearer(tokens[1], None) is second
    assert house.authenticator.bearer(tokens[0], None) is not first


def test_a_remembered_token_still_ends(pki: PKI, house: House) -> None:
    token = pki.token("demo", ttl=60).encode()
    principal = house.authenticator.bearer(token, None)
    house.clock.advance(59)
    assert house.authenticator.bearer(token, None) is principal
    house.clock.advance(1)
    with pytest.raises(AuthenticationError) as raised:
        house.authenticator.bearer(token, None)
    assert reason(raised) == Refusal.CREDENTIAL
    assert house.remembered == 0


def test_a_bound_token_needs_its_certificate_every_time(pki: PKI, house: House) -> None:
    token = pki.token("demo", bind=pki.client("demo")[0]).encode()
    for certificate in (None, pki.client_der("admin")):
        with pytest.raises(AuthenticationError):
            house.authenticator.bearer(token, certificate)
    assert house.remembered == 0
    principal = house.authenticator.bearer(token, pki.client_der("demo"))
    assert house.authenticator.bearer(token, pki.client_der("demo")) is principal
    for certificate in (None, pki.client_der("admin")):
        with pytest.raises(AuthenticationError):
            house.authenticator.bearer(token, certificate)


def test_a_revoked_token_is_refused_though_it_was_remembered(pki: PKI, house: House) -> None:
    token = pki.token("demo").encode()
    principal = house.authenticator.bearer(token, None)
    house.revocations.revoke_token(principal.credentials[0].id)
    with pytest.raises(AuthenticationError) as raised:
        house.authenticator.bearer(token, None)
    assert reason(raised) == Refusal.CREDENTIAL
    with pytest.raises(AuthenticationError) as raised:
        house.authenticator.current(principal)
    assert reason(raised) == Refusal.REVOKED
    assert house.remembered == 0


def test_current_is_the_same_object_until_something_changes(pki: PKI, house: House) -> None:
    principal = house.authenticator.certificate(pki.client_der("demo"))
    assert house.authenticator.current(principal) is principal
    house.policy.put("demo", Grant.parse(["echo:use"]))
    successor = house.authenticator.current(principal)
    assert successor is not principal
    assert successor.epoch == house.authenticator.epoch > principal.epoch
    assert successor.permits("echo", "use")
    assert not successor.permits("rpc", "call", "math.double")
    assert successor.credentials == principal.credentials


def test_a_change_of_policy_is_felt_by_a_token_too(pki: PKI, house: House) -> None:
    token = pki.token("demo", "rpc:call:**", "echo:use").encode()
    principal = house.authenticator.bearer(token, None)
    house.policy.put("demo", Grant.parse(["echo:use"]))
    for again in (house.authenticator.current(principal), house.authenticator.bearer(token, None)):
        assert again.permits("echo", "use")
        assert not again.permits("rpc", "call", "math.double")
    house.policy.configure({})
    house.policy.remove("demo")
    # The token's own scopes are not forgotten on the way.
    last = house.authenticator.current(house.authenticator.current(principal))
    assert last.permits("rpc", "call", "anything")
    assert not last.permits("mail", "relay")


def test_a_revocation_of_somebody_else_changes_nothing_but_the_epoch(pki: PKI, house: House) -> None:
    principal = house.authenticator.certificate(pki.client_der("demo"))
    house.revocations.revoke_name("other", house.clock.wall())
    assert house.authenticator.current(principal).name == "demo"
    house.revocations.revoke_name("demo", house.clock.wall())
    with pytest.raises(AuthenticationError) as raised:
        house.authenticator.current(principal)
    assert reason(raised) == Refusal.REVOKED
    house.revocations.unlock_name("demo")
    with pytest.raises(AuthenticationError):
        house.authenticator.current(principal)


def test_a_session_ends_with_its_credential(pki: PKI, house: House) -> None:
    principal = house.authenticator.bearer(pki.token("demo", ttl=60).encode(), None)
    house.clock.advance(60)
    with pytest.raises(AuthenticationError) as raised:
        house.authenticator.current(principal)
    assert reason(raised) == Refusal.EXPIRED


def test_new_keys_end_the_sessions_of_those_that_are_gone(pki: PKI, house: House) -> None:
    token = pki.token("demo").encode()
    principal = house.authenticator.bearer(token, None)
    house.authenticator.replace_keys(pki.keys)
    assert house.authenticator.current(principal).name == "demo"
    house.authenticator.replace_keys(KeySet([]))
    with pytest.raises(AuthenticationError):
        house.authenticator.current(principal)
    with pytest.raises(AuthenticationError):
        house.authenticator.bearer(token, None)


def test_a_password_s_principal_follows_the_policy(house: House) -> None:
    credential = Credential("password", "", house.clock.wall(), house.clock.wall() + 60)
    principal = Principal("demo", (NOTHING,), (credential,), credential.expires_at, 0)
    assert house.authenticator.current(principal).permits("rpc", "call", "math.double")


def test_serials_are_written_alike_everywhere(pki: PKI, house: House) -> None:
    demo = house.authenticator.certificate(pki.client_der("demo"))
    assert demo.credentials[0].id in {record.serial for record in pki.authority.records()}
    assert serial_text(0xAB) == "0" * 30 + "ab"


def test_the_daemon_needs_nothing_of_ca(pki: PKI, tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    certs.mkdir()
    for name in ("ca.pem", "token-keys.json"):
        (certs / name).write_bytes((pki.certs / name).read_bytes())
    alone = PKI(tmp_path, pki.authority, pki.signer, pki.clock)
    assert House(alone).authenticator.bearer(pki.token("demo").encode(), None).name == "demo"
