from __future__ import annotations

import pytest

from secure_net.http.response import NOT_FOUND
from secure_net.messaging.assets import SECURITY, assets, secured


def test_paths_and_types() -> None:
    found = assets({"index.html": b"<p>", "chat.js": b"1", "chat.css": b"", "icon.svg": b"<svg/>"})
    assert {path: dict(asset.found.headers)[b"content-type"] for path, asset in found.items()} == {
        "/": b"text/html; charset=utf-8",
        "/chat.js": b"text/javascript; charset=utf-8",
        "/chat.css": b"text/css; charset=utf-8",
        "/icon.svg": b"image/svg+xml",
    }
    assert found["/chat.js"].found.body == b"1"
    with pytest.raises(KeyError):
        assets({"index.html": b"", "notes.txt": b""})


def test_every_file_is_under_the_policy() -> None:
    for asset in assets({"index.html": b"<p>", "chat.js": b"1"}).values():
        for answer in (asset.found, asset.unchanged):
            assert dict(answer.headers).items() >= dict(SECURITY).items()


def test_the_page_has_no_form_and_tells_nobody_where_it_is() -> None:
    headers = dict(SECURITY)
    assert b"form-action 'none'" in headers[b"content-security-policy"].split(b"; ")
    assert headers[b"referrer-policy"] == b"no-referrer"


def test_other_answers_are_under_it_too() -> None:
    answer = secured(NOT_FOUND)
    assert (answer.status, answer.body, answer.close) == (404, NOT_FOUND.body, NOT_FOUND.close)
    assert answer.headers == (*NOT_FOUND.headers, *SECURITY)
