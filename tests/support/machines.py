"""A small protocol for tests of the shell: lines that end in LF, and commands that do what shells fear.

::

    echo WORDS     WORDS                     big N          N bytes
    upgrade        "go ahead", then TLS      wait           "waited", once `service.gate` is opened
    quit           "bye", and the end        wait-big N     N bytes, once the gate is opened
    login NAME     authenticated as NAME     wake, refuse, drop, abort, close    from within the handler
    raise, deny    an exception of ours      phase S        what follows may take S seconds
    allow S        moves the deadline        last           an event comes at the end of input

Whatever a handler does is in `service.handled`, so that tests see what ran and what did not.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from typing import Any

from secure_net.errors import Refusal, RefusedError, RemoteProtocolError
from secure_net.machine import Machine
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSPolicy

LONGEST_LINE = 1 << 20
IDLE_SECONDS = 300.0


class LineMachine(Machine):
    """Events are lines without their LF. An end inside a line is truncated."""

    __slots__ = ("_ended", "_input", "at_end", "farewell_words")

    def __init__(self, greeting: bytes = b"") -> None:
        super().__init__()
        self._input = bytearray()
        self._ended = False
        self.at_end = b""  # an event to hand out when the input has ended
        self.farewell_words = b"sorry: %s\n"
        if greeting:
            self.outgoing.append(greeting)
        self._enter(IDLE_SECONDS, Refusal.IDLE)

    def receive_data(self, data: bytes) -> None:
        self._input += data
        self.buffered = len(self._input)

    def receive_eof(self, *, clean: bool) -> None:
        self._ended = True
        if self._input and b"\n" not in self._input:
            raise RemoteProtocolError(Refusal.TRUNCATED, "end inside a line")

    def next_event(self) -> bytes | None:
        line, found, rest = self._input.partition(b"\n")
        if found:
            self._input = rest
            self.buffered = len(rest)
            self.phase += 1
            return bytes(line)
        if self._ended:
            event, self.at_end = self.at_end, b""
            self.finished = not event
            return event or None
        if len(line) > LONGEST_LINE:
            raise RemoteProtocolError(Refusal.TOO_LARGE)
        return None

    def answer(self, data: bytes) -> None:
        self.outgoing.append(data + b"\n")

    def expect(self, seconds: float | None, reason: Refusal = Refusal.READ_DEADLINE) -> None:
        self._enter(seconds, reason)

    def farewell(self, error: RemoteProtocolError) -> bytes:
        self.finished = True
        return self.farewell_words and self.farewell_words % error.reason.value.encode()


@dataclasses.dataclass(frozen=True)
class Person:
    """As much of a principal as the shell looks at."""

    name: str
    expires_at: float = float("inf")


class LineSession:
    """Runs the commands; `closings` counts how often it heard of the end."""

    def __init__(self, service: LineService, connection: Connection) -> None:
        self.service, self.connection = service, connection
        self.machine = LineMachine(service.greeting)
        self.closings = 0

    def handle(self, event: bytes) -> Coroutine[Any, Any, None] | None:
        command, _, argument = event.partition(b" ")
        self.service.handled.append(event)
        return COMMANDS[command](self, argument)

    def closed(self) -> None:
        self.closings += 1
        if self.service.fails_at_the_end:
            raise RuntimeError("the session's end")

    async def _wait(self, answer: bytes) -> None:
        await self.service.gate.wait()
        self.machine.answer(answer)

    async def _wait_and_fail(self, error: Exception) -> None:
        await self.service.gate.wait()
        raise error

    async def _wait_and_log_in(self, name: bytes) -> None:
        await self.service.gate.wait()
        self._log_in(name)

    def _log_in(self, name: bytes) -> None:
        self.connection.authenticated(Person(name.decode(), self.service.expires_at))
        self.machine.answer(b"welcome " + name)

    def _upgrade(self, _: bytes) -> None:
        self.machine.answer(b"go ahead")
        self.machine.wants_tls = True

    async def _upgrade_later(self, _: bytes) -> None:
        await self.service.gate.wait()
        self._upgrade(b"")

    def _quit(self, _: bytes) -> None:
        self.machine.answer(b"bye")
        self.machine.finished = True

    def _wake(self, argument: bytes) -> None:
        self.connection.wake()
        self.machine.answer(b"woke " + argument)

    async def _stream(self, argument: bytes) -> None:
        self.machine.answer(b"begun")
        self.connection.wake()
        await self._wait(argument)

    def _raise(self, _: bytes) -> None:
        raise RuntimeError("a secret of ours")

    def _deny(self, _: bytes) -> None:
        raise RefusedError(Refusal.NOT_PERMITTED, "for the log alone")

    def _allow(self, argument: bytes) -> None:
        self.machine.allowance = float(argument)


def _said(act: Callable[[LineSession, bytes], object]) -> Callable[[LineSession, bytes], None]:
    """Do it, and answer."""

    def run(session: LineSession, argument: bytes) -> None:
        act(session, argument)
        session.machine.answer(b"done")

    return run


COMMANDS: dict[bytes, Callable[[LineSession, bytes], Coroutine[Any, Any, None] | None]] = {
    b"": lambda s, a: None,
    b"echo": lambda s, a: s.machine.answer(a),
    b"big": lambda s, a: s.machine.answer(bytes(int(a))),
    b"wait": lambda s, a: s._wait(b"waited" + a),
    b"wait-big": lambda s, a: s._wait(bytes(int(a))),
    b"wait-raise": lambda s, a: s._wait_and_fail(RuntimeError("a secret of ours")),
    b"wait-deny": lambda s, a: s._wait_and_fail(RefusedError(Refusal.NOT_PERMITTED)),
    b"wait-login": lambda s, a: s._wait_and_log_in(a),
    b"upgrade": LineSession._upgrade,
    b"upgrade-later": LineSession._upgrade_later,
    b"quit": LineSession._quit,
    b"login": LineSession._log_in,
    b"wake": LineSession._wake,
    b"stream": LineSession._stream,
    b"raise": LineSession._raise,
    b"deny": LineSession._deny,
    b"refuse": _said(lambda s, a: s.connection.refuse(Refusal.REVOKED)),
    b"drop": _said(lambda s, a: s.connection.drop(Refusal.REVOKED)),
    b"abort": _said(lambda s, a: s.connection.abort()),
    b"phase": _said(lambda s, a: s.machine.expect(float(a))),
    b"idle": _said(lambda s, a: s.machine.expect(float(a), Refusal.IDLE)),
    b"allow": _said(LineSession._allow),
    b"last": lambda s, a: setattr(s.machine, "at_end", a),
}


class LineService:
    """Implements `secure_net.wire.shell.Service`."""

    def __init__(
        self,
        tls: TLSPolicy | None = None,
        *,
        name: str = "line",
        authentication: bool = False,
        greeting: bytes = b"",
        expires_at: float = float("inf"),
    ) -> None:
        self.name = name
        self.tls = tls or TLSPolicy()
        self.authentication = authentication
        self.greeting = greeting
        self.expires_at = expires_at
        self.fails_at_the_end = False
        self.fails_at_the_start: Exception | None = None
        self.gate = asyncio.Event()
        self.handled: list[bytes] = []
        self.sessions: list[LineSession] = []

    def session(self, connection: Connection) -> LineSession:
        if self.fails_at_the_start is not None:
            raise self.fails_at_the_start
        session = LineSession(self, connection)
        self.sessions.append(session)
        return session
