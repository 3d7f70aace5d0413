from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from secure_net.errors import AuthenticationError, Refusal, RefusedError, RemoteProtocolError
from secure_net.http.head import Head
from secure_net.http.protocol import Request, RequestHead
from secure_net.http.response import FORBIDDEN, UNAUTHENTICATED, UNSUPPORTED_MEDIA_TYPE, Response
from secure_net.http.server import HTTPService, HTTPSession, bearer_token
from secure_net.metrics import AuthMethod, AuthOutcome, ServiceCounters
from tests.support.clock import FakeClock
from tests.support.http_attacks import good_request, request

TOKEN = b"Authorization: Bearer good"


class FakePrincipal:
    def __init__(self, name: str, expires_at: float, epoch: int) -> None:
        self.name, self.expires_at, self.epoch = name, expires_at, epoch


class FakeAuthenticator:
    """Believes the tokens in its table, and counts how often it is asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.epoch = 1
        self.asked = 0
        self.tokens = {b"good": "reports", b"other": "other"}
        self.revoked: set[str] = set()
        self.seconds = 60.0
        self._clock = clock

    def bearer(self, token: bytes, certificate: bytes | None) -> FakePrincipal:
        self.asked += 1
        if token not in self.tokens:
            raise AuthenticationError("token: unknown")
        return FakePrincipal(self.tokens[token], self._clock.wall() + self.seconds, self.epoch)

    def current(self, principal: FakePrincipal) -> FakePrincipal:
        if principal.name in self.revoked:
            raise AuthenticationError("certificate", Refusal.REVOKED)
        if principal.epoch == self.epoch:
            return principal
        return FakePrincipal(principal.name, principal.expires_at, self.epoch)


class FakeConnection:
    def __init__(self, by_certificate: FakePrincipal | None = None) -> None:
        self.certificate = b"DER" if by_certificate else None
        self.certificate_principal = self.principal = by_certificate
        self.full = False

    def authenticated(self, principal: FakePrincipal) -> None:
        if self.full:
            raise RefusedError(Refusal.CONNECTIONS_PER_PRINCIPAL, principal.name)
        self.principal = principal


class FakeApplication:
    """Lets principals POST, and everybody GET; answers late where the path says so."""

    def __init__(self) -> None:
        self.admitted = 0
        self.callers: list[str | None] = []

    def admit(self, head: Head, principal: Any) -> Response | None:
        self.admitted += 1
        if head.method == "GET":
            return None
        if principal is None:
            return UNAUTHENTICATED
        if principal.name == "other":
            return FORBIDDEN
        return None if head.content_type == b"text/xml" else UNSUPPORTED_MEDIA_TYPE

    def respond(
        self, request: Request, principal: Any, connection: Any
    ) -> Response | Coroutine[Any, Any, Response]:
        self.callers.append(None if principal is None else principal.name)
        answer = Response(200, (), request.body or b"empty")
        return self._later(answer) if request.head.path == "/late" else answer

    async def _later(self, answer: Response) -> Response:
        return answer


class Harness:
    def __init__(self, by_certificate: str | None = None) -> None:
        self.clock = FakeClock()
        self.authenticator = FakeAuthenticator(self.clock)
        self.application = FakeApplication()
        self.counters = ServiceCounters("rpc")
        self.service = HTTPService(
            "rpc",
            self.application,
            self.authenticator,  # type: ignore[arg-type]
            self.counters,
            clock=self.clock,
            body_bytes=1000,
        )
        principal = FakePrincipal(by_certificate, self.clock.wall() + 60, 1) if by_certificate else None
        self.connection = FakeConnection(principal)
        self.session: HTTPSession = self.service.session(self.connection)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> bytes:
        """What is sent for `data`; an error is the shell's and gets the last words."""
        machine = self.session.machine
        machine.receive_data(data)
        try:
            while (event := machine.next_event()) is not None:
                waiting = self.session.handle(event)
                if waiting is not None:
                    asyncio.run(waiting)
        except RemoteProtocolError as error:
            return machine.data_to_send() + machine.farewell(error)
        return machine.data_to_send()

    def auth(self, method: AuthMethod, outcome: AuthOutcome) -> int:
        return self.counters.auth[method, outcome]


def test_what_a_listener_wants_to_know() -> None:
    service = Harness().service
    assert (service.name, service.tls.alpn, service.authentication) == ("rpc", ("http/1.1",), True)


def test_a_call_with_a_token() -> None:
    harness = Harness()
    assert harness.feed(good_request(TOKEN)).startswith(b"HTTP/1.1 200 OK\r\n")
    assert harness.application.callers == ["reports"]
    assert harness.connection.principal is not None
    assert harness.connection.principal.name == "reports"
    assert harness.auth(AuthMethod.TOKEN, AuthOutcome.ACCEPTED) == 1
    assert harness.counters.responses == {200: 1}


def test_what_was_decided_on_a_head_stands_for_the_same_head() -> None:
    harness = Harness()
    harness.feed(good_request(TOKEN) * 5)
    harness.feed(good_request(TOKEN))
    assert (harness.authenticator.asked, harness.application.admitted) == (1, 1)
    assert harness.application.callers == ["reports"] * 6
    harness.feed(good_request(TOKEN, b"X: y"))
    assert (harness.authenticator.asked, harness.application.admitted) == (2, 2)


def test_a_new_epoch_asks_again() -> None:
    harness = Harness()
    harness.feed(good_request(TOKEN))
    del harness.authenticator.tokens[b"good"]
    harness.authenticator.epoch += 1
    assert harness.feed(good_request(TOKEN)).startswith(b"HTTP/1.1 401 ")
    assert harness.session.machine.finished


def test_a_credential_that_ends_is_asked_again() -> None:
    harness = Harness()
    harness.feed(good_request(TOKEN))
    del harness.authenticator.tokens[b"good"]
    harness.clock.advance(59.9)
    assert harness.feed(good_request(TOKEN)).startswith(b"HTTP/1.1 200 ")
    harness.clock.advance(0.1)
    assert harness.feed(good_request(TOKEN)).startswith(b"HTTP/1.1 401 ")


def test_a_certificate_authenticates() -> None:
    harness = Harness("reports")
    first = harness.connection.principal
    assert harness.feed(good_request()).startswith(b"HTTP/1.1 200 ")
    assert harness.connection.principal is first
    harness.authenticator.epoch += 1
    assert harness.feed(good_request()).startswith(b"HTTP/1.1 200 ")
    assert harness.connection.principal is not first
    harness.authenticator.revoked.add("reports")
    harness.authenticator.epoch += 1
    assert harness.feed(good_request()).startswith(b"HTTP/1.1 401 ")


def test_with_a_token_and_a_certificate_the_token_decides() -> None:
    harness = Harness("reports")
    assert harness.feed(good_request(b"Authorization: Bearer other")).startswith(b"HTTP/1.1 403 ")
    assert harness.feed(good_request()).startswith(b"HTTP/1.1 200 ")
    assert harness.feed(good_request(b"Authorization: Bearer bad")).startswith(b"HTTP/1.1 401 ")
    assert harness.session.machine.finished


def test_nobody_gets_401_and_may_try_again() -> None:
    harness = Harness()
    sent = harness.feed(good_request())
    assert sent.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nwww-authenticate: Bearer\r\n" in sent
    assert harness.auth(AuthMethod.NONE, AuthOutcome.REFUSED) == 1
    assert harness.feed(good_request(TOKEN)).startswith(b"HTTP/1.1 200 ")


def test_open_pages_are_for_everybody() -> None:
    harness = Harness()
    assert harness.feed(request(line=b"GET /livez HTTP/1.1") * 2).count(b"HTTP/1.1 200") == 2
    assert harness.application.callers == [None, None]
    assert harness.application.admitted == 1


@pytest.mark.parametrize(
    "authorization",
    [
        b"Bearer bad",
        b"Bearer",
        b"Bearer ",
        b"bad",
        b"Basic Z29vZA==",
        b"Bearer good x",
        b"Bearer\tgood",
        b"Bearer go=d",
    ],
)
def test_every_wrong_credential_gets_one_identical_401_and_is_closed(authorization: bytes) -> None:
    sent = Harness().feed(good_request(b"Authorization: Bearer bad"))
    harness = Harness()
    assert harness.feed(good_request(b"Authorization: " + authorization) + good_request(TOKEN)) == sent
    assert sent.startswith(b"HTTP/1.1 401 ")
    assert b'\r\nwww-authenticate: Bearer error="invalid_token"\r\n' in sent
    assert b"\r\nconnection: close\r\n" in sent
    assert harness.session.machine.finished
    assert harness.auth(AuthMethod.TOKEN, AuthOutcome.REFUSED) == 1
    assert harness.counters.responses == {401: 1}


def test_the_scheme_is_read_in_any_case() -> None:
    assert bearer_token(b"bEARER  a.b-c_d~e+f/g==") == b"a.b-c_d~e+f/g=="


def test_403_names_the_scope_as_the_reason() -> None:
    sent = Harness().feed(good_request(b"Authorization: Bearer other"))
    assert b'\r\nwww-authenticate: Bearer error="insufficient_scope"\r\n' in sent


def test_too_many_connections_of_a_principal_get_429() -> None:
    harness = Harness()
    harness.connection.full = True
    sent = harness.feed(good_request(TOKEN))
    assert sent.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nretry-after: " in sent


def test_what_is_refused_is_refused_before_the_body() -> None:
    harness = Harness()
    sent = harness.feed(request(b"Expect: 100-continue", b"Content-Type: text/xml", b"Content-Length: 5"))
    assert sent.startswith(b"HTTP/1.1 401 ")
    assert harness.session.machine.finished
    harness = Harness()
    sent = harness.feed(request(TOKEN, b"Content-Type: application/json", b"Content-Length: 5"))
    assert sent.startswith(b"HTTP/1.1 415 ")
    assert harness.session.machine.finished


def test_a_body_that_is_wanted_is_waited_for() -> None:
    harness = Harness()
    head = request(TOKEN, b"Expect: 100-continue", b"Content-Type: text/xml", b"Content-Length: 5")
    assert harness.feed(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert harness.feed(b"hello").endswith(b"\r\n\r\nhello")
    assert harness.application.admitted == 1


def test_an_answer_that_takes_its_time() -> None:
    harness = Harness()
    raw = request(line=b"GET /late HTTP/1.1")
    assert harness.feed(raw + request(line=b"GET /soon HTTP/1.1")).count(b"HTTP/1.1 200") == 2


def test_requests_that_arrive_while_draining_get_503() -> None:
    harness = Harness()
    harness.feed(good_request(TOKEN))
    raw = good_request(TOKEN)
    harness.feed(raw[:20])
    harness.session.machine.drain()
    sent = harness.feed(raw[20:])
    assert sent.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: " in sent
    assert harness.application.callers == ["reports"]
    assert harness.session.machine.finished


def test_events_are_what_they_are() -> None:
    harness = Harness()
    harness.session.machine.receive_data(request(TOKEN, b"Content-Length: 5"))
    assert isinstance(harness.session.machine.next_event(), RequestHead)
    harness.session.closed()
