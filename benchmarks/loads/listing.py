"""Goes through a folder's listing as a reader does: the first page, and each `next` that a page has."""

from __future__ import annotations

import dataclasses
import html
import http.client
import re
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.loads.probe import context
from benchmarks.processes import BenchmarkError

SECONDS = 60.0
_NEXT = re.compile(rb'<a rel="next" href="([^"]*)"')
_ENTRY = re.compile(rb'<a href="[^"]*entry-\d+"')


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    seconds: float
    size: int  # bytes
    entries: int


def following(page: bytes) -> str | None:
    """Where the page says that the next one is; None on the last."""
    found = _NEXT.search(page)
    return html.unescape(found[1].decode("ascii")) if found else None


def entries(page: bytes) -> int:
    """How many of our files (`entry-...`) it has links to."""
    return len(_ENTRY.findall(page))


def walk(port: int, path: str, headers: Mapping[str, str], authority: Path) -> list[Page]:
    """All pages over one connection. Raises BenchmarkError when there is no answer or a wrong one."""
    connection = http.client.HTTPSConnection("localhost", port, timeout=SECONDS, context=context(authority))
    pages: list[Page] = []
    query: str | None = ""
    try:
        connection.connect()
        while query is not None:
            begin = time.perf_counter()
            connection.request("GET", path + query, headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise BenchmarkError(f"status {answer.status} for {path}{query}")
            pages.append(Page(time.perf_counter() - begin, len(body), entries(body)))
            query = following(body)
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(f"no answer: {error}") from error
    finally:
        connection.close()
    return pages
