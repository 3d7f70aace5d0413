"""The stream: what waits to be sent, who is late, what a hostile peer can make us answer."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from secure_net.errors import Refusal
from secure_net.limits import MIB, ConnectionLimits
from secure_net.wire.channel import HIGH_WATER, LINGER_SECONDS, UNREAD_BYTES, State
from secure_net.wire.tls import BURST, SLICE, TLSPolicy
from tests.support.loops import in_loop
from tests.support.machines import LineService
from tests.support.pki import PKI
from tests.support.records import RecordWriter
from tests.support.rig import Bench, Rig
from tests.support.transport import TLSPeer, turns

# -- what waits to be sent ----------------------------------------------------------------------------


def fill(bench: Bench, count: int) -> None:
    """An answer of `count` bytes, which the peer does not read."""
    bench.transport.take(-bench.transport.room)
    bench.peer.send(b"big %d\n" % count)


@in_loop
async def test_a_large_answer_waits_as_plaintext_and_arrives_whole(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    fill(bench, MIB)
    assert bench.transport.get_write_buffer_size() < BURST + 20_000
    assert rig.shell.buffered_bytes > MIB - 2 * HIGH_WATER
    received = b""
    while len(received) < MIB + 1:
        bench.transport.take(50_000)
        received += bench.peer.read()
    assert received == bytes(MIB) + b"\n"
    assert rig.shell.buffered_bytes == 0
    bench.transport.take()
    assert bench.ask(b"echo still here") == b"still here\n"


@in_loop
async def test_a_large_last_answer_arrives_whole_however_slowly_it_is_read(pki: PKI) -> None:
    """Neither the end of the queue nor the moment of lingering may cut it: only a peer that takes nothing
    is late."""
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.take(-bench.transport.room)
    bench.peer.send(b"big %d\nquit\n" % (300 * 1024))
    received = b""
    while not bench.peer.closed:
        rig.clock.advance(20.0)
        await turns()
        assert not bench.transport.aborted
        bench.transport.take(10_000)
        received += bench.peer.read()
    assert received == bytes(300 * 1024) + b"\nbye\n"
    assert bench.transport.eof_written
    rig.clock.advance(2 * LINGER_SECONDS)
    await turns()
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_a_peer_that_closed_its_half_still_gets_a_large_answer_whole(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.take(-bench.transport.room)
    bench.transport.feed(bench.peer.encrypt(b"big 300000\n") + bench.peer.close_notify())
    bench.transport.feed_eof()
    received = b""
    for _ in range(20):
        bench.transport.take(20_000)
        received += bench.peer.read()
    await turns()
    assert received == bytes(300_000) + b"\n"
    assert bench.peer.closed
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_a_peer_that_takes_nothing_is_dropped(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    fill(bench, MIB)
    rig.clock.advance(29.9)
    assert rig.refused() == {}
    rig.clock.advance(0.2)
    await turns()
    assert rig.refused() == {"write_stalled": 1}
    assert bench.transport.aborted
    assert rig.at_rest()


@in_loop
async def test_a_peer_that_takes_a_little_is_not_late(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    fill(bench, MIB)
    for _ in range(20):
        bench.transport.take(1000)
        rig.clock.advance(29.0)
    await turns()
    assert rig.refused() == {}
    rig.clock.advance(61.0)
    await turns()
    assert rig.refused() == {"write_stalled": 1}


@pytest.mark.parametrize("held", [100, 40_000])
@in_loop
async def test_a_peer_that_takes_nothing_of_the_last_words_is_dropped(pki: PKI, held: int) -> None:
    """With less in the transport than its low-water mark nothing else would watch it."""
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.take(-bench.transport.room)
    bench.peer.send(b"big %d\nquit\n" % held)
    rig.clock.advance(31.0)
    await turns()
    assert bench.transport.aborted
    assert rig.refused() == {"write_stalled": 1}
    assert rig.at_rest()


@in_loop
async def test_an_outbox_is_bounded(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(outbox_bytes=MIB))
    bench = rig.open()
    fill(bench, 2 * MIB)
    await turns()
    assert rig.refused() == {"outbox": 1}
    assert bench.transport.aborted
    assert rig.at_rest()


@in_loop
async def test_an_alert_behind_a_half_sent_answer_does_not_raise(pki: PKI) -> None:
    """OpenSSL writes nothing more once the stream is broken."""
    rig = Rig(pki)
    bench = rig.open()
    fill(bench, MIB)
    bench.transport.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    bench.transport.take()
    await turns()
    assert rig.refused() == {"record": 1}
    rig.clock.advance(60.0)
    await turns()
    assert rig.at_rest()


@in_loop
async def test_the_end_is_queued_once_where_the_transport_is_full(pki: PKI) -> None:
    """A goodbye said again behind our FIN would raise into the event loop."""
    rig = Rig(pki)
    bench = rig.open()
    fill(bench, 4 * SLICE - 1)  # nothing waits in the outbox, and the transport is above its mark
    bench.transport.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert bench.connection.state is State.LINGERING
    bench.transport.take()
    rig.clock.advance(2 * LINGER_SECONDS)
    await turns()
    assert rig.refused() == {"record": 1}
    assert rig.at_rest()


@in_loop
async def test_last_words_go_behind_what_waits(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    fill(bench, 200_000)
    bench.connection.refuse(Refusal.DRAINING)
    bench.connection.refuse(Refusal.IDLE)
    bench.transport.take()
    assert bench.peer.read() == bytes(200_000) + b"\nsorry: draining\n"
    assert bench.peer.closed
    assert rig.refused() == {"draining": 1}


@pytest.mark.parametrize("closing", [False, True])
@in_loop
async def test_who_is_revoked_gets_nothing_of_what_waits(pki: PKI, closing: bool) -> None:
    """However slowly it reads, it is cut off at once."""
    rig = Rig(pki)
    bench = rig.open()
    fill(bench, 200_000)
    if closing:
        bench.transport.feed(bench.peer.close_notify())
        bench.connection.refuse(Refusal.DRAINING)
    bench.connection.refuse(Refusal.REVOKED, "demo")
    await turns()
    assert bench.transport.aborted
    assert rig.refusals() == [("draining", "") if closing else ("revoked", "demo")]
    assert rig.at_rest()


@in_loop
async def test_last_words_that_do_not_fit(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(outbox_bytes=HIGH_WATER + 100_000))
    bench = rig.open()
    fill(bench, 100_000 + 4 * SLICE - 1)
    bench.connection.refuse(Refusal.DRAINING)
    await turns()
    assert bench.transport.aborted
    assert rig.refused() == {"draining": 1}
    assert rig.at_rest()


@in_loop
async def test_reading_goes_on_for_the_peers_end(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"wait")
    bench.peer.send(b"echo behind\n")
    assert not bench.transport.reading
    bench.connection.refuse(Refusal.REVOKED)
    assert bench.transport.reading
    rig.service.gate.set()
    await turns()
    assert rig.service.handled == [b"wait"]


# -- what a peer can make us answer ---------------------------------------------------------------------


def writer(rig: Rig, tmp_path: Path) -> tuple[Bench, RecordWriter]:
    connection, transport = rig.accept()
    context = rig.context()
    context.keylog_filename = str(tmp_path / "keys")
    peer = TLSPeer(transport, context).shake()
    return Bench(connection, transport, peer), RecordWriter(tmp_path / "keys", peer.tls)


@in_loop
async def test_key_updates_are_answered_at_once(pki: PKI, tmp_path: Path) -> None:
    rig = Rig(pki)
    bench, records = writer(rig, tmp_path)
    for number in range(20):
        bench.transport.taken()
        for _ in range(3):
            bench.transport.feed(records.key_update(requested=True))
        assert bench.transport.sent, "the answer to a key update does not wait for ours"
        bench.peer.read()
        bench.transport.feed(records.record(b"echo %d\n" % number))
        assert bench.peer.read() == b"%d\n" % number
        bench.transport.feed(records.key_update(requested=False))
    assert rig.refused() == {}


@in_loop
async def test_a_flood_of_key_updates_from_a_peer_that_does_not_read_is_bounded(
    pki: PKI, tmp_path: Path
) -> None:
    rig = Rig(pki)
    bench, records = writer(rig, tmp_path)
    bench.transport.take(-bench.transport.room)
    largest = 0
    for _ in range(UNREAD_BYTES // 20):
        bench.transport.feed(records.key_update(requested=True))
        largest = max(largest, bench.transport.get_write_buffer_size())
    await turns()
    assert rig.refused() == {"outbox": 1}
    assert largest < UNREAD_BYTES + 1000
    assert rig.at_rest()


@in_loop
async def test_renegotiation_is_refused(pki: PKI) -> None:
    rig = Rig(pki, LineService(TLSPolicy(minimum="1.2")))
    connection, transport = rig.accept()
    context = rig.context(minimum="1.2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    peer = TLSPeer(transport, context).shake()
    assert Bench(connection, transport, peer).ask(b"echo by 1.2") == b"by 1.2\n"
    assert peer.tls.version() == "TLSv1.2"
    assert rig.shell.live.handshakes == 0
