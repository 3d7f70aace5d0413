"""A folder's page: its entries in order, so many at a time. Pure.

Without script, and with one style of its own that the policy names by its hash. Every name is escaped as text
and as URL.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import urllib.parse
from collections.abc import Iterable
from typing import NamedTuple

from secure_net.http.targets import quoted
from secure_net.text import escape

_STYLE = (
    ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}"
    "body{margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "h1{font-size:1.25rem;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{padding:.25rem .5rem;text-align:left;border-bottom:1px solid #8884}"
    "td:first-child{overflow-wrap:anywhere}"
    "td:nth-child(n+2){white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".size{text-align:right}"
)
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
POLICY = (
    f"sandbox; default-src 'none'; style-src 'sha256-{_DIGEST}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode("ascii")

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
AFTER = "after"


class Entry(NamedTuple):
    """One line. `size` in bytes, None for a folder; `modified` in Unix seconds."""

    name: str
    size: int | None
    modified: float


def parse_after(query: str) -> str | None:
    """The name behind which the page begins, by the URL's query; "" for the first page, None for nonsense."""
    if not query:
        return ""
    name, found, value = query.partition("=")
    if name != AFTER or not found or "&" in value:
        return None
    try:
        return urllib.parse.unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        return None


def page(path: str, entries: Iterable[Entry], *, after: str, more: bool, top: bool) -> bytes:
    """The page of the folder `path`, for `entries` behind the name `after`, in order.

    `more` follow behind the last of them. `top`: there is no folder above it to go to.
    """
    shown = html.escape(escape(path, markup=False))
    rows = [] if top else ['<tr><td><a href="../">../</a></td><td></td><td></td></tr>']
    last = ""
    for entry in entries:
        rows.append(_row(entry))
        last = entry.name
    links = []
    if after:
        links.append('<a href="?">first</a>')
    if more:
        links.append(f'<a rel="next" href="?{AFTER}={urllib.parse.quote(last, safe="")}">next</a>')
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{shown}</title><style>{_STYLE}</style></head><body><h1>{shown}</h1><table>",
            '<thead><tr><th>name</th><th class="size">size</th><th>changed (UTC)</th></tr></thead><tbody>',
            *rows,
            f"</tbody></table><p>{' '.join(links)}</p></body></html>\n",
        )
    ).encode("utf-8")


def _row(entry: Entry) -> str:
    slash = "/" if entry.size is None else ""
    # A name with a colon in it would be taken for a scheme.
    link = html.escape(f"./{quoted(entry.name)}{slash}")
    name = html.escape(escape(entry.name, markup=False))
    size = "" if entry.size is None else _readable(entry.size)
    return (
        f'<tr><td><a href="{link}">{name}{slash}</a></td><td class="size">{size}</td>'
        f"<td>{_moment(entry.modified)}</td></tr>"
    )


def _readable(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    return f"{size / 1024**power:.1f} {_UNITS[power - 1]}"


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):  # a file system can hold what no calendar does
        return ""
