"""The header block, and what it says about the framing of the body (RFC 9110 section 5, RFC 9112 section 6).

One pattern reads the whole block. It backtracks nowhere (every repetition is possessive), so its cost is
a straight line, and what it does not match is refused, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from secure_net.errors import Refusal, RemoteProtocolError

# RFC 9110 section 5.6.2, without the underscore: gateways that turn `-` into `_` (CGI, WSGI) make one
# name of two, so that a header hides another.
TOKEN = rb"[!#$%&'*+\-.^`|~0-9A-Za-z]"

# A field value is visible ASCII with single runs of space or tab inside (RFC 9110 section 5.5); obs-text
# and obs-fold are refused. White space around the value is not part of it.
_FIELD = re.compile(
    rb"^(" + TOKEN + rb"++):[ \t]*+([!-~]*+(?:[ \t]++[!-~]++)*+)[ \t]*+\r\n",
    re.MULTILINE,
)

# A CR or LF that is not half of a CRLF. At the end of what has arrived a CR may yet become one.
BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")

# These decide framing, routing or identity: twice is ambiguous, even with equal values.
SINGLE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"expect",
        b"host",
        b"transfer-encoding",
    }
)

# What a trailer may not carry (RFC 9110 section 6.5.1): framing, routing, identity and modifiers.
FORBIDDEN_IN_TRAILERS = SINGLE | {
    b"cache-control",
    b"connection",
    b"cookie",
    b"keep-alive",
    b"max-forwards",
    b"proxy-authorization",
    b"range",
    b"set-cookie",
    b"te",
    b"trailer",
    b"upgrade",
}

# 18 digits fit a signed 64-bit integer, whoever else reads it. No sign, no padding, no list.
_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,17})")


class Framing(NamedTuple):
    """How long the body is: `length` bytes, or `chunked`; neither where nothing is said."""

    length: int | None
    chunked: bool


def malformed(detail: str, status: int = 400) -> RemoteProtocolError:
    """What the peer sent is not HTTP as we read it; `detail` is for the log alone."""
    return RemoteProtocolError(Refusal.MALFORMED, detail, status)


def too_large(detail: str, status: int) -> RemoteProtocolError:
    """What the peer sent passes a bound."""
    return RemoteProtocolError(Refusal.TOO_LARGE, detail, status)


def parse_fields(block: bytes, most: int) -> dict[bytes, bytes]:
    """Read a header block: field lines, each with its CRLF, without the empty line.

    Returns a value for each lower-case name; lines of the same name are joined by ``", "`` (RFC 9110
    section 5.3). Raises `RemoteProtocolError` with status 431 above `most` lines, else 400.
    """
    lines = block.count(b"\n")
    if lines > most:
        # A bare CR or LF is noticed as it arrives: it must win here too, however the bytes were split.
        raise malformed("bare CR or LF") if BARE.search(block) else too_large(f"over {most} fields", 431)
    # Each match starts behind a LF and holds exactly one: as many matches as there are LFs cover all that
    # ends in one.
    found = _FIELD.findall(block)
    if len(found) != lines or (block and not block.endswith(b"\n")):
        raise malformed("field line")
    fields = {name.lower(): value for name, value in found}
    return fields if len(fields) == lines else _joined(found)


def _joined(found: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in found:
        lowered = name.lower()
        if lowered not in fields:
            fields[lowered] = value
        elif lowered in SINGLE:
            raise malformed(f"{lowered.decode()} twice")
        else:
            fields[lowered] += b", " + value
    return fields


def parse_framing(fields: Mapping[bytes, bytes], *, minor: int) -> Framing:
    """How the body that follows `fields` is framed in HTTP/1.`minor` (RFC 9112 sections 6.1 to 6.3).

    Raises `RemoteProtocolError` with status 400 for anything that two readers could take differently.
    """
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise malformed("content-length and transfer-encoding")
        if minor == 0:
            raise malformed("transfer-encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise malformed("transfer coding")
        return Framing(None, chunked=True)
    if length is None:
        return Framing(None, chunked=False)
    if _LENGTH.fullmatch(length) is None:
        raise malformed("content-length")
    return Framing(int(length), chunked=False)


def parse_connection(value: bytes | None, *, minor: int) -> bool:
    """Whether the connection stays open after this message (RFC 9112 section 9.3).

    HTTP/1.1 stays unless ``close`` is said, HTTP/1.0 closes unless ``keep-alive`` is; ``close`` wins.
    """
    if value is None:
        return minor == 1
    options = {option.strip(b" \t") for option in value.lower().split(b",")}
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)
