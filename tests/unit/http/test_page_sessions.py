"""Who is logged in to the status page, and for how long."""

from __future__ import annotations

import dataclasses
import re

import pytest

from secure_net.http.cookie import NAME, cookie_value
from secure_net.http.page_sessions import PageSessions
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.policy import Grant, Policy
from secure_net.identity.revocation import Revocations
from secure_net.limits import AdminLimits
from tests.support.clock import FakeClock
from tests.support.pki import PKI, make_pki

SCOPE = "admin:read:status"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"), clock=FakeClock())


class House:
    """Sessions and all they stand on; `log_in` gives an id."""

    def __init__(self, pki: PKI, limits: AdminLimits | None = None) -> None:
        self.pki, self.clock = pki, FakeClock()
        self.policy, self.revocations = Policy({}), Revocations()
        self.authenticator = Authenticator(
            clock=self.clock,
            trust_domain=pki.trust_domain,
            policy=self.policy,
            revocations=self.revocations,
            keys=pki.keys,
        )
        self.sessions = PageSessions(self.authenticator, limits or AdminLimits())

    def log_in(self, name: str = "ana", certificate: bytes | None = None, ttl: float = 3600.0) -> bytes:
        token = self.pki.token(name, SCOPE, ttl=ttl).encode()
        return self.sessions.begin(self.authenticator.bearer(token, certificate), certificate)

    def who(self, value: bytes, certificate: bytes | None = None) -> str | None:
        principal = self.sessions.find(value, certificate)
        return None if principal is None else principal.name


@pytest.fixture
def house(pki: PKI) -> House:
    return House(pki)


def test_an_id_is_opaque_random_and_fits_the_cookie(house: House) -> None:
    one, other = house.log_in(), house.log_in()
    assert one != other
    assert re.fullmatch(rb"[A-Za-z0-9_-]{43}", one)
    assert cookie_value(NAME + b"=" + one) == one
    assert (house.who(one), house.who(other)) == ("ana", "ana")
    assert one not in repr(house.sessions.__dict__).encode()  # we keep its digest only


def test_any_other_id_is_nobody(house: House) -> None:
    value = house.log_in()
    for wrong in (b"", value[:-1], value + b"A", value.swapcase(), b"A" * 43):
        assert house.who(wrong) is None
    assert house.who(value) == "ana"


def test_it_ends_with_its_token(house: House) -> None:
    value = house.log_in(ttl=60.0)
    house.clock.advance(59.0)
    assert house.who(value) == "ana"
    house.clock.advance(1.0)
    assert house.who(value) is None
    assert len(house.sessions) == 0
    house.clock.jump_wall(-60.0)
    assert house.who(value) is None


def test_it_ends_by_logging_out(house: House) -> None:
    value, other = house.log_in(), house.log_in("ben")
    house.sessions.end(value)
    house.sessions.end(value)
    assert (house.who(value), house.who(other)) == (None, "ben")


@pytest.mark.parametrize("act", ["name", "token"])
def test_it_ends_by_a_revocation(house: House, act: str) -> None:
    value = house.log_in()
    principal = house.sessions.find(value, None)
    assert principal is not None
    if act == "name":
        house.revocations.revoke_name("ana", house.clock.wall())
    else:
        house.revocations.revoke_token(principal.credentials[0].id)
    assert house.who(value) is None
    assert len(house.sessions) == 0


def test_policy_is_that_of_the_moment(house: House) -> None:
    value = house.log_in()
    first = house.sessions.find(value, None)
    assert first is not None
    assert first.permits("admin", "read", "status")
    assert house.sessions.find(value, None) is first
    house.policy.configure({"ana": Grant.parse(["echo:use"])})
    later = house.sessions.find(value, None)
    assert later is not None
    assert not later.permits("admin", "read", "status")
    assert house.sessions.find(value, None) is later


def test_it_is_bound_to_the_certificate_of_the_log_in(house: House) -> None:
    mine, other = house.pki.client_der("demo"), house.pki.client_der("other")
    bound, free = house.log_in(certificate=mine), house.log_in()
    assert (house.who(bound, mine), house.who(bound, other), house.who(bound)) == ("ana", None, None)
    assert (house.who(free), house.who(free, mine)) == ("ana", None)


def test_they_are_bounded_in_all_and_for_each_principal(pki: PKI) -> None:
    house = House(pki, AdminLimits(admin_sessions_count=5, admin_sessions_per_principal_count=3))
    first = house.log_in("ben")
    values = [house.log_in() for _ in range(6)]
    assert [house.who(value) for value in values] == [None] * 3 + ["ana"] * 3
    assert house.who(first) == "ben"  # another's log-ins end nobody's
    house.log_in("cleo")
    assert len(house.sessions) == 5
    house.log_in("dora")
    assert len(house.sessions) == 5
    assert house.who(first) is None  # the oldest of all


def test_a_lower_bound_after_a_reload_holds_at_the_next_log_in(house: House) -> None:
    values = [house.log_in() for _ in range(4)]
    house.sessions.limits = dataclasses.replace(house.sessions.limits, admin_sessions_per_principal_count=1)
    last = house.log_in()
    assert [house.who(value) for value in (*values, last)] == [None] * 4 + ["ana"]
