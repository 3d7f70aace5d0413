"""The chat client for programs with an event loop: it stays connected, and loses and doubles nothing.

::

    async with ChatClient() as chat:              # or ChatClient("chat.example.org", 9802, token_file="t")
        await chat.join("ops", after=0)               # everything that is kept, then what is said
        seq = await chat.say("ops", {"disk": "full"})     # returns once it is on the server's disk
        async for message in chat.messages("ops"):
            print(message.seq, message.sender, message.body)

When the connection is lost it is made again, with growing pauses of random length. Each room is gone on with
behind the last message that was received, and what was said and not acknowledged is said again under its id,
which the server knows: so every message arrives once, in order, and is said once. Where the server cannot go
on from there, because these messages are kept no longer or a live room began anew, `HistoryGapError` stands
in their place; reading can go on behind it. A live room knows no ids: what was said there and not
acknowledged stays unknown when the connection is lost; a client that is not in the room cannot tell that it
is live, and says it again.

A program that joins must read: while `received_bytes` wait to be taken, nothing more is read from the server,
acknowledgements included. A server that is kept waiting cuts the connection, and no message is lost by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, Unpack, cast

from secure_net import discovery
from secure_net.clock import Clock, SystemClock
from secure_net.discovery import Credentials, Destination
from secure_net.errors import (
    AuthenticationError,
    ChatError,
    ConfigurationError,
    DeadlineExceededError,
    HistoryGapError,
    LocalProtocolError,
    NotPermittedError,
    OutcomeUnknownError,
    Refusal,
    SecureNetError,
    TransportError,
    UnavailableError,
    VerificationError,
)
from secure_net.limits import MIB, FrameLimits
from secure_net.messaging.client_inbox import Inbox, Interrupted, Item, Resumed, Room
from secure_net.messaging.client_messages import History, Joined, Message, Who, encode_body
from secure_net.messaging.client_outbox import Outbox, Said
from secure_net.messaging.client_protocol import ChatClientMachine
from secure_net.messaging.client_session import ChatSession, SessionEndedError, open_session

Answer = TypeVar("Answer", Joined, History, Who)

DEADLINE_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.5  # at most, before connecting again; doubles up to ...
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 30.0  # a connection that lasted so long was a good one: the pauses begin anew

_random = secrets.SystemRandom()


def new_id() -> str:
    """What a message is known by when it is said again: 128 random bits."""
    return secrets.token_hex(16)


class ChatClient:
    """A member of rooms on one server; belongs to the event loop it is used on.

    `host` and `port` are found in the configuration where they are not given, and so are the `Credentials`.
    All of it is looked up anew for each connection, so that a renewed certificate or token is taken up. An
    act may take `deadline_seconds` where it is given no time of its own; `patience_seconds` is how long the
    client tries to get a lost connection back before it gives up (None: for ever). `random` gives numbers
    below 1.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        patience_seconds: float | None = None,
        received_bytes: int = 4 * MIB,
        limits: FrameLimits | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = _random.random,
        **credentials: Unpack[Credentials],
    ) -> None:
        """Raises `ConfigurationError`."""
        if (host is None) != (port is None):
            raise ConfigurationError("port", "host and port go together", "give both, or neither")
        address = None if host is None or port is None else (host, port)
        self._find: Callable[[], Destination] = lambda: discovery.find("chat", address, **credentials)
        self._find()  # what is wrong with it is said here
        self._deadline_seconds, self._patience_seconds = deadline_seconds, patience_seconds
        self._limits = limits or FrameLimits()
        self._clock, self._random = clock, random
        self._inbox, self._outbox = Inbox(received_bytes), Outbox()
        self._session: ChatSession | None = None
        self._changed = asyncio.Event()  # there is another session, or none any more
        self._supervisor: asyncio.Task[None] | None = None
        self._failure: SecureNetError | None = None
        self._pauses = 0
        self.principal = ""
        """Who we are to the server, once connected."""

    # -- its life -------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect, and stay so. The first connection is tried once: raises why it could not be made."""
        if self._supervisor is not None:
            raise LocalProtocolError("connected already")
        session = await self._open()
        self._session = session
        self._supervisor = asyncio.create_task(self._stay_connected(session))

    async def close(self) -> None:
        """Say goodbye. What was said and is not acknowledged gets `OutcomeUnknownError`."""
        supervisor = self._supervisor
        if supervisor is None or self._failure is not None:
            return
        session = self._session
        supervisor.cancel()
        await asyncio.wait([supervisor])
        self._end(LocalProtocolError("the client was closed"), told=None)
        if session is not None:
            await session.close()

    async def __aenter__(self) -> ChatClient:
        await self.connect()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    # -- speaking -------------------------------------------------------------------------------------

    async def say(
        self,
        room: str,
        body: Any,
        *,
        id: str | None = None,  # noqa: A002 - the protocol's word
        deadline_seconds: float | None = None,
    ) -> int:
        """Say `body`, any JSON value, in `room`; returns its sequence number once the server keeps it.

        Needs no `join`. To say the same again after an error and still say it once, give the same `id` (of
        `new_id`) both times. Raises `NotPermittedError`; `ChatError` where the room or the id cannot take it;
        `UnavailableError` where the server cannot keep it now; `LocalProtocolError` for what is no JSON or
        too large; `OutcomeUnknownError` where it was sent and no acknowledgement came in time, else
        `DeadlineExceededError`; or why there is no connection.
        """
        said = Said(room, id or new_id(), encode_body(body))
        try:
            async with self._within(deadline_seconds):
                await self._put(said)
                return await said.answer
        except TimeoutError:
            if said.sent.is_set():
                raise OutcomeUnknownError("no acknowledgement came in time") from None
            raise DeadlineExceededError("it could not be sent in time") from None
        finally:
            said.answer.cancel()  # whatever became of it: it is not said again

    async def say_soon(
        self,
        room: str,
        body: Any,
        *,
        id: str | None = None,  # noqa: A002
    ) -> asyncio.Future[int]:
        """As `say`, but returns once the message was sent: the future gives its sequence number, or raises.

        Waits while as many are under way as the server takes at a time, so that any number can be said one
        after the other. They arrive in this order.
        """
        said = Said(room, id or new_id(), encode_body(body))
        try:
            await self._put(said)
        except BaseException:
            said.answer.cancel()
            raise
        return said.answer

    async def _put(self, said: Said) -> None:
        if self._supervisor is None:
            raise LocalProtocolError("not connected")
        await self._outbox.put(said)

    # -- rooms ----------------------------------------------------------------------------------------

    async def join(
        self, room: str, after: int | None = None, *, deadline_seconds: float | None = None
    ) -> Joined:
        """Be in `room`: its messages arrive from now on, with `after` also all behind that one (0: all kept).

        Raises `NotPermittedError`, `HistoryGapError` where the message behind `after` is kept no longer,
        `ChatError`, `DeadlineExceededError`, or why there is no connection.
        """
        entry = self._inbox.add(room, after)
        try:
            return await self._ask(
                Joined, room, lambda chat: chat.join(room, after), after or 0, deadline_seconds
            )
        except BaseException:
            self._inbox.remove(entry)
            raise

    async def leave(self, room: str) -> None:
        """Be no more in `room`. What has arrived and was not taken is dropped, and reading it ends."""
        self._inbox.remove(self._inbox.room(room))
        session = self._session
        if session is None or not session.takes_requests:
            return
        # Put out by now, or the connection is lost: then we are out of it as well.
        with contextlib.suppress(SessionEndedError, TimeoutError, ChatError):
            async with self._within(None):
                await session.ask(room, lambda chat: chat.leave(room))

    async def history(self, room: str, *, before: int | None = None, limit: int = 100) -> list[Message]:
        """The newest `limit` messages, or the newest before the sequence number `before`; oldest first.

        Needs no `join`. Raises as `join`.
        """
        found: list[Message] = []
        while limit > 0:
            page = await self._page(room, before, limit)
            found[:0] = [Message(room, kept.seq, kept.sender, kept.at, kept.body) for kept in page.messages]
            if not page.more or not page.messages:
                break
            before = page.messages[0].seq
            limit -= len(page.messages)
        return found

    async def _page(self, room: str, before: int | None, limit: int) -> History:
        return await self._ask(History, room, lambda chat: chat.history(room, before, limit))

    async def who(self, room: str) -> list[str]:
        """The names of all who are in `room`, in alphabetical order. Raises as `join`."""
        names: list[str] = []
        more = True
        while more:
            page = await self._names(room, names[-1] if names else None)
            names += page.members
            more = page.more and bool(page.members)
        return names

    async def _names(self, room: str, after: str | None) -> Who:
        return await self._ask(Who, room, lambda chat: chat.who(room, after))

    # -- reading --------------------------------------------------------------------------------------

    async def receive(self, room: str | None = None) -> Message:
        """The next message of `room`, or of all rooms that are joined. Cancelled, it has taken none.

        Raises `HistoryGapError` where messages are missing; `NotPermittedError` where we may be in the room
        no longer; `LocalProtocolError` where it is not joined, or left, or the client closed; or why there is
        no connection any more.
        """
        entry = None if room is None else self._inbox.room(room)
        message = await self._next_message(entry)
        if message is None:
            raise LocalProtocolError("the client was closed" if room is None else f"{room} was left")
        return message

    async def messages(self, room: str) -> AsyncIterator[Message]:
        """Each message of `room`, until it is left or the client closed. Raises as `receive`."""
        entry = self._inbox.room(room)
        while (message := await self._next_message(entry)) is not None:
            yield message

    async def events(self) -> AsyncIterator[Item]:
        """All that happens in all rooms, in order: messages, presence, and what becomes of the connection.

        Ends when the client is closed. Raises as `receive`.
        """
        while (item := await self._inbox.take(None)) is not None:
            yield item

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        message = await self._next_message(None)
        if message is None:
            raise StopAsyncIteration
        return message

    async def _next_message(self, room: Room | None) -> Message | None:
        while (item := await self._inbox.take(room)) is not None:
            if isinstance(item, Message):
                return item
        return None

    # -- the connection -------------------------------------------------------------------------------

    async def _ask(
        self,
        kind: type[Answer],
        room: str,
        request: Callable[[ChatClientMachine], None],
        after: int = 0,
        deadline_seconds: float | None = None,
    ) -> Answer:
        """The answer to a question that may be asked twice: on the next connection where this one is lost."""
        try:
            async with self._within(deadline_seconds):
                while True:
                    session = await self._online()
                    with contextlib.suppress(SessionEndedError):
                        return cast(Answer, await session.ask(room, request, after))
        except TimeoutError:
            raise DeadlineExceededError("the server did not answer in time") from None

    async def _online(self) -> ChatSession:
        """A session that takes requests. Raises why there will be none."""
        while True:
            if self._failure is not None:
                raise self._failure
            if self._supervisor is None:
                raise LocalProtocolError("not connected")
            session = self._session
            if session is not None and session.takes_requests:
                return session
            self._changed.clear()
            await self._changed.wait()

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float | None) -> AsyncIterator[None]:
        """Raises `TimeoutError` after `seconds`, by our clock."""
        clock, loop = self._time, asyncio.get_running_loop()
        seconds = self._deadline_seconds if seconds is None else seconds
        async with asyncio.timeout(None) as limit:
            timer = clock.call_at(clock.monotonic() + seconds, lambda: limit.reschedule(loop.time()))
            try:
                yield
            finally:
                timer.cancel()

    @property
    def _time(self) -> Clock:
        if self._clock is None:
            self._clock = SystemClock()
        return self._clock

    async def _open(self) -> ChatSession:
        session = await open_session(
            self._find(), self._inbox, self._outbox, limits=self._limits, clock=self._time
        )
        self.principal = (await session.welcome()).principal
        return session

    async def _stay_connected(self, session: ChatSession) -> None:
        """Until the client is closed, or there is no connection to be had."""
        try:
            while True:
                error = await self._live(session)
                self._inbox.tell(Interrupted(error))
                session = await self._reconnect(error)
                self._inbox.tell(Resumed())
        except SecureNetError as error:
            self._end(error, error)

    async def _live(self, session: ChatSession) -> SecureNetError:
        """Go on with every room, and then until the connection is lost: returns why."""
        began = self._time.monotonic()
        self._session = session
        self._outbox.online(session)
        self._changed.set()
        await self._resume(session)
        error = await asyncio.shield(session.ended)
        self._session = None
        self._outbox.offline(self._inbox.is_live)
        if self._time.monotonic() - began >= STEADY_SECONDS:
            self._pauses = 0
        return error

    async def _resume(self, session: ChatSession) -> None:
        try:
            for room in list(self._inbox.rooms.values()):
                if room.is_joined:
                    await self._go_on(session, room)
        except SessionEndedError:
            return
        except UnavailableError:
            await session.close()  # the server cannot read what it keeps: try again later, as a whole

    async def _go_on(self, session: ChatSession, room: Room) -> None:
        """Join again behind what was received. What cannot be gone on with is told to the room's readers."""
        while self._inbox.rooms.get(room.name) is room:
            try:
                await self._join_again(session, room)
            except HistoryGapError as gap:
                self._inbox.lost(room, gap)
            except (NotPermittedError, ChatError) as error:
                if isinstance(error, ChatError) and error.code == "no_history" and not room.is_live:
                    room.is_live = True  # since it was joined
                    continue
                self._inbox.remove(room, error)
            else:
                return

    async def _join_again(self, session: ChatSession, room: Room) -> None:
        after = None if room.is_live else room.last
        await session.ask(room.name, lambda chat: chat.join(room.name, after), after or 0)

    async def _reconnect(self, error: SecureNetError) -> ChatSession:
        """Another connection; raises why there will be none. What has expired may be renewed by now."""
        began = self._time.monotonic()
        passes = _passes(error) or (
            isinstance(error, AuthenticationError) and error.reason is Refusal.EXPIRED
        )
        patience = float("inf") if self._patience_seconds is None else self._patience_seconds
        while passes and self._time.monotonic() - began < patience:
            await self._pause()
            try:
                return await self._open()
            except SecureNetError as again:
                error, passes = again, _passes(again)
        raise error

    async def _pause(self) -> None:
        """Full jitter: those who lost one server do not come back to it all at once."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._pauses, 16))
        self._pauses += 1
        over = asyncio.Event()
        timer = self._time.call_at(self._time.monotonic() + self._random() * longest, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _end(self, failure: SecureNetError, told: SecureNetError | None) -> None:
        """There is no connection any more. Readers are `told` so; None: nobody reads any more."""
        self._failure, self._session = failure, None
        self._outbox.end(failure)
        self._inbox.end(told)
        self._changed.set()


def _passes(error: SecureNetError) -> bool:
    """Whether time may heal it. That the server is not who it should be, or talks nonsense, it does not."""
    return isinstance(error, TransportError) and not isinstance(error, VerificationError)
