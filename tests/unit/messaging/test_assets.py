from __future__ import annotations

import pytest

from secure_net.http.head import Head, parse_head
from secure_net.http.response import NOT_FOUND
from secure_net.limits import HTTPLimits
from secure_net.messaging.assets import SECURITY, Asset, assets, secured


def head(*fields: bytes) -> Head:
    return parse_head(b"\r\n".join((b"GET / HTTP/1.1", b"Host: localhost", *fields, b"", b"")), HTTPLimits())


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


@pytest.mark.parametrize("status", [200, 304])
def test_every_answer_is_under_the_policy(status: int) -> None:
    asset = Asset(b"text/html", b"<p>")
    answer = asset.answer(head() if status == 200 else head(b"If-None-Match: *"))
    assert answer.status == status
    headers = dict(answer.headers)
    assert headers.items() >= dict(SECURITY).items()
    assert headers[b"cache-control"] == b"no-cache"
    policy = headers[b"content-security-policy"].split(b"; ")
    assert b"default-src 'none'" in policy
    assert b"frame-ancestors 'none'" in policy
    assert b"form-action 'none'" in policy
    assert b"unsafe" not in headers[b"content-security-policy"]
    assert b"strict-transport-security" not in headers


def test_an_etag_is_of_the_content() -> None:
    one, same, other = (Asset(b"text/css", content) for content in (b"a", b"a", b"b"))
    assert one.etag == same.etag != other.etag
    assert one.etag.startswith(b'"')


def test_who_has_it_already() -> None:
    asset = Asset(b"text/css", b"a")
    tag = asset.etag
    for known in (tag, b"W/" + tag, b'"other", ' + tag, b"*"):
        answer = asset.answer(head(b"If-None-Match: " + known))
        assert (answer.status, answer.body) == (304, b"")
    for unknown in (b'"other"', tag[:-1], b""):
        assert asset.answer(head(b"If-None-Match: " + unknown)).status == 200
    assert asset.answer(head()).status == 200


def test_other_answers_are_under_it_too() -> None:
    answer = secured(NOT_FOUND)
    assert (answer.status, answer.body, answer.close) == (404, NOT_FOUND.body, NOT_FOUND.close)
    assert answer.headers == (*NOT_FOUND.headers, *SECURITY)
