"""A peer of the running daemon that speaks by hand: TLS by the standard library, the rest byte for byte.

::

    with Peer(daemon.rpc, daemon.context()) as peer:
        peer.send(b"GET / HTTP/9.9\\r\\n\\r\\n")
        answers = peer.answers()              # every answer, until the daemon closed
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import ssl
import xmlrpc.client
from collections.abc import Sequence
from typing import Any, Self

SECONDS = 20.0

_HEAD_END = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [A-Za-z ]+")


class NotHTTPError(Exception):
    """What came back is no well-formed answer."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """`raw` is the whole answer as it came; header names are lower-case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    raw: bytes

    def header(self, name: bytes) -> bytes | None:
        found = [value for other, value in self.headers if other == name]
        assert len(found) < 2, f"{name!r} comes {len(found)} times"
        return found[0] if found else None

    @property
    def without_date(self) -> bytes:
        return re.sub(rb"\r\ndate: [^\r]*", b"", self.raw)

    @property
    def fault(self) -> tuple[int, str]:
        """Code and text of the fault that the body holds."""
        try:
            xmlrpc.client.loads(self.body)
        except xmlrpc.client.Fault as fault:
            return fault.faultCode, fault.faultString
        raise NotHTTPError(f"no fault: {self.body[:200]!r}")


def split_answers(data: bytes) -> list[Answer]:
    """Every answer in `data`, strictly: a status line, fields, `content-length`, and nothing behind."""
    answers = []
    while data:
        answer = take_answer(data)
        if answer is None:
            raise NotHTTPError(f"half an answer: {data[:200]!r}")
        answers.append(answer)
        data = data[len(answer.raw) :]
    return answers


def take_answer(data: bytes) -> Answer | None:
    """The answer that `data` begins with, None while it is not whole."""
    head, found, rest = data.partition(_HEAD_END)
    if not found:
        return None
    first, *lines = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise NotHTTPError(f"status line {first!r}")
    headers = []
    for line in lines:
        name, colon, value = line.partition(b": ")
        if not colon:
            raise NotHTTPError(f"field {line!r}")
        headers.append((name.lower(), value))
    length = 0 if status[1] == b"100" else int(dict(headers)[b"content-length"])
    if len(rest) < length:
        return None
    raw = data[: len(head) + len(_HEAD_END) + length]
    return Answer(int(status[1]), tuple(headers), rest[:length], raw)


class Peer:
    """One TLS connection to `address`. Every wait ends after `SECONDS` with `TimeoutError`."""

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext,
        *,
        name: str | None = "localhost",
        source: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        plain = socket.create_connection(
            address, timeout=SECONDS, source_address=None if source is None else (source, 0)
        )
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket = context.wrap_socket(plain, server_hostname=name, session=session)
        except OSError:
            plain.close()
            raise
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """All of it. A daemon that has closed meanwhile is no error: what it said before is what counts."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            self.socket.sendall(data)

    def answer(self) -> Answer:
        """The next whole answer. Raises `NotHTTPError` when the connection ends before."""
        while (found := take_answer(self._received)) is None:
            data = self.socket.recv(65536)
            if not data:
                raise NotHTTPError(f"closed behind {self._received[:200]!r}")
            self._received += data
        self._received = self._received[len(found.raw) :]
        return found

    @property
    def begun(self) -> bool:
        """Whether the first bytes of an answer came, and not yet all of it."""
        return bool(self._received)

    def rest(self) -> bytes:
        """Whatever comes until the daemon's close_notify. A reset raises: the daemon must end in order."""
        pieces = [self._received]
        while data := self.socket.recv(65536):
            pieces.append(data)
        self._received = b""
        return b"".join(pieces)

    def answers(self) -> list[Answer]:
        return split_answers(self.rest())


def post(
    body: bytes,
    *fields: bytes,
    path: bytes = b"/RPC2",
    content_type: bytes = b"text/xml",
    token: str | None = None,
) -> bytes:
    """A whole XML-RPC request."""
    authorization = () if token is None else (b"Authorization: Bearer " + token.encode(),)
    lines = (
        b"POST " + path + b" HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: " + content_type,
        b"Content-Length: %d" % len(body),
        *authorization,
        *fields,
    )
    return b"\r\n".join(lines) + _HEAD_END + body


def get(path: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Host: localhost", *fields)) + _HEAD_END


def rpc(method: str, *parameters: Any, token: str | None = None, fields: Sequence[bytes] = ()) -> bytes:
    """A whole call, as the standard library encodes it."""
    return post(xmlrpc.client.dumps(parameters, method).encode(), *fields, token=token)


def value(answer: Answer) -> Any:
    """What a call gave; raises `xmlrpc.client.Fault`."""
    assert answer.status == 200, answer.raw
    (result,), _ = xmlrpc.client.loads(answer.body, use_builtin_types=True)
    return result
