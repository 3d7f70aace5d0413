"""What the status page's requests are answered with: the status of the moment, as HTML and as JSON."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Callable, Mapping

import msgspec

from secure_net.control.status import Status
from secure_net.control.status_html import login_page, status_page
from secure_net.control.view import view_of

FOLDER = "page"
_KINDS = (".css", ".js", ".svg")  # what an editor or a system leaves beside them is nobody's business


@functools.cache
def read_files() -> Mapping[str, bytes]:
    """Name to content, of the files that ship with the package; read once, as a reload must not fail."""
    folder = importlib.resources.files("secure_net.control") / FOLDER
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(_KINDS)}


class StatusSource:
    """`status` gives that of the moment."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self.files = read_files()
        self._status = status

    def page(self, viewer: str, *, by_cookie: bool) -> bytes:
        return status_page(view_of(self._status()), viewer, by_cookie=by_cookie).encode()

    def login(self, problem: str) -> bytes:
        return login_page(problem).encode()

    def json(self) -> bytes:
        """What the act `status` answers, and beside it the view that the page's script shows."""
        status = self._status()
        return msgspec.json.encode({**msgspec.to_builtins(status), "view": view_of(status)})
