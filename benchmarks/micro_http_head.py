"""What reading a request costs: our grammar beside httptools with the same policy behind it.

``python -m benchmarks.micro_http_head`` prints µs per operation, the best of five (needs `httptools`). The
figures in ``docs/decisions/0001-http-head-by-our-own-grammar.md`` come from here.
"""

from __future__ import annotations

import functools
import time
import timeit
from collections.abc import Callable, Mapping
from typing import Any

import httptools

from secure_net.http.fields import malformed
from secure_net.http.head import REQUEST_LINE, Head, parse_head
from secure_net.http.protocol import HTTPMachine
from secure_net.http.response import Headers, Response, ResponseHeads
from secure_net.http.server import HTTPService
from secure_net.limits import HTTPLimits
from secure_net.metrics import ServiceCounters

LIMITS = HTTPLimits()
BODY = b"x" * 100
TOKEN = b"Bearer " + b"e" * 600  # as long as an Ed25519 JWT with a few scopes
XML: Headers = ((b"content-type", b"text/xml"),)
ANSWER = b"y" * 150

HEADS = {
    "curl": (
        b"POST /RPC2 HTTP/1.1\r\nHost: localhost:8443\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
        b"Authorization: " + TOKEN + b"\r\nContent-Type: text/xml\r\nContent-Length: 100\r\n\r\n"
    ),
    "ServerProxy": (
        b"POST /RPC2 HTTP/1.1\r\nHost: localhost:8443\r\nAccept-Encoding: gzip\r\n"
        b"Authorization: " + TOKEN + b"\r\nContent-Type: text/xml\r\n"
        b"User-Agent: Python-xmlrpc/3.11\r\nContent-Length: 100\r\n\r\n"
    ),
    "wrk, certificate": (
        b"POST /RPC2 HTTP/1.1\r\nHost: localhost:8443\r\n"
        b"Content-Type: text/xml\r\nContent-Length: 100\r\n\r\n"
    ),
}


class Collector:
    """httptools' callbacks, with a head's fields gathered as `parse_fields` does."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: dict[bytes, bytes] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self.fields or b"_" in name:
            raise malformed("name")
        self.fields[name] = value


def by_httptools(raw: bytes) -> Head:
    """httptools, and what it leaves to us: the raw request line, and all that `Head` judges."""
    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    parser.feed_data(raw)
    line = REQUEST_LINE.match(raw)
    if line is None or not raw.isascii():
        raise malformed("request line")
    method = parser.get_method().decode("ascii")
    return Head(method, collector.url, int(line[3]), collector.fields)


def by_httptools_alone(raw: bytes) -> Mapping[bytes, bytes]:
    """httptools and nothing else, for comparison: it lets through what the decision page lists."""
    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    parser.feed_data(raw)
    return collector.fields


def microseconds(work: Callable[[], Any]) -> float:
    number = 20_000
    return min(timeit.repeat(work, number=number, repeat=5)) / number * 1e6


class Caller:
    """A principal, an authenticator that believes, a connection and an application, all of no cost."""

    name, epoch, expires_at = "bench", 1, float("inf")
    certificate = None

    def __init__(self) -> None:
        self.certificate_principal = self.principal = self

    def current(self, principal: Caller) -> Caller:
        return principal

    def bearer(self, token: bytes, certificate: bytes | None) -> Caller:
        return self

    def admit(self, head: Head, principal: object) -> None:
        return None

    def respond(self, request: object, principal: object, connection: object) -> Response:
        return Response(200, XML, ANSWER)


class WallClock:
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


def one_machine_call(raw: bytes) -> Callable[[], bytes]:
    """receive_data, next_event, respond, data_to_send, on one keep-alive connection."""
    machine = HTTPMachine(LIMITS, ResponseHeads(time.time), body_bytes=1 << 20)

    def call() -> bytes:
        machine.receive_data(raw)
        machine.next_event()
        machine.respond(Response(200, XML, ANSWER))
        machine.next_event()
        return machine.data_to_send()

    return call


def one_session_call(raw: bytes) -> Callable[[], bytes]:
    """The same through the session: authentication, admission, and an application that costs nothing."""
    caller: Any = Caller()
    clock: Any = WallClock()
    service = HTTPService("bench", caller, caller, ServiceCounters("bench"), clock=clock, body_bytes=1 << 20)
    session = service.session(caller)
    machine = session.machine

    def call() -> bytes:
        machine.receive_data(raw)
        while (event := machine.next_event()) is not None:
            session.handle(event)
        return machine.data_to_send()

    return call


def main() -> None:
    print(f"{'µs':24}{'ours':>8}{'httptools+policy':>18}{'httptools alone':>17}")
    for name, raw in HEADS.items():
        ours = microseconds(functools.partial(parse_head, raw, LIMITS))
        both = microseconds(functools.partial(by_httptools, raw))
        alone = microseconds(functools.partial(by_httptools_alone, raw))
        print(f"{'parse, ' + name:24}{ours:8.2f}{both:18.2f}{alone:17.2f}")
    raw = HEADS["ServerProxy"] + BODY
    print(f"{'whole call, machine':24}{microseconds(one_machine_call(raw)):8.2f}   (head repeated)")
    print(f"{'whole call, session':24}{microseconds(one_session_call(raw)):8.2f}   (head repeated)")


if __name__ == "__main__":
    main()
