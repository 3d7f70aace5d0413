"""The admin listener's pages: who may see what, and when a daemon is ready."""

from __future__ import annotations

from typing import cast

import pytest

from secure_net.http.admin import AdminApplication
from secure_net.http.head import Head, parse_head
from secure_net.http.protocol import Request
from secure_net.http.response import Response
from secure_net.http.status_page import StatusPages
from secure_net.identity.policy import Grant, Principal
from secure_net.limits import HTTPLimits
from secure_net.metrics import Metrics
from secure_net.wire.connection import Connection

NOBODY = cast(Connection, None)


def principal(*scopes: str) -> Principal:
    return Principal("somebody", (Grant.parse(scopes),), (), 2e9, 1)


def ask(
    target: str,
    *scopes: str,
    method: str = "GET",
    problems: dict[str, str] | None = None,
    anonymous: bool = False,
) -> Response:
    """What a principal with these scopes gets; the checks find `problems`."""
    checks = {name: (lambda text=text: text) for name, text in (problems or {"store": ""}).items()}
    application = AdminApplication(Metrics("1.2.3"), checks)
    head = parse_head(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), HTTPLimits())
    who = None if anonymous else principal(*scopes)
    refusal = application.admit(head, who)
    return refusal or application.respond(Request(head, b""), who, NOBODY)


@pytest.mark.parametrize("target", ["/livez", "/readyz"])
def test_probes_are_open_and_say_one_word(target: str) -> None:
    answer = ask(target, anonymous=True)
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_not_ready_is_503_and_alive_all_the_same() -> None:
    draining = {"serving": "draining", "store": ""}
    answer = ask("/readyz", anonymous=True, problems=draining)
    assert (answer.status, answer.body) == (503, b"not ready\n")
    assert ask("/livez", anonymous=True, problems=draining).status == 200


def test_verbose_names_each_check() -> None:
    answer = ask("/readyz?verbose", "admin:read:health", problems={"serving": "draining", "store": ""})
    assert answer.status == 503
    assert answer.body == b"[-]serving failed: draining\n[+]store ok\nnot ready\n"
    assert ask("/livez?verbose", "admin:read:health").body == b"ok\n"
    assert ask("/readyz?other", "admin:read:health").body == b"ok\n"


@pytest.mark.parametrize(
    ("target", "scope"),
    [
        ("/metrics", "admin:read:metrics"),
        ("/readyz?verbose", "admin:read:health"),
        ("/livez?x", "admin:read:health"),
    ],
)
def test_what_tells_something_needs_its_scope(target: str, scope: str) -> None:
    unknown = ask(target, anonymous=True)
    assert (unknown.status, (b"www-authenticate", b"Bearer") in unknown.headers) == (401, True)
    forbidden = ask(target, "rpc:call:**")
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'.encode()
    assert (forbidden.status, (b"www-authenticate", challenge) in forbidden.headers) == (403, True)
    assert ask(target, scope).status == 200
    assert ask(target, "*:*:**").status == 200


def test_metrics_are_prometheus_text() -> None:
    answer = ask("/metrics", "admin:read:metrics")
    assert (b"content-type", b"text/plain; version=0.0.4; charset=utf-8") in answer.headers
    assert b"secure_net_build_info{python=" in answer.body
    assert b'version="1.2.3"' in answer.body


def test_other_pages_and_methods() -> None:
    assert ask("/", anonymous=True).status == 404
    assert ask("/metrics/", "*:*:**").status == 404
    answer = ask("/metrics", "*:*:**", method="POST")
    assert (answer.status, (b"allow", b"GET, HEAD") in answer.headers) == (405, True)
    assert ask("/metrics", "admin:read:metrics", method="HEAD").status == 200


class Pages:
    """A status page that says which of its methods was asked."""

    def __contains__(self, path: str) -> bool:
        return path == "/status"

    def admit(self, head: Head) -> Response | None:
        return Response(403) if head.query else None

    def respond(self, request: Request, shown: Principal | None, connection: Connection) -> Response:
        return Response(200, (), b"the page")


def test_the_status_page_has_rules_of_its_own() -> None:
    application = AdminApplication(Metrics(), {}, cast(StatusPages, Pages()))
    statuses = []
    for target in ("/status", "/status?x", "/other"):
        head = parse_head(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), HTTPLimits())
        answer = application.admit(head, None) or application.respond(Request(head, b""), None, NOBODY)
        statuses.append(answer.status)
    assert statuses == [200, 403, 404]
    assert ask("/status", "*:*:**").status == 404  # where there is none
