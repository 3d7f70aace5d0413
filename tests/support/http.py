"""Drives the HTTP machines without a socket."""

from __future__ import annotations

import re
from collections.abc import Iterable

from secure_net.errors import RemoteProtocolError
from secure_net.http.protocol import HTTPMachine, Request, RequestHead
from secure_net.http.response import Response, ResponseHeads
from secure_net.limits import HTTPLimits

WALL = 1_800_000_000.0
ANSWER = Response(200, ((b"content-type", b"text/plain"),), b"answer")

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


def machine(
    limits: HTTPLimits | None = None, *, body_bytes: int = 1024, responses: dict[int, int] | None = None
) -> HTTPMachine:
    return HTTPMachine(
        limits or HTTPLimits(),
        ResponseHeads(lambda: WALL),
        body_bytes=body_bytes,
        body_seconds=5.0,
        body_bytes_per_second=1024,
        responses=responses,
    )


class Exchange:
    """What came of feeding a machine: `requests` as (method, target, body), `sent`, and the `error`."""

    def __init__(self, server: HTTPMachine, answer: Response = ANSWER) -> None:
        self.server = server
        self.answer = answer
        self.requests: list[tuple[str, str, bytes]] = []
        self.heads: list[object] = []
        self.sent = b""
        self.error: RemoteProtocolError | None = None

    def feed(self, *pieces: bytes) -> Exchange:
        """Feed each piece, and answer whatever becomes whole, as the shell does."""
        for piece in pieces:
            if self.error is None:
                self.server.receive_data(piece)
                self._pump()
        return self

    def end(self) -> Exchange:
        """The peer's close_notify."""
        self.server.receive_eof(clean=True)
        self._pump()
        return self

    def _pump(self) -> None:
        try:
            while (event := self.server.next_event()) is not None:
                if isinstance(event, RequestHead):
                    self.server.accept_body()
                else:
                    self._answer(event)
        except RemoteProtocolError as error:
            self.error = error
            self.sent += self.server.data_to_send() + self.server.farewell(error)
        self.sent += self.server.data_to_send()

    def _answer(self, request: Request) -> None:
        self.requests.append((request.head.method, request.head.target, request.body))
        self.heads.append(request.head)
        self.server.respond(self.answer)

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in _STATUS.findall(self.sent)]


def run(pieces: Iterable[bytes], limits: HTTPLimits | None = None, *, body_bytes: int = 1024) -> Exchange:
    """Feed a fresh machine."""
    return Exchange(machine(limits, body_bytes=body_bytes)).feed(*pieces)


def octets(data: bytes) -> list[bytes]:
    """`data` byte by byte."""
    return [data[index : index + 1] for index in range(len(data))]
