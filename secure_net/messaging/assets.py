"""The browser client's files, as answers to requests for them. Pure: whoever serves them has read them.

The page may load nothing from elsewhere, run nothing that is not one of these files, be framed by nobody, and
send nothing anywhere but to where it came from. `Cookie` is never looked at, and none is ever set: other
listeners of the same host share them, whatever their port.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from secure_net.http.head import Head
from secure_net.http.response import Headers, Response

CONTENT_TYPES = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
INDEX = "index.html"

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)

# With every answer of the listener, the page's own files or not.
SECURITY: Headers = (
    (b"content-security-policy", "; ".join(_POLICY).encode("ascii")),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Asset:
    """One file: its answer, and the one for whoever has it already."""

    __slots__ = ("etag", "found", "unchanged")

    def __init__(self, content_type: bytes, content: bytes) -> None:
        self.etag = b'"%b"' % hashlib.sha256(content).hexdigest()[:32].encode("ascii")
        # Kept by the browser, and asked about each time: an upgrade of the daemon is one of the page as well.
        cached: Headers = ((b"cache-control", b"no-cache"), (b"etag", self.etag), *SECURITY)
        self.found = Response(200, ((b"content-type", content_type), *cached), content)
        self.unchanged = Response(304, cached)

    def answer(self, head: Head) -> Response:
        """RFC 9110 section 13.1.2: 304 where one of the tags that the browser names is ours."""
        known = head.get(b"if-none-match")
        if known is None:
            return self.found
        tags = {tag.strip(b" \t").removeprefix(b"W/") for tag in known.split(b",")}
        return self.unchanged if self.etag in tags or b"*" in tags else self.found


def assets(files: Mapping[str, bytes]) -> dict[str, Asset]:
    """Path to asset, of `files` (name to content). Raises `KeyError` for another kind of file."""
    found = {
        f"/{name}": Asset(CONTENT_TYPES[name.rpartition(".")[2]], content) for name, content in files.items()
    }
    found["/"] = found.pop(f"/{INDEX}")
    return found


def secured(response: Response) -> Response:
    """The same answer, under the page's policy."""
    return Response(response.status, (*response.headers, *SECURITY), response.body, response.close)
