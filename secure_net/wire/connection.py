"""One connection: feeds a machine, drains it, holds it to its deadlines, and knows who it belongs to.

Theory of operation. Plaintext from the `Channel` goes to the machine, the machine's events to the session,
and everything the machine queued meanwhile leaves in one write. A handler that is done at once costs no
task. While one is under way, or the peer does not take what it was sent, the machine is asked for nothing
more: what arrives is kept once, and then reading pauses. The peer's time does not run meanwhile.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from secure_net.errors import LocalProtocolError, Refusal, RefusedError, RemoteProtocolError
from secure_net.machine import Machine
from secure_net.metrics import AuthMethod, AuthOutcome, ConnectionOutcome, ServiceCounters
from secure_net.wire.channel import FOREVER, HANDSHAKE, NOTHING_WAITS, OPEN, PLAIN, Channel, Deadline
from secure_net.wire.shell import Principal, Service, Session, Shell
from secure_net.wire.tls import SLICE, TLSLayer

# Whoever had a right has it no longer.
RIGHT_ENDED = frozenset({Refusal.REVOKED, Refusal.CERTIFICATE_REVOKED, Refusal.EXPIRED, Refusal.CREDENTIAL})

# Answers to pipelined requests leave together, up to this many.
BATCH = 16


class _Nothing(Machine):
    """Stands where no session has begun: asks for nothing and holds nothing."""

    __slots__ = ()


_NOTHING = _Nothing()


class Connection(Channel):
    """One peer. Sessions see `id`, `peer`, `principal`, `certificate`, `authenticated`, `wake`, `refuse`."""

    __slots__ = (
        "_expires_at",
        "_input_ended",
        "_phase",
        "_phase_began",
        "_pumping",
        "_session",
        "_task",
        "certificate",
        "certificate_principal",
        "machine",
    )

    def __init__(
        self,
        shell: Shell,
        service: Service,
        counters: ServiceCounters,
        layer_of: Callable[[], TLSLayer],
        on_lost: Callable[[Channel], None] | None = None,
    ) -> None:
        super().__init__(shell, service, counters, layer_of, on_lost)
        self.machine: Machine = _NOTHING
        self.certificate: bytes | None = None
        self.certificate_principal: Principal | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._pumping = self._input_ended = False
        self._phase, self._phase_began = -1, 0.0
        self._expires_at = FOREVER  # the credential's end, on the monotonic clock

    # -- the session's side ---------------------------------------------------------------------------

    def authenticated(self, principal: Principal) -> None:
        """From here on the session belongs to `principal`, until its credential ends.

        Raises `RefusedError` when the principal has as many connections as it may have. A connection that
        has ended meanwhile belongs to nobody.
        """
        if self.state > OPEN:
            return
        before = self.principal
        if before is None or before.name != principal.name:
            if self.shell.live.of(principal.name) >= self.shell.limits.connections_per_principal_count:
                raise RefusedError(Refusal.CONNECTIONS_PER_PRINCIPAL, principal.name)
            if before is not None:
                self.shell.live.unbound(self, before.name)
            self.shell.live.bound(self, principal.name)
        self.principal = principal
        clock = self.shell.clock
        self._expires_at = clock.monotonic() + self._right_ends() - clock.wall()
        if self.state is not HANDSHAKE:
            self._ends_at = FOREVER
        self._arm(self._expires_at)

    def _right_ends(self) -> float:
        """Unix time at which the session's credential ends, or the certificate beside it."""
        shown = (self.principal, self.certificate_principal)
        return min((principal.expires_at for principal in shown if principal is not None), default=FOREVER)

    def wake(self) -> None:
        """The machine was given something to send, or something to hand out, outside of an event.

        From within a handler it does no more than send: the machine is asked when the handler is done.
        """
        if self._pumping or self._session is None or self.state not in (OPEN, PLAIN):
            return
        if self._task is None:
            self._pump()
        else:
            self._flush()

    @property
    def waiting(self) -> int:
        """Bytes that wait for the peer because the transport holds enough already."""
        return self._outbox_bytes

    def flush(self) -> None:
        """The machine was given something to send, and has nothing to hand out: less than `wake`.

        From within an event it does nothing: what is queued leaves when the event has been handled.
        """
        if not self._pumping:
            self._flush()
            if self.machine.buffered != self._held and self.state <= OPEN:
                self._hold(self.machine.buffered)

    def give_up(self, reason: Refusal, detail: str = "") -> None:
        """The peer is too slow: forget what waits for it, behind the piece that is half sent, and refuse."""
        self._forget_waiting()
        self._broken(RemoteProtocolError(reason, detail))

    def _forget_waiting(self) -> None:
        """All but the rest of what is half sent, which is a view: without it the peer could read no more."""
        kept: deque[bytes | memoryview] = deque(
            piece for piece in self._outbox if isinstance(piece, memoryview)
        )
        self._charge(sum(map(len, kept)) - sum(map(len, self._outbox)))
        self._outbox = kept or NOTHING_WAITS

    def refuse(self, reason: Refusal, detail: str = "") -> None:
        if reason in RIGHT_ENDED and self._write_paused:
            self.drop(reason, detail)  # what waits is not for this peer any more
        else:
            self._broken(RemoteProtocolError(reason, detail))

    def drain(self) -> None:
        if self._outcome is ConnectionOutcome.TRUNCATED:
            self._outcome = ConnectionOutcome.DRAINED
        if self._session is None or self.state is HANDSHAKE:
            self.abort()
            return
        try:
            self.machine.drain()
        except Exception as error:  # noqa: BLE001 - the boundary: the others must hear of it too
            self._failed(error)
        self.wake()

    # -- the channel's side ---------------------------------------------------------------------------

    def _opened(self) -> None:
        if self.state is PLAIN:
            self._must_authenticate()
        self._session = self.service.session(self)
        self.machine = self._session.machine
        self._pump()

    def _secured(self, certificate: bytes | None) -> None:
        self._must_authenticate()
        if certificate is not None and self.shell.identify is not None:
            try:
                self._identify(self.shell.identify(certificate), certificate)
            except RefusedError as error:
                self.counters.authenticated(AuthMethod.CERTIFICATE, AuthOutcome.REFUSED)
                self._turn_away(error)
                return
        if self._session is None:
            self._opened()

    def _turn_away(self, error: RefusedError) -> None:
        """TLS 1.3 has no alert for a certificate refused after the handshake: say it in the protocol."""
        if self._session is None:
            self._session = self.service.session(self)
            self.machine = self._session.machine
            self.machine.outgoing.clear()  # no greeting for who is not welcome
        self._broken(error)

    def _must_authenticate(self) -> None:
        if self.service.authentication and self.principal is None:
            seconds = self.shell.shortened(self.shell.limits.authentication_seconds)
            self._ends_at = self.shell.clock.monotonic() + seconds
            self._arm(self._ends_at)

    def _identify(self, principal: Principal, certificate: bytes) -> None:
        self.certificate, self.certificate_principal = certificate, principal
        self.authenticated(principal)
        self.counters.authenticated(AuthMethod.CERTIFICATE, AuthOutcome.ACCEPTED)

    def _received(self, plaintext: bytes) -> None:
        self.machine.receive_data(plaintext)
        if self._task is None and not self._write_paused:
            self._pump()
        else:
            self._pause_reading()

    def _ended(self, *, clean: bool) -> None:
        self._input_ended = True
        try:
            self.machine.receive_eof(clean=clean)
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if not clean:
            self._finish()
        elif self._task is None:
            self._pump()  # what is under way, or waits, is still answered

    def _writable(self) -> None:
        if self._task is None:
            self._go_on()

    def _gone(self, *, judged: bool) -> None:
        """Reset, or dropped: where nobody has judged the end yet, the machine does."""
        self._call_off()
        session, self._session = self._session, None
        if session is None:
            return
        if not judged:
            try:
                self.machine.receive_eof(clean=False)
            except RemoteProtocolError as error:
                self._count_refusal(error.reason, error.detail)
            else:
                self._ended_well()
        session.closed()

    # -- feeding and draining the machine -------------------------------------------------------------

    def _pump(self) -> None:
        """Hand out the machine's events until it has none, or one of them takes its time, or the peer does
        not take the answers."""
        machine, session = self.machine, cast(Session, self._session)
        outgoing = machine.outgoing
        self._pumping = True
        try:
            while not (self._write_paused or machine.wants_tls):
                event = machine.next_event()
                if event is None:
                    break
                waiting = session.handle(event)
                if waiting is not None:
                    self._begin_task(waiting)
                    break
                if self.state > OPEN:
                    break
                if len(outgoing) >= BATCH or (outgoing and len(outgoing[-1]) > SLICE):
                    self._flush()
        except (RemoteProtocolError, RefusedError) as error:
            self._broken(error)
        except Exception as error:  # noqa: BLE001 - the boundary: a fault of ours must not reach the peer
            self._failed(error)
        finally:
            self._pumping = False
        self._settle()

    def _go_on(self) -> None:
        """The handler is done, or the peer has taken what waited: its time begins to run again."""
        self._phase_began = self.shell.clock.monotonic()
        self._flush()
        self._pump()

    def _flush(self) -> None:
        """Send what is queued; but the answer to an upgrade only once nothing stands behind the command."""
        machine = self.machine
        if machine.outgoing and self.state <= OPEN and not machine.wants_tls:
            self._send(machine.data_to_send())

    def _settle(self) -> None:
        """After a round: send what is queued, account for what is kept, close or set the deadline."""
        machine = self.machine
        if machine.wants_tls and self._task is None and not self._write_paused and self.state <= OPEN:
            self._upgrade()
            return
        if machine.outgoing and self.state <= OPEN and not machine.wants_tls:  # as `_flush`, without the call
            self._send(machine.data_to_send())
        if machine.buffered != self._held:
            self._hold(machine.buffered)
        if self.state > OPEN or self._task is not None or self._write_paused:
            return
        if machine.finished or self._input_ended:
            self._finish()
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._watch()

    def _begin_task(self, waiting: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._wait_for(waiting))
        # Called off before its first step, nobody would have awaited it.
        self._task.add_done_callback(lambda _: waiting.close())

    async def _wait_for(self, waiting: Coroutine[Any, Any, None]) -> None:
        try:
            await waiting
        except (RemoteProtocolError, RefusedError) as error:
            self._task = None
            self._broken(error)
        except asyncio.CancelledError:
            self._task = None
            if self.state <= OPEN:
                self.drop(Refusal.INTERNAL)
            raise
        except Exception as error:  # noqa: BLE001 - the same boundary
            self._task = None
            self._failed(error)
        else:
            self._task = None
            if self.state <= OPEN:
                self._go_on()

    def _call_off(self) -> None:
        """Nobody waits for the handler's answer any more. It is told, so that whoever goes away does not
        leave work behind which no cap counts."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _hold(self, held: int) -> None:
        self.shell.buffered_bytes += held - self._held
        self._held = held
        if held and self.shell.buffered_bytes > self.shell.limits.buffered_bytes:
            heaviest = self.shell.live.heaviest()
            if heaviest is self:
                self.refuse(Refusal.MEMORY)
            else:
                heaviest.drop(Refusal.MEMORY)

    def _pause_reading(self) -> None:
        if self.machine.buffered != self._held:
            self._hold(self.machine.buffered)
        if not self._paused and self.state <= OPEN:
            self._paused = True
            self._transport.pause_reading()

    def _upgrade(self) -> None:
        """STARTTLS: not one byte may stand behind the command, and then nothing of it is answered."""
        if self.state is not PLAIN:
            self._failed(LocalProtocolError("TLS is on already"))
            return
        if self.machine.buffered:
            self.drop(Refusal.UPGRADE)
            return
        self.machine.wants_tls = False
        self._send(self.machine.data_to_send())
        self._begin_handshake()

    # -- the ends -------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """The protocol is done, or the peer is: close in good order."""
        self._ended_well()
        self._close()

    def _ended_well(self) -> None:
        if self._outcome is ConnectionOutcome.TRUNCATED:
            self._outcome = ConnectionOutcome.CLEAN

    def _broken(self, error: RemoteProtocolError | RefusedError) -> None:
        if self.state > OPEN:
            return
        self._count_refusal(error.reason, error.detail)
        if self._session is not None and self.state is not HANDSHAKE:
            wrong = error if isinstance(error, RemoteProtocolError) else RemoteProtocolError(error.reason)
            last = b"".join((self.machine.data_to_send(), self.machine.farewell(wrong)))  # of bytes or views
            if last:
                self._send(last)
        self._call_off()
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
        try:
            self._broken(RemoteProtocolError(Refusal.INTERNAL, reference))
        except Exception:  # noqa: BLE001 - its last words fail as well: there are none
            self.drop(Refusal.INTERNAL)

    # -- deadlines ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Note the machine's phase and see that the timer fires no later than its end."""
        machine = self.machine
        if machine.phase != self._phase:
            self._phase = machine.phase
            self._phase_began = self.shell.clock.monotonic()
        allowance = machine.allowance
        if allowance is None:
            allowance = self.shell.limits.idle_seconds
        if self._phase_began + allowance < self._timer_at:
            self._arm(self._next_alarm(self.shell.clock.monotonic()))

    def _allowance(self) -> float:
        """What the machine grants the phase; where it says nothing, the shell's idle bound."""
        allowance = self.machine.allowance
        return self.shell.limits.idle_seconds if allowance is None else allowance

    def _next_alarm(self, now: float) -> float:
        """No later than the idle deadline would be under overload: it may have come, or gone, by then."""
        alarm = super()._next_alarm(now)
        if not self._is_idle():
            return alarm
        return min(alarm, now + self._allowance() / self.shell.limits.overload_divisor_ratio)

    def _is_idle(self) -> bool:
        return self.machine.allowance is None or self.machine.allowance_reason is Refusal.IDLE

    def _phase_end(self) -> float:
        if self._task is not None or self._write_paused:
            return FOREVER  # it is not the peer's turn
        allowance = self._allowance()
        return self._phase_began + (self.shell.shortened(allowance) if self._is_idle() else allowance)

    def _deadlines(self) -> tuple[Deadline, ...]:
        if self.state not in (PLAIN, OPEN):
            return super()._deadlines()
        return (
            *super()._deadlines(),
            (self._expires_at, self._credential_ended),
            (self._phase_end(), self._phase_ended),
        )

    def _state_ended(self) -> None:
        if self.state in (PLAIN, OPEN):
            self.refuse(Refusal.AUTHENTICATION_DEADLINE)
        else:
            super()._state_ended()

    def _credential_ended(self) -> None:
        clock = self.shell.clock
        left = self._right_ends() - clock.wall()
        if left > 0:  # the system's clock was set back: look again later
            self._expires_at = clock.monotonic() + max(1.0, left)
            return
        self._expires_at = FOREVER
        self.refuse(Refusal.EXPIRED)

    def _phase_ended(self) -> None:
        if self.machine.allowance is None:
            self.refuse(Refusal.IDLE)
            return
        try:
            self.machine.deadline_passed()
        except RemoteProtocolError as error:
            self._broken(error)
        else:
            self._settle()
