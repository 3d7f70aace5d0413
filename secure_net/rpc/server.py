"""XML-RPC over HTTPS: the HTTP application at ``/RPC2``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from secure_net.clock import Clock
from secure_net.errors import Refusal, RefusedError
from secure_net.http.head import Head
from secure_net.http.protocol import Request
from secure_net.http.response import (
    FORBIDDEN,
    LENGTH_REQUIRED,
    NOT_FOUND,
    UNAUTHENTICATED,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    Headers,
    Response,
    method_not_allowed,
)
from secure_net.rpc.dispatcher import Dispatcher

if TYPE_CHECKING:
    from secure_net.identity.policy import Principal
    from secure_net.wire.connection import Connection

PATH = "/RPC2"
_MEDIA_TYPES = frozenset({b"text/xml", b"application/xml"})
_CHARSETS = frozenset({b"utf-8", b"us-ascii"})
LARGE_BYTES = 64 * 1024  # a body of this size is some milliseconds of work, one of 1 MiB a hundred
_STOPPING_SECONDS = 1.0  # left of a drain for the last faults to leave

_XML: Headers = ((b"content-type", b"text/xml; charset=utf-8"),)
_NOT_POST = method_not_allowed("POST")


class RPCApplication:
    """Answers ``POST /RPC2`` for a principal with any scope of ``rpc:call``.

    Who has no credential is told nothing but 401. A fault is an answer with status 200; 403 is for a
    credential without any such scope, 503 for a call that found too many waiting before it.
    """

    def __init__(self, dispatcher: Dispatcher, clock: Clock) -> None:
        self._dispatcher, self._clock = dispatcher, clock
        self._large = asyncio.Lock()

    def admit(self, head: Head, principal: Principal | None) -> Response | None:
        """Refuse before the body is read. Depends on nothing but its arguments."""
        if principal is None:
            return UNAUTHENTICATED
        if not principal.permits_any("rpc", "call"):
            return FORBIDDEN
        return _refusal(head)

    def respond(
        self, request: Request, principal: Principal | None, connection: Connection
    ) -> Response | Coroutine[Any, Any, Response]:
        """Answer what `admit` let in: at once where the method is inline."""
        if principal is None:
            return UNAUTHENTICATED
        if len(request.body) > LARGE_BYTES:
            return self._in_turn(request.body, principal, connection.peer)
        answer = self._dispatcher.handle(request.body, principal, connection.peer)
        if isinstance(answer, bytes):
            return Response(200, _XML, answer)
        return _later(answer)

    async def _in_turn(self, body: bytes, principal: Principal, peer: str) -> Response:
        """Large bodies are read one in a turn of the event loop, first come, first served: whoever sends
        many of them waits for himself, and everybody else for one at most."""
        async with self._large:
            await asyncio.sleep(0)  # everybody else comes first
            answer = self._dispatcher.handle(body, principal, peer)
        return Response(200, _XML, answer) if isinstance(answer, bytes) else await _later(answer)

    def drain(self, seconds: float) -> None:
        """The daemon stops in `seconds`: what is not done shortly before gets a fault instead of nothing."""
        self._clock.call_at(
            self._clock.monotonic() + max(0.0, seconds - _STOPPING_SECONDS), self._dispatcher.end_calls
        )


def _refusal(head: Head) -> Response | None:
    """Why this request can be no call, if so."""
    if head.path != PATH or head.query:
        return NOT_FOUND
    if head.method != "POST":
        return _NOT_POST
    if head.content_length is None and not head.chunked:
        return LENGTH_REQUIRED
    if head.get(b"content-encoding") is not None or not _is_xml(head.content_type):
        return UNSUPPORTED_MEDIA_TYPE
    return None


async def _later(answer: Coroutine[Any, Any, bytes]) -> Response:
    try:
        return Response(200, _XML, await answer)
    except RefusedError as error:
        if error.reason is not Refusal.OVERLOAD:
            raise
        return UNAVAILABLE


def _is_xml(content_type: bytes | None) -> bool:
    """``text/xml`` or ``application/xml``; a charset, where one is said, must be one that we read."""
    media_type, *parameters = (content_type or b"").lower().split(b";")
    if media_type.strip() not in _MEDIA_TYPES:
        return False
    for parameter in parameters:
        name, _, value = parameter.strip().partition(b"=")
        if name == b"charset" and value.strip(b'"') not in _CHARSETS:
            return False
    return True
