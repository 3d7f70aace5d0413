"""The rows of "XML-RPC" of the threat list, at the codec and the dispatcher. gzip is `http`'s row and
`rpc.server`'s; over TLS the same tables come in `tests/interop`."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import threading
import tracemalloc
import xmlrpc.client
from typing import Any

import pytest

from secure_net.http.head import parse_head
from secure_net.limits import HTTPLimits, RPCLimits
from secure_net.rpc.decode import loads_call
from secure_net.rpc.faults import DecodeError, InternalError
from secure_net.rpc.registry import Registry, inline
from secure_net.rpc.server import RPCApplication
from tests.support.rpc import Bench, fault_of, principal, settle, until
from tests.support.xmlrpc_attacks import (
    DOCUMENTS,
    ENTITIES,
    NAMES,
    NOT_FOUND,
    TEXTS,
    TREES,
    UNFIT,
    Attack,
    call,
    value,
)

LIMITS = RPCLimits()
NOT_FOUND_TEXT = "no such method, or not permitted"


class Ran:
    """Counts the calls that reached a method."""

    def __init__(self) -> None:
        self.count = 0


def bench(ran: Ran | None = None) -> Bench:
    registry = Registry()

    @registry.method("math.double")
    @inline
    def double(number: int) -> int:
        if ran is not None:
            ran.count += 1
        return 2 * number

    @registry.method("secret.method")
    @inline
    def secret() -> str:
        return "secret"

    return Bench(registry)


def _assert_refused(attack: Attack) -> None:
    ran = Ran()
    table = bench(ran)
    code, text = fault_of(table.document(attack.body))
    assert code in attack.codes
    assert text in {"not well formed", "not an XML-RPC call", "wrong parameters"}
    assert ran.count == 0
    assert table.logged == []


@pytest.mark.parametrize("attack", ENTITIES, ids=str)
def test_entities_dtds_instructions_and_foreign_encodings_get_a_fault(attack: Attack) -> None:
    _assert_refused(attack)


def test_entities_and_dtds_cause_no_outbound_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = b"%d" % server.getsockname()[1]
        for attack in ENTITIES:
            with pytest.raises(DecodeError):
                loads_call(attack.body.replace(b"{port}", port), LIMITS)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("attack", [a for a in DOCUMENTS if len(a.body) > 40_000], ids=str)
def test_bombs_cost_bounded_allocations(attack: Attack) -> None:
    """Python's side of it: what expat allocates is bounded by the slices it is fed."""
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            loads_call(attack.body, LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 1024 * 1024 + len(attack.body)


@pytest.mark.parametrize("attack", TREES, ids=str)
def test_depth_nodes_two_of_one_a_fault_as_a_request_and_text_between_elements_get_a_fault(
    attack: Attack,
) -> None:
    _assert_refused(attack)


@pytest.mark.parametrize("attack", TEXTS, ids=str)
def test_junk_in_integers_doubles_booleans_dates_and_base64_gets_a_fault(attack: Attack) -> None:
    _assert_refused(attack)


@pytest.mark.parametrize("attack", UNFIT, ids=str)
def test_parameters_that_do_not_fit_get_a_fault(attack: Attack) -> None:
    _assert_refused(attack)


def test_extensions_nobody_asked_for_get_a_fault() -> None:
    table = Bench(Registry(allow_nil=False, allow_i8=False))
    for inner in ("<nil/>", "<i8>1</i8>"):
        assert fault_of(table.document(call(value(inner))))[0] == -32600


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:30]))
def test_names_that_are_odd_forbidden_or_unknown_get_the_same_answer(name: str) -> None:
    who = principal("rpc:call:math.*")
    table = bench()
    answer = table.document(call(value("<int>7</int>"), name), who)
    assert fault_of(answer) == (NOT_FOUND, NOT_FOUND_TEXT)
    # Byte for byte, whatever the parameters: nothing was looked at before the name was found wanting.
    assert answer == table.document(call(name="nobody.knows"), who)
    assert table.outcomes("other") == {"not_found": 2}
    assert len(list(table.metrics.methods())) == len(list(bench().metrics.methods()))


def test_names_with_a_zero_byte_get_a_fault() -> None:
    assert fault_of(bench().document(call(name="math\0double")))[0] == -32700


@pytest.mark.parametrize("name", ["system.methodHelp", "system.methodSignature"])
@pytest.mark.parametrize("asked", ["secret.method", "no.such.method", "__class__"])
def test_introspection_says_nothing_of_what_is_forbidden(name: str, asked: str) -> None:
    answer = bench().document(xmlrpc.client.dumps((asked,), name).encode(), principal("rpc:call:math.*"))
    assert fault_of(answer) == (NOT_FOUND, NOT_FOUND_TEXT)


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"identity", b"br", b""])
def test_a_compressed_body_gets_415_undecoded(coding: bytes) -> None:
    bomb = gzip.compress(bytes(1024 * 1024))
    raw = (
        b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\n"
        b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(bomb))
    )
    table = bench()
    refusal = RPCApplication(table.dispatcher, table.clock).admit(parse_head(raw, HTTPLimits()), principal())
    assert refusal is not None
    assert refusal.status == 415


class _SecretError(Exception):
    pass


class _Odd:
    """What no codec knows, and whose own methods raise."""

    def __repr__(self) -> str:
        raise _SecretError("the password is x")


def _misbehaving() -> Registry:
    registry = Registry()

    @registry.method("bad.raises")
    @inline
    def raises() -> int:
        raise _SecretError("the password is x")

    @registry.method("bad.exits")
    @inline
    def exits() -> int:
        raise SystemExit(3)

    @registry.method("bad.returns")
    @inline
    def returns() -> Any:
        return _Odd()

    @registry.method("bad.cycle")
    @inline
    def cycle() -> list[Any]:
        endless: list[Any] = []
        endless.append(endless)
        return endless

    @registry.method("bad.wide")
    @inline
    def wide() -> list[Any]:
        value: list[Any] = ["x" * 1000]
        for _ in range(7):
            value = [value] * 1000
        return value

    @registry.method("bad.big")
    @inline
    def big() -> str:
        return "x" * (LIMITS.rpc_answer_bytes + 1)

    @registry.method("bad.control")
    @inline
    def control() -> str:
        return "\x00"

    return registry


@pytest.mark.parametrize("name", [*_misbehaving().methods])
def test_a_method_that_raises_or_returns_what_cannot_be_encoded_gives_a_reference(name: str) -> None:
    table = Bench(_misbehaving())
    answer = table.document(xmlrpc.client.dumps((), name).encode())
    code, text = fault_of(answer)
    assert code == -32603
    found = re.fullmatch(r"internal error, reference ([0-9a-f]{16})", text)
    assert found is not None
    event, fields = table.logged[0]
    assert event == "rpc_method_failed"
    assert fields["reference"] == found[1]
    assert b"password" not in answer
    assert table.outcomes(name) == {"error": 1}


def test_a_method_that_blocks_passes_its_deadline_and_others_are_served() -> None:
    async def scenario() -> None:
        registry = Registry()
        held, entered = threading.Event(), threading.Event()

        @registry.method("bad.blocks")
        def blocks() -> int:
            entered.set()
            held.wait(10)
            return 1

        @registry.method("good")
        def good() -> int:
            return 2

        table = Bench(registry)
        waiting = asyncio.ensure_future(table.wait("bad.blocks"))
        await asyncio.to_thread(entered.wait, 10)
        table.clock.advance(LIMITS.rpc_call_seconds)
        with pytest.raises(InternalError, match="deadline exceeded"):
            await waiting
        # Its thread is stuck, keeps its slot, and is counted; the other thread serves.
        assert table.metrics.stuck_threads == 1
        assert await table.wait("good") == 2
        held.set()
        await until(lambda: table.metrics.stuck_threads == 0)
        assert table.outcomes("bad.blocks") == {"deadline": 1}

    asyncio.run(scenario())


def test_a_method_that_never_ends_passes_its_deadline_and_others_are_served() -> None:
    async def scenario() -> None:
        registry = Registry()

        @registry.method("bad.endless")
        async def endless() -> int:
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:  # what a method must not do, and some will
                    if over.is_set():
                        raise

        @registry.method("good")
        @inline
        def good() -> int:
            return 2

        over = asyncio.Event()
        table = Bench(registry)
        waiting = asyncio.ensure_future(table.wait("bad.endless"))
        await settle()
        assert table.call("good") == 2
        table.clock.advance(LIMITS.rpc_call_seconds)
        with pytest.raises(InternalError, match="deadline exceeded"):
            await waiting
        assert table.call("good") == 2
        over.set()

    asyncio.run(scenario())


def test_a_hundred_thousand_names_make_no_time_series() -> None:
    table = bench()
    who = principal("rpc:call:math.*")
    before = len(table.metrics.render().splitlines())
    for number in range(1000):  # the path is one; a hundred thousand take it as a thousand do
        table.document(call(name=f"random.{number}"), who)
    assert len(table.metrics.render().splitlines()) == before
