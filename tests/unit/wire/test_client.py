"""The client's side: who it is connected to, and what it is told when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from secure_net.errors import DeadlineExceededError, Refusal, TransportError, VerificationError
from secure_net.limits import ConnectionLimits
from secure_net.machine import Machine
from secure_net.wire.client import ClientConnection, connect
from secure_net.wire.connection import Connection
from secure_net.wire.shell import Shell
from secure_net.wire.tls import TLSMaterial, TLSPolicy, client_context, server_context
from tests.support.clock import FakeClock
from tests.support.loopback import serving
from tests.support.loops import in_loop
from tests.support.machines import LineMachine, LineService
from tests.support.pki import PKI, make_pki
from tests.support.transport import turns


class AskingSession:
    """Puts every line that arrives in a queue."""

    def __init__(self, service: AskingService, connection: Connection) -> None:
        self.machine: Machine = LineMachine()
        self.service, self.connection = service, connection

    def handle(self, event: Any) -> None:
        self.service.lines.put_nowait(event)

    def closed(self) -> None:
        self.service.ended.set()


class AskingService:
    """The client's side of the line protocol."""

    name = "asking"
    authentication = False

    def __init__(self) -> None:
        self.tls = TLSPolicy()
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = asyncio.Event()

    def session(self, connection: Connection) -> AskingSession:
        return AskingSession(self, connection)

    async def ask(self, connection: Connection, line: bytes) -> bytes:
        connection.machine.outgoing.append(line + b"\n")
        connection.wake()
        return await asyncio.wait_for(self.lines.get(), 10)


@in_loop
async def test_a_client_calls_and_leaves(pki: PKI) -> None:
    async with serving(pki) as server:
        service = AskingService()
        connection = await connect(*server.address, service, client_context(pki.ca))
        assert await service.ask(connection, b"echo hello") == b"hello"
        connection.machine.finished = True
        connection.wake()
        await asyncio.wait_for(connection.wait_closed(), 10)
        assert service.ended.is_set()
        await server.at_rest()
        assert {outcome.value: n for outcome, n in server.counters.connections.items() if n} == {"clean": 1}


@in_loop
async def test_another_name_to_verify(pki: PKI) -> None:
    async with serving(pki) as server:
        service, context = AskingService(), client_context(pki.ca)
        connection = await connect(*server.address, service, context, server_hostname="localhost")
        connection.abort()
        server.listener._gate_names = frozenset({"localhost", "elsewhere.localhost"})
        with pytest.raises(VerificationError, match="certificate_invalid: Hostname mismatch"):
            await connect(*server.address, service, context, server_hostname="elsewhere.localhost")
        await connection.wait_closed()
        await server.at_rest()


@pytest.mark.parametrize("name", ["", ".leading", "x" * 70 + ".example"])
@in_loop
async def test_a_name_that_no_certificate_can_bear(pki: PKI, name: str) -> None:
    async with serving(pki) as server:
        host, port = server.address
        with pytest.raises(TransportError, match="is no name that a certificate can bear"):
            await connect(name, port, AskingService(), client_context(pki.ca))
        with pytest.raises(TransportError, match="is no name") if name else contextlib.nullcontext():
            (await connect(host, port, AskingService(), client_context(pki.ca), server_hostname=name)).abort()
        await turns()


@in_loop
async def test_a_server_of_another_authority(pki: PKI, tmp_path_factory: pytest.TempPathFactory) -> None:
    foreign = make_pki(tmp_path_factory.mktemp("foreign"))
    async with serving(foreign) as server:
        with pytest.raises(VerificationError, match="certificate_invalid"):
            await connect(*server.address, AskingService(), client_context(pki.ca))
        await server.at_rest()
        assert server.refused() == {"handshake": 1}


@in_loop
async def test_a_server_that_wants_another_name(pki: PKI) -> None:
    async with serving(pki) as server:
        server.listener._gate_names = frozenset({"elsewhere"})
        with pytest.raises(TransportError, match="handshake: TLSV1_UNRECOGNIZED_NAME"):
            await connect("localhost", server.address[1], AskingService(), client_context(pki.ca))


@in_loop
async def test_a_client_certificate_that_is_refused_shows_at_the_first_read(pki: PKI) -> None:
    logged: list[dict[str, object]] = []
    async with serving(pki, LineService(TLSPolicy(client_certificates="required"))) as server:
        service = AskingService()
        connection = await connect(
            *server.address,
            service,
            client_context(pki.ca),
            log=lambda event, **fields: logged.append(fields),
        )
        await asyncio.wait_for(service.ended.wait(), 10)
        await connection.wait_closed()
        assert [(fields["reason"], fields["detail"]) for fields in logged] == [
            ("record", "TLSV13_ALERT_CERTIFICATE_REQUIRED")
        ]


# -- servers that are none --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(answer: Callable[[socket.socket], None]) -> AsyncIterator[tuple[str, int]]:
    """A server that does `answer` in a thread to whoever connects."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        accepted, _ = listening.accept()
        with accepted:
            answer(accepted)

    serving = asyncio.create_task(asyncio.to_thread(serve))
    try:
        yield listening.getsockname()
    finally:
        await serving
        listening.close()


@in_loop
async def test_a_server_that_speaks_plaintext(pki: PKI) -> None:
    def answer(accepted: socket.socket) -> None:
        accepted.recv(1 << 16)
        accepted.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        accepted.recv(1)

    async with answering(answer) as address:
        with pytest.raises(TransportError, match="handshake: WRONG_VERSION_NUMBER"):
            await connect(*address, AskingService(), client_context(pki.ca))


@pytest.mark.parametrize("reset", [False, True])
@in_loop
async def test_a_server_that_leaves_within_the_handshake(pki: PKI, reset: bool) -> None:
    def answer(accepted: socket.socket) -> None:
        if not reset:  # closed with input unread, the kernel sends a reset
            accepted.recv(1 << 16)

    async with answering(answer) as address:
        with pytest.raises(TransportError, match=r"truncated|lost within the handshake"):
            await connect(*address, AskingService(), client_context(pki.ca))


async def handshake_begun(clock: FakeClock) -> None:
    while not clock.pending:  # noqa: ASYNC110 - the kernel connects
        await asyncio.sleep(0)


@in_loop
async def test_a_server_that_says_nothing(pki: PKI) -> None:
    clock = FakeClock()
    async with answering(
        lambda accepted: [None for _ in iter(lambda: accepted.recv(1 << 16), b"")]
    ) as address:
        connecting = asyncio.create_task(
            connect(*address, AskingService(), client_context(pki.ca), clock=clock)
        )
        await handshake_begun(clock)
        clock.advance(5.0)
        with pytest.raises(DeadlineExceededError, match="handshake_deadline"):
            await connecting


@pytest.mark.parametrize("later", [0, 5])
@in_loop
async def test_who_gives_up_waiting_leaves_no_connection_behind(pki: PKI, later: int) -> None:
    left = []

    def answer(accepted: socket.socket) -> None:
        while accepted.recv(1 << 16):
            pass
        left.append("the client has gone")

    clock = FakeClock()
    with contextlib.suppress(ConnectionResetError):
        async with answering(answer) as address:
            connecting = asyncio.create_task(
                connect(*address, AskingService(), client_context(pki.ca), clock=clock)
            )
            await handshake_begun(clock)
            await turns(later)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        assert left == ["the client has gone"]
    assert clock.pending == 0


@in_loop
async def test_nobody_there(pki: PKI) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransportError, match=f"127.0.0.1:{port} "):
        await connect("127.0.0.1", port, AskingService(), client_context(pki.ca))


def failing(error: Exception) -> Callable[..., Any]:
    async def create_connection(*_: object, **__: object) -> None:
        raise error

    return create_connection


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (socket.gaierror(-2, "Name or service not known"), TransportError, "host is not a known name"),
        (TimeoutError(), DeadlineExceededError, "host:1 did not answer in time"),
        (OSError("Multiple exceptions"), TransportError, "host:1 cannot be reached"),
    ],
)
@in_loop
async def test_what_the_network_says(pki: PKI, error: Exception, kind: type[Exception], text: str) -> None:
    loop = asyncio.get_running_loop()
    loop.create_connection = failing(error)  # type: ignore[method-assign]  # a fault of the network
    with pytest.raises(kind, match=text):
        await connect("host", 1, AskingService(), client_context(pki.ca))


@in_loop
async def test_the_first_failure_is_the_one_that_is_told(pki: PKI) -> None:
    connection = ClientConnection(
        _shell(),
        AskingService(),
        lambda: None,  # type: ignore[arg-type, return-value]  # never begun
    )
    connection._count_refusal(Refusal.CERTIFICATE_PROFILE)
    connection._count_refusal(Refusal.IDLE)
    connection.came_from("127.0.0.1", 1)
    connection.connection_lost(None)
    with pytest.raises(VerificationError, match="certificate_profile"):
        await connection.wait_ready()


def _shell() -> Any:
    return Shell(FakeClock(), ConnectionLimits(), None, lambda *_, **__: None)


def test_a_server_context_is_not_a_clients(pki: PKI) -> None:
    """One that verifies nothing cannot come out of `client_context`."""
    context = client_context(pki.ca)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert server_context(TLSMaterial.load(pki.certs), TLSPolicy()).verify_mode is ssl.CERT_OPTIONAL
