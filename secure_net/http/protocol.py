"""The server's machine: requests out of bytes, answers into bytes (RFC 9112).

Theory of operation. One request is under way at a time. `next_event` gives it and nothing further until
`respond`; requests that were pipelined behind it wait in the buffer, so that answers leave in order.
What the machine waits for is its state:

* HEAD    for a head, whole and under its caps. Nothing is searched twice.
* OFFERED for the session's word on a `RequestHead`, whose body has not all arrived: `accept_body` goes
  on, `respond` answers at once and ends the connection, as the rest of the body is in the way.
* BODY    for the rest of that body, at its pace.
* ANSWER  for `respond`.
* STREAM  for the next piece of a long answer's body (`send_piece`): its event is `BODY_WANTED`, again
  and again. The shell asks for events only while the peer takes what it was sent: that is the back-pressure.
* CLOSED  for nothing: what still arrives is dropped.

A client that keeps its connection sends the same head again and again: a head that is byte for byte the
last one is not parsed again, and the session gets the same `Head` object, by which it knows that what it
decided on the last one still stands.
"""

from __future__ import annotations

import enum
from typing import cast

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.http.body import BodyReader, Buffer, ChunkedReader, LengthReader
from secure_net.http.fields import too_large
from secure_net.http.head import REQUEST_LINE, Head, parse_head
from secure_net.http.response import BODILESS, REFUSALS, Piece, Response, ResponseHeads, Stream
from secure_net.http.search import HeadSearch
from secure_net.limits import HTTPLimits
from secure_net.machine import Machine

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Larger heads are parsed each time: what idle connections remember stays small (10,000 of these: 40 MB).
REMEMBERED_HEAD_BYTES = 4096

_CONNECTION = {False: b"connection: close\r\n", True: b"connection: keep-alive\r\n"}

# What the shell may refuse while a request waits for its answer: then that is the answer.
_FAREWELLS = {Refusal.INTERNAL: 500, Refusal.DRAINING: 503, Refusal.MEMORY: 503}

# What the shell may refuse before the first request, because of the certificate: TLS 1.3 has told the
# client that all is well, so the answer to that first request is where it learns of it.
_UNWELCOME = dict.fromkeys(
    (
        Refusal.CERTIFICATE_PROFILE,
        Refusal.CERTIFICATE_REVOKED,
        Refusal.CREDENTIAL,
        Refusal.EXPIRED,
        Refusal.REVOKED,
    ),
    401,
) | {Refusal.CONNECTIONS_PER_PRINCIPAL: 429}
_FIRST_PHASE = 1


class State(enum.Enum):
    HEAD = enum.auto()
    OFFERED = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    STREAM = enum.auto()
    CLOSED = enum.auto()


# Bound once: an attribute of an enumeration costs a lookup in two dictionaries.
HEAD, OFFERED, BODY, ANSWER, STREAM, CLOSED = State


class RequestHead:
    """A head whose body has not all arrived: `accept_body`, or `respond` at once."""

    __slots__ = ("head",)

    def __init__(self, head: Head) -> None:
        self.head = head


class Request:
    """A whole request. `body` is empty where there is none."""

    __slots__ = ("body", "head")

    def __init__(self, head: Head, body: bytes) -> None:
        self.head = head
        self.body = body


class BodyWanted:
    """The peer takes more of the answer's body: `send_piece`."""

    __slots__ = ()


BODY_WANTED = BodyWanted()


class HTTPMachine(Machine):
    """One connection of an HTTP/1.1 server.

    `body_bytes` bounds a body (beyond: 413). A body may take `body_seconds` and then, for each second
    more, must have brought `body_bytes_per_second` (else 408). `heads` prepares the answers' heads,
    `responses` counts the answers by status. `any_path` is for services that answer a path which is not
    UTF-8, or holds control characters, as one that does not exist (see `Head`).
    """

    __slots__ = (
        "_any_path",
        "_body",
        "_body_bytes",
        "_body_bytes_per_second",
        "_body_seconds",
        "_buffer",
        "_ended",
        "_head",
        "_heads",
        "_keep_alive_seconds",
        "_last_head",
        "_last_raw",
        "_limits",
        "_missing",
        "_plain",
        "_reading_head",
        "_responses",
        "_search",
        "_start",
        "_state",
        "_stays",
        "draining",
    )

    def __init__(
        self,
        limits: HTTPLimits,
        heads: ResponseHeads,
        *,
        body_bytes: int,
        body_seconds: float = 5.0,
        body_bytes_per_second: int = 1024,
        responses: dict[int, int] | None = None,
        any_path: bool = False,
    ) -> None:
        super().__init__()
        self._any_path = any_path
        self._limits = limits
        self._heads = heads
        self._body_bytes = body_bytes
        self._body_seconds = body_seconds
        self._body_bytes_per_second = body_bytes_per_second
        self._responses = responses if responses is not None else {}
        self._keep_alive_seconds = limits.http_keep_alive_seconds
        self.draining = False
        self._state = HEAD
        self._ended = False
        # What has arrived and is not consumed: `_buffer` from `_start` on.
        self._buffer: Buffer = b""
        self._start = 0
        self._search = HeadSearch(REQUEST_LINE, limits)
        self._reading_head = False  # some of a head has arrived
        self._body: BodyReader | None = None
        self._head: Head | None = None
        self._last_raw = b""
        self._last_head: Head | None = None
        # Whether the request under way wants the usual answer: HTTP/1.1, keep alive, with a body.
        self._plain = False
        # Of a body that is sent in pieces: what is still to come, and whether the connection stays behind it.
        self._missing = 0
        self._stays = False
        # A peer that has just connected gets no more than this to begin.
        self._enter(limits.http_headers_seconds, Refusal.IDLE)

    # What arrives

    def receive_data(self, data: bytes) -> None:
        if self._state is CLOSED:
            return
        self.buffered += len(data)
        if not self._buffer:
            self._buffer = data
        elif isinstance(self._buffer, bytes):
            self._buffer = bytearray(self._buffer[self._start :])
            self._buffer += data
            self._start = 0
        else:
            del self._buffer[: self._start]
            self._buffer += data
            self._start = 0

    def receive_eof(self, *, clean: bool) -> None:
        """Requests that are whole are still answered: a length frames each, so that none can be cut.

        Raises `RemoteProtocolError` (TRUNCATED) where the peer is gone in the middle of one.
        """
        self._ended = True
        if not clean and (self._state in (ANSWER, STREAM) or self.buffered):
            raise RemoteProtocolError(Refusal.TRUNCATED, "end inside an exchange")

    def next_event(self) -> RequestHead | Request | BodyWanted | None:
        state = self._state
        if state is HEAD:
            if not self._buffer:
                if self._ended:
                    self._close()
                return None
            last = self._last_head
            if (
                last is not None
                and not self._reading_head
                and self._buffer.startswith(self._last_raw, self._start)
            ):
                return self._begin_request(last, self._start + len(self._last_raw))
            return self._read_head()
        if state is STREAM:
            return BODY_WANTED
        if state is BODY and self._head is not None and self._body is not None:
            return self._read_body(self._head, self._body)
        return None

    def _read_head(self) -> RequestHead | Request | None:
        end = self._search.find(self._buffer, self._start)
        if end < 0:
            self._refuse_end("a head")
            if not self._reading_head:
                self._reading_head = True
                self._enter(self._limits.http_headers_seconds, Refusal.READ_DEADLINE)
            return None
        self._reading_head = False
        raw = bytes(self._buffer[self._start : end])
        head = self._last_head
        if head is None or raw != self._last_raw:
            head = parse_head(raw, self._limits, any_path=self._any_path)
            if len(raw) <= REMEMBERED_HEAD_BYTES:
                self._last_raw, self._last_head = raw, head
        return self._begin_request(head, end)

    def _begin_request(self, head: Head, position: int) -> RequestHead | Request | None:
        """A sound head was read; its body, if any, stands at `position`."""
        self._head = head
        self._plain = head.answer_is_plain and not self.draining
        if head.chunked:
            self._body = ChunkedReader(self._body_bytes, self._limits)
        else:
            length = head.content_length or 0
            if length > self._body_bytes:
                raise too_large("content-length", 413)
            end = position + length
            if end <= len(self._buffer):
                body = bytes(self._buffer[position:end])
                self._consume(end)
                return self._offer(head, body)
            self._body = LengthReader(length)
        self._consume(self._body.read(self._buffer, position))
        if not self._body.complete:
            self._refuse_end("a body")
            self._state = OFFERED
            self._enter(self._body_allowance(self._body), Refusal.READ_DEADLINE)
            return RequestHead(head)
        return self._offer(head, bytes(self._body.received))

    def _read_body(self, head: Head, body: BodyReader) -> Request | None:
        self._consume(body.read(self._buffer, self._start))
        if not body.complete:
            self._refuse_end("a body")
            self.allowance = self._body_allowance(body)
            return None
        return self._offer(head, bytes(body.received))

    def _offer(self, head: Head, body: bytes) -> Request:
        self._state = ANSWER
        self._body = None
        self._account()
        # The handler is under its own deadline, the peer under none.
        self.phase += 1
        self.allowance = None
        return Request(head, body)

    def _consume(self, position: int) -> None:
        if position == len(self._buffer):
            self._buffer = b""
            self._start = 0
        else:
            self._start = position
        self._account()

    def _account(self) -> None:
        """What is kept of what arrived, for the daemon's budget."""
        self.buffered = len(self._buffer) - self._start
        if self._body is not None:
            self.buffered += len(self._body.received)

    def _body_allowance(self, body: BodyReader) -> float:
        return self._body_seconds + len(body.received) / self._body_bytes_per_second

    def _refuse_end(self, inside: str) -> None:
        if self._ended:
            raise RemoteProtocolError(Refusal.TRUNCATED, f"end inside {inside}", 400)

    # What is answered

    def accept_body(self) -> None:
        """The session wants the body of the `RequestHead` it was given."""
        if self._state is not OFFERED or self._head is None:
            raise LocalProtocolError("no body is offered")
        if self._head.expect_continue:
            self.outgoing.append(CONTINUE)
        self._state = BODY

    def respond(self, response: Response) -> None:
        """Answer the request under way. Before its body has all arrived, the connection ends behind it.

        A `Stream` is begun: its pieces go by `send_piece` while the machine is `streaming`. Raises
        `LocalProtocolError` where no request waits, or the answer cannot be sent as it is.
        """
        body = response.body
        if self._plain and self._state is ANSWER and body and not response.close:
            prefix = self._heads.prefix(response.status, response.headers)
            self.outgoing.append(b"%b%d\r\n\r\n%b" % (prefix, len(body), body))
            stays = True
        else:
            stays = self._respond_unusually(response)
        self._responses[response.status] = self._responses.get(response.status, 0) + 1
        if self._state is not STREAM:
            self._answered(stays=stays)

    def _answered(self, *, stays: bool) -> None:
        """All of an answer is queued."""
        if stays:
            self._state = HEAD
            self._head = None
            self.phase += 1
            self.allowance = self._keep_alive_seconds
            self.allowance_reason = Refusal.IDLE
        else:
            self._close()

    def _respond_unusually(self, response: Response) -> bool:
        """HEAD, HTTP/1.0, no body, or the last answer. Returns whether the connection stays."""
        head = self._head
        if head is None or self._state not in (OFFERED, ANSWER):
            raise LocalProtocolError("no request waits for an answer")
        stays = head.keep_alive and self._state is ANSWER and not (response.close or self.draining)
        connection = b"" if stays and head.minor else _CONNECTION[stays]
        self.outgoing.append(self._encoded(response, head, connection))
        if isinstance(response, Stream) and response.length and head.method != "HEAD":
            self._state, self._missing, self._stays = STREAM, response.length, stays
        return stays

    @property
    def streaming(self) -> bool:
        """Whether more of an answer's body has to come by `send_piece`."""
        return self._state is STREAM

    def send_piece(self, piece: Piece) -> None:
        """The next of the body under way, which `piece` must not change before it has left.

        Raises `LocalProtocolError` where it is empty, or would be more than was announced.
        """
        if self._state is not STREAM or not 0 < len(piece) <= self._missing:
            raise LocalProtocolError("no such piece is wanted")
        self.outgoing.append(cast(bytes, piece))  # a view is sent like any bytes
        self._missing -= len(piece)
        if not self._missing:
            self._answered(stays=self._stays and not self.draining)

    def _encoded(self, response: Response, head: Head | None, connection: bytes) -> bytes:
        status, headers, body = response.status, response.headers, response.body
        if status in BODILESS:
            if body:
                raise LocalProtocolError(f"an answer with status {status} has no body")
            start = self._heads.fresh(status, headers)
        elif isinstance(response, Stream):
            start = b"%bcontent-length: %d\r\n" % (self._heads.fresh(status, headers), response.length)
        else:
            start = b"%b%d\r\n" % (self._heads.prefix(status, headers), len(body))
        if head is not None and head.method == "HEAD":
            body = b""
        return b"%b%b\r\n%b" % (start, connection, body)

    def switch(self, head: bytes) -> bytes:
        """Answer the request under way with `head`, a whole 101, and be done with the connection.

        Returns what has arrived behind the request: it is of the protocol that follows (RFC 9110 section
        7.8). Raises `LocalProtocolError` where no whole request waits for its answer.
        """
        if self._state is not ANSWER:
            raise LocalProtocolError("no whole request waits for an answer")
        rest = bytes(self._buffer[self._start :])
        self.outgoing.append(head)
        self._responses[101] = self._responses.get(101, 0) + 1
        self._close()
        return rest

    def deadline_passed(self) -> None:
        """A slow head or body gets 408; a connection without a request under way just ends."""
        late = self.allowance_reason is Refusal.READ_DEADLINE
        raise RemoteProtocolError(self.allowance_reason, status=408 if late else 0)

    def farewell(self, error: RemoteProtocolError) -> bytes:
        """The constant answer to what is wrong, where anybody waits for one; the connection ends."""
        status = error.status
        if self._state in (OFFERED, BODY, ANSWER):
            status = _FAREWELLS.get(error.reason, status)
        elif self.phase == _FIRST_PHASE:
            status = _UNWELCOME.get(error.reason, status)
        head, answer = self._head, REFUSALS.get(status)
        closed = self._state in (STREAM, CLOSED)  # in the midst of a body nothing else can be said
        self._close()
        if answer is None or closed:
            return b""
        self._responses[status] = self._responses.get(status, 0) + 1
        return self._encoded(answer, head, _CONNECTION[False])

    def drain(self) -> None:
        """Finish the request under way; an idle connection ends at once."""
        self.draining = True
        self._plain = False
        if self._state is HEAD and not self._buffer:
            self._close()

    def _close(self) -> None:
        self._state = CLOSED
        self._buffer = b""
        self._start = 0
        self._body = self._head = None
        self.buffered = 0
        self.finished = True
        self.allowance = None
