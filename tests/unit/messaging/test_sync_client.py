"""The client without an event loop. What it does of its own accord is `ChatClient`'s: `test_client.py`."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import Future

import pytest

from secure_net.errors import AuthenticationError, ConfigurationError, LocalProtocolError, NotPermittedError
from secure_net.messaging.client_messages import Joined
from secure_net.messaging.sync_client import SyncChatClient
from tests.support.chat_server import ChatScript, ack, error, joined, message, scripted_chat, who
from tests.support.loops import in_loop
from tests.support.pki import PKI, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def connect(pki: PKI, server: ChatScript) -> SyncChatClient:
    return SyncChatClient(*server.address, ca=pki.ca, certificate=pki.client("demo"))


@in_loop
async def test_a_conversation(pki: PKI) -> None:
    def program() -> None:
        with connect(pki, server) as chat:
            assert chat.principal == "demo"
            assert chat.join("ops", 0) == Joined("ops", 1, 1, 1)
            first = chat.receive(room="ops")
            assert first is not None
            assert first.seq == 1
            assert chat.say("ops", "hello") == 2
            assert chat.who("ops") == ["ann"]
            assert chat.history("ops", limit=1) == []
            with pytest.raises(NotPermittedError):
                chat.join("dev")
            assert [one.seq for one in itertools.islice(chat, 3)] == [2, 3, 4]
            assert chat.receive(0.01) is None
            chat.leave("ops")

    async with scripted_chat(pki) as server:
        running = asyncio.create_task(asyncio.to_thread(program))
        peer = await server.accept()
        await peer.reads(type="join", room="ops", after=0)
        peer.send(joined("ops", 1), message("ops", 1))
        said = await peer.reads(type="say")
        peer.send(message("ops", 2), ack(said, 2))
        await peer.reads(type="who")
        peer.send(who("ops", "ann"))
        await peer.reads(type="history")
        peer.send({"type": "history", "room": "ops", "messages": [], "more": False})
        await peer.reads(type="join", room="dev")
        peer.send(error("not_permitted", room="dev"), message("ops", 3), message("ops", 4))
        await peer.reads(type="leave")
        peer.send({"type": "left", "room": "ops"})
        assert await peer.read() is None
        await running


@in_loop
async def test_what_goes_wrong_at_the_start_leaves_no_thread_behind(pki: PKI) -> None:
    before = threading.active_count()
    with pytest.raises(ConfigurationError):
        SyncChatClient("localhost", ca=pki.ca)
    assert threading.active_count() == before
    async with scripted_chat(pki) as server:
        connecting = asyncio.create_task(asyncio.to_thread(connect, pki, server))
        peer = await server.meet()
        await peer.read()
        peer.close(error("unauthenticated"))
        with pytest.raises(AuthenticationError):
            await connecting


@in_loop
async def test_closing_from_another_thread_ends_the_iteration(pki: PKI) -> None:
    async with scripted_chat(pki) as server:
        connecting = asyncio.create_task(asyncio.to_thread(connect, pki, server))
        peer = await server.accept()
        chat = await connecting
        reading = asyncio.create_task(asyncio.to_thread(list, chat))
        await asyncio.to_thread(chat.close)
        assert await reading == []
        assert await peer.read() is None
        chat.close()
        with pytest.raises(LocalProtocolError):
            chat.who("ops")


@in_loop
async def test_what_is_under_way_when_the_client_is_closed_is_called_off(pki: PKI) -> None:
    begun = threading.Event()

    async def wait_for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with scripted_chat(pki) as server:
        connecting = asyncio.create_task(asyncio.to_thread(connect, pki, server))
        await server.accept()
        chat = await connecting
        waiting = asyncio.create_task(asyncio.to_thread(chat._do, wait_for_ever()))
        await asyncio.to_thread(begun.wait)
        await asyncio.to_thread(chat.close)
        with pytest.raises(LocalProtocolError):
            await waiting


@in_loop
async def test_an_interrupt_calls_off_what_it_interrupts(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_chat(pki) as server:
        connecting = asyncio.create_task(asyncio.to_thread(connect, pki, server))
        peer = await server.accept()
        chat = await connecting
        doing: list[Future[object]] = []

        def interrupted(future: Future[object], timeout: float | None = None) -> object:
            doing.append(future)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Future, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                chat.receive()
        assert doing[0].cancelled()
        await asyncio.to_thread(chat.close)
        assert await peer.read() is None
