"""The chapter's class, over real sockets, called by stock and by our clients."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_net import rpc
from secure_net.daemon.xmlrpc_services import XMLRPCServices
from secure_net.errors import AuthenticationError, ConfigurationError, NotPermittedError, TransportError
from secure_net.rpc import AsyncRPCClient, Call, Fault, RPCClient, exposed, inline
from secure_net.rpc.faults import ApplicationError, InternalError, MethodNotFoundError
from secure_net.wire.tls import client_context
from tests.support.pki import PKI, make_pki


class MathServices:
    @exposed
    @inline
    def double(self, value: int) -> int:
        """Twice the value."""
        return 2 * value

    @exposed
    def blocks(self, call: Call) -> str:
        return call.principal.name

    @exposed
    async def waits(self) -> str:
        await asyncio.sleep(0)
        return "waited"

    @exposed
    def fails(self, on_purpose: bool) -> None:
        if on_purpose:
            raise Fault("on purpose", 5)
        raise LookupError("the password is x")

    def hidden(self) -> int:
        return 1


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def services(pki: PKI) -> Iterator[XMLRPCServices]:
    services = XMLRPCServices(math=MathServices())
    services.start("127.0.0.1", 0, directory=pki.certs, identities={"admin": ["*:*:**"]})
    yield services
    services.stop()


@pytest.fixture(scope="module")
def url(services: XMLRPCServices) -> str:
    assert services.address is not None
    return f"https://localhost:{services.address[1]}/RPC2"


def test_by_token(pki: PKI, url: str) -> None:
    with RPCClient(url, ca=pki.ca, token=pki.token("demo", "rpc:call:math.*")) as client:
        assert client.math.double(21) == 42
        assert client.math.blocks() == "demo"
        assert client.math.waits() == "waited"
        assert client.system.methodHelp("math.double") == "Twice the value."
        with pytest.raises(ApplicationError, match="5: on purpose"):
            client.math.fails(True)
        with pytest.raises(InternalError, match="reference") as caught:
            client.math.fails(False)
        assert "password" not in str(caught.value)
        for name in ("math.hidden", "math.__init__", "double"):
            with pytest.raises(MethodNotFoundError):
                client.call(name)


def test_by_certificate(pki: PKI, url: str) -> None:
    with RPCClient(url, ca=pki.ca, certificate=pki.client("admin")) as client:
        assert client.math.blocks() == "admin"


def test_a_ca_of_any_name(tmp_path: Path) -> None:
    """Its names are read from it: they are the tokens' audience and the certificates' trust domain."""
    pki = make_pki(tmp_path, names=("rpc.example.org",))
    services = XMLRPCServices(math=MathServices())
    services.start("127.0.0.1", 0, directory=pki.certs, identities={"admin": ["*:*:**"]})
    with services:
        assert services.address is not None
        url = f"https://localhost:{services.address[1]}/RPC2"
        with RPCClient(url, ca=pki.ca, certificate=pki.client("admin")) as client:
            assert client.math.blocks() == "admin"
        with RPCClient(url, ca=pki.ca, token=pki.token("demo")) as client:
            assert client.math.blocks() == "demo"


def test_by_the_standard_library(pki: PKI, url: str) -> None:
    headers = [("Authorization", "Bearer " + pki.token("demo", "rpc:call:**"))]
    with xmlrpc.client.ServerProxy(url, context=client_context(pki.ca), headers=headers) as proxy:
        assert proxy.math.double(21) == 42
        both = xmlrpc.client.MultiCall(proxy)
        both.math.double(1)
        both.math.waits()
        assert list(both()) == [2, "waited"]


def test_from_an_event_loop(pki: PKI, url: str) -> None:
    async def scenario() -> None:
        async with AsyncRPCClient(url, ca=pki.ca, token=pki.token("demo"), connections=3) as client:
            assert await asyncio.gather(*(client.math.double(n) for n in range(20))) == [
                2 * n for n in range(20)
            ]

    asyncio.run(scenario())


def test_strangers_and_those_without_a_scope(pki: PKI, url: str) -> None:
    with RPCClient(url, ca=pki.ca) as client, pytest.raises(AuthenticationError):
        client.math.double(1)
    with RPCClient(url, ca=pki.ca, token="ey.no.token") as client, pytest.raises(AuthenticationError):
        client.math.double(1)
    with (
        RPCClient(url, ca=pki.ca, token=pki.token("demo", "echo:use")) as client,
        pytest.raises(NotPermittedError),
    ):
        client.math.double(1)
    with (
        RPCClient(url, ca=pki.ca, token=pki.token("demo", "rpc:call:other.*")) as client,
        pytest.raises(MethodNotFoundError),
    ):
        client.math.double(1)


def test_serve_blocks_until_stop(pki: PKI) -> None:
    services = XMLRPCServices(math=MathServices())
    thread = threading.Thread(target=services.serve, args=("127.0.0.1", 0), kwargs={"directory": pki.certs})
    thread.start()
    deadline = time.monotonic() + 30
    while services.address is None and time.monotonic() < deadline:
        thread.join(0.001)
    assert services.address is not None
    url = f"https://localhost:{services.address[1]}/RPC2"
    with RPCClient(url, ca=pki.ca, token=pki.token("demo")) as client:
        assert client.math.double(1) == 2
        with pytest.raises(ConfigurationError, match="serving already"):
            services.start("127.0.0.1", 0, directory=pki.certs)
        services.stop()
        thread.join(30)
        assert not thread.is_alive()
        with pytest.raises(TransportError):
            client.math.double(1)
    services.stop()
    services.start("127.0.0.1", 0, directory=pki.certs)  # it may serve again
    with services:
        assert services.address is not None
    assert services.address is None


def test_a_port_that_is_taken(pki: PKI) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        services = XMLRPCServices(math=MathServices())
        with pytest.raises(ConfigurationError, match="already in use"):
            services.start("127.0.0.1", taken.getsockname()[1], directory=pki.certs)
        services.start("127.0.0.1", 0, directory=pki.certs)
        services.stop()


def test_without_a_configuration_the_error_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    with pytest.raises(ConfigurationError, match="secure-net init"):
        XMLRPCServices(math=MathServices()).serve("127.0.0.1", 0)
    with pytest.raises(ConfigurationError, match=r"ca\.pem|server\.pem"):
        XMLRPCServices(math=MathServices()).serve("127.0.0.1", 0, directory=tmp_path)


def test_an_object_that_exposes_nothing() -> None:
    with pytest.raises(ConfigurationError, match="exposes nothing"):
        XMLRPCServices(math=object())


def test_public_names_are_loaded_when_they_are_asked_for() -> None:
    for name in rpc.__all__:
        assert getattr(rpc, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = rpc.NoSuchName
