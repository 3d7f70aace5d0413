"""Echo's session: who may, and what is counted. `tests/hostile/test_frames.py` has it on a daemon."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest

from secure_net.errors import AuthenticationError, NotPermittedError
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.policy import Grant, Policy, Principal
from secure_net.identity.revocation import Revocations
from secure_net.limits import FrameLimits
from secure_net.messaging.echo_server import EchoService, EchoSession
from secure_net.metrics import ServiceCounters
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSPolicy
from tests.support.clock import FakeClock
from tests.support.pki import PKI, make_pki


@dataclasses.dataclass
class Shown:
    """As much of a connection as the session looks at."""

    principal: Principal | None
    counters: ServiceCounters = dataclasses.field(default_factory=lambda: ServiceCounters("echo"))


@dataclasses.dataclass
class Deployed:
    policy: Policy
    revocations: Revocations
    authenticator: Authenticator
    connection: Shown
    session: EchoSession

    def echo(self, *messages: bytes) -> bytes:
        self.session.handle(list(messages))
        return self.session.machine.data_to_send()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"), clock=FakeClock())


@pytest.fixture
def deployed(pki: PKI) -> Deployed:
    policy, revocations = Policy({"demo": Grant.parse(["echo:use"])}), Revocations()
    authenticator = Authenticator(
        clock=FakeClock(),
        trust_domain=pki.trust_domain,
        policy=policy,
        revocations=revocations,
        keys=pki.keys,
    )
    shown = Shown(authenticator.certificate(pki.client_der("demo")))
    service = EchoService("echo", authenticator, FrameLimits(), TLSPolicy((), "1.3", "required"))
    session = service.session(cast(Connection, shown))
    return Deployed(policy, revocations, authenticator, shown, session)


def test_messages_are_answered_and_counted(deployed: Deployed) -> None:
    assert deployed.echo(b"a", b"bc") == b"00007ECHO: a00008ECHO: bc"
    assert (deployed.connection.counters.frames_received, deployed.connection.counters.frames_sent) == (2, 2)
    deployed.session.closed()


def test_a_scope_that_is_taken_away_is_felt_at_the_next_message(deployed: Deployed) -> None:
    assert deployed.echo(b"a")
    deployed.policy.configure({"demo": Grant.parse(["rpc:call:**"])})
    with pytest.raises(NotPermittedError):
        deployed.echo(b"b")
    deployed.policy.configure({"demo": Grant.parse(["echo:use"])})
    assert deployed.echo(b"c") == b"00007ECHO: c"


def test_who_was_revoked_hears_nothing_more(deployed: Deployed) -> None:
    assert deployed.echo(b"a")
    deployed.revocations.revoke_name("demo", FakeClock().wall())
    with pytest.raises(AuthenticationError):
        deployed.echo(b"b")


def test_nobody_is_echoed_nothing(deployed: Deployed) -> None:
    deployed.connection.principal = None
    with pytest.raises(AuthenticationError):
        deployed.echo(b"a")
