"""The chat client for programs without an event loop.

::

    with SyncChatClient() as chat:          # or SyncChatClient("chat.example.org", 9802, token_file="t")
        chat.join("ops", after=0)
        chat.say("ops", {"disk": "full"})
        for message in chat:
            print(message.room, message.seq, message.sender, message.body)

It is `ChatClient` on a loop in a thread of its own, and all that is said there holds here: between two calls
somebody has to connect again, and to ping in time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, Unpack

from secure_net.discovery import Credentials
from secure_net.errors import LocalProtocolError
from secure_net.messaging.client import ChatClient
from secure_net.messaging.client_messages import Joined, Message

T = TypeVar("T")


class ChatOptions(Credentials, total=False):
    """The keyword arguments of `ChatClient` that are of use here."""

    deadline_seconds: float
    patience_seconds: float | None
    received_bytes: int


class SyncChatClient:
    """A member of rooms on one server; usable by several threads. The parameters are `ChatClient`'s."""

    def __init__(
        self, host: str | None = None, port: int | None = None, **options: Unpack[ChatOptions]
    ) -> None:
        """Connect. Raises `ConfigurationError`, or why there is no connection."""
        started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(started)), name="chat-client", daemon=True
        )
        self._lock = threading.Lock()
        self._thread.start()
        self._loop: asyncio.AbstractEventLoop | None = started.result()
        try:
            self._client = self._do(self._connect(host, port, options))
        except BaseException:
            self._stop_loop()
            raise

    @property
    def principal(self) -> str:
        """Who we are to the server."""
        return self._client.principal

    def join(self, room: str, after: int | None = None) -> Joined:
        """As `ChatClient.join`."""
        return self._do(self._client.join(room, after))

    def leave(self, room: str) -> None:
        """As `ChatClient.leave`."""
        self._do(self._client.leave(room))

    def say(
        self,
        room: str,
        body: Any,
        *,
        id: str | None = None,  # noqa: A002 - the protocol's word
        deadline_seconds: float | None = None,
    ) -> int:
        """As `ChatClient.say`."""
        return self._do(self._client.say(room, body, id=id, deadline_seconds=deadline_seconds))

    def history(self, room: str, *, before: int | None = None, limit: int = 100) -> list[Message]:
        """As `ChatClient.history`."""
        return self._do(self._client.history(room, before=before, limit=limit))

    def who(self, room: str) -> list[str]:
        """As `ChatClient.who`."""
        return self._do(self._client.who(room))

    def receive(self, timeout_seconds: float | None = None, *, room: str | None = None) -> Message | None:
        """The next message of `room`, or of all that are joined; None where none came in `timeout_seconds`.

        Raises as `ChatClient.receive`.
        """
        return self._do(self._receive(timeout_seconds, room))

    def __iter__(self) -> Iterator[Message]:
        """Each message of all rooms, until the client is closed. Raises as `ChatClient.receive`."""
        while (message := self._do(self._next())) is not None:
            yield message

    def close(self) -> None:
        """As `ChatClient.close`."""
        if self._loop is not None:
            try:
                self._do(self._client.close())
            finally:
                self._stop_loop()

    def __enter__(self) -> SyncChatClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- the thread -----------------------------------------------------------------------------------

    async def _live(self, started: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
        self._stopping = asyncio.Event()
        started.set_result(asyncio.get_running_loop())
        await self._stopping.wait()

    def _stop_loop(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _do(self, act: Coroutine[Any, Any, T]) -> T:
        """Have it done there, and wait for it; when this is interrupted, it is called off."""
        with self._lock:  # what is asked before the loop is told to stop, it begins, and calls off
            if self._loop is None:
                act.close()
                raise LocalProtocolError("the client was closed")
            doing = asyncio.run_coroutine_threadsafe(act, self._loop)
        try:
            return doing.result()
        except concurrent.futures.CancelledError:
            raise LocalProtocolError("the client was closed") from None
        except BaseException:
            doing.cancel()
            raise

    @staticmethod
    async def _connect(host: str | None, port: int | None, options: ChatOptions) -> ChatClient:
        client = ChatClient(host, port, **options)
        await client.connect()
        return client

    async def _next(self) -> Message | None:
        return await anext(self._client, None)

    async def _receive(self, seconds: float | None, room: str | None) -> Message | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._client.receive(room)
        return None
