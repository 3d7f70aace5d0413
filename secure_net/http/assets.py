"""Pages of ours for browsers: their files as answers, and the policy that goes with everything. Pure.

A page of ours may load nothing from elsewhere, run nothing that is not one of its own files, be framed by
nobody, and send nothing anywhere but to where it came from.
"""

from __future__ import annotations

import hashlib

from secure_net.http.head import Head
from secure_net.http.response import Headers, Response

CONTENT_TYPES = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


def page_policy(*, form_action: str, referrer: str) -> Headers:
    """The fields that go with every answer of a listener with pages, the pages themselves or not.

    `form_action` is where forms may be sent, as in the content security policy; `referrer` as in
    `Referrer-Policy` (with ``no-referrer`` a form's `Origin` is ``null``).
    """
    directives = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        f"form-action {form_action}",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return (
        (b"content-security-policy", "; ".join(directives).encode("ascii")),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
        (b"referrer-policy", referrer.encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
    )


class Asset:
    """One file: its answer, and the one for whoever has it already, both under `policy`."""

    __slots__ = ("etag", "found", "unchanged")

    def __init__(self, content_type: bytes, content: bytes, policy: Headers) -> None:
        self.etag = b'"%b"' % hashlib.sha256(content).hexdigest()[:32].encode("ascii")
        # Kept by the browser, and asked about each time: an upgrade of the daemon is one of the page as well.
        cached: Headers = ((b"cache-control", b"no-cache"), (b"etag", self.etag), *policy)
        self.found = Response(200, ((b"content-type", content_type), *cached), content)
        self.unchanged = Response(304, cached)

    def answer(self, head: Head) -> Response:
        """RFC 9110 section 13.1.2: 304 where one of the tags that the browser names is ours."""
        known = head.get(b"if-none-match")
        if known is None:
            return self.found
        tags = {tag.strip(b" \t").removeprefix(b"W/") for tag in known.split(b",")}
        return self.unchanged if self.etag in tags or b"*" in tags else self.found


def content_type(name: str) -> bytes:
    """By the end of a file's name. Raises `KeyError` for another kind of file."""
    return CONTENT_TYPES[name.rpartition(".")[2]]


def under(policy: Headers, response: Response) -> Response:
    """The same answer, under `policy`."""
    return Response(response.status, (*response.headers, *policy), response.body, response.close)
