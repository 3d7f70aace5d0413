"""The client for programs with an event loop, on the wire shell's client side.

::

    async with AsyncRPCClient("https://localhost:8443/RPC2", ca="certs/ca.pem", token_file="t") as client:
        await client.math.double(21)
        await asyncio.gather(*(client.call("math.double", n) for n in range(100)))

Calls at the same time run on connections of their own, up to `connections`; further ones wait for theirs.
What `rpc.client` says of connections and of calls that may have run holds here too.
"""

from __future__ import annotations

import asyncio
from typing import Any, Unpack

from secure_net.clock import Clock
from secure_net.discovery import PROTOCOLS
from secure_net.errors import (
    DeadlineExceededError,
    OutcomeUnknownError,
    Refusal,
    RemoteProtocolError,
    TransportError,
)
from secure_net.http.client_protocol import Answer, HTTPClientMachine
from secure_net.limits import ConnectionLimits, HTTPLimits
from secure_net.machine import Machine
from secure_net.rpc.client import RPCMethod
from secure_net.rpc.encode import dumps_call
from secure_net.rpc.exchange import Target, TargetOptions
from secure_net.wire.client import ClientConnection, connect
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSPolicy


class AsyncRPCClient:
    """Calls the methods of one server; belongs to the event loop it is used on first.

    The parameters are `RPCClient`'s; besides, at most `connections` are open at a time.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        connections: int = 8,
        clock: Clock | None = None,
        **options: Unpack[TargetOptions],
    ) -> None:
        self._target = Target(url, **options)
        self._clock = clock
        self._turns = asyncio.Semaphore(connections)
        self._idle: list[_Exchanges] = []

    async def call(self, method: str, *params: Any, deadline_seconds: float | None = None) -> Any:
        """As `RPCClient.call`. When it is cancelled, the call may still run on the server."""
        target = self._target
        body = dumps_call(method, params, target.limits)
        exchanges: _Exchanges | None = None
        try:
            async with (
                asyncio.timeout(target.deadline_seconds if deadline_seconds is None else deadline_seconds),
                self._turns,
            ):
                exchanges = await self._connection()
                answer = await exchanges.exchange(target.path, target.headers(), body)
        except TimeoutError:
            if exchanges is None:
                raise DeadlineExceededError("the deadline passed before the call was sent") from None
            raise OutcomeUnknownError("the deadline passed before the answer") from None
        finally:
            if exchanges is not None:
                self._give_back(exchanges)
        return target.value_of(answer)

    def __getattr__(self, name: str) -> RPCMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return RPCMethod(self.call, name)

    async def close(self) -> None:
        """Close the idle connections. A later call opens others."""
        idle, self._idle = self._idle, []
        for exchanges in idle:
            exchanges.end()
        await asyncio.gather(*(exchanges.connection.wait_closed() for exchanges in idle))

    async def __aenter__(self) -> AsyncRPCClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _connection(self) -> _Exchanges:
        if self._idle:
            # The end of an idle connection may wait in its socket: two rounds of the loop read it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        while self._idle:
            exchanges = self._idle.pop()
            if exchanges.is_usable():
                return exchanges
        target = self._target
        service = _ClientService(target)
        connection = await connect(
            target.host,
            target.port,
            service,
            target.context,
            limits=ConnectionLimits(idle_seconds=target.deadline_seconds),
            clock=self._clock,
        )
        return service.exchanges_of(connection)

    def _give_back(self, exchanges: _Exchanges) -> None:
        if exchanges.is_usable():
            self._idle.append(exchanges)
        else:
            exchanges.connection.abort()


class _NotingMachine(HTTPClientMachine):
    """Keeps the error that the shell closes the connection for."""

    __slots__ = ("error",)

    def __init__(self, limits: HTTPLimits, *, host: bytes, body_bytes: int) -> None:
        super().__init__(limits, host=host, body_bytes=body_bytes)
        self.error: RemoteProtocolError | None = None

    def next_event(self) -> Answer | None:
        try:
            return super().next_event()
        except RemoteProtocolError as error:
            self.error = error
            raise


class _Exchanges:
    """The session of one connection: one exchange after the other."""

    def __init__(self, target: Target, connection: Connection) -> None:
        self._http = _NotingMachine(
            HTTPLimits(), host=target.host_field, body_bytes=target.limits.rpc_answer_bytes
        )
        self.machine: Machine = self._http
        self.connection = connection
        self._answer: asyncio.Future[Answer] | None = None
        self._is_closed = False

    def is_usable(self) -> bool:
        return self._http.reusable and not self._is_closed

    async def exchange(self, path: str, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> Answer:
        if self._is_closed:
            raise TransportError("the server closed the connection right after the handshake")
        self._answer = asyncio.get_running_loop().create_future()
        self._http.send_request("POST", path, headers, body)
        self.connection.wake()
        try:
            return await self._answer
        finally:
            self._answer = None

    def handle(self, event: Answer) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(event)

    def closed(self) -> None:
        self._is_closed = True
        if self._answer is None or self._answer.done():
            return
        error = self._http.error
        if error is None or error.reason is Refusal.TRUNCATED:
            self._answer.set_exception(OutcomeUnknownError("the connection was lost before the answer"))
        else:
            self._answer.set_exception(error)

    def end(self) -> None:
        self._http.drain()
        self.connection.wake()


class _ClientService:
    """What the shell serves on our side of one connection."""

    name = "rpc-client"
    tls = TLSPolicy(alpn=PROTOCOLS["rpc"].alpn, client_certificates="off")
    authentication = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self._exchanges: dict[Connection, _Exchanges] = {}

    def session(self, connection: Connection) -> _Exchanges:
        exchanges = self._exchanges[connection] = _Exchanges(self._target, connection)
        return exchanges

    def exchanges_of(self, connection: ClientConnection) -> _Exchanges:
        return self._exchanges[connection]
