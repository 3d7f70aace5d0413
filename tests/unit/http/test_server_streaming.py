"""Bodies in pieces, from a source to a peer over TLS that takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from secure_net.errors import LocalProtocolError, Refusal, RefusedError
from secure_net.http.protocol import BODY_WANTED, Request
from secure_net.http.response import BodyBrokenError, Piece, Response, Stream
from secure_net.http.server import TURN_BYTES, HTTPService, HTTPSession
from secure_net.limits import ConnectionLimits
from secure_net.metrics import ServiceCounters
from secure_net.wire.tls import BURST
from tests.support.clock import FakeClock
from tests.support.loops import in_loop
from tests.support.pki import PKI, make_pki
from tests.support.rig import Bench, Rig
from tests.support.transport import is_gone, turns, until

PIECE = 128 * 1024
GET = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Source:
    """`length` bytes of a pattern. `later`: from a coroutine that waits for `gate`."""

    def __init__(self, length: int) -> None:
        self.length, self.at = length, 0
        self.later = False
        self.gate = asyncio.Event()
        self.fails: Exception | None = None
        self.closings = 0

    def next_piece(self) -> Piece | Coroutine[Any, Any, Piece]:
        return self._later() if self.later else self._piece()

    def _piece(self) -> Piece:
        if self.fails is not None and self.at:
            raise self.fails
        begin, self.at = self.at, min(self.at + PIECE, self.length)
        return memoryview(pattern(self.length))[begin : self.at]

    async def _later(self) -> Piece:
        await self.gate.wait()
        return self._piece()

    def close(self) -> None:
        self.closings += 1


def pattern(length: int) -> bytes:
    return bytes(range(251)) * (length // 251) + bytes(range(length % 251))


class Application:
    """``/N`` is a stream of N bytes; ``waits``: begun by a coroutine."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.prepare: Callable[[Source], None] = lambda _: None
        self.waits = False

    def admit(self, head: Any, principal: Any) -> Response | None:
        return None

    def respond(
        self, request: Request, principal: Any, connection: Any
    ) -> Response | Coroutine[Any, Any, Response]:
        length = int(request.head.path[1:])
        source = Source(length)
        self.prepare(source)
        self.sources.append(source)
        answer = Stream(200, (), length, source)
        return self._wait(answer) if self.waits else answer

    async def _wait(self, answer: Response) -> Response:
        await asyncio.sleep(0)
        return answer


class NoAuthenticator:
    epoch = 1


class Site:
    """A rig whose service streams."""

    def __init__(self, pki: PKI, limits: ConnectionLimits | None = None) -> None:
        self.application = Application()
        service = HTTPService(
            "files",
            self.application,
            cast(Any, NoAuthenticator()),
            ServiceCounters("files"),
            clock=FakeClock(),
            authentication=False,
        )
        self.rig = Rig(pki, cast(Any, service), limits=limits)
        self.bench: Bench = self.rig.open()

    def ask(self, *lengths: int) -> None:
        self.bench.peer.send(b"".join(GET % length for length in lengths))

    @property
    def source(self) -> Source:
        return self.application.sources[-1]

    def stall(self, room: int = 0) -> None:
        """The peer takes `room` bytes and then no more."""
        self.bench.transport.room = room

    async def body(self, length: int) -> bytes:
        """Read until an answer of this length is whole."""
        received = b""
        while len(received.partition(b"\r\n\r\n")[2]) < length:
            await asyncio.sleep(0)
            received += self.bench.peer.read()
        return received.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.mark.parametrize("length", [1, PIECE - 1, PIECE, PIECE + 1, 3 * TURN_BYTES + 5])
@pytest.mark.parametrize("waits", [False, True])
def test_whole_and_in_order(pki: PKI, length: int, waits: bool) -> None:
    async def run() -> None:
        site = Site(pki)
        site.application.waits = waits
        site.ask(length)
        assert await site.body(length) == pattern(length)
        assert site.source.closings == 1
        site.ask(3)  # the connection stays
        assert await site.body(3) == pattern(3)

    asyncio.run(run())


@in_loop
async def test_pieces_that_have_to_be_waited_for(pki: PKI) -> None:
    site = Site(pki)
    site.application.prepare = lambda source: setattr(source, "later", True)
    site.ask(3 * PIECE)
    await turns()
    assert site.bench.peer.read().endswith(b"\r\n\r\n")  # the head need not wait
    site.source.gate.set()
    assert await site.body(0) == b""
    await until(lambda: site.source.closings == 1)
    assert site.bench.peer.read() == pattern(3 * PIECE)


@in_loop
async def test_pipelined_requests_are_answered_one_after_the_other(pki: PKI) -> None:
    site = Site(pki)
    site.ask(2 * PIECE, 5, TURN_BYTES + 1)
    await until(lambda: len(site.application.sources) == 3 and site.source.closings == 1)
    received = site.bench.peer.read()
    for length in (2 * PIECE, 5, TURN_BYTES + 1):
        _, _, received = received.partition(b"\r\n\r\n")
        assert received[:length] == pattern(length)
        received = received[length:]
    assert received == b""


@in_loop
async def test_what_the_peer_does_not_take_is_not_read(pki: PKI) -> None:
    length = 64 * PIECE
    site = Site(pki)
    site.stall()
    site.ask(length)
    await turns()
    read = site.source.at
    assert read <= 2 * PIECE
    assert site.rig.shell.buffered_bytes <= 2 * BURST + PIECE
    received = b""
    while len(received) < length + 100:
        before = len(received)
        site.bench.transport.take(50_000)
        await asyncio.sleep(0)
        received += site.bench.peer.read()
        assert site.source.at - len(received) < 4 * PIECE
        if len(received) == before and site.source.closings:
            break
    assert received.partition(b"\r\n\r\n")[2] == pattern(length)
    assert site.rig.shell.buffered_bytes == 0


@in_loop
async def test_many_slow_peers_cost_little_each(pki: PKI) -> None:
    sites = Site(pki)
    benches = [sites.rig.open() for _ in range(20)]
    for bench in benches:
        bench.transport.room = 0
        bench.peer.send(GET % (512 * 1024 * 1024 // 512))
    await turns()
    assert sites.rig.shell.buffered_bytes <= 20 * (2 * BURST + PIECE)


@in_loop
async def test_a_fast_peer_lets_the_others_have_their_turn(pki: PKI) -> None:
    site = Site(pki)
    site.ask(8 * TURN_BYTES)
    assert site.source.at <= TURN_BYTES  # and then the loop goes round
    before = site.source.at
    await turns(1)
    assert site.source.at - before <= 2 * TURN_BYTES
    await until(lambda: site.source.closings == 1)


@in_loop
async def test_a_source_that_breaks_ends_the_connection_within_the_body(pki: PKI) -> None:
    for later in (False, True):
        site = Site(pki)

        def prepare(source: Source, later: bool = later) -> None:
            source.fails, source.later = BodyBrokenError("a file changed while it was sent"), later
            source.gate.set()

        site.application.prepare = prepare
        site.ask(4 * PIECE)
        await until(lambda site=site: is_gone(site.bench.connection))  # type: ignore[misc]
        received = site.bench.peer.read()
        assert len(received) < 2 * PIECE
        assert not site.bench.peer.closed  # no close_notify: nobody takes this for the end
        assert b"500" not in received
        assert site.rig.refused() == {"internal": 1}
        assert site.rig.refusals() == [("internal", "a file changed while it was sent")]
        assert site.source.closings == 1
        assert site.rig.at_rest()


@in_loop
async def test_a_source_that_is_refused_ends_the_connection_within_the_body(pki: PKI) -> None:
    site = Site(pki)

    def prepare(source: Source) -> None:
        source.fails, source.later = RefusedError(Refusal.OVERLOAD), True
        source.gate.set()

    site.application.prepare = prepare
    site.ask(4 * PIECE)
    await until(lambda: site.bench.transport.eof_written)
    received = site.bench.peer.read()
    assert PIECE < len(received) < 2 * PIECE
    assert received.count(b"HTTP/1.1") == 1
    assert site.rig.refused() == {"overload": 1}


@pytest.mark.parametrize("later", [False, True])
def test_who_goes_away_closes_the_source_at_once(pki: PKI, later: bool) -> None:
    async def run() -> None:
        site = Site(pki)
        site.application.prepare = lambda source: setattr(source, "later", later)
        site.stall(200_000)
        site.ask(64 * PIECE)
        await turns()
        assert site.source.closings == 0
        site.bench.transport.reset()
        await turns(2)
        assert site.source.closings == 1
        assert site.rig.refused() == {"truncated": 1}
        assert site.rig.at_rest()

    asyncio.run(run())


@in_loop
async def test_who_takes_nothing_is_dropped(pki: PKI) -> None:
    site = Site(pki)
    site.stall()
    site.ask(64 * PIECE)
    await turns()
    site.rig.clock.advance(ConnectionLimits().write_stall_seconds + 1)
    await until(lambda: is_gone(site.bench.connection))
    assert site.rig.refused() == {"write_stalled": 1}
    assert site.source.closings == 1


@in_loop
async def test_what_arrives_meanwhile_is_not_read(pki: PKI) -> None:
    site = Site(pki)
    site.stall()
    site.ask(64 * PIECE)
    await turns()
    site.bench.peer.send(GET % 5)
    assert not site.bench.transport.reading
    site.bench.transport.take()
    await until(lambda: len(site.application.sources) == 2)
    assert site.bench.transport.reading


@in_loop
async def test_a_peer_that_sends_no_more_gets_the_rest(pki: PKI) -> None:
    site = Site(pki)
    site.stall()
    site.ask(8 * PIECE)
    await turns()
    site.bench.transport.feed(site.bench.peer.close_notify())
    site.bench.transport.take()
    assert await site.body(8 * PIECE) == pattern(8 * PIECE)
    assert site.source.closings == 1


@in_loop
async def test_a_drain_finishes_what_is_under_way(pki: PKI) -> None:
    site = Site(pki)
    site.stall()
    site.ask(8 * PIECE)
    await turns()
    site.bench.connection.drain()
    site.bench.transport.take()
    assert await site.body(8 * PIECE) == pattern(8 * PIECE)
    await turns()
    site.bench.peer.read()
    assert site.bench.peer.closed


@in_loop
async def test_a_right_that_ends_ends_the_body(pki: PKI) -> None:
    site = Site(pki)
    site.stall()
    site.ask(8 * PIECE)
    await turns()
    site.bench.connection.refuse(Refusal.REVOKED)
    await until(lambda: is_gone(site.bench.connection))
    assert site.source.closings == 1


@in_loop
async def test_an_answer_that_cannot_be_begun_closes_its_source(pki: PKI) -> None:
    site = Site(pki)
    whole = site.application.respond
    site.application.respond = lambda *a: Stream(600, (), 1, whole(*a).source)  # type: ignore
    site.ask(5)
    await turns()
    assert site.source.closings == 1
    assert b"HTTP/1.1 500" in site.bench.peer.read()


@in_loop
async def test_a_body_without_a_source_is_a_fault_of_ours(pki: PKI) -> None:
    site = Site(pki)
    site.stall()
    site.ask(8 * PIECE)
    await turns()
    session = cast(HTTPSession, site.bench.connection._session)
    session.closed()
    with pytest.raises(LocalProtocolError):
        session.handle(BODY_WANTED)


@in_loop
async def test_a_head_is_no_stream(pki: PKI) -> None:
    site = Site(pki)
    site.bench.peer.send((GET % 5).replace(b"GET", b"HEAD"))
    await turns()
    assert site.source.closings == 1
    assert site.source.at == 0
    assert site.bench.peer.read().endswith(b"content-length: 5\r\n\r\n")
