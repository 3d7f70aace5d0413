"""The one cookie there is: that of the status page (RFC 6265). Pure.

A browser sends a host's cookies to every port of it, so that other listeners see this one: they do not look.
The prefix ``__Host-`` has the browser refuse a cookie of that name that is not `Secure`, has a `Domain`, or a
path other than ``/``: no neighbour under the same domain can plant one.
"""

from __future__ import annotations

import re

NAME = b"__Host-secure-net-status"

_ATTRIBUTES = b"Path=/; Secure; HttpOnly; SameSite=Strict"

# What `secrets.token_urlsafe(32)` makes: 256 random bits.
_VALUE = re.compile(rb"[A-Za-z0-9_-]{43}")


def cookie_value(field: bytes | None) -> bytes | None:
    """Ours, of a `Cookie` field; None where it is not there, twice there, or nothing that we gave."""
    if field is None:
        return None
    pairs = (pair.strip(b" \t").partition(b"=") for pair in field.split(b";"))
    values = [value for name, _, value in pairs if name == NAME]
    if len(values) != 1 or _VALUE.fullmatch(values[0]) is None:
        return None
    return values[0]


def set_cookie(value: bytes) -> tuple[bytes, bytes]:
    """The field that has a browser keep it until it is closed; the server ends it when the token does."""
    return (b"set-cookie", b"%b=%b; %b" % (NAME, value, _ATTRIBUTES))


def forget_cookie() -> tuple[bytes, bytes]:
    """The field that has a browser drop it."""
    return (b"set-cookie", b"%b=; %b; Max-Age=0" % (NAME, _ATTRIBUTES))
