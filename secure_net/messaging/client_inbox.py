"""What a chat client has received and its program has not taken: room by room, in order, and bounded."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import deque
from collections.abc import Coroutine
from typing import Any

from secure_net.errors import HistoryGapError, LocalProtocolError, SecureNetError
from secure_net.messaging.client_messages import Joined, Message, Presence

EVENT_BYTES = 256  # what one costs besides its text
NEWS_COUNT = 16  # of the connection; the oldest are forgotten, for not every program asks for them


@dataclasses.dataclass(frozen=True, slots=True)
class Interrupted:
    """The connection is lost, and will be made again."""

    error: SecureNetError


@dataclasses.dataclass(frozen=True, slots=True)
class Resumed:
    """The connection is there again, and every room is gone on with."""


Item = Message | Presence | Interrupted | Resumed


class Room:
    """A room we are in, or ask to be in. `last` is the newest message that was received."""

    __slots__ = ("after", "incarnation", "is_joined", "is_live", "is_over", "last", "name", "waiting")

    def __init__(self, name: str, after: int | None = None) -> None:
        self.name, self.after = name, after
        self.last = 0
        self.incarnation: str | None = None
        self.is_joined = self.is_live = self.is_over = False
        # Each with its place among all that arrived, and what it costs.
        self.waiting: deque[tuple[int, Item | SecureNetError, int]] = deque()


class Inbox:
    """Events of all rooms. Beyond `most` bytes it asks for a pause, until half of them are taken."""

    def __init__(self, most: int) -> None:
        self.rooms: dict[str, Room] = {}
        self._most, self._held = most, 0
        self._order = itertools.count()
        self._news = Room("")
        self._over: list[Room] = []  # we are in them no more, and what came before that is still to be taken
        self._failure: SecureNetError | None = None
        self._is_over = False
        self._arrived, self._taken = asyncio.Event(), asyncio.Event()

    def add(self, name: str, after: int | None) -> Room:
        """A room that is about to be joined. Raises `LocalProtocolError` where it is already."""
        if name in self.rooms:
            raise LocalProtocolError(f"{name} is joined already")
        room = self.rooms[name] = Room(name, after)
        return room

    def room(self, name: str) -> Room:
        """Raises `LocalProtocolError` where it is not joined."""
        if name not in self.rooms:
            raise LocalProtocolError(f"{name} is not joined")
        return self.rooms[name]

    def remove(self, room: Room, error: SecureNetError | None = None) -> None:
        """Forget a room, or, with an `error`, let its readers come to it behind what has arrived."""
        if self.rooms.get(room.name) is room:
            del self.rooms[room.name]
        if error is None:
            while room.waiting:
                self._pop(room)
        else:
            self._put(room, error)
            self._over.append(room)
        room.is_over = True
        self._arrived.set()

    def put_out(self, name: str, error: SecureNetError) -> None:
        """The server has taken us out of a room."""
        if name in self.rooms:
            self.remove(self.rooms[name], error)

    def joined(self, event: Joined) -> None:
        """We are in a room, for the first time or again. In a live one nothing is kept for us meanwhile."""
        room = self.rooms.get(event.room)
        if room is None:
            return
        if not room.is_joined:
            room.last = event.seq if room.after is None else room.after
        elif (room.is_live or event.incarnation) and (room.incarnation, room.last) != (
            event.incarnation,
            event.seq,
        ):
            self._put(room, HistoryGapError(room.name, room.last, event.seq + 1, event.seq))
            room.last = event.seq
        room.is_joined, room.incarnation = True, event.incarnation
        room.is_live = event.incarnation is not None

    def received(self, event: Message | Presence, size: int) -> None:
        room = self.rooms.get(event.room)
        if room is None or self._is_over:  # left, and the server does not know yet
            return
        if isinstance(event, Message):
            room.last = event.seq
        self._put(room, event, size)

    def is_live(self, name: str) -> bool:
        """Whether it is known to keep no history."""
        room = self.rooms.get(name)
        return room is not None and room.is_live

    def lost(self, room: Room, gap: HistoryGapError) -> None:
        """What came behind `room.last` is not kept: go on with the oldest that is."""
        self._put(room, gap)
        room.last = gap.first - 1

    def tell(self, news: Interrupted | Resumed) -> None:
        """Of the connection, to those who ask for events."""
        if len(self._news.waiting) == NEWS_COUNT:
            self._pop(self._news)
        self._put(self._news, news)

    def end(self, failure: SecureNetError | None) -> None:
        """Nothing more comes: readers get what is here, then `failure`. Without one they get nothing."""
        self._failure, self._is_over = failure, True
        if failure is None:
            for room in (*self.rooms.values(), *self._over, self._news):
                while room.waiting:
                    self._pop(room)
        self._arrived.set()

    async def take(self, room: Room | None) -> Item | None:
        """The next event of `room`, or of them all; None when no more comes.

        Raises what stands in its place. Nothing is lost when this is cancelled.
        """
        while True:
            source = room if room is not None else self._oldest()
            if source is not None and source.waiting:
                item = self._pop(source)
                if isinstance(item, SecureNetError):
                    raise item
                return item
            if room is not None and room.is_over:
                return None
            if self._failure is not None:
                raise self._failure
            if self._is_over:
                return None
            self._arrived.clear()
            await self._arrived.wait()

    def pause(self) -> Coroutine[Any, Any, None] | None:
        """What to wait for before more is received; None: nothing."""
        return self._until_taken() if self._held > self._most else None

    async def _until_taken(self) -> None:
        while self._held > self._most // 2:
            self._taken.clear()
            await self._taken.wait()

    def _oldest(self) -> Room | None:
        self._over = [room for room in self._over if room.waiting]
        sources = [room for room in (*self.rooms.values(), *self._over, self._news) if room.waiting]
        return min(sources, key=lambda room: room.waiting[0][0], default=None)

    def _put(self, room: Room, item: Item | SecureNetError, size: int = 0) -> None:
        cost = size + EVENT_BYTES
        room.waiting.append((next(self._order), item, cost))
        self._held += cost
        self._arrived.set()

    def _pop(self, room: Room) -> Item | SecureNetError:
        _, item, cost = room.waiting.popleft()
        self._held -= cost
        self._taken.set()
        return item
