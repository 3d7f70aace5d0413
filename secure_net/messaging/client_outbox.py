"""What a chat client says, from the program's call until the server's acknowledgement, over connections.

What was sent and is not acknowledged when a connection is lost is sent again on the next, before all else, in
the same order and under the same ids: the server acknowledges what it knows already and keeps it once. A live
room keeps nothing; what was sent there and not acknowledged stays unknown.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from secure_net.errors import LocalProtocolError, OutcomeUnknownError, SecureNetError

if TYPE_CHECKING:
    from secure_net.messaging.client_session import ChatSession


class Said:
    """A message on its way: `answer` is its sequence number, `sent` is set once it has left."""

    __slots__ = ("answer", "body", "id", "room", "sent")

    def __init__(self, room: str, id_: str, body: bytes) -> None:
        self.room, self.id, self.body = room, id_, body
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.sent = asyncio.Event()

    def fail(self, error: SecureNetError) -> None:
        self.sent.set()
        if not self.answer.done():
            self.answer.set_exception(error)


class Outbox:
    """Sends within what the server takes at a time. Whoever cancels an `answer` wants no more of it."""

    def __init__(self) -> None:
        self._unsent: deque[Said] = deque()
        self._in_flight: dict[str, Said] = {}
        self._session: ChatSession | None = None
        self._failure: SecureNetError | None = None

    async def put(self, said: Said) -> None:
        """Returns once it has left, or can no more."""
        if self._failure is not None:
            raise self._failure
        self._unsent.append(said)
        self.push()
        await said.sent.wait()

    def online(self, session: ChatSession) -> None:
        self._session = session
        self.push()

    def offline(self, is_live: Callable[[str], bool]) -> None:
        """The connection is lost: what is not acknowledged has to be said again, first.

        Not in a live room, which knows no id a second time: there it may have been heard, and may not.
        """
        self._session = None
        for said in reversed(self._in_flight.values()):
            if is_live(said.room):
                said.fail(_unknown())
            else:
                self._unsent.appendleft(said)
        self._in_flight.clear()

    def push(self) -> None:
        """Send as much as the server takes now."""
        session = self._session
        if session is None or not session.takes_requests or not self._unsent:
            return
        chat = session.chat
        while self._unsent:
            said = self._unsent[0]
            if not said.answer.done():
                if not chat.may_say(len(said.body)):
                    break
                try:
                    chat.say(said.room, said.id, said.body)
                except LocalProtocolError as error:
                    said.fail(error)
                else:
                    self._in_flight[said.id] = said
                    said.sent.set()
            self._unsent.popleft()
        session.wake()

    def settled(self, id_: str, outcome: int | SecureNetError) -> None:
        """The server's answer to a `say`."""
        said = self._in_flight.pop(id_)
        if isinstance(outcome, SecureNetError):
            said.fail(outcome)
        elif not said.answer.done():
            said.answer.set_result(outcome)
        self.push()

    def end(self, failure: SecureNetError) -> None:
        """No connection any more. What left before may have been heard."""
        self._session, self._failure = None, failure
        for said in (*self._in_flight.values(), *self._unsent):
            said.fail(_unknown() if said.sent.is_set() else failure)
        self._in_flight.clear()
        self._unsent.clear()


def _unknown() -> OutcomeUnknownError:
    return OutcomeUnknownError("the connection was lost before the acknowledgement")
