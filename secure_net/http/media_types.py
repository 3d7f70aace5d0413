"""The media type of a file, by its name alone. Pure, and the same on every machine.

`mimetypes` reads tables of the system it runs on; ours is the one that Python ships, with what is missing
from it. A compressed file is what it is: ``a.tar.gz`` is gzip, and nobody unpacks it on the way.
"""

from __future__ import annotations

import functools
import mimetypes

OCTETS = b"application/octet-stream"

_MORE = {
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".br": "application/octet-stream",
    ".jsonld": "application/ld+json",
    ".log": "text/plain",
    ".m4a": "audio/mp4",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".ogg": "audio/ogg",
    ".toml": "application/toml",
    ".ts": "video/mp2t",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}

# Text by another name: without a charset browsers guess, and guessing is how pages are made of it.
_TEXT_TOO = frozenset(
    {
        "application/json",
        "application/ld+json",
        "application/manifest+json",
        "application/toml",
        "application/xml",
        "application/yaml",
        "image/svg+xml",
    }
)
_CODINGS = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def _table() -> mimetypes.MimeTypes:
    table = mimetypes.MimeTypes(filenames=())
    for suffix, kind in _MORE.items():
        table.add_type(kind, suffix)
    return table


_TYPES = _table()


@functools.lru_cache(maxsize=1024)
def media_type(name: str) -> bytes:
    """The value of `Content-Type` for a file of this name."""
    kind, coding = _TYPES.guess_type(name.rpartition("/")[2].replace(":", "_"))
    if coding is not None:
        return _CODINGS.get(coding, "application/octet-stream").encode("ascii")
    if kind is None:
        return OCTETS
    if kind.startswith("text/") or kind in _TEXT_TOO:
        kind += "; charset=utf-8"
    return kind.encode("ascii")
