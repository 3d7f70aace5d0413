"""The application at /RPC2."""

from __future__ import annotations

import asyncio
import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from secure_net.errors import Refusal, RefusedError
from secure_net.http.head import Head, parse_head
from secure_net.http.protocol import Request
from secure_net.http.response import Response
from secure_net.identity.policy import Principal
from secure_net.limits import HTTPLimits, RPCLimits
from secure_net.rpc.encode import dumps_call
from secure_net.rpc.registry import Registry, inline
from secure_net.rpc.server import LARGE_BYTES, RPCApplication
from tests.support.loops import in_loop
from tests.support.rpc import PEER, Bench, fault_of, principal, settle

XML = b"Content-Type: text/xml"
LENGTH = b"Content-Length: 5"


def head(*lines: bytes, line: bytes = b"POST /RPC2 HTTP/1.1") -> Head:
    return parse_head(b"\r\n".join((line, b"Host: localhost", *lines)) + b"\r\n\r\n", HTTPLimits())


def registry() -> Registry:
    registry = Registry()

    @registry.method("a.double")
    @inline
    def double(value: int) -> int:
        return 2 * value

    @registry.method("a.wait", concurrency=1)
    async def wait() -> int:
        await asyncio.Event().wait()
        return 1

    return registry


def application(**options: Any) -> tuple[Bench, RPCApplication]:
    table = Bench(registry(), **options)
    return table, RPCApplication(table.dispatcher, table.clock)


def admit(found: Head, who: Principal | None) -> int:
    refusal = application()[1].admit(found, who)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/xml",
        b"TEXT/XML",
        b"application/xml",
        b"text/xml; charset=utf-8",
        b'text/xml;charset="UTF-8"',
        b"text/xml; charset=us-ascii",
        b"text/xml; profile=x",
    ],
)
def test_xml_is_admitted(content_type: bytes) -> None:
    assert admit(head(b"Content-Type: " + content_type, LENGTH), principal()) == 200
    assert admit(head(b"Content-Type: " + content_type, b"Transfer-Encoding: chunked"), principal()) == 200


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (head(XML, LENGTH, line=b"POST / HTTP/1.1"), 404),
        (head(XML, LENGTH, line=b"POST /rpc2 HTTP/1.1"), 404),
        (head(XML, LENGTH, line=b"POST /RPC2/ HTTP/1.1"), 404),
        (head(XML, LENGTH, line=b"POST /RPC2?x HTTP/1.1"), 404),
        (head(line=b"GET /RPC2 HTTP/1.1"), 405),
        (head(XML, LENGTH, line=b"PUT /RPC2 HTTP/1.1"), 405),
        (head(XML), 411),
        (head(LENGTH), 415),
        (head(b"Content-Type: application/json", LENGTH), 415),
        (head(b"Content-Type: text/xml2", LENGTH), 415),
        (head(b"Content-Type: text/xml; charset=utf-16", LENGTH), 415),
        (head(b"Content-Type: text/xml; charset=utf-7", LENGTH), 415),
        (head(XML, LENGTH, b"Content-Encoding: gzip"), 415),
    ],
)
def test_what_can_be_no_call(found: Head, status: int) -> None:
    assert admit(found, principal()) == status
    # A stranger is told nothing of it, nor is who may call nothing.
    assert admit(found, None) == 401
    assert admit(found, principal("echo:use")) == 403


def test_the_scope_of_one_method_is_enough_to_be_heard() -> None:
    assert admit(head(XML, LENGTH), principal("rpc:call:other")) == 200
    assert admit(head(XML, LENGTH), principal("rpc:read:other")) == 403


def respond(app: RPCApplication, body: bytes, who: Principal | None) -> Any:
    connection: Any = SimpleNamespace(peer=PEER)
    return app.respond(Request(head(XML, LENGTH), body), who, connection)


def test_an_inline_method_is_answered_at_once() -> None:
    table, app = application()
    answer = respond(app, dumps_call("a.double", (2,), table.limits), principal())
    assert answer.status == 200
    assert answer.headers == ((b"content-type", b"text/xml; charset=utf-8"),)
    assert b"<int>4</int>" in answer.body
    assert fault_of(respond(app, b"<", principal()).body)[0] == -32700
    assert respond(app, b"", None).status == 401


@in_loop
async def test_a_drain_ends_with_faults_and_too_many_get_503() -> None:
    table, app = application(limits=dataclasses.replace(RPCLimits(), rpc_waiting_count=1))
    body = dumps_call("a.wait", (), table.limits)
    waiting = [asyncio.create_task(respond(app, body, principal())) for _ in range(2)]
    await settle()
    refused: Response = await respond(app, body, principal())
    assert refused.status == 503
    assert b"retry-after" in dict(refused.headers)
    app.drain(20.0)
    table.clock.advance(18.9)
    await settle()
    assert not any(task.done() for task in waiting)
    table.clock.advance(0.1)
    for task in waiting:
        answer: Response = await task
        assert answer.status == 200
        assert fault_of(answer.body) == (-32603, "the server is stopping")


@in_loop
async def test_another_refusal_is_the_shell_s(monkeypatch: pytest.MonkeyPatch) -> None:
    table, app = application()

    async def refuse() -> bytes:
        raise RefusedError(Refusal.MEMORY)

    monkeypatch.setattr(table.dispatcher, "handle", lambda *_: refuse())
    with pytest.raises(RefusedError):
        await respond(app, b"", principal())


@in_loop
async def test_large_bodies_are_read_one_in_a_turn_of_the_loop() -> None:
    """Whoever sends many of them waits for himself, and others for one at most."""
    table, rpc = application()
    whitespace = b" " * LARGE_BYTES
    large = Request(head(XML, LENGTH), dumps_call("a.double", (1,), RPCLimits()) + whitespace)
    connection: Any = SimpleNamespace(peer=PEER)
    read: list[str] = []
    handle = table.dispatcher.handle

    def noted(body: bytes, who: Principal, peer: str) -> Any:
        read.append("large")
        return handle(body, who, peer)

    table.dispatcher.handle = noted  # type: ignore[method-assign]  # to see when, not what

    async def one() -> Response:
        answer = rpc.respond(large, principal(), connection)
        assert not isinstance(answer, Response)
        return await answer

    async def turns() -> None:
        while len(read) < 6:
            read.append("turn")
            await asyncio.sleep(0)

    answers = await asyncio.gather(one(), one(), one(), turns())
    assert [answer.status for answer in answers[:3]] == [200, 200, 200]
    between = "".join(entry[0] for entry in read)
    assert "ll" not in between
