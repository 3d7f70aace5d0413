"""The stream: the handshake, and how it ends."""

from __future__ import annotations

import gc
import ssl

import pytest

from secure_net.errors import Refusal
from secure_net.limits import ConnectionLimits
from secure_net.wire.channel import LINGER_SECONDS, State
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSLayer
from tests.support.loops import in_loop
from tests.support.machines import LineMachine, LineSession
from tests.support.pki import PKI
from tests.support.rig import Rig
from tests.support.transport import FakeTransport, TLSPeer, turns

# -- the handshake ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
@in_loop
async def test_a_handshake_in_pieces(pki: PKI, size: int) -> None:
    bench = Rig(pki).open(pieces=lambda: [size] * 5000)
    assert bench.ask(b"echo whole") == b"whole\n"


@in_loop
async def test_a_command_in_one_segment_with_the_end_of_the_handshake(pki: PKI) -> None:
    rig = Rig(pki)
    _, transport = rig.accept()
    peer = TLSPeer(transport, rig.context())
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    peer.flush()
    peer.incoming.write(transport.taken())
    peer.tls.do_handshake()
    transport.feed(peer.outgoing.read() + peer.encrypt(b"echo early\n"))
    assert peer.read() == b"early\n"


@in_loop
async def test_silence_ends_at_the_handshake_deadline(pki: PKI) -> None:
    rig = Rig(pki)
    rig.accept()
    rig.clock.advance(4.9)
    assert rig.refused() == {}
    rig.clock.advance(0.2)
    await turns()
    assert rig.refused() == {"handshake_deadline": 1}
    assert rig.outcomes() == {"refused": 1}
    assert rig.at_rest()


@in_loop
async def test_bytes_now_and_then_do_not_move_the_handshake_deadline(pki: PKI) -> None:
    rig = Rig(pki)
    _, transport = rig.accept()
    peer = TLSPeer(transport, rig.context())
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    for byte in peer.outgoing.read()[:5]:
        transport.feed(bytes([byte]))
        rig.clock.advance(1.0)
    await turns()
    assert rig.refused() == {"handshake_deadline": 1}


@in_loop
async def test_deadlines_shorten_under_overload(pki: PKI) -> None:
    rig = Rig(pki, limits=ConnectionLimits(connections_count=2))
    rig.open()
    rig.accept()  # the second of two: above 80 %
    rig.clock.advance(1.1)
    await turns()
    assert rig.refused() == {"handshake_deadline": 1}


@in_loop
async def test_plaintext_is_refused_and_gets_nothing_back(pki: PKI) -> None:
    rig = Rig(pki)
    for first in (b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x70" + b"chosen by the peer"):
        _, transport = rig.accept()
        transport.feed(first)
        assert transport.eof_written
        assert transport.taken() == b""
    assert rig.refused() == {"plaintext": 2}


@in_loop
async def test_a_foreign_name_gets_its_alert_and_a_half_close(pki: PKI) -> None:
    rig = Rig(pki)
    _, transport = rig.accept()
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        TLSPeer(transport, rig.context(), "elsewhere.example").shake()
    assert rig.refused() == {"server_name": 1}
    assert transport.eof_written
    assert not transport.aborted
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.at_rest()


@in_loop
async def test_the_end_within_the_handshake(pki: PKI) -> None:
    rig = Rig(pki)
    _, transport = rig.accept()
    transport.feed_eof()
    await turns()
    assert rig.refused() == {"truncated": 1}
    _, transport = rig.accept()
    transport.reset()
    await turns()
    assert rig.outcomes() == {"refused": 1, "truncated": 1}
    assert rig.at_rest()


@in_loop
async def test_a_connection_that_was_ended_before_its_transport_was_made(pki: PKI) -> None:
    rig = Rig(pki)
    late = Connection(rig.shell, rig.service, rig.counters, rig.layer)
    late.came_from("::1", 7)
    assert late.peer == "[::1]:7"
    assert late.source == "::/64"
    late.drain()
    transport = FakeTransport(late).connect()
    assert transport.aborted
    await turns()
    assert rig.outcomes() == {"drained": 1}


@in_loop
async def test_a_layer_that_cannot_be_made_ends_that_connection_alone(pki: PKI) -> None:
    rig = Rig(pki)

    def broken() -> None:
        raise MemoryError

    rig.layer = broken  # type: ignore[method-assign, assignment]  # a fake fault
    rig.accept()
    await turns()
    assert rig.refused() == {"internal": 1}
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.at_rest()


# -- the ends -----------------------------------------------------------------------------------------


@in_loop
async def test_close_notify_is_answered_with_close_notify(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.feed(bench.peer.close_notify())
    assert bench.peer.read() == b""
    assert bench.peer.closed
    assert bench.transport.eof_written
    bench.transport.feed_eof()
    await turns()
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_a_half_close_is_kept_until_the_answer_is_sent(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.feed(bench.peer.encrypt(b"wait\necho more\n") + bench.peer.close_notify())
    bench.transport.feed_eof()
    await turns()
    assert not bench.transport.closing
    rig.service.gate.set()
    await turns()
    assert bench.peer.read() == b"waited\nmore\n"
    assert bench.peer.closed
    assert rig.outcomes() == {"clean": 1}  # with both halves closed there is nothing to wait for
    assert rig.at_rest()


@in_loop
async def test_what_comes_behind_close_notify_does_not_count(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    behind = bench.peer.encrypt(b"wait\n") + bench.peer.close_notify()
    bench.transport.feed(behind)
    bench.transport.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    bench.transport.feed(behind)
    rig.service.gate.set()
    await turns()
    assert bench.peer.read() == b"waited\n"
    assert rig.service.handled == [b"wait"]
    assert rig.refused() == {}


@in_loop
async def test_fin_without_close_notify_is_truncated(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.peer.send(b"echo half a li")
    bench.transport.feed_eof()
    await turns()
    assert rig.refused() == {"truncated": 1}
    assert rig.at_rest()


@in_loop
async def test_fin_without_close_notify_where_nothing_is_cut_is_an_end_like_others(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"echo all")
    bench.transport.feed_eof()
    await turns()
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_a_reset_is_truncated_inside_a_line_and_an_end_between_lines(pki: PKI) -> None:
    rig = Rig(pki)
    rig.open().transport.reset()
    bench = rig.open()
    bench.peer.send(b"echo half a li")
    bench.transport.reset()
    await turns()
    assert rig.outcomes() == {"clean": 1, "refused": 1}
    assert rig.refused() == {"truncated": 1}
    assert rig.at_rest()


@in_loop
async def test_the_peer_is_gone_when_we_say_goodbye(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.write_eof_error = OSError(107, "Transport endpoint is not connected")
    bench.ask(b"quit")
    assert bench.transport.aborted
    await turns()
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_a_record_that_does_not_decrypt_is_answered_by_an_alert(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    record = bytearray(bench.peer.encrypt(b"echo x\n"))
    record[-1] ^= 1
    bench.transport.feed(bytes(record))
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
        bench.peer.read()
    assert rig.refused() == {"record": 1}
    assert not bench.transport.aborted
    assert rig.service.handled == []


@in_loop
async def test_input_while_we_linger_is_discarded(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    assert bench.ask(b"quit") == b"bye\n"
    bench.peer.send(b"echo late\n")
    bench.transport.feed(b"noise" * 1000)
    assert rig.service.handled == [b"quit"]
    rig.clock.advance(LINGER_SECONDS)
    await turns()
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_wait_closed(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.ask(b"quit")
    rig.clock.advance(LINGER_SECONDS)
    await bench.connection.wait_closed()
    await bench.connection.wait_closed()
    assert bench.connection.state is State.CLOSED


@in_loop
async def test_what_is_done_to_a_connection_that_has_ended_does_nothing(pki: PKI) -> None:
    rig = Rig(pki)
    bench = rig.open()
    bench.transport.reset()
    await turns()
    connection = bench.connection
    connection.drop(Refusal.REVOKED)
    connection.refuse(Refusal.REVOKED)
    connection.abort()
    connection.drain()
    connection.wake()
    connection.connection_lost(None)
    await connection.wait_closed()
    assert rig.refused() == {}
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_a_closed_connection_needs_no_collector(pki: PKI) -> None:
    """No cycle is left behind: under load the collector would have to find each connection."""
    rig = Rig(pki)
    kinds = (Connection, TLSLayer, LineSession, LineMachine)
    gc.collect()
    gc.disable()
    try:
        # What other tests of this process still hold is theirs.
        others = {id(thing) for thing in gc.get_objects() if isinstance(thing, kinds)}
        bench = rig.open(pki.client("demo")[0])
        bench.ask(b"login demo", b"wait", b"big 200000")
        rig.service.gate.set()
        await turns()
        bench.transport.reset()
        await turns()
        rig.service.sessions.clear()
        rig.lost.clear()
        del bench
        left = [thing for thing in gc.get_objects() if isinstance(thing, kinds) and id(thing) not in others]
        assert left == []
    finally:
        gc.enable()
