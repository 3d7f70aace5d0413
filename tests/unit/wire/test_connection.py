"""The machine on the stream: events in order, handlers that wait, handlers that fail."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_net.errors import Refusal, RefusedError, RemoteProtocolError
from secure_net.wire.channel import LINGER_SECONDS, State
from secure_net.wire.connection import BATCH, Connection
from tests.support.loops import in_loop
from tests.support.machines import LineMachine, LineService
from tests.support.pki import PKI
from tests.support.rig import Bench, Rig
from tests.support.transport import turns

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
async def test_flush_sends_and_asks_the_machine_for_nothing(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    machine = rig.service.sessions[0].machine
    machine.receive_data(b"echo not asked for\n")
    machine.answer(b"news")
    bench.connection.flush()
    assert bench.peer.read() == b"news\n"
    assert rig.service.handled == []


@in_loop
async def test_flush_counts_what_is_kept_no_more(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    machine = rig.service.sessions[0].machine
    for kept in (300, 100, 0):
        machine.buffered = kept
        bench.connection.flush()
        assert rig.shell.buffered_bytes == bench.connection.weight == kept
    bench.connection.abort()
    machine.buffered = 300
    bench.connection.flush()
    assert rig.shell.buffered_bytes == 0, "what has ended keeps nothing"


@in_loop
async def test_flush_from_within_a_handler_leaves_it_to_the_shell(
    pki: PKI, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(pki)
    monkeypatch.setattr(Connection, "wake", Connection.flush)
    assert rig.open().ask(b"wake 1", b"echo 2") == b"woke 1\n2\n"


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


@in_loop
async def test_a_handler_is_called_off_with_its_connection(pki: PKI) -> None:
    """Or whoever comes, asks and goes would leave work behind that no cap counts."""
    rig = Rig(pki)
    bench = rig.open()
    ended = []

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("ended")

    rig.service.sessions[0].handle = lambda event: slow()  # type: ignore[method-assign]
    bench.ask(b"anything")
    await turns()
    assert ended == []
    bench.transport.reset()
    await turns()
    assert ended == ["ended"]
    assert rig.logged == []
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
