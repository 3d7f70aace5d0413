"""One connection: feeds a machine, drains it, holds it to its deadlines, and knows who it belongs to.

Theory of operation. Plaintext from the `Channel` goes to the machine, the machine's events to the session,
and everything the machine queued meanwhile leaves in one write. A handler that is done at once costs no
task. While one is under way the machine is asked for nothing more: what arrives is kept once, and then
reading pauses.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, cast

from secure_net.errors import Refusal, RefusedError, RemoteProtocolError
from secure_net.machine import Machine
from secure_net.metrics import AuthMethod, AuthOutcome, ConnectionOutcome, ServiceCounters
from secure_net.wire.channel import FOREVER, Channel, Deadline, State
from secure_net.wire.shell import Principal, Service, Session, Shell
from secure_net.wire.tls import SLICE, TLSLayer

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
        "_held",
        "_phase",
        "_phase_began",
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
        self._held = 0
        self._phase, self._phase_began = -1, 0.0
        self._expires_at = FOREVER  # the credential's end, on the monotonic clock

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
        self._broken(RemoteProtocolError(reason, detail))

    def drain(self) -> None:
        self._outcome = ConnectionOutcome.DRAINED
        if self.state in (State.PLAIN, State.HANDSHAKE):
            self._transport.abort()
        elif self.state is State.OPEN:
            self.machine.drain()
            self.wake()

    # -- the channel's side ---------------------------------------------------------------------------

    def _opened(self) -> None:
        self._session = self.service.session(self)
        self.machine = self._session.machine
        self._pump()

    def _secured(self, certificate: bytes | None) -> None:
        limits, clock = self.shell.limits, self.shell.clock
        if self.service.authentication:
            self._ends_at = clock.monotonic() + self.shell.shortened(limits.authentication_seconds)
            self._arm(self._ends_at)
        if certificate is not None and self.shell.identify is not None:
            try:
                self._identify(self.shell.identify(certificate), certificate)
            except RefusedError as error:
                self.counters.authenticated(AuthMethod.CERTIFICATE, AuthOutcome.REFUSED)
                self._count_refusal(error.reason, error.detail)
                self._close()
                return
        if self._session is None:
            self._opened()

    def _identify(self, principal: Principal, certificate: bytes) -> None:
        self.authenticated(principal)
        self.certificate, self.certificate_principal = certificate, principal
        self.counters.authenticated(AuthMethod.CERTIFICATE, AuthOutcome.ACCEPTED)

    def _received(self, plaintext: bytes) -> None:
        self.machine.receive_data(plaintext)
        if self._task is None and not self._congested:
            self._pump()
        else:
            self._pause_reading()

    def _ended(self, *, clean: bool) -> None:
        try:
            self.machine.receive_eof(clean=clean)
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if clean and (self._task is not None or self._congested):
            return  # the answer under way is still wanted; the machine is `finished` behind it
        if clean:
            self._pump()
        if self.state < State.CLOSING:
            self._finish()

    def _writable(self) -> None:
        if self._task is None:
            self._pump()

    def _gone(self) -> None:
        """Reset, or dropped: where nobody has judged the end yet, the machine does."""
        if self._session is None:
            return
        if self.state < State.CLOSING:
            try:
                self.machine.receive_eof(clean=False)
            except RemoteProtocolError as error:
                self._count_refusal(error.reason, error.detail)
            else:
                self._ended_well()
        self.shell.buffered_bytes -= self._held
        self._held = 0
        self._session.closed()

    # -- feeding and draining the machine -------------------------------------------------------------

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
        if machine.buffered != self._held:
            self._hold(machine.buffered)
        if self.state > State.OPEN:
            return
        if machine.finished and self._task is None:
            self._finish()
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

    def _upgrade(self) -> None:
        """STARTTLS: not one byte may stand behind the command, and then nothing of it is answered."""
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

    def _deadlines(self) -> tuple[Deadline, ...]:
        if self.state not in (State.PLAIN, State.OPEN):
            return super()._deadlines()
        machine, phase_end = self.machine, FOREVER
        if machine.allowance is not None:
            idle = machine.allowance_reason is Refusal.IDLE
            allowance = self.shell.shortened(machine.allowance) if idle else machine.allowance
            phase_end = self._phase_began + allowance
        return (
            *super()._deadlines(),
            (self._expires_at, self._credential_ended),
            (phase_end, self._phase_ended),
        )

    def _state_ended(self) -> None:
        if self.state is State.OPEN:
            self.refuse(Refusal.AUTHENTICATION_DEADLINE)
        else:
            super()._state_ended()

    def _credential_ended(self) -> None:
        if self.principal is not None and self.principal.expires_at > self.shell.clock.wall():
            # The system's clock was set back, or a fresher credential took over: look again later.
            clock = self.shell.clock
            self._expires_at = clock.monotonic() + max(1.0, self.principal.expires_at - clock.wall())
            return
        self._expires_at = FOREVER
        self.refuse(Refusal.EXPIRED)

    def _phase_ended(self) -> None:
        try:
            self.machine.deadline_passed()
        except RemoteProtocolError as error:
            self._broken(error)
        else:
            self._settle()
