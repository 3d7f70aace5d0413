"""The encrypted stream of one connection: TLS, what waits to be sent, one timer, and the ways to end.

Theory of operation. The event loop reads into one buffer shared by all connections (nothing is kept in it
across calls); the TLS layer turns that into plaintext, which goes to the `Connection` above. What is sent
is encrypted only while the transport's own buffer is low, and waits as shared plaintext above that.

The states go one way::

    PLAIN ──(upgrade)──> HANDSHAKE ──> OPEN ──> CLOSING ──> LINGERING ──> CLOSED
                           │  refused            ^
                           └─────────────────────┘

CLOSING sends what waits, then close_notify and FIN. LINGERING sees these out and reads on for a moment, so
that the kernel does not turn our last words into a reset. In both only a peer that takes nothing is late.
One timer serves every deadline; it is moved only when it fires too early, or when a deadline comes nearer.
Whatever a machine, a session or a handler raises ends that connection and nothing else.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

from secure_net.clock import TimerHandle
from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.metrics import ConnectionOutcome, ServiceCounters
from secure_net.wire.shell import Principal, Service, Shell, source_of
from secure_net.wire.tls import BURST, SLICE, PlainLayer, TLSLayer

# Above this the transport holds enough to keep the link busy; what is more waits as shared plaintext.
HIGH_WATER, LOW_WATER = 64 * 1024, 16 * 1024

# How long a closing connection reads on for the peer's FIN once everything is sent.
LINGER_SECONDS = 0.5

# Key updates oblige us to answer. Whoever asks and does not read is dropped at this much in the transport.
UNREAD_BYTES = 4 * HIGH_WATER

# The outbox of all for whom nothing waits, which are most: an empty deque of one's own takes 0.7 KiB.
NOTHING_WAITS: deque[bytes | memoryview] = deque(maxlen=0)

Deadline = tuple[float, Callable[[], None]]
FOREVER = float("inf")
_serial = itertools.count(1)


class State(enum.IntEnum):
    """Where a connection stands; see the module's docstring."""

    PLAIN = 0
    HANDSHAKE = 1
    OPEN = 2
    CLOSING = 3
    LINGERING = 4
    CLOSED = 5


# To read a member off its class costs 125 ns on 3.11, and the state is asked for at every turn.
PLAIN, HANDSHAKE, OPEN, CLOSING, LINGERING, CLOSED = State


class Channel(asyncio.BufferedProtocol):
    """One peer's stream. `Connection` fills in the hooks at the end of the class."""

    __slots__ = (
        "_closed",
        "_end_seen",
        "_ends_at",
        "_held",
        "_layer",
        "_layer_of",
        "_on_lost",
        "_outbox",
        "_outbox_bytes",
        "_outcome",
        "_paused",
        "_shaking_since",
        "_stall_bytes",
        "_stalled_at",
        "_timer",
        "_timer_at",
        "_transport",
        "_write_paused",
        "counters",
        "id",
        "peer",
        "principal",
        "service",
        "shell",
        "source",
        "state",
    )

    def __init__(
        self,
        shell: Shell,
        service: Service,
        counters: ServiceCounters,
        layer_of: Callable[[], TLSLayer],
        on_lost: Callable[[Channel], None] | None = None,
    ) -> None:
        """`layer_of` makes the TLS layer when it is needed: at once, or at the upgrade. `on_lost` is
        called once, when the connection is gone."""
        self.shell, self.service, self.counters, self._layer_of = shell, service, counters, layer_of
        self.id = f"{service.name}-{next(_serial)}"
        self.peer = self.source = ""  # set by came_from
        self.principal: Principal | None = None  # who the session belongs to
        self.state = PLAIN
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)  # set by connection_made
        self._layer: TLSLayer | PlainLayer = PlainLayer()
        self._outbox = NOTHING_WAITS
        self._outbox_bytes = self._held = 0  # `_held` is what the machine keeps of the input
        self._paused = self._write_paused = False
        self._end_seen = False  # the peer's FIN
        self._outcome = ConnectionOutcome.TRUNCATED
        self._timer: TimerHandle | None = None
        self._timer_at = FOREVER
        self._ends_at = FOREVER  # handshake, authentication or closing: the deadline of the state
        self._stalled_at, self._stall_bytes = FOREVER, 0
        self._shaking_since = 0.0
        self._on_lost = on_lost
        self._closed: asyncio.Future[None] | None = None

    def came_from(self, host: str, port: int) -> None:
        """Counts from here on. A listener says so when it accepts: by the time the transport is made, a
        burst would have passed the caps."""
        self.source = source_of(host)
        self.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.counters.connections_open += 1
        self.shell.live.opened(self)
        if not self.service.tls.upgrade:
            self.shell.live.handshake_begun(self)

    # -- the transport's side -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self.peer:
            self.came_from(*(transport.get_extra_info("peername") or ("", 0))[:2])
        if self.state is not PLAIN:  # ended before it began
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        try:
            if self.service.tls.upgrade:
                self._opened()
            else:
                self._begin_handshake()
        except Exception as error:  # noqa: BLE001 - the boundary: a fault of ours ends this connection alone
            self._failed(error)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.shell.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self.shell.receive_buffer[:nbytes]
        try:
            if self.state is OPEN or self.state is PLAIN:
                self._decrypt(data)
            elif self.state is HANDSHAKE:
                self._shake(data)
        except Exception as error:  # noqa: BLE001 - the boundary
            self._failed(error)

    def _decrypt(self, data: bytes | memoryview) -> None:
        layer = self._layer
        ended_before = layer.peer_closed
        try:
            plaintext = layer.receive(data)
        except RemoteProtocolError as error:
            self._count_refusal(error.reason, error.detail)
            self._close()
            return
        if layer.owes:
            self._transport.write(layer.ciphertext())
            if self._transport.get_write_buffer_size() > UNREAD_BYTES:
                self.drop(Refusal.OUTBOX)
                return
        if plaintext:
            self.counters.bytes_received += len(plaintext)
            self._received(plaintext)
        if layer.peer_closed and not ended_before and self.state is OPEN:
            self._ended(clean=True)

    def eof_received(self) -> bool:
        """FIN. True keeps our half open: a handler may still be at work, or answers still queued."""
        before, self._end_seen = self._end_seen, True
        try:
            if self.state is HANDSHAKE:
                self._count_refusal(Refusal.TRUNCATED, "end within the handshake")
                return False
            if self.state <= OPEN and not before and not self._layer.peer_closed:
                self._layer.receive_eof()
                self._ended(clean=not self._layer.truncated)
        except Exception as error:  # noqa: BLE001 - the boundary
            self._failed(error)
        return self.state < LINGERING

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state is CLOSED:
            return
        before, self.state = self.state, CLOSED
        try:
            self._gone(judged=before >= CLOSING)
        except Exception as error:  # noqa: BLE001 - the boundary, and what follows must be done
            self._failed(error)
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, -FOREVER  # and no more of them
        self._release()
        self.shell.live.closed(self)
        self.counters.connections_open -= 1
        self.counters.connection(self._outcome)
        if self._on_lost is not None:
            self._on_lost(self)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._write_paused = True
        self._charge(BURST)
        self._stalled_at = self.shell.clock.monotonic()
        self._stall_bytes = self._transport.get_write_buffer_size()
        self._arm(self._stalled_at + self.shell.limits.write_stall_seconds)

    def resume_writing(self) -> None:
        self._write_paused = False
        self._charge(-BURST)
        if self.state is LINGERING:
            return
        self._stalled_at = FOREVER
        while self._outbox and not self._write_paused:
            data = self._outbox.popleft()
            self._charge(-len(data))
            self._encrypt(data)
        if self._write_paused:
            return
        self._outbox = NOTHING_WAITS
        if self.state is CLOSING:
            self._say_goodbye()
        elif self.state is OPEN or self.state is PLAIN:
            self._writable()

    async def wait_closed(self) -> None:
        """Returns once the connection is gone."""
        if self.state is not CLOSED:
            if self._closed is None:
                self._closed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closed)

    # -- TLS ------------------------------------------------------------------------------------------

    def _begin_handshake(self) -> None:
        self.state = HANDSHAKE
        self.shell.live.handshake_begun(self)
        now = self._shaking_since = self.shell.clock.monotonic()
        self._ends_at = now + self.shell.shortened(self.shell.limits.handshake_seconds)
        self._arm(self._ends_at)
        self._layer = self._layer_of()
        self._layer.begin()
        self._transport.write(self._layer.ciphertext())  # a client's hello; a server has nothing to say yet

    def _shake(self, data: bytes | memoryview) -> None:
        try:
            self._layer.receive(data)
        except RemoteProtocolError as error:
            self._count_refusal(error.reason, error.detail)
            self._close()
            return
        self._shaken()
        if self.state is OPEN:
            self._decrypt(b"")  # what came in one segment with the end of the handshake

    def _shaken(self) -> None:
        """The layer has worked on a piece of the handshake: answer, and begin when it is done."""
        layer = self._layer
        if layer.owes:
            self.shell.live.handshake_answered(self)
            self._transport.write(layer.ciphertext())
        if layer.established:
            self.counters.handshakes.observe(self.shell.clock.monotonic() - self._shaking_since)
            self.shell.live.handshake_done(self)
            self.state = OPEN
            self._ends_at = FOREVER
            self._secured(layer.peer_certificate())

    # -- sending --------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if self._write_paused:
            self._keep(data)
        else:
            self._encrypt(data)

    def _keep(self, data: bytes | memoryview, *, first: bool = False) -> None:
        """The transport holds enough: wait as plaintext, within the outbox's and the daemon's bounds."""
        if self._outbox is NOTHING_WAITS:
            self._outbox = deque()
        (self._outbox.appendleft if first else self._outbox.append)(data)
        self._charge(len(data))
        if self._outbox_bytes > self.shell.limits.outbox_bytes:
            self.drop(Refusal.OUTBOX)

    def _charge(self, count: int) -> None:
        """What waits for this peer, in the outbox or (counted at its mark) in the transport."""
        self._outbox_bytes += count
        self.shell.buffered_bytes += count
        if count > 0 and self.shell.buffered_bytes > self.shell.limits.buffered_bytes:
            self.shell.live.heaviest().drop(Refusal.MEMORY)

    @property
    def weight(self) -> int:
        """Bytes that are kept for this connection, out of the daemon's budget."""
        return self._outbox_bytes + self._held

    def _release(self) -> None:
        self.shell.buffered_bytes -= self.weight
        self._outbox, self._outbox_bytes, self._held = NOTHING_WAITS, 0, 0

    def _encrypt(self, data: bytes | memoryview) -> None:
        layer, write = self._layer, self._transport.write
        try:
            if len(data) <= SLICE:
                layer.send(data)
                write(layer.ciphertext())
                self.counters.bytes_sent += len(data)
                return
            view = memoryview(data)
            for begin in range(0, len(view), BURST):
                if self._write_paused:
                    self._keep(view[begin:], first=True)
                    return
                chunk = view[begin : begin + BURST]
                write(layer.encrypted(chunk))
                self.counters.bytes_sent += len(chunk)
        except ssl.SSLError:
            self.drop(Refusal.RECORD)

    # -- the ends -------------------------------------------------------------------------------------

    def _count_refusal(self, reason: Refusal, detail: str = "") -> None:
        """A connection is refused once, for the first reason."""
        if self._outcome is ConnectionOutcome.REFUSED:
            return
        self._outcome = ConnectionOutcome.REFUSED
        self.counters.refuse(reason)
        self.shell.log(
            "connection_refused",
            service=self.service.name,
            connection=self.id,
            peer=self.peer,
            principal=None if self.principal is None else self.principal.name,
            reason=reason.value,
            detail=detail,
        )

    def drop(self, reason: Refusal, detail: str = "") -> None:
        """Count the reason and drop the connection: nobody reads last words, or none are owed."""
        if self.state is not CLOSED:
            self._count_refusal(reason, detail)
            self.abort()

    def abort(self) -> None:
        """Drop the connection now. Nothing more is read, sent or handed out."""
        if self.state is CLOSED:
            return
        self.shell.live.handshake_done(self)
        self.state = CLOSING
        self._release()
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        """Send what waits, and then the end."""
        if self.state >= CLOSING:
            return
        self.shell.live.handshake_done(self)
        self.state = CLOSING
        self._ends_at = FOREVER
        if not self._outbox:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Our close_notify; in a handshake or stream that failed, OpenSSL queued an alert instead."""
        self._layer.close()
        self._transport.write(self._layer.ciphertext())
        self._half_close()

    def _half_close(self) -> None:
        """FIN, then read on and discard: a plain close would answer late input with a reset, and a reset
        destroys what the peer has not read yet."""
        self.state = LINGERING
        if self._end_seen:
            self._transport.close()  # nothing can come; sends what it holds, and then it is over
        elif not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:
                self._transport.abort()  # the peer is gone already
                return
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
        self._stall_bytes = self._transport.get_write_buffer_size()
        self._stalled_at = self.shell.clock.monotonic()
        self._ends_at = self._stalled_at + LINGER_SECONDS
        self._arm(self._ends_at)

    # -- deadlines ------------------------------------------------------------------------------------

    def _arm(self, when: float) -> None:
        if when >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.shell.clock.call_at(when, self._alarm)

    def _deadlines(self) -> tuple[Deadline, ...]:
        """Every deadline that holds now, and what its passing does."""
        stall_end = self._stalled_at + self.shell.limits.write_stall_seconds
        return ((self._ends_at, self._state_ended), (stall_end, self._writing_stalled))

    def _alarm(self) -> None:
        self._timer, self._timer_at = None, FOREVER
        now, state = self.shell.clock.monotonic(), self.state
        try:
            for end, passed in self._deadlines():
                if end <= now and self.state is state:
                    passed()
        except Exception as error:  # noqa: BLE001 - the boundary
            self._failed(error)
        self._arm(self._next_alarm(now))

    def _next_alarm(self, now: float) -> float:
        return min((end for end, _ in self._deadlines() if end > now), default=FOREVER)

    def _state_ended(self) -> None:
        if self.state is LINGERING and (self._takes_some() or self._transport.get_write_buffer_size()):
            self._ends_at = self.shell.clock.monotonic() + LINGER_SECONDS
            return
        if self.state is HANDSHAKE:
            self._count_refusal(Refusal.HANDSHAKE_DEADLINE)
        self.abort()

    def _writing_stalled(self) -> None:
        if not self._takes_some():
            self._stalled_at = FOREVER
            self.drop(Refusal.WRITE_STALLED)

    def _takes_some(self) -> bool:
        """Whether the peer has taken something since this was last asked: slow, and still reading."""
        waiting = self._transport.get_write_buffer_size()
        if waiting >= self._stall_bytes:
            return False
        self._stall_bytes, self._stalled_at = waiting, self.shell.clock.monotonic()
        return True

    # -- filled in by Connection ----------------------------------------------------------------------

    def refuse(self, reason: Refusal, detail: str = "") -> None:
        """Count the reason, say the protocol's last words, close."""
        raise NotImplementedError

    def drain(self) -> None:
        """The daemon is stopping: end as soon as what is under way is answered."""
        raise NotImplementedError

    def _opened(self) -> None:
        """The connection begins in plaintext."""
        raise NotImplementedError

    def _secured(self, certificate: bytes | None) -> None:
        """The handshake is done; `certificate` is the peer's, in DER, verified by OpenSSL."""
        raise NotImplementedError

    def _received(self, plaintext: bytes) -> None:
        raise NotImplementedError

    def _ended(self, *, clean: bool) -> None:
        """The peer sends no more. Where that is not `clean`, nothing can be sent to it either."""
        raise NotImplementedError

    def _writable(self) -> None:
        """Everything that waited has been handed to the transport."""
        raise NotImplementedError

    def _failed(self, error: Exception) -> None:
        """A fault of ours."""
        raise NotImplementedError

    def _gone(self, *, judged: bool) -> None:
        """The transport is gone. `judged`: how the connection ended was settled before."""
        raise NotImplementedError
