"""The chapter's echo servers, over real sockets, called by our client and by the chapter's."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from secure_net.daemon.echo_servers import AsyncEchoServer, EchoServer
from secure_net.errors import ConfigurationError, OutcomeUnknownError
from secure_net.messaging.echo_client import send_message_to_server
from secure_net.wire.tls import client_context
from tests.support.pki import PKI, make_pki

IDENTITIES = {"demo": ["echo:use"], "stranger": ["rpc:call:**"]}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def settings(pki: PKI) -> dict[str, Any]:
    return {"directory": pki.certs, "identities": IDENTITIES}


def say(pki: PKI, address: tuple[str, int] | None, message: str, name: str = "demo") -> str:
    assert address is not None
    return send_message_to_server("localhost", address[1], message, ca=pki.ca, certificate=pki.client(name))


def chapters_client(sock: ssl.SSLSocket, message: str) -> str:
    """As the chapter writes it: nothing but the socket was wrapped."""
    data = message.encode("utf-8")
    sock.sendall(f"{len(data):05d}".encode())
    sock.sendall(data)
    length = int(sock.recv(5))
    return sock.recv(length).decode("utf-8")


def test_threads_answer_our_client_and_the_chapters(pki: PKI) -> None:
    with EchoServer("127.0.0.1", 0, **settings(pki)) as server:
        assert say(pki, server.address, "hello") == "ECHO: hello"
        assert server.address is not None
        context = client_context(pki.ca, *pki.client("demo"))
        with (
            socket.create_connection(server.address) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            assert chapters_client(sock, "one") == "ECHO: one"
            assert chapters_client(sock, "grüße") == "ECHO: grüße"
    assert server.address is None


def test_the_loop_answers_our_client_and_the_chapters(pki: PKI) -> None:
    async def serve() -> None:
        async with AsyncEchoServer("127.0.0.1", 0, **settings(pki)) as server:
            assert await asyncio.to_thread(say, pki, server.address, "hello") == "ECHO: hello"
            with pytest.raises(ConfigurationError, match="serving already"):
                await server.serve()
        assert server.address is None
        await server.stop()

    asyncio.run(serve())


def test_it_starts_again_after_it_was_stopped(pki: PKI) -> None:
    server = EchoServer("127.0.0.1", 0, **settings(pki))
    server.stop()
    for message in ("first", "second"):
        server.start()
        assert say(pki, server.address, message) == f"ECHO: {message}"
        server.stop()


def test_who_has_no_scope_is_refused(pki: PKI) -> None:
    with EchoServer("127.0.0.1", 0, **settings(pki)) as server:
        with pytest.raises(OutcomeUnknownError, match="echo:use"):
            say(pki, server.address, "hello", "stranger")
        assert say(pki, server.address, "hello") == "ECHO: hello"


def test_an_address_that_is_taken_is_said_so(pki: PKI) -> None:
    with EchoServer("127.0.0.1", 0, **settings(pki)) as server:
        assert server.address is not None
        second = EchoServer(*server.address, **settings(pki))
        with pytest.raises(ConfigurationError, match=r"echo\.listen: .* already in use"):
            second.start()
        second.stop()


def test_without_a_configuration_it_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    with pytest.raises(ConfigurationError, match="secure-net init"):
        EchoServer().start()
