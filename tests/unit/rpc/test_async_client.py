"""The client on the event loop. What it makes of statuses and bodies is `exchange`'s: `test_client.py`."""

from __future__ import annotations

import asyncio

import pytest

from secure_net.errors import (
    DeadlineExceededError,
    OutcomeUnknownError,
    RemoteProtocolError,
    TransportError,
    UnavailableError,
    VerificationError,
)
from secure_net.rpc.async_client import AsyncRPCClient
from secure_net.rpc.faults import EncodeError
from tests.support.loops import in_loop
from tests.support.pki import PKI, make_pki
from tests.support.rpc import settle
from tests.support.scripted_server import Peer, Script, ScriptedServer


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def answers(*values: object) -> Script:
    def script(peer: Peer) -> None:
        for value in values:
            peer.read_request()
            peer.send_answer(value)
        peer.wait_for_end()

    return script


def raw(answer: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)
        peer.wait_for_end()

    return script


def cut(peer: Peer) -> None:
    peer.read_request()


def silent(peer: Peer) -> None:
    peer.read_request()
    peer.wait_for_end()


def run(pki: PKI, *scripts: Script) -> ScriptedServer:
    return ScriptedServer(pki.certs, *scripts)


def test_calls_on_one_connection(pki: PKI) -> None:
    @in_loop
    async def scenario() -> None:
        with run(pki, answers(42, "x")) as server:
            async with AsyncRPCClient(server.url, ca=pki.ca, token="abc") as client:
                assert await client.math.double(21) == 42
                assert await client.call("a", {"b": [1]}) == "x"
        assert [b"authorization: Bearer abc" in head for head, _ in server.requests] == [True, True]

    scenario()


def test_private_names_are_attributes_and_no_methods(pki: PKI) -> None:
    @in_loop
    async def scenario() -> None:
        with pytest.raises(AttributeError):
            _ = AsyncRPCClient("https://localhost/RPC2", ca=pki.ca)._repr

    scenario()


def test_calls_wait_for_their_turn_where_connections_are_few(pki: PKI) -> None:
    @in_loop
    async def scenario() -> None:
        with run(pki, answers(1, 2, 3)) as server:
            async with AsyncRPCClient(server.url, ca=pki.ca, connections=1) as client:
                found = await asyncio.gather(*(client.a() for _ in range(3)))
                assert sorted(found) == [1, 2, 3]

    scenario()


def test_an_idle_connection_that_ended_is_made_anew_before_anything_is_sent(pki: PKI) -> None:
    def leaves(peer: Peer) -> None:
        peer.read_request()
        peer.send_answer(1)
        peer.say_goodbye()

    @in_loop
    async def scenario() -> None:
        with run(pki, leaves, answers(2)) as server:
            async with AsyncRPCClient(server.url, ca=pki.ca) as client:
                assert await client.a() == 1
                assert await asyncio.to_thread(server.done[0].wait, 30)
                assert await client.a() == 2
        assert len(server.requests) == 2

    scenario()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (cut, OutcomeUnknownError),
        (raw(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), UnavailableError),
        (raw(b"ICY 200 OK\r\n\r\n"), RemoteProtocolError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), RemoteProtocolError),
        (raw(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), RemoteProtocolError),
    ],
)
def test_answers_that_are_none_and_losses(pki: PKI, script: Script, error: type[Exception]) -> None:
    @in_loop
    async def scenario() -> None:
        with run(pki, script) as server:
            async with AsyncRPCClient(server.url, ca=pki.ca) as client:
                with pytest.raises(error):
                    await client.a()
        assert len(server.requests) == 1

    scenario()


def test_a_deadline_before_the_answer_leaves_the_outcome_unknown(pki: PKI) -> None:
    @in_loop
    async def scenario() -> None:
        with run(pki, silent) as server:
            async with AsyncRPCClient(server.url, ca=pki.ca) as client:
                with pytest.raises(OutcomeUnknownError, match="deadline"):
                    await client.call("a", deadline_seconds=0.3)
            await settle()  # the socket is closed by the loop, which the server's end would hold up

    scenario()


def test_a_deadline_while_waiting_for_a_connection_sends_nothing(pki: PKI) -> None:
    @in_loop
    async def scenario() -> None:
        with run(pki, silent) as server:
            async with AsyncRPCClient(server.url, ca=pki.ca, connections=1) as client:
                first = asyncio.create_task(client.a())
                while not server.requests:  # noqa: ASYNC110 - a thread reads them
                    await asyncio.sleep(0)
                with pytest.raises(DeadlineExceededError):
                    await client.call("a", deadline_seconds=0.05)
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
        assert len(server.requests) == 1

    scenario()


def test_a_server_of_another_ca_is_refused(pki: PKI, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_pki(tmp_path_factory.mktemp("other"))

    @in_loop
    async def scenario() -> None:
        with run(pki, silent) as server:
            async with AsyncRPCClient(server.url, ca=other.ca, token="secret") as client:
                with pytest.raises(VerificationError):
                    await client.a()
        assert server.requests == []

    scenario()


def test_nobody_there_and_no_form(pki: PKI) -> None:
    @in_loop
    async def scenario() -> None:
        async with AsyncRPCClient("https://localhost:1/RPC2", ca=pki.ca) as client:
            with pytest.raises(TransportError):
                await client.a()
            with pytest.raises(EncodeError):
                await client.a(object())

    scenario()
