"""The browser client's files, as answers to requests for them. Pure: whoever serves them has read them.

`Cookie` is never looked at, and none is ever set: other listeners of the same host share them, whatever their
port. The page has no form that is sent anywhere: its script speaks over the WebSocket.
"""

from __future__ import annotations

from collections.abc import Mapping

from secure_net.http.assets import CONTENT_TYPES, Asset, content_type, page_policy, under
from secure_net.http.response import Headers, Response

__all__ = ["CONTENT_TYPES", "INDEX", "SECURITY", "assets", "secured"]

INDEX = "index.html"

# With every answer of the listener, the page's own files or not.
SECURITY: Headers = page_policy(form_action="'none'", referrer="no-referrer")


def assets(files: Mapping[str, bytes]) -> dict[str, Asset]:
    """Path to asset, of `files` (name to content). Raises `KeyError` for another kind of file."""
    found = {f"/{name}": Asset(content_type(name), content, SECURITY) for name, content in files.items()}
    found["/"] = found.pop(f"/{INDEX}")
    return found


def secured(response: Response) -> Response:
    """The same answer, under the page's policy."""
    return under(SECURITY, response)
