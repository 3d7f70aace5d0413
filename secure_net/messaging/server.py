"""Chat over frames: binds the machine to identity, the rooms to the event loop, and members to connections.

`Chat` is what all connections share, whatever the transport; a `ChatSession` is one connection's side of it.
The browser's service makes its sessions of the same two, with a reader and a framing of its own.

Who is it? The token in `hello` decides where there is one, else the connection's client certificate. From
then on every batch of requests asks the authenticator whether the principal is still who it was: a change of
policy is felt at the next act, and in a room with the next message.

What takes its time (the standing of a room, a page of its past) is awaited before the next request is looked
at, so that answers come in order. A `say` is not: it is acknowledged when it is kept. While more of them wait
for that than may, the session waits too, and then the shell reads no more.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from msgspec import UNSET, UnsetType

from secure_net.clock import Clock
from secure_net.errors import AuthenticationError, Refusal
from secure_net.identity.policy import Scope
from secure_net.limits import Limits
from secure_net.messaging import messages
from secure_net.messaging.messages import AnyRequest, Code, Say, Says
from secure_net.messaging.protocol import ENDED, ChatMachine, Event, Framing, Pull, Reader, frame_framing
from secure_net.messaging.room import Member, Room, Voice
from secure_net.messaging.rooms import Rooms
from secure_net.metrics import AuthMethod, AuthOutcome, ChatCounters, ServiceCounters
from secure_net.store.broker import Broker
from secure_net.wire.tls import TLSPolicy

if TYPE_CHECKING:
    from secure_net.identity.authenticator import Authenticator
    from secure_net.identity.policy import Principal
    from secure_net.wire.connection import Connection

Act = Callable[[], Coroutine[Any, Any, None]]

VOICES_COUNT = 256  # rooms that a member speaks in, remembered
CROWD_COUNT = 32  # members whom to tell something is worth a turn of the loop


def named_by(globs: Iterable[str]) -> Callable[[str], bool]:
    """Whether a room is one of those that `globs` name, by the rules of scopes: ``ops.*``, ``alerts.**``.

    Raises `ValueError` for what is no glob.
    """
    scopes = [Scope.parse(f"chat:live:{glob}") for glob in globs]
    return lambda room: any(scope.matches("chat", "live", room) for scope in scopes)


def _soon(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


class Chat:
    """What all connections of the chat services share: the rooms, and who may enter them."""

    def __init__(
        self,
        authenticator: Authenticator,
        broker: Broker,
        counters: ChatCounters,
        *,
        clock: Clock,
        limits: Limits,
        is_live: Callable[[str], bool],
    ) -> None:
        """`is_live` says of a room's name whether it has no history (see `named_by`)."""
        self.authenticator, self.counters, self.limits = authenticator, counters, limits
        self.rooms = Rooms(
            limits.chat,
            broker,
            counters,
            largest=limits.frame.frame_bytes,
            wall=clock.wall,
            schedule=_soon,
            epoch=lambda: authenticator.epoch,
            is_live=is_live,
        )

    def apply(self, limits: Limits) -> None:
        """In force from now on; connections keep the sizes that they were welcomed with."""
        self.limits = limits
        self.rooms.limits, self.rooms.largest = limits.chat, limits.frame.frame_bytes

    def machine(self, framing: Framing, reader: Reader | None = None) -> ChatMachine:
        """For a new connection. `reader` is one of frames unless given."""
        limits = self.limits
        seconds = limits.connection.authentication_seconds
        return ChatMachine(limits.chat, limits.frame, framing, authentication_seconds=seconds, reader=reader)


class ChatService:
    """What a listener serves: chat over frames."""

    authentication = True

    def __init__(self, name: str, chat: Chat, counters: ServiceCounters, tls: TLSPolicy) -> None:
        self.name, self.tls = name, tls
        self._chat = chat
        self._framing = frame_framing(chat.limits.frame, counters)

    def session(self, connection: Connection) -> ChatSession:
        return ChatSession(self._chat, connection, self._chat.machine(self._framing))


class ChatSession(Member):
    """One connection of a chat service."""

    __slots__ = ("_authenticator", "_chat", "_connection", "_limits", "_principal", "_rooms", "_waiter")

    def __init__(self, chat: Chat, connection: Connection, machine: ChatMachine) -> None:
        super().__init__(machine)
        self._chat, self._rooms, self._authenticator = chat, chat.rooms, chat.authenticator
        self._limits = chat.limits
        self._connection = connection
        self._principal: Principal | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- the shell's side -----------------------------------------------------------------------------

    def handle(self, event: Event) -> Coroutine[Any, Any, None] | None:
        """Do what was asked. Raises `RefusedError` for whoever is not, or no longer, welcome."""
        if isinstance(event, Pull):
            return self._rooms.pull(self, event.room)
        if event is ENDED:
            return self._until(lambda: not self.machine.unacknowledged)
        requests = iter(event)
        act = self._work(requests)
        if act is not None or self.machine.is_ahead:
            return self._go_on(act, requests)
        return None

    def closed(self) -> None:
        self._rooms.forget(self)

    # -- the rooms' side ------------------------------------------------------------------------------

    def may_subscribe(self, room: str) -> bool:
        try:
            principal = self._current()
        except AuthenticationError as error:
            self._connection.refuse(error.reason, error.detail)
            return False
        return principal.permits("chat", "subscribe", room)

    def flush(self) -> bool:
        connection, machine = self._connection, self.machine
        try:
            if machine.finished:
                connection.wake()
            else:
                connection.flush()
        except Exception as error:  # noqa: BLE001 - the boundary: the other members must get theirs
            connection.drop(Refusal.INTERNAL, repr(error))
            return False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if connection.waiting > self._limits.chat.chat_outbox_bytes:
            self._chat.counters.slow_consumers += 1
            connection.give_up(Refusal.OUTBOX, f"{connection.waiting} bytes wait")
            return False
        return not machine.outgoing

    # -- requests -------------------------------------------------------------------------------------

    def _work(self, requests: Iterator[AnyRequest | bytes]) -> Act | None:
        """Answer in turn, as far as it goes without waiting; the act that has to be waited for, or None."""
        if self.machine.draining:
            return None  # as what has not been read
        if self._principal is not None:
            self._current()
        voices, say = self.voices, self._rooms.say
        for request in requests:
            if type(request) is Say:
                voice = voices.get(request.room)
                if voice is None or voice.room.is_forgotten:
                    voice = self._find_voice(request.room, request.id)
                if voice is not None:
                    say(self, voice, request.id, request.body)
            elif type(request) is Says:
                voice = voices.get(request.room)
                if voice is None or voice.room.is_forgotten:
                    voice = self._find_voice(request.room, *request.ids)
                if voice is not None:
                    self._rooms.say_many(self, voice, request.ids, request.bodies)
            elif type(request) is bytes:
                self.machine.answer(request)
            else:
                act = _ACTS[type(request)](self, request)
                if act is not None:
                    return act
        return None

    async def _go_on(self, act: Act | None, requests: Iterator[AnyRequest | bytes]) -> None:
        """Do the act and what was asked behind it, and wait while too much is not acknowledged."""
        while act is not None:
            self._connection.flush()  # nothing that is answered stays behind what takes its time
            await act()
            act = self._work(requests)
        self._connection.flush()
        await self._until(lambda: not self.machine.is_ahead)

    async def _until(self, is_done: Callable[[], bool]) -> None:
        """Wait for acknowledgements to be sent."""
        while not is_done():
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _current(self) -> Principal:
        """Who this is, by the policy of now. Raises `AuthenticationError` when its right has ended."""
        before = cast("Principal", self._principal)
        now = self._authenticator.current(before)
        if now is not before:
            shown = cast("Principal | None", self._connection.certificate_principal)
            if shown is not None:
                self._authenticator.current(shown)  # beside a token too: the end of either ends the session
            self._principal = now
            self.voices.clear()
            self._connection.authenticated(now)
        return now

    def _hello(self, request: messages.Hello) -> None:
        if self._principal is not None:
            self.machine.answer(messages.error(Code.MALFORMED))  # once is enough
            return
        principal = self._authenticate(request.token)
        if principal is not self._connection.principal:
            self._connection.authenticated(principal)
        self._principal, self.name = principal, principal.name
        limits = self._limits
        bounds = messages.Bounds(
            limits.frame.frame_bytes,
            limits.chat.chat_body_bytes,
            limits.chat.chat_unacknowledged_count,
            limits.chat.chat_unacknowledged_bytes,
            limits.chat.chat_page_count,
            limits.connection.idle_seconds,
        )
        self.machine.welcome()
        self.machine.answer(messages.encode(messages.Welcome(principal.name, bounds)))

    def _authenticate(self, token: str | UnsetType) -> Principal:
        connection = self._connection
        # The shell knows no more of it than a name; it came from our authenticator.
        by_certificate = cast("Principal | None", connection.certificate_principal)
        if by_certificate is not None:
            by_certificate = self._authenticator.current(by_certificate)
        if token is UNSET:
            if by_certificate is None:
                connection.counters.authenticated(AuthMethod.NONE, AuthOutcome.REFUSED)
                raise AuthenticationError("hello: neither token nor certificate")
            return by_certificate
        try:
            principal = self._authenticator.bearer(token.encode(), connection.certificate)
        except AuthenticationError:
            connection.counters.authenticated(AuthMethod.TOKEN, AuthOutcome.REFUSED)
            raise
        connection.counters.authenticated(AuthMethod.TOKEN, AuthOutcome.ACCEPTED)
        return principal

    def _find_voice(self, room: str, *ids: bytes) -> Voice | None:
        """What it takes to speak there; None, and all `ids` answered, where that may not be."""
        if not cast("Principal", self._principal).permits("chat", "publish", room):
            self._refuse(Code.NOT_PERMITTED, room, ids)
            return None
        voice = self._rooms.voice(room, self.name)
        if voice is None:
            self._refuse(Code.ROOMS, room, ids)
            return None
        if len(self.voices) >= VOICES_COUNT:
            self.voices.clear()
        self.voices[room] = voice
        return voice

    def _refuse(self, code: Code, room: str, ids: Iterable[bytes]) -> None:
        for id_ in ids:
            self.machine.answer(messages.error(code, room, id_))

    def _is_refused(self, room: str) -> bool:
        """Whether it may not hear the room, and was told so. Looks at no room: there being one is no hint."""
        if cast("Principal", self._principal).permits("chat", "subscribe", room):
            return False
        self.machine.answer(messages.error(Code.NOT_PERMITTED, room))
        return True

    def _join(self, request: messages.Join) -> Act | None:
        room, after = request.room, _given(request.after)
        if self._is_refused(room):
            return None
        if not self._rooms.is_live(room):
            return functools.partial(self._rooms.join, self, room, after)
        if after is None:
            self._rooms.join_live(self, room)
            return _others_first(self.joined.get(room))
        self.machine.answer(messages.error(Code.NO_HISTORY, room))
        return None

    def _leave(self, request: messages.Leave) -> Act | None:
        room = self.joined.get(request.room)
        self._rooms.leave(self, request.room)
        return _others_first(room)

    def _history(self, request: messages.HistoryRequest) -> Act | None:
        room = request.room
        if self._is_refused(room):
            return None
        if self._rooms.is_live(room):
            self.machine.answer(messages.error(Code.NO_HISTORY, room))
            return None
        return functools.partial(self._rooms.history, self, room, _given(request.before), request.limit)

    def _who(self, request: messages.WhoRequest) -> None:
        if not self._is_refused(request.room):
            self._rooms.who(self, request.room, _given(request.after))

    def _ping(self, _: messages.Ping) -> None:
        self.machine.answer(messages.PONG)


def _others_first(room: Room | None) -> Act | None:
    """That somebody came or went was told to all of `room`. Where they are many it is the others' turn now:
    one read holds a thousand requests of somebody who does nothing else."""
    return _pass if room is not None and len(room.principals) > CROWD_COUNT else None


async def _pass() -> None:
    await asyncio.sleep(0)


def _given(value: Any) -> Any:
    return None if value is UNSET else value


# Each gives None when it is done, or what has to be waited for.
_ACTS: dict[type, Callable[[ChatSession, Any], Act | None]] = {
    messages.Hello: ChatSession._hello,
    messages.Join: ChatSession._join,
    messages.Leave: ChatSession._leave,
    messages.HistoryRequest: ChatSession._history,
    messages.WhoRequest: ChatSession._who,
    messages.Ping: ChatSession._ping,
}
