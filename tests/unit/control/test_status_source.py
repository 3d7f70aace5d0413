"""What the page's requests are answered with."""

from __future__ import annotations

import json

import msgspec

from secure_net.control.status import Status
from secure_net.control.status_source import StatusSource, read_files
from tests.unit.control.test_status import STATUS


def test_it_ships_with_its_files() -> None:
    assert set(read_files()) == {"status.css", "status.js", "status.svg"}


def test_the_json_is_the_status_and_the_view_beside_it() -> None:
    found = json.loads(StatusSource(lambda: STATUS).json())
    view = found.pop("view")
    assert msgspec.convert(found, Status) == STATUS
    assert view["state"] == {"text": "Serving", "tone": "good"}


def test_pages_are_of_the_moment() -> None:
    statuses = iter((STATUS, msgspec.structs.replace(STATUS, draining=True)))
    source = StatusSource(lambda: next(statuses))
    assert b">Serving<" in source.page("ana", by_cookie=True)
    assert b">Draining<" in source.page("ana", by_cookie=False)
    assert b"wrong" in source.login("wrong")
