"""An answer, and the head it is sent with (RFC 9110 section 15, RFC 9112 section 4).

Most answers of a service share status and header fields, and the date changes once a second: the head
up to the length of the body is built once a second for each such pair, and then only looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any, Protocol

from secure_net.errors import LocalProtocolError
from secure_net.http.fields import TOKEN

Headers = tuple[tuple[bytes, bytes], ...]
Piece = bytes | memoryview

REASONS = {
    100: b"Continue",
    200: b"OK",
    204: b"No Content",
    206: b"Partial Content",
    301: b"Moved Permanently",
    303: b"See Other",
    304: b"Not Modified",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    411: b"Length Required",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}

BODILESS = frozenset({204, 304})  # RFC 9110 section 6.4.1

# In every answer unless it says otherwise: what we answer is private, and is what it says it is.
_DEFAULTS: Headers = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

# The machine alone says these, from the body it sends and the state it is in.
_OURS = frozenset({b"connection", b"content-length", b"date", b"transfer-encoding"})

_NAME = re.compile(TOKEN + rb"++")
_VALUE = re.compile(rb"[\t -~]*+")

_PREPARED_COUNT = 256  # heads kept in one second; a service has a handful, files one for each file


class Response:
    """An answer: `status`, `headers` (lower-case names), `body`. May be made once and sent many times.

    `close` asks that the connection end behind it. `headers` shall be a constant of its module where the
    answers of a service share it. Length, date and connection management are not for the caller to say.
    """

    __slots__ = ("body", "close", "headers", "status")

    def __init__(self, status: int, headers: Headers = (), body: bytes = b"", close: bool = False) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.close = close


class BodyBrokenError(Exception):
    """The rest of a body cannot be had. Part of it was sent, so that the connection has to end."""


class BodySource(Protocol):
    """Where the body of a `Stream` comes from."""

    def next_piece(self) -> Piece | Coroutine[Any, Any, Piece]:
        """What follows, at least a byte; at once, or by a coroutine. Raises `BodyBrokenError`."""
        ...

    def close(self) -> None:
        """All of it was sent, or nobody wants more. Called once."""
        ...


class Stream(Response):
    """An answer whose body is sent piece by piece: `length` bytes in all, from `source`."""

    __slots__ = ("length", "source")

    def __init__(self, status: int, headers: Headers, length: int, source: BodySource) -> None:
        super().__init__(status, headers)
        self.length = length
        self.source = source


def constant(status: int, *headers: tuple[bytes, bytes], close: bool = False) -> Response:
    """The answer with this status that says its name in plain text and nothing else."""
    body = b"%d %b\n" % (status, REASONS[status])
    return Response(status, ((b"content-type", b"text/plain"), *headers), body, close)


_RETRY_AFTER = (b"retry-after", b"5")

# RFC 6750 section 3.1: without a credential no error is named; every wrong one gets the same answer.
UNAUTHENTICATED = constant(401, (b"www-authenticate", b"Bearer"))
INVALID_TOKEN = constant(401, (b"www-authenticate", b'Bearer error="invalid_token"'), close=True)
FORBIDDEN = constant(403, (b"www-authenticate", b'Bearer error="insufficient_scope"'))
NOT_FOUND = constant(404)
LENGTH_REQUIRED = constant(411)
PRECONDITION_FAILED = constant(412)
UNSUPPORTED_MEDIA_TYPE = constant(415)
TOO_MANY_REQUESTS = constant(429, _RETRY_AFTER)
UNAVAILABLE = constant(503, _RETRY_AFTER)

# The last words on a connection, by status.
REFUSALS = {
    **{status: constant(status, close=True) for status in (400, 408, 413, 414, 417, 431, 500)},
    401: INVALID_TOKEN,
    429: TOO_MANY_REQUESTS,
    503: UNAVAILABLE,
}


def method_not_allowed(*allowed: str) -> Response:
    """405, with the methods that are allowed (RFC 9110 section 15.5.6)."""
    return constant(405, (b"allow", ", ".join(allowed).encode("ascii")))


class ResponseHeads:
    """The heads of a service's answers, prepared for the present second.

    `wall` gives Unix time in seconds. One object serves all connections of a service.
    """

    __slots__ = ("_date", "_prepared", "_second", "_wall")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._second = -1
        self._date = b""
        self._prepared: dict[tuple[int, Headers], bytes] = {}

    def prefix(self, status: int, headers: Headers) -> bytes:
        """The head up to and with ``content-length: ``; the number, and the rest, are the machine's.

        Raises `LocalProtocolError` for a status without a body, and as `build` does.
        """
        second = int(self._wall())
        if second != self._second:
            self._begin(second)
        key = (status, headers)
        prefix = self._prepared.get(key)
        return prefix if prefix is not None else self._prepare(key)

    def fresh(self, status: int, headers: Headers) -> bytes:
        """The head up to its last field, without a length (a 204 or 304 has none: RFC 9110 section 8.6), and
        not remembered."""
        second = int(self._wall())
        if second != self._second:
            self._begin(second)
        return self._build(status, headers)

    def _begin(self, second: int) -> None:
        self._second = second
        self._date = formatdate(second, usegmt=True).encode("ascii")
        self._prepared.clear()

    def _prepare(self, key: tuple[int, Headers]) -> bytes:
        status, headers = key
        if status in BODILESS:
            raise LocalProtocolError(f"an answer with status {status} has no body")
        prefix = self._build(status, headers) + b"content-length: "
        if len(self._prepared) >= _PREPARED_COUNT:
            self._prepared.clear()
        self._prepared[key] = prefix
        return prefix

    def _build(self, status: int, headers: Headers) -> bytes:
        """Status line and fields. Raises `LocalProtocolError` where they would not be one sound head."""
        reason = REASONS.get(status)
        if reason is None or status < 200:
            raise LocalProtocolError(f"no final answer has status {status}")
        lines = [b"HTTP/1.1 %d %b\r\ndate: %b\r\n" % (status, reason, self._date)]
        names = set()
        for name, value in headers:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name != name.lower():
                raise LocalProtocolError(f"not a header field: {name!r}")
            if name in _OURS:
                raise LocalProtocolError(f"{name.decode('ascii')} is for the machine to say")
            names.add(name)
            lines.append(b"%b: %b\r\n" % (name, value))
        lines += [b"%b: %b\r\n" % (name, value) for name, value in _DEFAULTS if name not in names]
        return b"".join(lines)
