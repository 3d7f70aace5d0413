"""A `Connection` that a thread drives, over a blocking socket: one receive and one send for a message.

Theory of operation. The connection, its machine, its session and its TLS layer are the event loop's own
classes; what differs is who calls them. Three rules keep that sound:

1. **Who has the lock has the connection in hand** (`handover.py`). The worker lets go whenever it waits: for
   bytes, for room in the kernel, for the loop. So `refuse`, a drain or a deadline wake no thread that waits
   for bytes: the loop says the last words itself. `abort` ends what the thread waits in.
2. **What connections share belongs to the loop's thread**: who is connected, the budget of bytes, timers, the
   log, who a certificate names, sessions' beginnings and ends, coroutines.
3. **While a handler's coroutine runs, the machine is the loop's**: the worker does no more than send.

Bytes and frames are counted in the connection's own counters, which the worker adds to the service's.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, cast

from secure_net.errors import Refusal
from secure_net.wire.blocking_transport import NOW, BlockingTransport
from secure_net.wire.channel import CLOSED, CLOSING, FOREVER, HANDSHAKE, LINGERING, OPEN, PLAIN, Channel
from secure_net.wire.connection import Connection
from secure_net.wire.handover import Handover, LoopGoneError, by_the_loop, in_hand
from secure_net.wire.own_counters import OwnCounters
from secure_net.wire.shell import Service, Shell
from secure_net.wire.tls import SLICE, TLSLayer

# The budget is asked for in steps, and for less than a record not at all: each step is a turn of the loop.
RESERVE_BYTES = 64 * 1024

# Stands for the task of a coroutine that begins once the worker has let go.
_TO_BEGIN = cast("asyncio.Task[None]", object())


class ThreadedConnection(Connection):
    """One peer, and the thread that `drive`s it. Made, and everything but driven, on the loop's thread."""

    __slots__ = (
        "_begins",
        "_driven",
        "_has_room",
        "_hears",
        "_receiving",
        "_reserved",
        "_resumes",
        "_wire",
        "handover",
    )

    def __init__(
        self,
        shell: Shell,
        service: Service,
        counters: OwnCounters,
        layer_of: Callable[[], TLSLayer],
        on_lost: Callable[[Channel], None] | None = None,
    ) -> None:
        super().__init__(shell, service, counters, layer_of, on_lost)
        self.handover = Handover(self._watch_for_room)
        self._driven = False  # a worker has it, or had it
        self._receiving = False  # what the worker waits for is bytes
        self._begins: Coroutine[Any, Any, None] | None = None
        self._resumes = False  # the handler is done, and the worker goes on
        self._hears = self._has_room = False  # what the loop watches the socket for
        self._reserved = 0  # of the budget
        self._wire: BlockingTransport = cast(BlockingTransport, None)  # set by connection_made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(BlockingTransport, transport)
        super().connection_made(transport)

    @property
    def is_leaving(self) -> bool:
        """Its worker is all but free."""
        return self.state >= LINGERING or self._wire.over

    # -- the worker -----------------------------------------------------------------------------------

    def drive(self, buffer: memoryview) -> None:
        """See the connection to its end. On a worker's thread, once."""
        wire = self._wire
        try:
            with self.handover.lock:  # but where it waits
                ours, self._driven = not self._driven, True
                while ours and not wire.over:
                    self._step_guarded(buffer)
            # Where it ended before a worker was free, the loop may have left its note with us all the same.
            self.handover.post(self._end if ours else self.handover.catch_up)
        except LoopGoneError:
            wire.free()

    def _step_guarded(self, buffer: memoryview) -> None:
        try:
            self._step(buffer)
        except LoopGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: neither the thread nor its place is lost
            closing = self.state > OPEN
            self._failed(error)
            if closing:
                self.abort()

    def _step(self, buffer: memoryview) -> None:
        wire = self._wire
        if self.handover.notes:
            self.handover.see_to_notes()
        elif wire.waiting:
            self._send_waiting()
        elif wire.reading and self._task is None and not self._resumes:
            self._receive(buffer)
        elif self._resumes:
            self._resumes = False
            super()._go_on()
        else:
            self._wait()

    def _receive(self, buffer: memoryview) -> None:
        wire, handover, count = self._wire, self.handover, -1
        self._receiving = True
        handover.lock.release()
        try:
            if not handover.notes:  # left while we had the lock
                count = wire.receive(buffer)
        except OSError as error:
            wire.lost(error)
        finally:
            handover.lock.acquire()
            self._receiving = False
        if count < 0 or wire.over:
            return
        if self._task is None:
            self._arrived(buffer[:count])
        else:  # begun by the loop meanwhile
            handover.ask(functools.partial(self._arrived, buffer[:count]))

    def _arrived(self, data: memoryview) -> None:
        """What was received; nothing is the end."""
        if not data:
            self._wire.ended = True
            if not self.eof_received():
                self._wire.close()
            return
        try:
            if self.state is OPEN or self.state is PLAIN:
                self._decrypt(data)
            elif self.state is HANDSHAKE:
                self._shake(data)
        except Exception as error:  # noqa: BLE001 - the boundary, as in `buffer_updated`
            self._failed(error)
        self._own.add_up()

    def _send_waiting(self) -> None:
        wire, lock, count = self._wire, self.handover.lock, 0
        chunk = bytes(wire.waiting)
        lock.release()
        try:
            count = wire.send(chunk)
        except OSError as error:
            wire.lost(error)
        finally:
            lock.acquire()
        self._sent(count)

    def _sent(self, count: int) -> None:
        try:
            self._wire.sent(count)
        except Exception as error:  # noqa: BLE001 - the boundary
            self._failed(error)
        self._own.add_up()

    def _wait(self) -> None:
        """It is the loop's turn: a handler is at work, or nothing more comes and a deadline will end it."""
        handover = self.handover
        handover.turn.clear()
        if self._begins is not None:
            handover.post(self._begin)
        handover.lock.release()
        try:
            if not handover.notes:
                handover.turn.wait()
        finally:
            handover.lock.acquire()

    @property
    def _own(self) -> OwnCounters:
        return cast(OwnCounters, self.counters)

    # -- what the loop does for it --------------------------------------------------------------------

    authenticated = by_the_loop(Connection.authenticated)
    _close = by_the_loop(Connection._close)
    _failed = by_the_loop(in_hand(Connection._failed))

    refuse = in_hand(Connection.refuse)
    give_up = in_hand(Connection.give_up)
    drain = in_hand(Connection.drain)
    wake = in_hand(Connection.wake)
    flush = in_hand(Connection.flush)
    _broken = in_hand(Connection._broken)

    def drop(self, reason: Refusal, detail: str = "") -> None:
        if not self.handover.is_worker():
            self.shell.live.handshake_done(self)  # noted or done, it makes room
        self._drop(reason, detail)

    _drop = by_the_loop(in_hand(Connection.drop))

    def abort(self) -> None:
        self._abort()

    @by_the_loop
    @in_hand
    def _abort(self) -> None:
        super().abort()
        if not self._driven and self.state is CLOSING:
            self._driven = True  # no worker need see to it
            self.handover.loop.call_soon(self._end)

    # What the worker asks for comes after the notes: one of them may have ended the connection.

    @by_the_loop
    def _begin_handshake(self) -> None:
        if self.state is PLAIN:
            super()._begin_handshake()

    def _shaken(self) -> None:
        if self._layer.owes or self._layer.established:
            self._shaken_by_the_loop()

    @by_the_loop
    def _shaken_by_the_loop(self) -> None:
        if self.state is HANDSHAKE:
            super()._shaken()

    def _count_refusal(self, reason: Refusal, detail: str = "") -> None:
        count = functools.partial(super()._count_refusal, reason, detail)
        if self.handover.is_worker():
            self.handover.post(count)
        else:
            count()

    def _end(self) -> None:
        """On the loop: nobody waits in the socket any more."""
        self.handover.take(self._ended_for_good)

    def _ended_for_good(self) -> None:
        self._stop_hearing()
        self._stop_watching_for_room()
        self._own.add_up()
        super().connection_lost(self._wire.error)
        self._wire.free()

    # -- handlers that take their time ----------------------------------------------------------------

    def _begin_task(self, waiting: Coroutine[Any, Any, None]) -> None:
        if self.handover.is_worker():  # which has not let go yet
            self._begins, self._task = waiting, _TO_BEGIN
        else:
            super()._begin_task(waiting)
            self._hear_on()

    def _begin(self) -> None:
        self.handover.take(self._begin_noted)

    def _begin_noted(self) -> None:
        waiting, self._begins = self._begins, None
        if waiting is not None:
            super()._begin_task(waiting)
            self._hear_on()

    def _call_off(self) -> None:
        waiting, self._begins = self._begins, None
        if waiting is not None:
            waiting.close()
            self._task = None
        elif self.handover.is_worker():
            self.handover.post(super()._call_off)
        else:
            super()._call_off()

    def _go_on(self) -> None:
        if self.handover.is_worker() or self.handover.with_loop:
            super()._go_on()
        else:  # the handler is done
            self.handover.take(self._go_on_by_whom)

    def _go_on_by_whom(self) -> None:
        """The worker goes on, unless it waits for bytes: then the loop had begun the handler."""
        self._stop_hearing()
        if self._receiving:
            super()._go_on()
        else:
            self._resumes = True

    def _hear_on(self) -> None:
        """While a handler is at work the loop listens: for the peer's end, and for one piece of input."""
        if self._task is not None and self._wire.reading and not self._receiving and not self._hears:
            self._hears = True
            self.handover.loop.add_reader(self._wire.fileno(), self._hear)

    def _stop_hearing(self) -> None:
        if self._hears:
            self._hears = False
            self.handover.loop.remove_reader(self._wire.fileno())

    def _hear(self) -> None:
        self._stop_hearing()
        self.handover.take(self._hear_now)

    def _hear_now(self) -> None:
        if self._task is None or not self._wire.reading:
            return
        buffer = self.shell.receive_buffer
        try:
            count = self._wire.receive(buffer, NOW)
        except BlockingIOError:
            pass
        except OSError as error:
            self._wire.lost(error)
        else:
            self._arrived(buffer[:count])
        self._hear_on()

    # -- what the loop has written, and the kernel had no room for ------------------------------------

    def _watch_for_room(self) -> None:
        """While the worker waits for bytes, the loop sends; else the worker does."""
        if self._wire.waiting and self._receiving and not self._has_room:
            self._has_room = True
            self.handover.loop.add_writer(self._wire.fileno(), self._room)

    def _stop_watching_for_room(self) -> None:
        if self._has_room:
            self._has_room = False
            self.handover.loop.remove_writer(self._wire.fileno())

    def _room(self) -> None:
        self._stop_watching_for_room()
        self.handover.take(self._send_now)

    def _send_now(self) -> None:
        if self._receiving:  # and else the worker sends
            self._sent(self._wire.send_now())

    # -- the budget, and time -------------------------------------------------------------------------

    def _charge(self, count: int) -> None:
        self._outbox_bytes += count
        self._reserve()

    def _hold(self, held: int) -> None:
        self._held = held
        self._reserve()

    def _reserve(self) -> None:
        if self.weight > self._reserved + SLICE:
            self._account()

    @by_the_loop
    def _account(self) -> None:
        """Reserve what is kept, in whole steps; over the budget the heaviest goes."""
        reserved = self.weight + -self.weight % RESERVE_BYTES if self.weight > SLICE else 0
        more, self._reserved = reserved - self._reserved, reserved
        self.shell.buffered_bytes += more
        if more <= 0 or self.shell.buffered_bytes <= self.shell.limits.buffered_bytes:
            return
        heaviest = self.shell.live.heaviest()
        if heaviest is self and not self._write_paused:
            self.refuse(Refusal.MEMORY)
        else:
            heaviest.drop(Refusal.MEMORY)

    def _release(self) -> None:
        self._held = self._outbox_bytes = 0
        super()._release()
        self.shell.buffered_bytes -= self._reserved
        self._reserved = 0

    def _arm(self, when: float) -> None:
        if not self.handover.is_worker():
            super()._arm(when)
        elif when < self._timer_at:
            self._timer_at = when  # so that it is asked for once
            self.handover.post(functools.partial(self._arm_asked, when))

    def _arm_asked(self, when: float) -> None:
        if when <= self._timer_at and self.state is not CLOSED:  # nothing nearer was asked for since
            self._timer_at = FOREVER
            super()._arm(when)

    def _alarm(self) -> None:
        self._timer = None
        self.handover.take(self._look)

    def _look(self) -> None:
        if self.state is not CLOSED:
            super()._alarm()
            self._account()
