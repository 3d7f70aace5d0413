"""The machine on the stream: whose session it is, who is late, and the drain."""

from __future__ import annotations

from secure_net.errors import Refusal, RefusedError
from secure_net.limits import ConnectionLimits
from secure_net.wire.channel import LINGER_SECONDS, State
from secure_net.wire.tls import TLSPolicy
from tests.support.loops import in_loop
from tests.support.machines import LineMachine, LineService, Person
from tests.support.pki import PKI
from tests.support.rig import Bench, Rig
from tests.support.transport import TLSPeer, turns

# -- who it is ------------------------------------------------------------------------------------------


@in_loop
async def test_a_certificate_says_who_it_is(pki: PKI) -> None:
    rig = Rig(pki, LineService(authentication=True), identify=lambda der: Person("demo"))
    bench = rig.open(pki.client("demo")[0])
    assert bench.connection.certificate == pki.client_der("demo")
    assert bench.connection.certificate_principal == bench.connection.principal == Person("demo")
    assert rig.shell.live.principals() == {"demo": 1}
    rig.clock.advance(60.0)
    assert bench.ask(b"echo still here") == b"still here\n"


@in_loop
async def test_a_certificate_that_is_refused_ends_the_connection_before_a_session(pki: PKI) -> None:
    def identify(der: bytes) -> Person:
        raise RefusedError(Refusal.CERTIFICATE_REVOKED, "serial")

    rig = Rig(pki, identify=identify)
    bench = rig.open(pki.client("demo")[0])
    assert bench.peer.read() == b"sorry: certificate_revoked\n"  # TLS 1.3 itself has told it that all is well
    assert bench.peer.closed
    assert bench.connection.principal is None
    assert rig.refusals() == [("certificate_revoked", "serial")]
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.at_rest()


@in_loop
async def test_a_fault_in_identify_lets_nobody_in(pki: PKI) -> None:
    def identify(der: bytes) -> Person:
        raise KeyError("a fault of ours")

    rig = Rig(pki, identify=identify)
    bench = rig.open(pki.client("demo")[0])
    bench.transport.feed(bench.peer.encrypt(b"echo let me in\n"))
    assert bench.peer.read() == b""
    assert rig.service.sessions == []
    assert rig.refused() == {"internal": 1}
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.at_rest()


@in_loop
async def test_connections_of_a_principal_are_bounded(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(connections_per_principal_count=2))
    benches = [rig.open() for _ in range(3)]
    assert [bench.ask(b"login demo") for bench in benches] == [
        b"welcome demo\n",
        b"welcome demo\n",
        b"sorry: connections_per_principal\n",
    ]
    assert benches[0].ask(b"login demo") == b"welcome demo\n"  # again, and it counts once
    assert rig.shell.live.of("demo") == 2
    benches[1].transport.reset()
    await turns()
    assert rig.shell.live.of("demo") == 1


@in_loop
async def test_a_session_may_pass_to_another_principal(pki: PKI) -> None:
    rig = Rig(pki, identify=lambda der: Person("machine"))
    bench = rig.open(pki.client("demo")[0])
    assert rig.shell.live.principals() == {"machine": 1}
    bench.ask(b"login person")
    assert rig.shell.live.principals() == {"person": 1}
    assert bench.connection.certificate_principal == Person("machine")
    bench.transport.reset()
    await turns()
    assert rig.at_rest()


# -- deadlines ------------------------------------------------------------------------------------------


@in_loop
async def test_authentication_has_a_deadline(pki: PKI) -> None:
    rig = Rig(pki, LineService(authentication=True))
    bench = rig.open()
    for _ in range(4):
        rig.clock.advance(2.4)
        bench.ask(b"echo busy")
    rig.clock.advance(0.5)
    assert bench.peer.read() == b"sorry: authentication_deadline\n"
    assert rig.refused() == {"authentication_deadline": 1}


@in_loop
async def test_authentication_has_a_deadline_in_plaintext_and_again_behind_the_upgrade(pki: PKI) -> None:
    rig = Rig(pki, LineService(TLSPolicy(upgrade=True), authentication=True))
    _, transport = rig.accept()
    rig.clock.advance(10.1)
    assert transport.taken() == b"sorry: authentication_deadline\n"
    connection, transport = rig.accept()
    rig.clock.advance(9.0)
    transport.feed(b"upgrade\n")
    transport.taken()
    rig.clock.advance(4.0)
    bench = Bench(connection, transport, TLSPeer(transport, rig.context()).shake())
    rig.clock.advance(9.0)
    assert bench.ask(b"login demo") == b"welcome demo\n"
    rig.clock.advance(60.0)
    assert bench.ask(b"echo x") == b"x\n"


@in_loop
async def test_an_idle_peer_is_late(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    rig.clock.advance(299.0)
    assert bench.ask(b"echo x") == b"x\n"
    rig.clock.advance(299.0)
    assert bench.peer.read() == b""
    rig.clock.advance(2.0)
    assert bench.peer.read() == b"sorry: idle\n"
    assert rig.refused() == {"idle": 1}


@in_loop
async def test_a_phase_has_its_own_deadline_and_reason(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"phase 3")
    rig.clock.advance(2.9)
    assert rig.refused() == {}
    rig.clock.advance(0.2)
    assert bench.peer.read() == b"sorry: read_deadline\n"


@in_loop
async def test_a_phase_whose_allowance_moves(pki: PKI) -> None:
    """A body that must keep a pace: further off, then nearer."""
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"phase 3")
    machine = rig.service.sessions[0].machine
    machine.allowance = 6.0
    bench.peer.send(b"half a li")
    rig.clock.advance(5.9)
    assert rig.refused() == {}
    machine.allowance = 5.95
    bench.peer.send(b"ne and a bit")
    rig.clock.advance(0.1)
    assert rig.refused() == {"read_deadline": 1}


@in_loop
async def test_where_the_machine_says_nothing_the_idle_bound_holds(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    rig.service.sessions[0].machine.allowance = None
    rig.clock.advance(rig.shell.limits.idle_seconds + 1)
    assert bench.peer.read() == b"sorry: idle\n"


class Patient(LineMachine):
    """Takes a passed deadline for a reason to ask, as a machine that pings does."""

    __slots__ = ()

    def deadline_passed(self) -> None:
        self.answer(b"ping")
        self.phase += 1


@in_loop
async def test_a_machine_may_answer_its_deadline_itself(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.connection.machine = rig.service.sessions[0].machine = Patient()
    bench.ask(b"")
    rig.clock.advance(300.0)
    assert bench.peer.read() == b"ping\n"
    rig.clock.advance(300.0)
    assert bench.peer.read() == b"ping\n"
    assert rig.refused() == {}


@in_loop
async def test_the_peers_time_does_not_run_while_a_handler_does(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"phase 3", b"wait")
    rig.service.sessions[0].machine.expect(3.0)
    rig.clock.advance(1000.0)
    rig.service.gate.set()
    await turns()
    assert bench.peer.read() == b"waited\n"
    rig.clock.advance(2.9)
    assert rig.refused() == {}
    rig.clock.advance(0.2)
    assert rig.refused() == {"read_deadline": 1}


@in_loop
async def test_the_peers_time_does_not_run_while_it_reads_a_long_answer(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.take(-bench.transport.room)
    bench.peer.send(b"idle 5\nbig 400000\n")
    rig.service.sessions[0].machine.allowance = 5.0
    received = b""
    while len(received) < 400_006:
        rig.clock.advance(1.0)
        bench.transport.take(20_000)
        received += bench.peer.read()
    assert rig.refused() == {}
    assert bench.ask(b"echo x") == b"x\n"


@in_loop
async def test_idle_deadlines_shorten_when_overload_comes_and_not_before(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(connections_count=4))
    bench = rig.open()
    rig.clock.advance(70.0)
    assert bench.ask(b"echo x") == b"x\n"
    rig.clock.advance(70.0)
    others = [rig.open() for _ in range(3)]
    rig.clock.advance(59.0)  # the old one's look comes no later than a fifth of its allowance
    assert bench.peer.read() == b"sorry: idle\n"
    assert all(other.connection.state is State.OPEN for other in others)
    rig.clock.advance(2.0)
    assert all(other.peer.read() in (b"", b"sorry: idle\n") for other in others)


@in_loop
async def test_a_session_ends_with_its_credential(pki: PKI) -> None:
    rig = Rig(pki, LineService(expires_at=1_800_000_000.0 + 3600))
    bench = rig.open()
    bench.ask(b"login demo")
    rig.service.sessions[0].machine.allowance = 100_000.0
    rig.clock.advance(3599.0)
    assert bench.ask(b"echo x") == b"x\n"
    rig.service.sessions[0].machine.allowance = 100_000.0
    rig.clock.advance(1.5)
    assert bench.peer.read() == b"sorry: expired\n"
    assert rig.refused() == {"expired": 1}


@in_loop
async def test_a_fresher_credential_prolongs_the_session(pki: PKI) -> None:
    rig = Rig(pki, LineService(expires_at=1_800_000_000.0 + 100))
    bench = rig.open()
    bench.ask(b"login demo")
    rig.service.expires_at += 1000
    rig.clock.advance(50.0)
    bench.ask(b"login demo")
    rig.clock.advance(200.0)
    assert bench.ask(b"echo x") == b"x\n"


@in_loop
async def test_a_system_clock_that_was_set_back_prolongs_no_other_deadline(pki: PKI) -> None:
    rig = Rig(pki, LineService(expires_at=1_800_000_000.0 + 100))
    bench = rig.open()
    bench.ask(b"login demo", b"phase 100")
    rig.clock.jump_wall(-50.0)
    rig.clock.advance(100.0)  # the credential's alarm and the phase's fall together
    assert bench.peer.read() == b"sorry: read_deadline\n"


@in_loop
async def test_a_system_clock_that_was_set_back_moves_the_credentials_end(pki: PKI) -> None:
    rig = Rig(pki, LineService(expires_at=1_800_000_000.0 + 100))
    bench = rig.open()
    bench.ask(b"login demo")
    rig.clock.jump_wall(-50.0)
    rig.clock.advance(149.0)
    assert bench.ask(b"echo x") == b"x\n"
    rig.clock.advance(2.0)
    assert bench.peer.read() == b"sorry: expired\n"


# -- drain ----------------------------------------------------------------------------------------------


@in_loop
async def test_drain_ends_the_idle_and_waits_for_what_is_under_way(pki: PKI) -> None:
    rig = Rig(pki)
    idle, busy = rig.open(), rig.open()
    busy.ask(b"wait")
    for bench in (idle, busy):
        bench.connection.drain()
    assert idle.peer.read() == b""
    assert idle.peer.closed
    assert busy.connection.state is State.OPEN
    rig.service.gate.set()
    await turns()
    assert busy.peer.read() == b"waited\n"
    assert busy.peer.closed
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.outcomes() == {"drained": 2}
    assert rig.at_rest()


@in_loop
async def test_drain_drops_a_handshake(pki: PKI) -> None:
    rig = Rig(pki)
    connection, transport = rig.accept()
    connection.drain()
    assert transport.aborted
    await turns()
    assert rig.outcomes() == {"drained": 1}


@in_loop
async def test_drain_does_not_change_how_a_connection_had_ended(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"refuse")
    bench.connection.drain()
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.outcomes() == {"refused": 1}


@in_loop
async def test_drain_in_plaintext_lets_the_protocol_speak(pki: PKI) -> None:
    rig = Rig(pki, LineService(TLSPolicy(upgrade=True)))
    connection, transport = rig.accept()
    transport.feed(b"wait\n")
    connection.drain()
    rig.service.gate.set()
    await turns()
    assert transport.taken() == b"waited\n"
    assert transport.eof_written
