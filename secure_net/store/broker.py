"""The `Broker` seam: what durable rooms need of whatever keeps their messages.

A room is a name and a row of messages, numbered from 1 without a gap. The broker gives out the numbers,
keeps what was published, knows an id again that was said before, and drops the oldest messages where a
room has more than its share. It knows nothing of members, scopes or sockets: who may do it was decided
before.

The embedded default is `sqlite_broker`, on the same database as the store.

A publication is done when its verdict is here: it is on the disk by then, and its sequence number will
never be another message's, whatever is killed, restarted or trimmed. What fails was not kept: saying it
again with the same id is safe, also where the failure came after the commit.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NamedTuple, Protocol

ID_BYTES = 16

Outcome = Literal["new", "again", "conflict", "rooms"]


class Publication(NamedTuple):
    """A message to keep. `token` is the caller's own and comes back in the verdict, untouched."""

    room: str
    sender: str
    id: bytes  # ID_BYTES, chosen by the sender at random; tells a retry from a second message
    at: float  # Unix seconds
    body: bytes  # JSON, kept as it is
    token: Any = None


class Message(NamedTuple):
    """A message that is kept."""

    room: str
    seq: int
    sender: str
    at: float
    body: bytes


class Verdict(NamedTuple):
    """What became of a publication.

    ============ =================================================== =========================
    `outcome`    meaning                                             `seq`
    ============ =================================================== =========================
    ``new``      kept now                                            its number
    ``again``    this sender said this id and body here before       the number it has had since
    ``conflict`` this sender said this id with another body before   that other message's number
    ``rooms``    no room may be added, in all or by this sender      0
    ============ =================================================== =========================

    An id is known for as long as its message is kept.
    """

    publication: Publication
    seq: int
    outcome: Outcome


class Standing(NamedTuple):
    """How far a room has come: `seq` is the newest number given (0: none), `first` the oldest kept.

    Where none is kept, `first` is seq + 1; a room nobody wrote to stands at (0, 1).
    """

    seq: int
    first: int


class RoomRecord(NamedTuple):
    """A room that was written to. `creator` wrote to it first; `size` is in bytes, as retention counts."""

    name: str
    creator: str
    standing: Standing
    size: int


class Broker(Protocol):
    """Rooms that are kept. For the running loop; no call raises, every future may raise a `StateError`.

    `StateFullError`: it cannot be kept now, and may be later. Order: of two `publish` calls the first is
    numbered first, and a `standing` or `page` asked for after a verdict came sees what that verdict says.
    It may see more: messages whose verdicts are still on their way. Skip by number what came already.
    """

    def publish(self, publications: list[Publication]) -> asyncio.Future[list[Verdict]]:
        """Keep these, in order and in one commit; a verdict for each, in the same order.

        When it fails none of them was kept. One that is refused takes no number and holds up no other.
        """
        ...

    def standing(self, room: str) -> asyncio.Future[Standing]: ...

    def page(
        self,
        room: str,
        *,
        after: int | None = None,
        before: int | None = None,
        upto: int | None = None,
        count: int,
        size: int,
    ) -> asyncio.Future[tuple[Standing, list[Message]]]:
        """Messages of a room that are kept, oldest first, and how the room stood at the same instant.

        With `after`: the oldest ones with a greater number, and no number above `upto`. Without it: the
        newest ones with a number less than `before`, or of all. At most `count` of them, and no more than
        about `size` bytes of bodies; one at least where there is one. Compare the first with the
        standing's `first` to know whether any were dropped in between.
        """
        ...

    def rooms(self) -> asyncio.Future[list[RoomRecord]]:
        """Every room, by name."""
        ...

    def close(self) -> None:
        """Finish what waits. Whoever opened what the broker rests on closes that afterwards."""
        ...
