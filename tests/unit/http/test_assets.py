"""Files of pages as answers, and the policy they are under."""

from __future__ import annotations

import pytest

from secure_net.http.assets import Asset, content_type, page_policy, under
from secure_net.http.head import Head, parse_head
from secure_net.http.response import NOT_FOUND
from secure_net.limits import HTTPLimits

POLICY = page_policy(form_action="'none'", referrer="no-referrer")


def head(*fields: bytes) -> Head:
    return parse_head(b"\r\n".join((b"GET / HTTP/1.1", b"Host: localhost", *fields, b"", b"")), HTTPLimits())


@pytest.mark.parametrize("status", [200, 304])
def test_every_answer_is_under_the_policy(status: int) -> None:
    asset = Asset(b"text/html", b"<p>", POLICY)
    answer = asset.answer(head() if status == 200 else head(b"If-None-Match: *"))
    assert answer.status == status
    headers = dict(answer.headers)
    assert headers.items() >= dict(POLICY).items()
    assert headers[b"cache-control"] == b"no-cache"
    policy = headers[b"content-security-policy"].split(b"; ")
    assert b"default-src 'none'" in policy
    assert b"frame-ancestors 'none'" in policy
    assert b"unsafe" not in headers[b"content-security-policy"]
    assert b"strict-transport-security" not in headers


def test_what_a_page_may_choose() -> None:
    headers = dict(page_policy(form_action="'self'", referrer="same-origin"))
    assert b"form-action 'self'" in headers[b"content-security-policy"].split(b"; ")
    assert headers[b"referrer-policy"] == b"same-origin"


def test_an_etag_is_of_the_content() -> None:
    one, same, other = (Asset(b"text/css", content, POLICY) for content in (b"a", b"a", b"b"))
    assert one.etag == same.etag != other.etag
    assert one.etag.startswith(b'"')


def test_who_has_it_already() -> None:
    asset = Asset(b"text/css", b"a", POLICY)
    tag = asset.etag
    for known in (tag, b"W/" + tag, b'"other", ' + tag, b"*"):
        answer = asset.answer(head(b"If-None-Match: " + known))
        assert (answer.status, answer.body) == (304, b"")
    for unknown in (b'"other"', tag[:-1], b""):
        assert asset.answer(head(b"If-None-Match: " + unknown)).status == 200
    assert asset.answer(head()).status == 200


def test_types_are_those_of_pages() -> None:
    assert content_type("a.b.js") == b"text/javascript; charset=utf-8"
    with pytest.raises(KeyError):
        content_type("notes.txt")


def test_other_answers_are_under_it_too() -> None:
    answer = under(POLICY, NOT_FOUND)
    assert (answer.status, answer.body, answer.close) == (404, NOT_FOUND.body, NOT_FOUND.close)
    assert answer.headers == (*NOT_FOUND.headers, *POLICY)
