"""One connection: feeds a machine, drains it, holds it to its deadlines and bounds, closes it.

Theory of operation. The event loop reads into one buffer shared by all connections (nothing is kept in it
across calls); the TLS layer turns that into plaintext, the machine into events, the session into answers,
and everything the machine queued meanwhile leaves in one write. A handler that is done at once costs no
task. While one is under way the machine is asked for nothing more: what arrives is kept once, and then
reading pauses.

The states go one way::

    PLAIN ──(upgrade)──> HANDSHAKE ──> OPEN ──> CLOSING ──> CLOSED
                           │  refused            ^
                           └─────────────────────┘

CLOSING sends what is queued, then close_notify and FIN, and reads on for a moment so that the kernel does
not turn our last words into a reset. One timer serves every deadline; it is moved only when it fires too
early, or when a deadline comes nearer.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import secrets
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from secure_net.clock import TimerHandle
from secure_net.errors import Refusal, RefusedError, RemoteProtocolError
from secure_net.machine import Machine
from secure_net.metrics import AuthMethod, AuthOutcome, ConnectionOutcome, ServiceCounters
from secure_net.wire.shell import Principal, Service, Session, Shell, source_of
from secure_net.wire.tls import SLICE, TLSLayer

# Above this the transport holds enough to keep the link busy; what is more waits as shared plaintext.
HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024

# How long a closing connection reads on for the peer's FIN before it is dropped.
LINGER_SECONDS = 0.5

# Answers to pipelined requests leave together, up to this many.
BATCH = 16

FOREVER = float("inf")

_serial = itertools.count(1)


class State(enum.IntEnum):
    """Where a connection stands; see the module's docstring."""

    PLAIN = 0
    HANDSHAKE = 1
    OPEN = 2
    CLOSING = 3
    CLOSED = 4


class Connection(asyncio.BufferedProtocol):
    """One peer. Sessions see `id`, `peer`, `principal`, `certificate`, `authenticated`, `wake`, `refuse`."""

    __slots__ = (
        "_closed",
        "_congested",
        "_ends_at",
        "_expires_at",
        "_held",
        "_layer",
        "_layer_of",
        "_on_lost",
        "_outbox",
        "_outbox_bytes",
        "_outcome",
        "_paused",
        "_phase",
        "_phase_began",
        "_session",
        "_stall_bytes",
        "_stalled_at",
        "_task",
        "_timer",
        "_timer_at",
        "_transport",
        "_write_paused",
        "certificate",
        "certificate_principal",
        "counters",
        "id",
        "machine",
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
        on_lost: Callable[[Connection], None] | None = None,
    ) -> None:
        """`layer_of` makes the TLS layer when it is needed: at once, or at the upgrade. `on_lost` is
        called once, when the connection is gone."""
        self.shell, self.service, self.counters, self._layer_of = shell, service, counters, layer_of
        self.id = f"{service.name}-{next(_serial)}"
        self.peer = self.source = ""
        self.state = State.PLAIN
        self.machine: Machine = _NOTHING
        self.certificate: bytes | None = None
        self.certificate_principal: Principal | None = None
        self.principal: Principal | None = None
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)  # set by connection_made
        self._layer: TLSLayer = cast(TLSLayer, None)  # set when TLS begins
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._outbox: deque[bytes | memoryview] = deque()
        self._outbox_bytes = self._held = 0
        self._paused = self._write_paused = self._congested = False
        self._outcome = ConnectionOutcome.TRUNCATED
        self._timer: TimerHandle | None = None
        self._timer_at = FOREVER
        self._phase_began = 0.0
        self._phase = -1
        self._ends_at = FOREVER  # handshake, authentication or closing: the deadline of the state
        self._expires_at = FOREVER  # the credential's end, on the monotonic clock
        self._stalled_at, self._stall_bytes = FOREVER, 0
        self._on_lost = on_lost
        self._closed: asyncio.Future[None] | None = None

    # -- the transport's side -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        address = transport.get_extra_info("peername") or ("", 0)
        host, port = str(address[0]), address[1]
        self.source = source_of(host)
        self.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.counters.connections_open += 1
        self.shell.live.opened(self)
        if self.service.tls.upgrade:
            self._begin_session()
        else:
            self._begin_handshake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.shell.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self.shell.receive_buffer[:nbytes]
        state = self.state
        if state is State.OPEN:
            try:
                plaintext = self._layer.receive(data)
            except RemoteProtocolError as error:
                self._broken(error)
                return
            self._received(plaintext)
        elif state is State.HANDSHAKE:
            self._shake(data)
        elif state is State.PLAIN:
            self._received(bytes(data))

    def eof_received(self) -> bool:
        """FIN. True keeps our half open: a handler may still be at work, or answers still queued."""
        if self.state is State.OPEN:
            self._layer.receive_eof()
            self._end_of_data(clean=not self._layer.truncated)
            return not self._layer.truncated
        if self.state is State.PLAIN:
            self._end_of_data(clean=True)
            return True
        if self.state is State.HANDSHAKE:
            self._count_refusal(Refusal.TRUNCATED, "end within the handshake")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._session is not None and self.state < State.CLOSING:
            self._ended_abruptly()
        self.state = State.CLOSED
        if self._timer is not None:
            self._timer.cancel()
        self.shell.live.closed(self)
        self.shell.buffered_bytes -= self._outbox_bytes + self._held
        self._outbox.clear()
        self._outbox_bytes = self._held = 0
        self.counters.connections_open -= 1
        self.counters.connection(self._outcome)
        if self._session is not None:
            self._session.closed()
        if self._on_lost is not None:
            self._on_lost(self)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def _ended_abruptly(self) -> None:
        """Reset, or FIN without close_notify while reading was paused: let the machine judge it."""
        try:
            self.machine.receive_eof(clean=False)
        except RemoteProtocolError as error:
            self._count_refusal(error.reason, error.detail)
        else:
            self._outcome = ConnectionOutcome.CLEAN

    def pause_writing(self) -> None:
        self._write_paused = True
        self._stalled_at = self.shell.clock.monotonic()
        self._stall_bytes = self._transport.get_write_buffer_size()
        self._arm(self._stalled_at + self.shell.limits.write_stall_seconds)

    def resume_writing(self) -> None:
        self._write_paused = False
        self._stalled_at = FOREVER
        while self._outbox and not self._write_paused:
            data = self._outbox.popleft()
            self._forget(len(data))
            self._encrypt(data)
        if self._outbox or self._write_paused:
            return
        if self.state is State.CLOSING:
            self._say_goodbye()
        elif self._congested:
            self._congested = False
            self._pump()

    # -- the session's side ---------------------------------------------------------------------------

    def authenticated(self, principal: Principal) -> None:
        """From here on the session belongs to `principal`, until its credential ends.

        Raises `RefusedError` when the principal has as many connections as it may have.
        """
        before = self.principal
        if before is None or before.name != principal.name:
            if self.shell.live.of(principal.name) >= self.shell.limits.connections_per_principal_count:
                raise RefusedError(Refusal.CONNECTIONS_PER_PRINCIPAL, principal.name)
            if before is not None:
                self.shell.live.unbound(self, before.name)
            self.shell.live.bound(self, principal.name)
        self.principal = principal
        clock = self.shell.clock
        self._expires_at = clock.monotonic() + principal.expires_at - clock.wall()
        if self.state is State.OPEN:
            self._ends_at = FOREVER
        self._arm(self._expires_at)

    def wake(self) -> None:
        """The machine was given something to send, or something to hand out, outside of an event."""
        if self.state in (State.OPEN, State.PLAIN) and self._task is None:
            self._pump()

    def refuse(self, reason: Refusal, detail: str = "") -> None:
        """Count the reason, say the protocol's last words, close."""
        self._broken(RemoteProtocolError(reason, detail))

    def drain(self) -> None:
        """The daemon is stopping: end as soon as what is under way is answered."""
        self._outcome = ConnectionOutcome.DRAINED
        if self.state in (State.PLAIN, State.HANDSHAKE):
            self._transport.abort()
        elif self.state is State.OPEN:
            self.machine.drain()
            self.wake()

    def abort(self) -> None:
        """Drop the connection now."""
        if self.state is not State.CLOSED and self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Returns once the connection is gone."""
        if self.state is not State.CLOSED:
            if self._closed is None:
                self._closed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closed)

    # -- TLS ------------------------------------------------------------------------------------------

    def _begin_handshake(self) -> None:
        self.state = State.HANDSHAKE
        self.shell.live.handshake_begun(self)
        self._layer = self._layer_of()
        now = self.shell.clock.monotonic()
        self._ends_at = now + self.shell.shortened(self.shell.limits.handshake_seconds)
        self._phase_began = now
        self._arm(self._ends_at)
        self._layer.begin()
        self._transport.write(self._layer.ciphertext())  # a client's hello; a server has nothing to say yet

    def _shake(self, data: bytes | memoryview) -> None:
        layer = self._layer
        try:
            layer.receive(data)
        except RemoteProtocolError as error:
            self._count_refusal(error.reason, error.detail)
            self._close()
            return
        ciphertext = layer.ciphertext()
        if ciphertext:
            self._transport.write(ciphertext)
        if layer.established:
            self._established()

    def _established(self) -> None:
        now = self.shell.clock.monotonic()
        self.counters.handshakes.observe(now - self._phase_began)
        self.shell.live.handshake_done(self)
        self.state = State.OPEN
        needs_login = self.service.authentication
        seconds = self.shell.shortened(self.shell.limits.authentication_seconds)
        self._ends_at = now + seconds if needs_login else FOREVER
        try:
            self._identify()
        except RefusedError as error:
            self.counters.authenticated(AuthMethod.CERTIFICATE, AuthOutcome.REFUSED)
            self._count_refusal(error.reason, error.detail)
            self._close()
            return
        if self._session is None:
            self._begin_session()
        self._received(self._layer.receive(b""))  # what came in one segment with the end of the handshake

    def _identify(self) -> None:
        certificate = self._layer.peer_certificate()
        if certificate is None or self.shell.identify is None:
            return
        principal = self.shell.identify(certificate)
        self.certificate, self.certificate_principal = certificate, principal
        self.authenticated(principal)
        self.counters.authenticated(AuthMethod.CERTIFICATE, AuthOutcome.ACCEPTED)

    def _upgrade(self) -> None:
        """STARTTLS: not one byte may stand behind the command, and then nothing of it is answered."""
        if self.machine.buffered:
            self._count_refusal(Refusal.UPGRADE, "plaintext behind the upgrade command")
            self.state = State.CLOSING
            self._transport.abort()
            return
        reply = self.machine.data_to_send()
        self.machine.wants_tls = False
        self._transport.write(reply)
        self._begin_handshake()

    # -- feeding and draining the machine -------------------------------------------------------------

    def _begin_session(self) -> None:
        self._session = self.service.session(self)
        self.machine = self._session.machine
        self._pump()

    def _received(self, plaintext: bytes) -> None:
        if plaintext:
            self.counters.bytes_received += len(plaintext)
            self.machine.receive_data(plaintext)
        if self._layer is not None and self._layer.peer_closed:
            self._end_of_data(clean=True)
        elif self._task is not None or self._congested:
            self._pause_reading()
        else:
            self._pump()

    def _end_of_data(self, *, clean: bool) -> None:
        """The peer sends no more. Without close_notify nothing can be sent to it either."""
        try:
            self.machine.receive_eof(clean=clean)
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if clean and (self._task is not None or self._congested):
            return  # the answer under way is still wanted; `_pump` sees `finished` afterwards
        if clean:
            self._pump()
        if self.state < State.CLOSING:
            self._outcome = ConnectionOutcome.CLEAN
            self._close()

    def _pump(self) -> None:
        """Hand out the machine's events until it has none, or one of them takes its time."""
        machine, session = self.machine, cast(Session, self._session)
        outgoing = machine.outgoing
        try:
            while (event := machine.next_event()) is not None:
                waiting = session.handle(event)
                if waiting is not None:
                    self._task = asyncio.get_running_loop().create_task(self._wait_for(waiting))
                    break
                if outgoing and (len(outgoing) >= BATCH or len(outgoing[-1]) > SLICE):
                    self._send(machine.data_to_send())
                    if self._congested or self.state > State.OPEN:
                        break
                if machine.wants_tls:
                    self._upgrade()
                    return
        except (RemoteProtocolError, RefusedError) as error:
            self._broken(error)
            return
        except Exception as error:  # noqa: BLE001 - the boundary: a fault of ours must not reach the peer
            self._failed(error)
            return
        self._settle()

    def _settle(self) -> None:
        """After a round: send what is queued, account for what is kept, close or set the deadline."""
        machine = self.machine
        if machine.outgoing:
            self._send(machine.data_to_send())
        if self.state > State.OPEN:
            return
        if machine.buffered != self._held:
            self._hold(machine.buffered)
        if machine.finished and self._task is None:
            if self._outcome is ConnectionOutcome.TRUNCATED:
                self._outcome = ConnectionOutcome.CLEAN
            self._close()
            return
        if self._paused and self._task is None and not self._congested:
            self._paused = False
            self._transport.resume_reading()
        self._watch()

    async def _wait_for(self, waiting: Coroutine[Any, Any, None]) -> None:
        try:
            await waiting
        except (RemoteProtocolError, RefusedError) as error:
            self._task = None
            if self.state <= State.OPEN:
                self._broken(error)
        except Exception as error:  # noqa: BLE001 - the same boundary
            self._task = None
            self._failed(error)
        else:
            self._task = None
            if self.state <= State.OPEN:
                self._pump()

    def _hold(self, held: int) -> None:
        self.shell.buffered_bytes += held - self._held
        self._held = held
        if held and self.shell.buffered_bytes > self.shell.limits.buffered_bytes:
            self.refuse(Refusal.MEMORY)

    def _pause_reading(self) -> None:
        if self.machine.buffered != self._held:
            self._hold(self.machine.buffered)
        if not self._paused and self.state <= State.OPEN:
            self._paused = True
            self._transport.pause_reading()

    # -- sending --------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if self.state is State.PLAIN:
            self.counters.bytes_sent += len(data)
            self._transport.write(data)
        elif self._write_paused or self._outbox:
            self._keep(data)
        else:
            self._encrypt(data)

    def _keep(self, data: bytes | memoryview) -> None:
        """The transport holds enough: wait as plaintext, within the outbox's and the daemon's bounds."""
        self._congested = True
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        self.shell.buffered_bytes += len(data)
        limits = self.shell.limits
        if self._outbox_bytes > limits.outbox_bytes:
            self.drop(Refusal.OUTBOX)
        elif self.shell.buffered_bytes > limits.buffered_bytes:
            self.drop(Refusal.MEMORY)

    def _forget(self, count: int) -> None:
        self._outbox_bytes -= count
        self.shell.buffered_bytes -= count

    def _encrypt(self, data: bytes | memoryview) -> None:
        layer, write = self._layer, self._transport.write
        try:
            if len(data) <= SLICE:
                layer.send(data)
                write(layer.ciphertext())
                self.counters.bytes_sent += len(data)
                return
            view = memoryview(data)
            for begin in range(0, len(view), SLICE):
                if self._write_paused:
                    rest = view[begin:]
                    self._outbox.appendleft(rest)
                    self._outbox_bytes += len(rest)
                    self.shell.buffered_bytes += len(rest)
                    self._congested = True
                    return
                chunk = view[begin : begin + SLICE]
                layer.send(chunk)
                write(layer.ciphertext())
                self.counters.bytes_sent += len(chunk)
        except ssl.SSLError:
            self.drop(Refusal.RECORD)

    # -- the ends -------------------------------------------------------------------------------------

    def _count_refusal(self, reason: Refusal, detail: str = "") -> None:
        if self._outcome is not ConnectionOutcome.REFUSED:
            self._outcome = ConnectionOutcome.REFUSED
            self.counters.refuse(reason)
            name = self.principal.name if self.principal is not None else None
            self.shell.log(
                "connection_refused",
                service=self.service.name,
                connection=self.id,
                peer=self.peer,
                principal=name,
                reason=reason.value,
                detail=detail,
            )

    def _broken(self, error: RemoteProtocolError | RefusedError) -> None:
        if self.state > State.OPEN:
            return
        self._count_refusal(error.reason, error.detail)
        if self._session is not None:
            wrong = error if isinstance(error, RemoteProtocolError) else RemoteProtocolError(error.reason)
            last = self.machine.data_to_send() + self.machine.farewell(wrong)
            if last:
                self._send(last)
        self._close()

    def _failed(self, error: Exception) -> None:
        """A fault of ours. The log gets it with a reference; the peer gets the same last words as ever."""
        reference = secrets.token_hex(8)
        self.shell.log(
            "internal_error",
            service=self.service.name,
            connection=self.id,
            peer=self.peer,
            reference=reference,
            error=error,
        )
        self._broken(RemoteProtocolError(Refusal.INTERNAL, reference))

    def drop(self, reason: Refusal) -> None:
        """Count the reason and drop the connection: nobody reads last words, or none are owed."""
        self._count_refusal(reason)
        self.state = State.CLOSING
        self._transport.abort()

    def _close(self) -> None:
        if self.state >= State.CLOSING:
            return
        upset_handshake = self.state is State.HANDSHAKE
        self.shell.live.handshake_done(self)
        was_plain = self.state is State.PLAIN
        self.state = State.CLOSING
        self._ends_at = self.shell.clock.monotonic() + self.shell.limits.write_stall_seconds
        self._expires_at = FOREVER
        self._arm(self._ends_at)
        if upset_handshake:
            self._transport.write(self._layer.ciphertext())  # the alert
            self._half_close()
        elif was_plain:
            self._half_close()
        elif not self._outbox:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._layer.close()
        self._transport.write(self._layer.ciphertext())
        self._half_close()

    def _half_close(self) -> None:
        """FIN, then read on and discard: a plain close would answer late input with a reset, and a reset
        destroys what the peer has not read yet."""
        if self._transport.is_closing():
            return
        try:
            self._transport.write_eof()
        except OSError:
            self._transport.abort()  # the peer is gone already
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._ends_at = self.shell.clock.monotonic() + LINGER_SECONDS
        self._arm(self._ends_at)

    # -- deadlines ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Note the machine's phase and see that the timer fires no later than its end."""
        machine = self.machine
        if machine.phase != self._phase:
            self._phase = machine.phase
            self._phase_began = self.shell.clock.monotonic()
        if machine.allowance is not None:
            end = self._phase_began + machine.allowance
            if end < self._timer_at:
                self._arm(end)

    def _arm(self, when: float) -> None:
        if when >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.shell.clock.call_at(when, self._alarm)

    def _deadlines(self) -> tuple[tuple[float, Callable[[], None]], ...]:
        machine, phase_end = self.machine, FOREVER
        if machine.allowance is not None and self.state in (State.PLAIN, State.OPEN):
            idle = machine.allowance_reason is Refusal.IDLE
            allowance = self.shell.shortened(machine.allowance) if idle else machine.allowance
            phase_end = self._phase_began + allowance
        stall_end = self._stalled_at + self.shell.limits.write_stall_seconds
        return (
            (self._ends_at, self._state_ended),
            (self._expires_at, self._credential_ended),
            (stall_end, self._writing_stalled),
            (phase_end, self._phase_ended),
        )

    def _alarm(self) -> None:
        self._timer, self._timer_at = None, FOREVER
        now = self.shell.clock.monotonic()
        for end, ended in self._deadlines():
            if end <= now:
                ended()
                break
        if self.state is not State.CLOSED:
            self._arm(min((end for end, _ in self._deadlines() if end > now), default=FOREVER))

    def _state_ended(self) -> None:
        if self.state is State.OPEN:
            self.refuse(Refusal.AUTHENTICATION_DEADLINE)
            return
        if self.state is State.HANDSHAKE:
            self._count_refusal(Refusal.HANDSHAKE_DEADLINE)
        self.abort()

    def _credential_ended(self) -> None:
        if self.principal is not None and self.principal.expires_at > self.shell.clock.wall():
            # The system's clock was set back, or a fresher credential took over: look again later.
            clock = self.shell.clock
            self._expires_at = clock.monotonic() + max(1.0, self.principal.expires_at - clock.wall())
            return
        self._expires_at = FOREVER
        self.refuse(Refusal.EXPIRED)

    def _writing_stalled(self) -> None:
        waiting = self._transport.get_write_buffer_size()
        if waiting < self._stall_bytes:  # slow, and still reading
            self._stall_bytes, self._stalled_at = waiting, self.shell.clock.monotonic()
            return
        self._stalled_at = FOREVER
        self.drop(Refusal.WRITE_STALLED)

    def _phase_ended(self) -> None:
        try:
            self.machine.deadline_passed()
        except RemoteProtocolError as error:
            self._broken(error)
        else:
            self._settle()


class _Nothing(Machine):
    """Stands where no session has begun: asks for nothing and holds nothing."""

    __slots__ = ()

    def receive_eof(self, *, clean: bool) -> None:
        return


_NOTHING = _Nothing()
