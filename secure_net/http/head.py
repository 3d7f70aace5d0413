"""The head of a request: its grammar and our policy, in one place (RFC 9112 section 3, RFC 3986).

Whatever two readers of a request could take differently is refused here with 400, so that nothing
behind this module has to think of it. The one form of a request target is the origin form
(``/path?query``): there is no proxy, no tunnel and no ``OPTIONS *`` here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.http.fields import TOKEN, malformed, parse_connection, parse_fields, parse_framing, too_large
from secure_net.limits import HTTPLimits

# RFC 3986 section 3.3: pchar is unreserved / pct-encoded / sub-delims / ":" / "@".
_PCHAR = rb"A-Za-z0-9\-._~!$&'()*+,;=:@"
_PERCENT = rb"%[0-9A-Fa-f]{2}"
_PATH = rb"/(?:[" + _PCHAR + rb"/]++|" + _PERCENT + rb")*+"
_QUERY = rb"(?:[" + _PCHAR + rb"/?]++|" + _PERCENT + rb")*+"

# CONNECT has no origin form (RFC 9112 section 3.2.3).
REQUEST_LINE = re.compile(
    rb"(?!CONNECT )(" + TOKEN + rb"{1,32}+) (" + _PATH + rb"(?:\?" + _QUERY + rb")?+) HTTP/1\.([01])\r\n"
)

# host [ ":" port ] (RFC 3986 section 3.2.2). A name is of the letters DNS and our certificates know.
_HOST = re.compile(rb"(?:([A-Za-z0-9._-]{1,253}+)|\[([0-9A-Fa-f:.]{2,45}+)\])(?::([0-9]{1,5}+))?+")

_PERCENT_BYTE = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class Head:
    """The head of a request, read and found sound. Never changed after it is made.

    `method` as sent; `target` as sent, `path` its part before ``?``, percent-decoded once, UTF-8 and
    free of control characters (it may still hold ``..``: see `segments`), `query` what follows, raw. With
    `any_path`, `path` is empty where it would be neither: nothing that we serve is called so.
    `fields` maps lower-case names to values. `content_length` in bytes; with neither it nor `chunked`
    there is no body. `keep_alive` and `expect_continue` are what the client asked for; `minor` is 0 or 1.
    `answer_is_plain` says that the answer needs no word on the connection, and its body is sent.
    """

    __slots__ = (
        "answer_is_plain",
        "authorization",
        "chunked",
        "content_length",
        "content_type",
        "expect_continue",
        "fields",
        "host",
        "keep_alive",
        "method",
        "minor",
        "path",
        "query",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        minor: int,
        fields: Mapping[bytes, bytes],
        *,
        any_path: bool = False,
    ) -> None:
        """Judge what the grammar let through; raises `RemoteProtocolError` with a status."""
        self.method = method
        self.minor = minor
        self.fields = fields
        path, _, query = target.partition(b"?")
        self.target = target.decode("ascii")
        self.path = _decoded_or_empty(path) if any_path else percent_decoded(path)
        self.query = query.decode("ascii")
        self.host = _host(fields.get(b"host"))
        self.content_length, self.chunked = parse_framing(fields, minor=minor)
        self.keep_alive = parse_connection(fields.get(b"connection"), minor=minor)
        self.answer_is_plain = self.keep_alive and minor == 1 and method != "HEAD"
        self.authorization = fields.get(b"authorization")
        self.content_type = fields.get(b"content-type")
        self.expect_continue = _expect_continue(fields.get(b"expect"), minor)
        self._refuse_upgrade()

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields as pairs, in order of first appearance."""
        return tuple(self.fields.items())

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments, split first and decoded after: ``/a%2Fb/`` gives ``("a/b", "")``.

        Whoever maps them to files refuses ``.``, ``..``, the empty one, and those that hold a separator.
        """
        path = self.target.partition("?")[0].encode("ascii")
        return tuple(percent_decoded(segment) for segment in path[1:].split(b"/"))

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.content_length)

    def get(self, name: bytes) -> bytes | None:
        """The value of the field with this lower-case name."""
        return self.fields.get(name)

    def _refuse_upgrade(self) -> None:
        """Refuse what makes two readers disagree on where the next request starts.

        A body before an upgrade, and h2c (RFC 9113 section 3.1: not over TLS). Any other `Upgrade` is
        ignored, which RFC 9110 section 7.8 allows; a service that speaks WebSocket looks for it itself.
        """
        upgrade = self.fields.get(b"upgrade")
        if upgrade is None:
            if b"http2-settings" in self.fields:
                raise malformed("http2-settings")
        elif self.has_body or b"h2c" in upgrade.lower():
            raise malformed("upgrade")


def parse_head(raw: bytes, limits: HTTPLimits, *, any_path: bool = False) -> Head:
    """Read one head: request line, fields, and the empty line that ends it, nothing behind it.

    `any_path`: a path that is not UTF-8, or holds control characters, is not malformed (see `Head`).

    Raises `RemoteProtocolError` with status 400, 414 (request line), 417 (`Expect`) or 431 (fields).
    """
    line = REQUEST_LINE.match(raw)
    if line is None or not raw.endswith(b"\r\n\r\n"):
        raise malformed("request line")
    start = line.end()
    if start - 2 > limits.http_request_line_bytes:
        raise too_large("request line", 414)
    if len(raw) - start - 2 > limits.http_headers_bytes:
        raise too_large("header fields", 431)
    method, target, minor = line.groups()
    fields = parse_fields(raw[start:-2], limits.http_headers_count)
    return Head(method.decode("ascii"), target, int(minor), fields, any_path=any_path)


def percent_decoded(path: bytes) -> str:
    """`path` with its ``%XX`` decoded, exactly once. It must be UTF-8 and free of control characters.

    Raises `RemoteProtocolError` with status 400.
    """
    if b"%" not in path:
        return path.decode("ascii")
    octets = _PERCENT_BYTE.sub(lambda escape: bytes.fromhex(escape[1].decode("ascii")), path)
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed("path is not UTF-8") from error
    if _CONTROL.search(text):
        raise malformed("control character in path")
    return text


def _decoded_or_empty(path: bytes) -> str:
    try:
        return percent_decoded(path)
    except RemoteProtocolError:
        return ""


def _host(value: bytes | None) -> str:
    """RFC 9112 section 3.2: exactly one, and valid. We ask it of HTTP/1.0 as well."""
    if value is None:
        raise malformed("no host")
    match = _HOST.fullmatch(value)
    if match is None:
        raise malformed("host")
    name, literal, port = match.groups()
    if port is not None and int(port) > 65535:
        raise malformed("port")
    if name is None:
        try:
            ipaddress.IPv6Address(literal.decode("ascii"))
        except ValueError as error:
            raise malformed("host") from error
    return value.decode("ascii")


def _expect_continue(value: bytes | None, minor: int) -> bool:
    """RFC 9110 section 10.1.1: HTTP/1.0 is not heard, and there is one expectation only."""
    if value is None or minor == 0:
        return False
    if value.lower() != b"100-continue":
        raise RemoteProtocolError(Refusal.UNSUPPORTED, "expectation", 417)
    return True
