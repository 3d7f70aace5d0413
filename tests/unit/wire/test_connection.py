"""The machine on the stream: events in order, handlers that wait or fail, whose session, who is late."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_net.errors import Refusal, RefusedError, RemoteProtocolError
from secure_net.limits import MIB, ConnectionLimits
from secure_net.wire.channel import HIGH_WATER, LINGER_SECONDS, State
from secure_net.wire.connection import BATCH
from secure_net.wire.tls import TLSPolicy
from tests.support.loops import in_loop
from tests.support.machines import LineMachine, LineService, Person
from tests.support.pki import PKI
from tests.support.rig import Bench, Rig
from tests.support.transport import TLSPeer, turns

# -- events in order --------------------------------------------------------------------------------------


@in_loop
async def test_events_are_answered_in_order(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    assert bench.ask(b"echo one", b"echo two", b"", b"echo three") == b"one\ntwo\nthree\n"
    assert rig.counters.bytes_received == len(b"echo one\necho two\n\necho three\n")
    assert rig.counters.bytes_sent == len(b"one\ntwo\nthree\n")


@given(sizes=st.lists(st.integers(1, 90), max_size=20))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_of_the_input_gives_the_same_answers(pki: PKI, sizes: list[int]) -> None:
    @in_loop
    async def scenario() -> None:
        rig = Rig(pki)
        bench = rig.open(pieces=lambda: sizes)
        rig.service.gate.set()
        lines = [b"echo a", b"wait 1", b"echo b", b"wait 2", b"quit"]
        bench.peer.send(b"".join(line + b"\n" for line in lines), sizes)
        await turns(20)
        assert bench.peer.read() == b"a\nwaited1\nb\nwaited2\nbye\n"
        assert bench.peer.closed

    scenario()


@in_loop
async def test_many_pipelined_commands_are_answered_in_few_records(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    count = 10 * BATCH + 3
    bench.peer.send(b"echo x\n" * count)
    sent = bytes(bench.transport.sent)
    assert bench.peer.read() == b"x\n" * count
    assert sent.count(b"\x17\x03\x03\x00") <= 11


@in_loop
async def test_the_machine_speaks_first(pki: PKI) -> None:
    bench = Rig(pki, LineService(greeting=b"220 hello\n")).open()
    assert bench.peer.read() == b"220 hello\n"


@in_loop
async def test_wake_sends_what_the_machine_was_given(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    rig.service.sessions[0].machine.answer(b"news")
    bench.connection.wake()
    assert bench.peer.read() == b"news\n"


@in_loop
async def test_wake_from_within_a_handler_keeps_the_order(pki: PKI) -> None:
    rig = Rig(pki)
    assert rig.open().ask(b"wake 1", b"wake 2", b"echo 3") == b"woke 1\nwoke 2\n3\n"
    assert rig.service.handled == [b"wake 1", b"wake 2", b"echo 3"]


@in_loop
async def test_wake_from_within_a_task_sends_at_once(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"stream end", b"echo behind")
    await turns()
    assert bench.peer.read() == b"begun\n"
    rig.service.gate.set()
    await turns()
    assert bench.peer.read() == b"end\nbehind\n"


@in_loop
async def test_wake_before_there_is_a_session(pki: PKI) -> None:
    rig = Rig(pki)
    connection, _ = rig.accept()
    connection.wake()
    assert connection.state is State.HANDSHAKE


@in_loop
async def test_an_event_at_the_end_of_input_may_take_its_time(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.feed(bench.peer.encrypt(b"last wait at the end\n") + bench.peer.close_notify())
    await turns()
    assert bench.connection.state is State.OPEN
    rig.service.gate.set()
    await turns()
    assert bench.peer.read() == b"waited at the end\n".replace(b"waited ", b"waited")
    assert bench.peer.closed


# -- handlers that wait -------------------------------------------------------------------------------


@in_loop
async def test_while_a_handler_waits_input_is_kept_once_and_reading_pauses(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"wait", b"echo 1")
    assert bench.transport.reading
    bench.peer.send(b"echo 2\n")
    assert not bench.transport.reading
    assert rig.shell.buffered_bytes == len(b"echo 1\necho 2\n")
    assert rig.service.handled == [b"wait"]
    rig.service.gate.set()
    await turns()
    assert bench.transport.reading
    assert bench.peer.read() == b"waited\n1\n2\n"
    assert rig.shell.buffered_bytes == 0


@in_loop
async def test_pipelined_handlers_that_wait_run_one_by_one(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"wait 1", b"wait 2", b"echo 3", b"quit")
    await turns()
    assert rig.service.handled == [b"wait 1"]
    rig.service.gate.set()
    await turns(12)
    assert bench.peer.read() == b"waited1\nwaited2\n3\nbye\n"
    assert bench.peer.closed


@in_loop
async def test_a_handler_that_ends_after_its_connection(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"wait", b"echo never")
    bench.transport.reset()
    await turns()
    assert rig.counters.connections_open == 0
    rig.service.gate.set()
    await turns()
    assert rig.service.handled == [b"wait"]
    assert rig.at_rest()


@in_loop
async def test_a_login_that_ends_after_its_connection_binds_nobody(pki: PKI) -> None:
    """It would count against the principal for ever, and arm a timer for the credential's whole life."""
    rig = Rig(pki, LineService(expires_at=1_900_000_000.0))
    bench = rig.open()
    bench.ask(b"wait-login demo")
    bench.transport.reset()
    await turns()
    rig.service.gate.set()
    await turns()
    assert rig.at_rest()


@pytest.mark.parametrize("end", ["reset", "deny", "raise"])
@in_loop
async def test_a_handler_that_fails_after_its_connection(pki: PKI, end: str) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"wait-raise" if end != "deny" else b"wait-deny")
    bench.transport.reset()
    await turns()
    rig.service.gate.set()
    await turns()
    assert [event for event, _ in rig.logged] == ([] if end == "deny" else ["internal_error"])
    assert rig.refused() == {}
    assert rig.at_rest()


@in_loop
async def test_a_cancelled_handler_leaves_no_connection_without_a_deadline(pki: PKI) -> None:
    rig = Rig(pki)

    async def cancelled() -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    bench = rig.open()
    rig.service.sessions[0].handle = lambda event: cancelled()  # type: ignore[method-assign]  # a fault
    bench.ask(b"anything")
    await turns()
    assert rig.refused() == {"internal": 1}
    assert rig.at_rest()


# -- handlers that end the connection, or fail -----------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words", "reason"),
    [
        (b"refuse", b"sorry: revoked\n", "revoked"),
        (b"deny", b"sorry: not_permitted\n", "not_permitted"),
        (b"raise", b"sorry: internal\n", "internal"),
        (b"wait-deny", b"sorry: not_permitted\n", "not_permitted"),
        (b"wait-raise", b"sorry: internal\n", "internal"),
        (b"no-such", b"sorry: internal\n", "internal"),
    ],
)
@in_loop
async def test_a_refusal_answers_what_stood_before_and_nothing_behind(
    pki: PKI, command: bytes, words: bytes, reason: str
) -> None:
    rig = Rig(pki)
    rig.service.gate.set()
    bench = rig.open()
    bench.peer.send(b"echo before\n" + command + b"\necho behind\n")
    await turns()
    assert bench.peer.read() == b"before\n" + words
    assert bench.peer.closed
    assert rig.service.handled == [b"echo before", command]
    assert rig.refused() == {reason: 1}
    assert not bench.transport.aborted
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.outcomes() == {"refused": 1}
    assert rig.at_rest()


@pytest.mark.parametrize(("command", "refused"), [(b"drop", {"revoked": 1}), (b"abort", {})])
@in_loop
async def test_a_connection_that_is_dropped_by_its_handler_hears_nothing_more(
    pki: PKI, command: bytes, refused: dict[str, int]
) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.peer.send(command + b"\necho behind\nbig 100000\n")
    await turns()
    assert bench.transport.aborted
    assert rig.service.handled == [command]
    assert rig.refused() == refused
    assert rig.at_rest()


@in_loop
async def test_nothing_of_an_exception_reaches_the_peer_and_all_of_it_the_log(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    assert bench.ask(b"raise") == b"sorry: internal\n"
    (_, fields), (_, refusal) = rig.logged
    assert str(fields["error"]) == "a secret of ours"
    assert refusal["detail"] == fields["reference"]
    assert len(fields["reference"]) == 16


@in_loop
async def test_a_protocol_without_last_words(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    rig.service.sessions[0].machine.farewell_words = b""
    assert bench.ask(b"deny") == b""
    assert bench.peer.closed


@in_loop
async def test_what_the_peer_breaks_is_refused(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    for _ in range(17):
        bench.peer.send(bytes(1 << 16))
    assert bench.peer.read() == b"sorry: too_large\n"
    assert rig.refused() == {"too_large": 1}
    rig.clock.advance(1.0)
    await turns()
    assert rig.at_rest()


class Fragile(LineMachine):
    """Fails wherever the shell calls it, once it is told where."""

    __slots__ = ("fails_at",)

    def __init__(self, fails_at: str) -> None:
        super().__init__()
        self.fails_at = fails_at

    def _perhaps(self, where: str) -> None:
        if where in self.fails_at:
            raise ZeroDivisionError(where)

    def receive_data(self, data: bytes) -> None:
        self._perhaps("data")
        super().receive_data(data)

    def receive_eof(self, *, clean: bool) -> None:
        self._perhaps("eof")
        super().receive_eof(clean=clean)

    def deadline_passed(self) -> None:
        self._perhaps("deadline")
        super().deadline_passed()

    def drain(self) -> None:
        self._perhaps("drain")
        super().drain()

    def farewell(self, error: RemoteProtocolError) -> bytes:
        self._perhaps("farewell")
        return super().farewell(error)


def fragile(rig: Rig, fails_at: str) -> Bench:
    bench = rig.open()
    bench.connection.machine = rig.service.sessions[-1].machine = Fragile(fails_at)
    if "data" not in fails_at:
        assert bench.ask(b"echo armed") == b"armed\n"
    return bench


FAULTS = {
    "data": lambda rig, bench: bench.peer.send(b"echo x\n"),
    "eof": lambda rig, bench: bench.transport.feed(bench.peer.close_notify()),
    "cut eof": lambda rig, bench: bench.transport.feed_eof(),
    "reset eof": lambda rig, bench: bench.transport.reset(),
    "deadline": lambda rig, bench: rig.clock.advance(301.0),
    "drain": lambda rig, bench: bench.connection.drain(),
    "farewell": lambda rig, bench: bench.connection.refuse(Refusal.REVOKED),
    "farewell in a handler": lambda rig, bench: bench.peer.send(b"raise\n"),
}


@pytest.mark.parametrize("where", FAULTS)
@in_loop
async def test_a_machine_that_fails_anywhere_ends_its_connection_and_nothing_else(
    pki: PKI, where: str
) -> None:
    rig = Rig(pki)
    other = rig.open()
    bench = fragile(rig, where)
    try:
        FAULTS[where](rig, bench)
    except ZeroDivisionError:  # `refuse` is called by a service of ours, which hears of it
        assert where == "farewell"
        bench.connection.abort()
    await turns()
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert bench.connection.state is State.CLOSED
    assert rig.counters.connections_open == (0 if where == "deadline" else 1)
    if where != "deadline":
        assert other.ask(b"echo unharmed") == b"unharmed\n"


@in_loop
async def test_a_session_that_fails_at_the_end_leaves_no_count_behind(pki: PKI) -> None:
    rig = Rig(pki)
    rig.service.fails_at_the_end = True
    bench = rig.open()
    bench.ask(b"login demo")
    bench.transport.reset()
    await turns()
    assert [event for event, _ in rig.logged] == ["internal_error"]
    assert rig.at_rest()


@pytest.mark.parametrize("fault", [RuntimeError("ours"), RefusedError(Refusal.DRAINING)])
@in_loop
async def test_a_session_that_cannot_be_made(pki: PKI, fault: Exception) -> None:
    rig = Rig(pki)
    rig.service.fails_at_the_start = fault
    bench = rig.open()
    assert bench.peer.read() == b""
    assert bench.peer.closed
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.outcomes() == {"refused": 1}
    assert rig.at_rest()


@in_loop
async def test_a_session_hears_once_of_the_end(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    (session,) = rig.service.sessions
    bench.ask(b"refuse")
    assert session.closings == 0
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert session.closings == 1
    assert rig.lost == [bench.connection]


# -- back-pressure ----------------------------------------------------------------------------------------


@in_loop
async def test_a_peer_that_does_not_read_is_asked_for_nothing_more(pki: PKI) -> None:
    """Fifty large answers are not made for a peer that does not take the first."""
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.take(-bench.transport.room)
    bench.peer.send(b"big 100000\n" * 50)
    assert len(rig.service.handled) == 1
    bench.peer.send(b"echo end\n")
    assert not bench.transport.reading
    received = b""
    while not received.endswith(b"end\n"):
        bench.transport.take(200_000)
        received += bench.peer.read()
        assert rig.shell.buffered_bytes < 200_000
    assert received == (bytes(100_000) + b"\n") * 50 + b"end\n"
    assert bench.transport.reading
    assert rig.shell.buffered_bytes == 0


@in_loop
async def test_pipelined_handlers_that_wait_are_held_back_too(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(outbox_bytes=2 * MIB))
    rig.service.gate.set()
    bench = rig.open()
    bench.transport.take(-bench.transport.room)
    bench.peer.send(b"wait-big 1000000\n" * 10)
    await turns(30)
    assert len(rig.service.handled) == 1
    received = b""
    while len(received) < 10 * 1_000_001:
        bench.transport.take(300_000)
        await turns()
        received += bench.peer.read()
    assert received == (bytes(1_000_000) + b"\n") * 10
    assert rig.refused() == {}


@in_loop
async def test_a_handler_at_work_when_the_peer_reads_again(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.take(-bench.transport.room)
    bench.peer.send(b"stream end\n")
    await turns()
    rig.service.sessions[0].machine.answer(bytes(300_000))
    bench.connection.wake()
    bench.peer.send(b"echo behind\n")
    bench.transport.take()
    assert rig.service.handled == [b"stream end"]
    rig.service.gate.set()
    await turns()
    assert bench.peer.read() == b"begun\n" + bytes(300_000) + b"\nend\nbehind\n"


@in_loop
async def test_over_the_daemons_budget_the_heaviest_goes_and_not_who_comes(pki: PKI) -> None:
    """Else one peer that does not read would have every other one dropped in its place."""
    rig = Rig(pki, limits=ConnectionLimits(buffered_bytes=1_500_000))
    hog, modest, late = [rig.open() for _ in range(3)]
    for bench, count in ((hog, 1_000_000), (modest, 300_000), (late, 700_000)):
        bench.transport.take(-bench.transport.room)
        bench.peer.send(b"big %d\n" % count)
    assert hog.transport.aborted
    assert rig.shell.buffered_bytes < 1_100_000, "at once, not when the loop turns"
    await turns()
    assert rig.refused() == {"memory": 1}
    for bench, count in ((modest, 300_000), (late, 700_000)):
        bench.transport.take()
        assert len(bench.peer.read()) == count + 1
    assert rig.shell.buffered_bytes == 0


@in_loop
async def test_what_a_peer_sends_may_cost_the_heaviest_its_place(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(buffered_bytes=1_000_000))
    hog, bench = rig.open(), rig.open()
    hog.transport.take(-hog.transport.room)
    hog.peer.send(b"big 1000000\n")
    for _ in range(3):
        bench.peer.send(b"x" * 50_000)
    assert hog.transport.aborted
    assert rig.refused() == {"memory": 1}
    assert rig.shell.buffered_bytes == 150_000
    bench.transport.reset()
    await turns()
    assert rig.at_rest()


@in_loop
async def test_what_is_kept_of_the_input_counts_against_the_budget(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(buffered_bytes=100_000))
    bench = rig.open()
    bench.peer.send(b"x" * 50_000)
    assert rig.shell.buffered_bytes == 50_000
    bench.peer.send(b"x" * 51_000)
    assert bench.peer.read() == b"sorry: memory\n"
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.refused() == {"memory": 1}
    assert rig.at_rest()


@in_loop
async def test_the_budget_holds_while_a_handler_waits(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(buffered_bytes=10_000))
    bench = rig.open()
    bench.ask(b"wait")
    bench.peer.send(b"x" * 11_000)
    assert bench.peer.read() == b"sorry: memory\n"
    rig.service.gate.set()
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.at_rest()


# -- plaintext, and the upgrade ---------------------------------------------------------------------------

UPGRADE = TLSPolicy(upgrade=True)


@in_loop
async def test_the_upgrade(pki: PKI) -> None:
    rig = Rig(pki, LineService(UPGRADE, greeting=b"220 hello\n"))
    connection, transport = rig.accept()
    assert transport.taken() == b"220 hello\n"
    assert rig.shell.live.handshakes == 0
    transport.feed(b"echo in plaintext\nupgrade\n")
    assert transport.taken() == b"in plaintext\ngo ahead\n"
    assert rig.shell.live.handshakes == 1
    bench = Bench(connection, transport, TLSPeer(transport, rig.context()).shake())
    assert bench.ask(b"echo in secret") == b"in secret\n"
    assert len(rig.service.sessions) == 1


@pytest.mark.parametrize("behind", [b"\n", b"e", b"echo injected\n", b"echo inj", b"\x16\x03\x01"])
@pytest.mark.parametrize("command", [b"upgrade", b"upgrade-later"])
@in_loop
async def test_one_byte_behind_the_upgrade_command_ends_the_connection(
    pki: PKI, command: bytes, behind: bytes
) -> None:
    rig = Rig(pki, LineService(UPGRADE))
    _, transport = rig.accept()
    transport.feed(command + b"\n" + behind)
    rig.service.gate.set()
    await turns()
    assert transport.aborted
    assert transport.taken() == b""
    assert rig.service.handled == [command]
    assert rig.refused() == {"upgrade": 1}
    assert rig.at_rest()


@in_loop
async def test_plaintext_behind_a_whole_batch_of_answers_still_ends_it(pki: PKI) -> None:
    """The answers of a batch leave early; the upgrade's own must not leave with them."""
    rig = Rig(pki, LineService(UPGRADE))
    _, transport = rig.accept()
    transport.feed(b"echo x\n" * (BATCH - 1) + b"upgrade\necho injected\n")
    await turns()
    assert b"go ahead" not in transport.taken()
    assert rig.refused() == {"upgrade": 1}


@in_loop
async def test_plaintext_in_its_own_segment_behind_the_upgrade_is_no_client_hello(pki: PKI) -> None:
    rig = Rig(pki, LineService(UPGRADE))
    _, transport = rig.accept()
    transport.feed(b"upgrade\n")
    transport.feed(b"echo injected\n")
    assert transport.taken() == b"go ahead\n"
    assert transport.eof_written
    assert rig.service.handled == [b"upgrade"]
    assert rig.refused() == {"plaintext": 1}


@in_loop
async def test_plaintext_that_is_not_read_by_the_peer_is_bounded(pki: PKI) -> None:
    rig = Rig(pki, LineService(UPGRADE))
    _, transport = rig.accept(room=0)
    while transport.reading:
        transport.feed(b"big 10000\n" * 50)
    assert HIGH_WATER < rig.shell.buffered_bytes < 3 * HIGH_WATER, "the transport's share counts too"
    assert len(rig.service.handled) < 50
    transport.take()
    assert transport.taken() == (bytes(10_000) + b"\n") * 100
    rig.clock.advance(301.0)
    rig.clock.advance(1.0)
    await turns()
    assert rig.at_rest()


@in_loop
async def test_an_upgrade_waits_until_the_peer_has_read_what_stood_before(pki: PKI) -> None:
    rig = Rig(pki, LineService(UPGRADE))
    connection, transport = rig.accept(room=0)
    transport.feed(b"big 100000\nupgrade\n")
    assert rig.service.handled == [b"big 100000"]
    transport.take()
    assert transport.taken() == bytes(100_000) + b"\ngo ahead\n"
    assert connection.state is State.HANDSHAKE
    TLSPeer(transport, rig.context()).shake()


@in_loop
async def test_half_a_close_in_plaintext_is_kept_until_the_answer_is_sent(pki: PKI) -> None:
    rig = Rig(pki, LineService(UPGRADE))
    _, transport = rig.accept()
    transport.feed(b"wait\n")
    transport.feed_eof()
    assert not transport.closing
    rig.service.gate.set()
    await turns()
    assert transport.taken() == b"waited\n"
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_a_refusal_in_plaintext_has_its_last_words(pki: PKI) -> None:
    rig = Rig(pki, LineService(UPGRADE))
    _, transport = rig.accept()
    transport.feed(b"deny\n")
    assert transport.taken() == b"sorry: not_permitted\n"
    assert transport.eof_written


@in_loop
async def test_tls_within_tls_is_a_fault_of_ours(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.peer.send(b"upgrade\necho x\n")
    assert b"internal" in bench.peer.read()
    assert rig.service.handled == [b"upgrade"]
    assert rig.refused() == {"internal": 1}


@in_loop
async def test_no_last_words_within_the_handshake_of_an_upgrade(pki: PKI) -> None:
    rig = Rig(pki, LineService(UPGRADE))
    connection, transport = rig.accept()
    transport.feed(b"upgrade\n")
    transport.taken()
    connection.refuse(Refusal.REVOKED)
    assert transport.taken() == b""
    assert transport.eof_written


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
    assert bench.peer.read() == b""
    assert bench.peer.closed
    assert rig.service.sessions == []
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
async def test_a_phase_without_a_deadline(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    rig.service.sessions[0].machine.allowance = None
    rig.clock.advance(100_000.0)
    assert bench.ask(b"echo x") == b"x\n"


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
    rig.service.sessions[0].machine.allowance = None
    bench.ask(b"login demo")
    rig.clock.advance(3599.0)
    assert bench.ask(b"echo x") == b"x\n"
    rig.service.sessions[0].machine.allowance = None
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
    rig = Rig(pki, LineService(UPGRADE))
    connection, transport = rig.accept()
    transport.feed(b"wait\n")
    connection.drain()
    rig.service.gate.set()
    await turns()
    assert transport.taken() == b"waited\n"
    assert transport.eof_written
