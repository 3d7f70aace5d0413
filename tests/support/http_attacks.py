"""What HTTP attackers send, as a table: at the machine's door and over a socket the same must follow.

Every attack is one request (or what pretends to be one). It gets `status` and the connection is closed,
however its bytes are split, and whatever good requests stood before it, which are answered first.
"""

from __future__ import annotations

import dataclasses

from secure_net.limits import HTTPLimits

LIMITS = HTTPLimits()

GOOD_BODY = b"<?xml version='1.0'?><methodCall><methodName>math.double</methodName></methodCall>"


def request(
    *lines: bytes,
    line: bytes = b"POST /RPC2 HTTP/1.1",
    host: bytes | None = b"localhost",
    body: bytes = b"",
) -> bytes:
    """A request out of raw field lines, with nothing added but `Host`."""
    first = (line,) if host is None else (line, b"Host: " + host)
    return b"\r\n".join((*first, *lines)) + b"\r\n\r\n" + body


def good_request(*lines: bytes, body: bytes = GOOD_BODY) -> bytes:
    """A sound request, as `xmlrpc.client` sends it."""
    return request(b"Content-Type: text/xml", *lines, b"Content-Length: %d" % len(body), body=body)


def chunked(body: bytes, *lines: bytes) -> bytes:
    return request(b"Transfer-Encoding: chunked", *lines, body=body)


@dataclasses.dataclass(frozen=True)
class Attack:
    """`name` says what is tried; `raw` gets an answer with `status`, and the connection is closed."""

    name: str
    raw: bytes
    status: int = 400

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


# Row: Content-Length and Transfer-Encoding, chunk sizes, trailers.
FRAMING = (
    Attack("content-length twice", request(b"Content-Length: 5", b"Content-Length: 6", body=b"hello")),
    Attack("content-length twice, equal", request(*[b"Content-Length: 5"] * 2, body=b"hello")),
    Attack("content-length as a list", request(b"Content-Length: 5, 5", body=b"hello")),
    Attack("content-length +5", request(b"Content-Length: +5", body=b"hello")),
    Attack("content-length -5", request(b"Content-Length: -5", body=b"hello")),
    Attack("content-length 0x5", request(b"Content-Length: 0x5", body=b"hello")),
    Attack("content-length 1_0", request(b"Content-Length: 1_0", body=b"helloworld")),
    Attack("content-length 003", request(b"Content-Length: 003", body=b"abc")),
    Attack("content-length empty", request(b"Content-Length:", body=b"")),
    Attack("content-length of 20 zeros", request(b"Content-Length: " + b"0" * 20)),
    Attack("content-length of 20 digits", request(b"Content-Length: 18446744073709551621", body=b"hello")),
    Attack("content-length in two words", request(b"Content-Length: 5 5", body=b"hello")),
    Attack(
        "content-length with transfer-encoding",
        request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    Attack(
        "transfer-encoding with content-length",
        request(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    ),
    Attack(
        "transfer-encoding in HTTP/1.0",
        request(b"Transfer-Encoding: chunked", line=b"POST /RPC2 HTTP/1.0", body=b"0\r\n\r\n"),
    ),
    *(
        Attack(f"transfer-encoding {coding.decode()!r}", request(b"Transfer-Encoding: " + coding))
        for coding in (
            b"gzip, chunked",
            b"chunked, gzip",
            b"identity",
            b"xchunked",
            b"chunked;q=1",
            b"chunked, chunked",
            b'"chunked"',
            b"chunked,",
            b"",
        )
    ),
    Attack("transfer-encoding twice", request(*[b"Transfer-Encoding: chunked"] * 2, body=b"0\r\n\r\n")),
    Attack("transfer-encoding, vertical tab", request(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    *(
        Attack(f"chunk size {size.decode()!r}", chunked(size + b"\r\nhello\r\n0\r\n\r\n"))
        for size in (
            b"0_2e",
            b"-1",
            b"+3",
            b"0x5",
            b"00000000000000005",
            b"05",
            b"00",
            b"fffffffffffffffff",
            b"",
            b" 5",
            b"5 ",
            b"5;name=value",
            b"5;",
            b"g",
            b"5\r",
        )
    ),
    Attack("chunk size behind a bare LF", chunked(b"5\nhello\r\n0\r\n\r\n")),
    Attack("chunk longer than its size", chunked(b"4\r\nhello\r\n0\r\n\r\n")),
    Attack("chunk ends in a bare LF", chunked(b"5\r\nhello\n0\r\n\r\n")),
    Attack("chunk ends in CR CR", chunked(b"5\r\nhello\r\r0\r\n\r\n")),
    *(
        Attack(f"{field.partition(b':')[0].decode()} in trailers", chunked(b"0\r\n" + field + b"\r\n\r\n"))
        for field in (
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
            b"Host: other",
            b"Authorization: Bearer x",
            b"Content-Type: text/xml",
            b"Connection: close",
            b"Trailer: x",
            b"Upgrade: h2c",
        )
    ),
    Attack("bare LF in trailers", chunked(b"0\r\nX: y\n\r\n")),
    Attack("trailer without a colon", chunked(b"0\r\nX\r\n\r\n")),
    Attack(
        "upgrade with a body",
        request(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 1", body=b"x"),
    ),
    Attack(
        "h2c",
        request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"),
    ),
    Attack("h2c settings alone", request(b"HTTP2-Settings: AAMAAABkAAQ")),
)

# Row: bare LF and CR, obs-fold, NUL, white space, targets, versions, Host.
SYNTAX = (
    Attack("bare LF behind the request line", b"GET / HTTP/1.1\nHost: localhost\r\n\r\n"),
    Attack("bare LF everywhere", b"GET / HTTP/1.1\nHost: localhost\n\n"),
    Attack("bare LF behind a field", request(b"X: y\nZ: z")),
    Attack("bare LF as the empty line", b"GET / HTTP/1.1\r\nHost: localhost\r\n\n"),
    Attack("bare CR in a value", request(b"X: y\rz")),
    Attack("bare CR in the request line", request(line=b"GET /\r HTTP/1.1")),
    Attack("bare CR everywhere", b"GET / HTTP/1.1\rHost: localhost\r\r"),
    Attack("CR CR LF", request(b"X: y\r")),
    Attack("obs-fold with a space", request(b"X: y", b" z")),
    Attack("obs-fold with a tab", request(b"X: y", b"\tz")),
    Attack("fold before the first field", b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n"),
    Attack("NUL in a value", request(b"X: y\0z")),
    Attack("NUL in a name", request(b"X\0: y")),
    Attack("NUL in the target", request(line=b"GET /\0 HTTP/1.1")),
    Attack("control character in a value", request(b"X: \x1b[2J")),
    Attack("DEL in a value", request(b"X: \x7f")),
    Attack("obs-text in a value", request(b"X: caf\xe9")),
    Attack("obs-text in the target", request(line=b"GET /caf\xc3\xa9 HTTP/1.1")),
    Attack("space before the colon", request(b"X : y")),
    Attack("space before the colon of the length", request(b"Content-Length : 5", body=b"hello")),
    Attack("no colon", request(b"X")),
    Attack("no name", request(b": y")),
    Attack("underscore in a name", request(b"Content_Length: 5")),
    Attack("quote in a name", request(b'"X": y')),
    *(
        Attack(f"target {target.decode()!r}", request(line=b"GET " + target + b" HTTP/1.1"))
        for target in (
            b"http://localhost/RPC2",
            b"https://user:password@localhost/",
            b"//host:80@/\\",
            b"*",
            b"localhost:443",
            b"RPC2",
            b"?query",
            b"/a#fragment",
            b"/a\\b",
            b"/%zz",
            b"/%2",
            b"/%",
            b"/?%zz",
            b"/<x>",
            b"/{x}",
            b"/a|b",
            b'/"',
            b"/[x]",
            b"/%00",
            b"/%0d%0aX:y",
            b"/%1b",
            b"/%7f",
            b"/%ff",
            b"/%c0%af",
            b"/%ed%a0%80",
            b"/%c2%85",
        )
    ),
    Attack("OPTIONS *", request(line=b"OPTIONS * HTTP/1.1")),
    Attack("CONNECT with a path", request(line=b"CONNECT / HTTP/1.1")),
    Attack("CONNECT", request(line=b"CONNECT localhost:443 HTTP/1.1")),
    *(
        Attack(f"version {version.decode()!r}", request(line=b"GET / " + version))
        for version in (
            b"HTTP/1.9",
            b"HTTP/0.9",
            b"HTTP/2.0",
            b"HTTP/3",
            b"HTTP/1",
            b"HTTP/1.10",
            b"HTTP/01.1",
            b"http/1.1",
            b"RTSP/1.0",
            b"HTTP/1.1 ",
            b"",
        )
    ),
    Attack("HTTP/0.9 without a version", b"GET /\r\n"),
    Attack("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Attack("two spaces in the request line", request(line=b"GET  / HTTP/1.1")),
    Attack("tab in the request line", request(line=b"GET\t/\tHTTP/1.1")),
    Attack("space before the request line", request(line=b" GET / HTTP/1.1")),
    Attack("a method that is no token", request(line=b"GE(T / HTTP/1.1")),
    Attack("a method of 33 letters", request(line=b"G" * 33 + b" / HTTP/1.1")),
    Attack("CRLF before the request line", b"\r\n" + good_request()),
    Attack("LF before the request line", b"\n" + good_request()),
    Attack("a ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"),
    Attack("two hosts", request(b"Host: other")),
    Attack("two equal hosts", request(b"Host: localhost")),
    Attack("no host", request(host=None)),
    Attack("no host in HTTP/1.0", request(line=b"GET / HTTP/1.0", host=None)),
    *(
        Attack(f"host {host.decode()!r}", request(host=host))
        for host in (
            b"",
            b"a b",
            b"a,b",
            b"user@a",
            b"a/b",
            b"http://a",
            b"a:",
            b"a:port",
            b"a:65536",
            b"a:123456",
            b"a:1:2",
            b"[::1",
            b"::1",
            b"[::1]x",
            b"[:::]",
            b"[g::]",
            b"[v1.x]",
            b"a?b",
            b"a#b",
            b"%61",
            b"a\\b",
            b"a'b",
        )
    ),
)

# Row: 101 headers, a line of 64 KiB, Expect. (Bodies that are too large depend on the service.)
SIZE = (
    Attack("101 fields", request(*[b"X: y"] * 100), 431),
    Attack("request line of 64 KiB", request(line=b"GET /" + b"a" * 65536 + b" HTTP/1.1"), 414),
    Attack("request line of 64 KiB that never ends", b"GET /" + b"a" * 65536, 414),
    Attack("field of 64 KiB", request(b"X: " + b"y" * 65536), 431),
    Attack("field of 64 KiB that never ends", b"GET / HTTP/1.1\r\nX: " + b"y" * 65536, 431),
    Attack("64 KiB of spaces in a field", request(b"X:" + b" " * 65536), 431),
    Attack("fields of 33 KiB together", request(*[b"X: " + b"y" * 1000] * 33), 431),
    Attack("trailers of 5 KiB", chunked(b"0\r\nX: " + b"y" * 5 * 1024 + b"\r\n\r\n"), 431),
    Attack("101 trailers", chunked(b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n"), 431),
    Attack("an expectation other than 100-continue", request(b"Expect: 200-ok"), 417),
)

ATTACKS = FRAMING + SYNTAX + SIZE
