"""The status page's requests: who gets what, by which credential, from where."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlencode

import pytest

from secure_net.errors import Refusal, RefusedError, RemoteProtocolError
from secure_net.http.cookie import NAME, cookie_value
from secure_net.http.head import Head, parse_head
from secure_net.http.protocol import Request
from secure_net.http.response import Response
from secure_net.http.status_page import (
    CERTIFICATE_NO_SCOPE,
    NO_SCOPE,
    SECURITY,
    WRONG_TOKEN,
    StatusPages,
)
from secure_net.identity.policy import Credential, Grant, Principal
from secure_net.limits import AdminLimits, HTTPLimits
from secure_net.metrics import AuthMethod, AuthOutcome, ServiceCounters
from secure_net.wire.connection import Connection
from tests.support.clock import FakeClock
from tests.support.pki import PKI, make_pki
from tests.unit.http.test_page_sessions import SCOPE, House

ORIGIN = b"https://localhost:9443"
FORM = b"Content-Type: application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"), clock=FakeClock())


class Source:
    def __init__(self) -> None:
        self.files = {"status.css": b"css", "status.js": b"js"}

    def page(self, viewer: str, *, by_cookie: bool) -> bytes:
        return f"page of {viewer}, {by_cookie}".encode()

    def login(self, problem: str) -> bytes:
        return f"log in: {problem}".encode()

    def json(self) -> bytes:
        return b"{}"


class Peer:
    """As much of a connection as the pages touch."""

    id, peer = "c1", "192.0.2.1:5"

    def __init__(self, certificate: bytes | None = None) -> None:
        self.certificate = certificate
        self.principal: Principal | None = None
        self.shell = self
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.full = False

    def log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    def authenticated(self, principal: Principal) -> None:
        if self.full:
            raise RefusedError(Refusal.CONNECTIONS_PER_PRINCIPAL, principal.name)
        self.principal = principal


class Bench(House):
    def __init__(self, pki: PKI) -> None:
        super().__init__(pki)
        self.counters = ServiceCounters("admin")
        self.origins = {ORIGIN.decode()}
        self.pages = StatusPages(
            Source(), self.authenticator, self.counters, AdminLimits(), origins=lambda: self.origins
        )
        self.peer = Peer()

    def ask(
        self,
        path: str,
        *fields: bytes,
        method: str = "GET",
        body: bytes = b"",
        shown: Principal | None = None,
        peer: Peer | None = None,
    ) -> Response:
        """What a request gets; `shown` is who the session found by token or certificate."""
        head = head_of(path, *fields, method=method)
        assert head.path in self.pages
        refusal = self.pages.admit(head)
        connection = cast(Connection, peer or self.peer)
        return refusal or self.pages.respond(Request(head, body), shown, connection)

    def post(self, path: str, body: bytes, *fields: bytes, peer: Peer | None = None) -> Response:
        """A form of our own page."""
        length = b"Content-Length: %d" % len(body)
        return self.ask(
            path, b"Origin: " + ORIGIN, FORM, length, *fields, method="POST", body=body, peer=peer
        )

    def enter(self, *scopes: str, peer: Peer | None = None) -> bytes:
        """Log in; the `Cookie` field that follows."""
        form = urlencode({"token": self.pki.token("ana", *(scopes or (SCOPE,)))}).encode()
        answer = self.post("/status/login", form, peer=peer)
        assert answer.status == 303
        return b"Cookie: " + dict(answer.headers)[b"set-cookie"].partition(b";")[0]


def head_of(path: str, *fields: bytes, method: str = "GET") -> Head:
    line = f"{method} {path} HTTP/1.1".encode()
    return parse_head(b"\r\n".join((line, b"Host: localhost:9443", *fields, b"", b"")), HTTPLimits())


@pytest.fixture
def bench(pki: PKI) -> Bench:
    return Bench(pki)


def principal(kind: str, *scopes: str) -> Principal:
    credential = Credential(cast(Any, kind), "id", 0.0, 2e9)
    return Principal("ben", (Grant.parse(scopes),), (credential,), 2e9, 1)


def test_what_belongs_to_it(bench: Bench) -> None:
    paths = "/status /status.json /status/login /status/logout /status.css /status.js"
    assert all(path in bench.pages for path in paths.split())
    assert not [path for path in ("/", "/status/", "/metrics", "/status.svg") if path in bench.pages]


def test_every_answer_is_under_the_policy(bench: Bench) -> None:
    cookie = bench.enter()
    answers = [
        bench.ask("/status"),
        bench.ask("/status", cookie),
        bench.ask("/status.json"),
        bench.ask("/status.json", cookie),
        bench.ask("/status.css"),
        bench.ask("/status", method="POST"),
        bench.ask("/status/login"),
        bench.ask("/status/login", method="POST"),
        bench.ask("/status", b"Sec-Fetch-Site: cross-site"),
        bench.post("/status/login", b"nonsense"),
        bench.post("/status/login", b"token=x"),
        bench.post("/status/logout", b""),
    ]
    assert [answer.status for answer in answers] == [
        401,
        200,
        401,
        200,
        200,
        405,
        405,
        403,
        403,
        400,
        401,
        303,
    ]
    for answer in answers:
        assert dict(answer.headers).items() >= dict(SECURITY).items()
    policy = dict(SECURITY)[b"content-security-policy"].split(b"; ")
    assert {b"default-src 'none'", b"frame-ancestors 'none'", b"form-action 'self'"} <= set(policy)
    assert dict(SECURITY)[b"cross-origin-resource-policy"] == b"same-origin"


def test_who_has_shown_who_they_are_needs_no_form(bench: Bench) -> None:
    answer = bench.ask("/status", shown=principal("certificate", SCOPE))
    assert (answer.status, answer.body) == (200, b"page of ben, False")
    answer = bench.ask("/status.json", b"Authorization: Bearer x", shown=principal("token", "*:*:**"))
    assert (answer.status, answer.body) == (200, b"{}")
    assert dict(answer.headers)[b"content-type"] == b"application/json"


def test_who_has_not_gets_the_form(bench: Bench) -> None:
    answer = bench.ask("/status")
    assert (answer.status, answer.body) == (401, b"log in: ")
    assert dict(answer.headers)[b"www-authenticate"] == b"Bearer"
    assert bench.counters.auth[AuthMethod.NONE, AuthOutcome.REFUSED] == 1
    assert bench.ask("/status.json").body == b"401 Unauthorized\n"


def test_who_may_not_is_told(bench: Bench) -> None:
    for kind, problem in (("certificate", CERTIFICATE_NO_SCOPE), ("token", NO_SCOPE)):
        answer = bench.ask("/status", shown=principal(kind, "admin:read:metrics"))
        assert (answer.status, answer.body) == (403, f"log in: {problem}".encode())
        assert b'scope="admin:read:status"' in dict(answer.headers)[b"www-authenticate"]
    assert bench.ask("/status.json", shown=principal("token", "rpc:call:**")).status == 403


def test_logging_in_and_out(bench: Bench) -> None:
    cookie = bench.enter()
    assert bench.counters.auth[AuthMethod.TOKEN, AuthOutcome.ACCEPTED] == 1
    answer = bench.ask("/status", cookie)
    assert (answer.status, answer.body) == (200, b"page of ana, True")
    assert bench.peer.principal is not None
    assert bench.peer.principal.name == "ana"  # counted, and cut by a revocation
    assert bench.ask("/status", cookie).status == 200
    out = bench.post("/status/logout", b"", cookie)
    assert (out.status, out.close, dict(out.headers)[b"location"]) == (303, True, b"/status")
    assert b"Max-Age=0" in dict(out.headers)[b"set-cookie"]
    assert bench.ask("/status", cookie).status == 401
    assert bench.post("/status/logout", b"", cookie).status == 303  # once more does no harm
    assert bench.post("/status/logout", b"").status == 303


def test_logging_in_anew_ends_the_session_before(bench: Bench) -> None:
    cookie = bench.enter()
    form = urlencode({"token": bench.pki.token("ben", SCOPE)}).encode()
    assert bench.post("/status/login", form, cookie).status == 303
    assert len(bench.pages.sessions) == 1
    assert bench.ask("/status", cookie).status == 401


def test_the_cookie_is_new_at_every_login(bench: Bench) -> None:
    """No session can be planted: an id that is shown is never taken over."""
    planted = b"Cookie: %b=%b" % (NAME, b"A" * 43)
    form = urlencode({"token": bench.pki.token("ana", SCOPE)}).encode()
    answer = bench.post("/status/login", form, planted)
    given = cookie_value(dict(answer.headers)[b"set-cookie"].partition(b";")[0])
    assert given not in (None, b"A" * 43)
    assert bench.ask("/status", planted).status == 401


def test_a_token_decides_over_the_cookie_and_that_over_the_certificate(bench: Bench) -> None:
    cookie = bench.enter()
    certified, token = principal("certificate", SCOPE), principal("token", SCOPE)
    assert bench.ask("/status", cookie, shown=certified).body == b"page of ana, True"
    answer = bench.ask("/status", cookie, b"Authorization: Bearer x", shown=token)
    assert answer.body == b"page of ben, False"
    bench.clock.advance(4000.0)
    assert bench.ask("/status", cookie, shown=certified).body == b"page of ben, False"


def test_a_wrong_token_is_refused_counted_and_logged(bench: Bench) -> None:
    ended = bench.pki.token("ana", SCOPE, ttl=1.0)
    bench.clock.advance(2.0)
    for token in ("nonsense", "%20", ended):
        answer = bench.post("/status/login", b"token=" + token.encode())
        assert (answer.status, answer.close, answer.body) == (401, True, f"log in: {WRONG_TOKEN}".encode())
        assert b"set-cookie" not in dict(answer.headers)
    assert bench.counters.refused[Refusal.CREDENTIAL] == 3
    assert bench.counters.auth[AuthMethod.TOKEN, AuthOutcome.REFUSED] == 3
    event, fields = bench.peer.logged[0]
    assert (event, fields["peer"], fields["reason"]) == ("login_refused", "192.0.2.1:5", "credential")
    assert "nonsense" not in str(bench.peer.logged)


def test_a_token_without_the_scope_gives_no_cookie(bench: Bench) -> None:
    form = urlencode({"token": bench.pki.token("ana", "rpc:call:**")}).encode()
    answer = bench.post("/status/login", form)
    assert (answer.status, answer.body) == (403, f"log in: {NO_SCOPE}".encode())
    assert len(bench.pages.sessions) == 0


def test_what_is_pasted_around_a_token_is_no_part_of_it(bench: Bench) -> None:
    form = urlencode({"token": f"  {bench.pki.token('ana', SCOPE)}\r\n"}).encode()
    assert bench.post("/status/login", form).status == 303


def test_a_token_bound_to_a_certificate_stays_bound(bench: Bench) -> None:
    certificate, other = bench.pki.client_der("demo"), bench.pki.client_der("other")
    token = bench.pki.token("ana", SCOPE, bind=bench.pki.client("demo")[0])
    form = urlencode({"token": token}).encode()
    assert bench.post("/status/login", form).status == 401
    answer = bench.post("/status/login", form, peer=Peer(certificate))
    cookie = b"Cookie: " + dict(answer.headers)[b"set-cookie"].partition(b";")[0]
    statuses = [bench.ask("/status", cookie, peer=Peer(der)).status for der in (certificate, other, None)]
    assert statuses == [200, 401, 401]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"token",
        b"token=a&token=b",
        b"other=a",
        b"token=%ff",
        b"token=\xff",
        b"token=%C3%A4",
        b"a=1&b=2&c=3&d=4&token=x",
        b"token=a;b",
    ],
)
def test_what_is_no_such_form(bench: Bench, body: bytes) -> None:
    answer = bench.post("/status/login", body)
    assert answer.status == (401 if body == b"token=a;b" else 400)
    assert len(bench.pages.sessions) == 0


@pytest.mark.parametrize("path", ["/status/login", "/status/logout"])
@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"Origin: null",
        b"Origin: https://localhost",
        b"Origin: http://localhost:9443",
        b"Origin: https://localhost:8444",
        b"Origin: https://localhost:9443.evil.example",
        b"Origin: https://localhost:9443\r\nOrigin: https://localhost:9443",
    ],
)
def test_forms_of_other_pages(bench: Bench, path: str, origin: bytes) -> None:
    cookie = bench.enter()
    fields = [FORM, b"Content-Length: 0", cookie, *([origin] if origin else [])]
    answer = bench.ask(path, *fields, method="POST")
    assert (answer.status, answer.close) == (403, True)
    assert bench.ask("/status", cookie).status == 200


def test_forms_are_forms_and_have_a_length(bench: Bench) -> None:
    ours = b"Origin: " + ORIGIN
    chunked = bench.ask("/status/login", ours, FORM, b"Transfer-Encoding: chunked", method="POST")
    assert chunked.status == 411
    for kind in (b"Content-Type: text/plain", b"Accept: */*", b"Content-Type: multipart/form-data"):
        assert bench.ask("/status/login", ours, kind, b"Content-Length: 5", method="POST").status == 415
    charset = FORM + b"; charset=UTF-8"
    assert bench.ask("/status/login", ours, charset, b"Content-Length: 5", method="POST").status == 400
    assert dict(bench.ask("/status/login").headers)[b"allow"] == b"POST"
    assert dict(bench.ask("/status", method="DELETE").headers)[b"allow"] == b"GET, HEAD"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((b"Sec-Fetch-Site: same-origin",), 200),
        ((b"Sec-Fetch-Site: none", b"Sec-Fetch-Mode: navigate"), 200),
        ((b"Sec-Fetch-Site: same-site", b"Sec-Fetch-Mode: cors", b"Sec-Fetch-Dest: empty"), 403),
        ((b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: no-cors", b"Sec-Fetch-Dest: image"), 403),
        ((b"Sec-Fetch-Site: same-site", b"Sec-Fetch-Mode: navigate", b"Sec-Fetch-Dest: iframe"), 403),
        ((b"Sec-Fetch-Site: same-site", b"Sec-Fetch-Mode: navigate", b"Sec-Fetch-Dest: document"), 200),
    ],
)
@pytest.mark.parametrize("path", ["/status", "/status.json"])
def test_requests_that_another_page_causes(
    bench: Bench, path: str, fields: tuple[bytes, ...], status: int
) -> None:
    """Also those of another port of ours, which a browser sends the cookie and shows the certificate."""
    assert bench.ask(path, bench.enter(), *fields).status == status
    assert bench.ask(path, *fields, shown=principal("certificate", SCOPE)).status == status


def test_assets_are_no_secret(bench: Bench) -> None:
    answer = bench.ask("/status.css", b"Sec-Fetch-Site: cross-site")  # its CORP keeps it from other pages
    assert (answer.status, answer.body) == (200, b"css")
    tag = dict(answer.headers)[b"etag"]
    assert bench.ask("/status.css", b"If-None-Match: " + tag).status == 304


def test_connections_of_a_principal_are_bounded_here_too(bench: Bench) -> None:
    cookie = bench.enter()
    bench.peer.full = True
    with pytest.raises(RemoteProtocolError) as raised:
        bench.ask("/status", cookie)
    assert (raised.value.reason, raised.value.status) == (Refusal.CONNECTIONS_PER_PRINCIPAL, 429)
