"""One connection of a chat client: it is welcomed or not, asks, is told, and ends with a reason.

What a room or a `say` gets goes to inbox and outbox at once, in the order in which it came; answers to
questions go to whoever waits for them. Nothing here reconnects: that is `ChatClient`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from secure_net.clock import Clock
from secure_net.discovery import PROTOCOLS, Destination
from secure_net.errors import (
    AuthenticationError,
    ChatError,
    HistoryGapError,
    NotPermittedError,
    Refusal,
    SecureNetError,
    TransportError,
    UnavailableError,
)
from secure_net.limits import FrameLimits
from secure_net.machine import Machine
from secure_net.messaging.client_inbox import Inbox
from secure_net.messaging.client_messages import (
    Ack,
    Event,
    Joined,
    Message,
    Pong,
    Presence,
    PutOut,
    Refused,
    Welcome,
)
from secure_net.messaging.client_protocol import ChatClientMachine
from secure_net.wire.client import connect
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSPolicy

if TYPE_CHECKING:
    from secure_net.messaging.client_outbox import Outbox

# What an error says of the connection, or of what was asked. `internal` and the like pass; the rest does not.
_ERRORS: Mapping[str, Callable[[str], SecureNetError]] = {
    "not_permitted": NotPermittedError,
    "unauthenticated": AuthenticationError,
    "expired": lambda reason: AuthenticationError(reason, Refusal.EXPIRED),
    "revoked": lambda reason: AuthenticationError(reason, Refusal.REVOKED),
    "unavailable": UnavailableError,
    "draining": UnavailableError,
    "slow_consumer": UnavailableError,
}

# Codes that say nothing of us: later it may go well.
_PASSING = frozenset({"unavailable", "internal", "history_gap"})

# TLS 1.3 tells a client of its certificate only after the handshake, by one of these alerts.
_ABOUT_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")


class SessionEndedError(TransportError):
    """The connection ended before the answer."""


class ChatSession:
    """Made by `open_session`. `ended` is done once the connection is gone, with the reason."""

    def __init__(
        self, connection: Connection, machine: ChatClientMachine, inbox: Inbox, outbox: Outbox, notes: Notes
    ) -> None:
        loop = asyncio.get_running_loop()
        self.chat = machine
        self.machine: Machine = machine
        self.ended: asyncio.Future[SecureNetError] = loop.create_future()
        self._welcomed: asyncio.Future[Welcome] = loop.create_future()
        self._connection, self._inbox, self._outbox = connection, inbox, outbox
        self._open: dict[str, tuple[asyncio.Future[Event], int]] = {}
        self._abandoned: set[str] = set()
        self._notes = notes
        self._ends_for: SecureNetError | None = None
        self._wakes = False

    @property
    def takes_requests(self) -> bool:
        return not self.ended.done() and self.chat.welcome is not None and not self.chat.draining

    async def welcome(self) -> Welcome:
        """What the server says of itself and of us. Raises why there is no welcome."""
        return await asyncio.shield(self._welcomed)

    async def ask(self, room: str, request: Callable[[ChatClientMachine], None], after: int = 0) -> Event:
        """Send a request about `room`, once what was asked before is answered, and give its answer.

        Raises what the server refuses it with, `LocalProtocolError`, or `SessionEndedError`. `after` is the
        place that a `HistoryGapError` names. When this is cancelled the question stays open, and a room
        that is joined by it is left again.
        """
        while room in self._open:
            await asyncio.wait([self._open[room][0]])
        if not self.takes_requests:
            raise SessionEndedError("the connection is lost")
        request(self.chat)
        answer: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._open[room] = answer, after
        self.wake()
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if not answer.done():
                self._abandoned.add(room)
            elif answer.exception() is None and isinstance(answer.result(), Joined):
                self._leave(room)
            raise

    def wake(self) -> None:
        """Send what is queued, once everything that runs now has queued what it has."""
        if not self._wakes:
            self._wakes = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._wakes = False
        self._connection.wake()

    async def close(self) -> None:
        """Say goodbye."""
        self.chat.finish()
        self._connection.wake()
        await self._connection.wait_closed()

    # -- the shell's side -----------------------------------------------------------------------------

    def handle(self, events: list[tuple[Event, int]]) -> Coroutine[Any, Any, None] | None:
        for event, size in events:
            if isinstance(event, Message | Presence):
                self._inbox.received(event, size)
            elif isinstance(event, Ack):
                self._outbox.settled(event.id, event.seq)
            elif isinstance(event, Welcome):
                self._welcomed.set_result(event)
            elif isinstance(event, Refused):
                self._refused(event)
            elif isinstance(event, PutOut):
                self._put_out(event.error)
            elif not isinstance(event, Pong):
                self._answered(event.room, event)
        return self._inbox.pause()

    def closed(self) -> None:
        reason = self._why()
        if not self._welcomed.done():
            self._welcomed.set_exception(reason)
            self._welcomed.exception()  # whoever waited may have given up
        for room in list(self._open):
            self._answered(room, SessionEndedError("the connection was lost before the answer"))
        self.ended.set_result(reason)

    def _why(self) -> SecureNetError:
        """The server's own word, what was wrong with what it said, or what the shell saw."""
        if self._ends_for is not None:
            return self._ends_for
        error = self.chat.error
        if error is not None and error.reason in (Refusal.MALFORMED, Refusal.TOO_LARGE):
            return error
        return self._notes.reason or TransportError("the connection was lost")

    def _refused(self, event: Refused) -> None:
        if event.id is not None:
            self._outbox.settled(event.id, _error_of(event))
        elif event.room is not None:
            self._answered(event.room, _error_of(event, self._open[event.room][1]))
            if event.code == "unavailable" and self.chat.is_in(event.room):
                self._end_for(event)  # the room's past comes no further, perhaps
        elif event.code == "draining":
            self._ends_for = _error_of(event)  # what is said is still acknowledged
        else:
            self._end_for(event)

    def _put_out(self, event: Refused) -> None:
        """Where it is the store that fails, or has dropped what we were on the way to, a new connection
        begins with what there is; else we are not welcome."""
        if event.code in _PASSING:
            self._end_for(event)
        else:
            self._inbox.put_out(event.room or "", _error_of(event))

    def _end_for(self, event: Refused) -> None:
        passes = event.code in _PASSING
        self._ends_for = UnavailableError(event.reason) if passes else _error_of(event)
        self._connection.abort()

    def _answered(self, room: str, outcome: Event | SecureNetError) -> None:
        answer, _ = self._open.pop(room)
        abandoned = room in self._abandoned
        self._abandoned.discard(room)
        if isinstance(outcome, SecureNetError):
            answer.set_exception(outcome)
            answer.exception()
            return
        if isinstance(outcome, Joined):
            if abandoned:
                self._leave(room)
            else:
                self._inbox.joined(outcome)
        answer.set_result(outcome)

    def _leave(self, room: str) -> None:
        """Nobody waits any more for the room that we are in now."""
        if self.takes_requests:
            self.chat.leave(room)
            self._open[room] = asyncio.get_running_loop().create_future(), 0
            self.wake()


class Notes:
    """Why a connection ends, as far as it is known: the first reason is the cause."""

    def __init__(self) -> None:
        self.reason: SecureNetError | None = None

    def log(self, event: str, **fields: Any) -> None:
        """What the shell has to say."""
        if event != "connection_refused" or self.reason is not None:
            return
        reason, detail = str(fields["reason"]), str(fields["detail"])
        if "ALERT" in detail and any(word in detail for word in _ABOUT_OUR_CERTIFICATE):
            self.reason = AuthenticationError(f"the server does not take our certificate ({detail})")
        else:
            self.reason = TransportError(f"{reason}: {detail}" if detail else reason)


class _ClientService:
    """What the shell serves on our side of one connection."""

    name = "chat-client"
    tls = TLSPolicy(alpn=PROTOCOLS["chat"].alpn, client_certificates="off")
    authentication = False

    def __init__(self, machine: ChatClientMachine, inbox: Inbox, outbox: Outbox) -> None:
        self._machine, self._inbox, self._outbox = machine, inbox, outbox
        self.notes = Notes()
        self.sessions: list[ChatSession] = []

    def session(self, connection: Connection) -> ChatSession:
        self.sessions.append(ChatSession(connection, self._machine, self._inbox, self._outbox, self.notes))
        return self.sessions[-1]


async def open_session(
    destination: Destination, inbox: Inbox, outbox: Outbox, *, limits: FrameLimits, clock: Clock
) -> ChatSession:
    """Connect, say hello, and be welcomed.

    Raises `AuthenticationError` where the server does not believe who we are, `TransportError` and its kinds,
    or `RemoteProtocolError`.
    """
    service = _ClientService(ChatClientMachine(limits, destination.token.text()), inbox, outbox)
    try:
        connection = await connect(
            destination.host,
            destination.port,
            service,
            destination.context,
            clock=clock,
            log=service.notes.log,
        )
    except TransportError as error:
        if isinstance(service.notes.reason, AuthenticationError):
            raise service.notes.reason from error
        raise
    (session,) = service.sessions
    try:
        await session.welcome()
    except asyncio.CancelledError:
        connection.abort()
        raise
    return session


def _error_of(event: Refused, after: int = 0) -> SecureNetError:
    if event.first is not None and event.seq is not None:
        return HistoryGapError(event.room or "", after, event.first, event.seq)
    kind = _ERRORS.get(event.code)
    return ChatError(event.code, event.reason) if kind is None else kind(event.reason)
