"""The machine on the stream: back-pressure both ways, plaintext and the upgrade."""

from __future__ import annotations

import pytest

from secure_net.errors import Refusal
from secure_net.limits import MIB, ConnectionLimits
from secure_net.wire.channel import HIGH_WATER, LINGER_SECONDS, State
from secure_net.wire.connection import BATCH
from secure_net.wire.tls import TLSPolicy
from tests.support.loops import in_loop
from tests.support.machines import LineService
from tests.support.pki import PKI
from tests.support.rig import Bench, Rig
from tests.support.transport import TLSPeer, turns

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
async def test_who_is_too_slow_loses_what_waits_and_hears_why(pki: PKI) -> None:
    """Behind the piece that is half sent, so that the last words can be read."""
    rig = Rig(pki)
    bench = rig.open()
    machine = rig.service.sessions[0].machine
    bench.transport.take(-bench.transport.room)
    for letter in (b"a", b"b", b"c"):
        machine.answer(letter * 200_000)
        bench.connection.flush()
    assert bench.connection.waiting > 500_000
    bench.connection.give_up(Refusal.OUTBOX)
    assert bench.connection.waiting < 200_000 + HIGH_WATER
    bench.transport.take(1 << 30)
    assert bench.peer.read() == b"a" * 200_000 + b"\nsorry: outbox\n"
    assert rig.refused() == {Refusal.OUTBOX: 1}
    assert rig.shell.buffered_bytes == 0


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
    hog.peer.send(b"big 900000\n")
    assert not hog.transport.aborted
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
