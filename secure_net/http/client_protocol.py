"""The client's machine: one request at a time, and nothing believed of its answer (RFC 9112).

Theory of operation. `send_request` queues a request; `next_event` gives its answer once it is whole. An
answer is bounded in every part. What a strict reader and a lenient one could take differently is a
`RemoteProtocolError`, and the connection is then of no more use: after an answer `reusable` says whether it
is. Answers nobody asked for, an upgrade, and any interim answer but ``100 Continue`` are refused.

An answer that says no length ends with the connection (RFC 9112 section 6.3). It is taken for whole only
where that end was clean, as somebody on the way can cut a connection, but cannot forge a close_notify.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.http.body import BodyReader, Buffer, ChunkedReader, LengthReader
from secure_net.http.fields import TOKEN, malformed, parse_connection, parse_fields, parse_framing, too_large
from secure_net.http.head import REQUEST_LINE
from secure_net.http.search import HeadSearch
from secure_net.limits import HTTPLimits
from secure_net.machine import Machine

# RFC 9112 section 4; the reason is visible ASCII, and nobody reads it.
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2}) [\t -~]*+\r\n")

_NAME = re.compile(TOKEN + rb"++")
_VALUE = re.compile(rb"[!-~]++(?:[ \t]++[!-~]++)*+")

# The machine says these itself.
_OURS = frozenset({b"content-length", b"host", b"transfer-encoding"})

_INTERIM_COUNT = 1  # RFC 9110 section 15.2.1: one 100 says all that it can say


class State(enum.Enum):
    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    CLOSED = enum.auto()


class Answer:
    """The answer to a request. `fields` maps lower-case names to values, as in `Head`."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, fields: Mapping[bytes, bytes], body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body

    def get(self, name: bytes) -> bytes | None:
        """The value of the field with this lower-case name."""
        return self.fields.get(name)


class UntilEndReader:
    """A body that ends with the connection, of at most `most` bytes."""

    __slots__ = ("_most", "complete", "received")

    def __init__(self, most: int) -> None:
        self.received = bytearray()
        self.complete = False
        self._most = most

    def read(self, buffer: Buffer, position: int) -> int:
        self.received += buffer[position:]
        if len(self.received) > self._most:
            raise too_large("body", 0)
        return len(buffer)


class HTTPClientMachine(Machine):
    """One connection to an HTTP/1.1 server.

    `host` is what the `Host` field says (``name:port``); an answer's body may have `body_bytes`. The
    machine sets no deadlines: whoever waits for the answer has one.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_buffer",
        "_ended",
        "_ended_clean",
        "_fields",
        "_host",
        "_interim",
        "_last",
        "_limits",
        "_method",
        "_search",
        "_state",
        "_status",
        "_stays",
    )

    def __init__(self, limits: HTTPLimits, *, host: bytes, body_bytes: int) -> None:
        super().__init__()
        if not _VALUE.fullmatch(host):
            raise LocalProtocolError("not a host")
        self._limits = limits
        self._host = host
        self._body_bytes = body_bytes
        self._buffer: Buffer = b""
        self._search = HeadSearch(STATUS_LINE, limits)
        self._state = State.IDLE
        self._ended = self._ended_clean = False
        self._last = False  # no request after the one under way
        # Of the exchange under way.
        self._method = ""
        self._interim = 0
        self._status = 0
        self._fields: dict[bytes, bytes] = {}
        self._body: BodyReader | None = None
        self._stays = True

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        return self._state is State.IDLE and not self._ended and not self._buffer

    def send_request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes | None = None,
    ) -> None:
        """Queue a request; `target` in origin form, `headers` without host and length.

        `body` None is no body at all, and no length. Raises `LocalProtocolError` while another request is
        under way, after the connection's end, and for what would not be one sound request.
        """
        if not self.reusable:
            raise LocalProtocolError("the connection takes no request now")
        start = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
        if REQUEST_LINE.fullmatch(start) is None:
            raise LocalProtocolError("not a request line")
        lines = [start, b"host: %b\r\n" % self._host]
        for name, value in headers:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise LocalProtocolError("not a header field")
            if name.lower() in _OURS:
                raise LocalProtocolError(f"{name.decode('ascii')} is for the machine to say")
            lines.append(b"%b: %b\r\n" % (name, value))
        if body is not None:
            lines.append(b"content-length: %d\r\n" % len(body))
        lines += (b"\r\n", body or b"")
        self.outgoing.append(b"".join(lines))
        self._method = method
        self._interim = 0
        self._state = State.HEAD
        self._enter(None, Refusal.READ_DEADLINE)

    def receive_data(self, data: bytes) -> None:
        if self._state is State.CLOSED or not data:
            return
        self.buffered += len(data)
        if not self._buffer:
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data

    def receive_eof(self, *, clean: bool) -> None:
        """Raises `RemoteProtocolError` (TRUNCATED) where the peer is gone before an answer was handed out."""
        self._ended, self._ended_clean = True, clean
        if not clean and self._state in (State.HEAD, State.BODY):
            self._close()
            raise RemoteProtocolError(Refusal.TRUNCATED, "end before the whole answer")

    def next_event(self) -> Answer | None:
        """The whole answer, or None. Raises `RemoteProtocolError` where it cannot become one."""
        try:
            return self._advance()
        except RemoteProtocolError:
            self._close()
            raise

    def drain(self) -> None:
        """Take the answer under way, and send no further request."""
        self._last = True
        if self._state is State.IDLE:
            self._close()

    def _advance(self) -> Answer | None:
        if self._state is State.IDLE:
            if self._buffer:
                raise malformed("an answer that nobody asked for", 0)
            if self._ended:
                self._close()
            return None
        while self._state is State.HEAD:
            if not self._read_head():
                return None
        if self._state is State.BODY and self._body is not None:
            return self._read_body(self._body)
        return None

    def _read_head(self) -> bool:
        """Read one head, interim or final. False while some of it is missing."""
        end = self._search.find(self._buffer, 0)
        if end < 0:
            if self._ended:
                raise RemoteProtocolError(Refusal.TRUNCATED, "end inside a head")
            return False
        raw = bytes(self._buffer[:end])
        line = STATUS_LINE.match(raw)
        if line is None:
            raise malformed("status line", 0)
        minor, status = int(line[1]), int(line[2])
        fields = parse_fields(raw[line.end() : -2], self._limits.http_headers_count)
        self._consume(end)
        if status < 200:
            self._note_interim(status)
        else:
            self._begin_body(minor, status, fields)
        return True

    def _note_interim(self, status: int) -> None:
        self._interim += 1
        if status != 100 or self._interim > _INTERIM_COUNT:
            raise malformed("interim answer", 0)

    def _begin_body(self, minor: int, status: int, fields: dict[bytes, bytes]) -> None:
        """RFC 9112 section 6.3: how long the body is, in order of precedence."""
        self._status, self._fields = status, fields
        self._stays = parse_connection(fields.get(b"connection"), minor=minor)
        framing = parse_framing(fields, minor=minor)
        if self._method == "HEAD" or status in (204, 304):
            self._body = LengthReader(0)
        elif framing.chunked:
            self._body = ChunkedReader(self._body_bytes, self._limits)
        elif framing.length is None:
            self._stays = False
            self._body = UntilEndReader(self._body_bytes)
        elif framing.length > self._body_bytes:
            raise too_large("content-length", 0)
        else:
            self._body = LengthReader(framing.length)
        self._state = State.BODY

    def _read_body(self, body: BodyReader) -> Answer | None:
        if not body.complete:
            self._consume(body.read(self._buffer, 0))
        if not body.complete:
            if not self._ended:
                return None
            if not (self._ended_clean and isinstance(body, UntilEndReader)):
                raise RemoteProtocolError(Refusal.TRUNCATED, "end inside a body")
        if self._buffer:
            raise malformed("bytes behind the answer", 0)
        answer = Answer(self._status, self._fields, bytes(body.received))
        self._body = None
        self.buffered = 0
        if self._stays and not self._ended and not self._last:
            self._state = State.IDLE
            self._enter(None, Refusal.IDLE)
        else:
            self._close()
        return answer

    def _consume(self, position: int) -> None:
        self._buffer = b"" if position == len(self._buffer) else bytes(self._buffer[position:])

    def _close(self) -> None:
        self._state = State.CLOSED
        self._buffer = b""
        self._body = None
        self.buffered = 0
        self.finished = True
