"""A chat server that does what a test says, in the test's own loop: for clients, and what they must stand.

::

    async with scripted_chat(pki) as server:
        client = ChatClient(*server.address, ca=pki.ca, certificate=pki.client("demo"))
        async with asyncio.TaskGroup() as group:
            group.create_task(client.connect())
            peer = await server.accept()               # connected, has said hello, is welcomed
        ...
        assert await peer.read() == {"type": "who", "room": "ops"}
        peer.send(who("ops", "ann"))
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from secure_net.clock import SystemClock
from secure_net.errors import Refusal
from secure_net.limits import ConnectionLimits, FrameLimits
from secure_net.messaging.frames import FramedMachine, encode
from secure_net.metrics import ServiceCounters
from secure_net.wire.connection import Connection
from secure_net.wire.listener import Listener
from secure_net.wire.shell import Shell
from secure_net.wire.tls import TLSMaterial, TLSPolicy
from tests.support.pki import PKI

SECONDS = 20.0  # how long a test waits before it has failed

LIMITS = {
    "frame_bytes": 65536,
    "body_bytes": 48 * 1024,
    "unacknowledged_count": 3,
    "unacknowledged_bytes": 1 << 20,
    "page_count": 2,
    "idle_seconds": 300.0,
}


def welcome(**limits: object) -> dict[str, object]:
    return {"type": "welcome", "principal": "demo", "limits": LIMITS | limits}


def joined(room: str, seq: int = 0, first: int = 1, **others: object) -> dict[str, object]:
    return {"type": "joined", "room": room, "seq": seq, "first": first, "members": 1} | others


def message(room: str, seq: int, body: object = "x", sender: str = "ann") -> dict[str, object]:
    return {"type": "message", "room": room, "seq": seq, "from": sender, "at": 1.5, "body": body}


def ack(said: dict[str, Any], seq: int) -> dict[str, object]:
    return {"type": "ack", "id": said["id"], "seq": seq}


def who(room: str, *members: str, more: bool = False) -> dict[str, object]:
    return {"type": "who", "room": room, "members": list(members), "more": more}


def error(code: str, **others: object) -> dict[str, object]:
    return {"type": "error", "code": code, "reason": "why"} | others


class ChatPeer:
    """The server's side of one connection, and its session."""

    def __init__(self, connection: Connection) -> None:
        self.machine = FramedMachine(FrameLimits())
        self.connection = connection
        self.said: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def handle(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.said.put_nowait(json.loads(payload))

    def closed(self) -> None:
        self.said.put_nowait(None)

    async def read(self) -> dict[str, Any] | None:
        """The next object that the client says; None at its end."""
        async with asyncio.timeout(SECONDS):
            return await self.said.get()

    async def reads(self, **expected: object) -> dict[str, Any]:
        """The next object, which has these fields."""
        found = await self.read()
        assert found is not None
        assert found | expected == found
        return found

    def send(self, *objects: object) -> None:
        self.send_raw(*(json.dumps(item).encode() for item in objects))

    def send_raw(self, *payloads: bytes) -> None:
        self.machine.outgoing += map(encode, payloads)
        self.connection.wake()

    def close(self, *last: object) -> None:
        """Say these, and then goodbye."""
        self.machine.finished = True
        self.send(*last)

    def cut(self) -> None:
        self.connection.abort()


class ChatScript:
    """Implements `secure_net.wire.shell.Service`: its connections wait to be accepted by the test."""

    name = "chat"
    tls = TLSPolicy(client_certificates="optional")
    authentication = False

    def __init__(self) -> None:
        self.listener: Listener
        self.peers: asyncio.Queue[ChatPeer] = asyncio.Queue()

    def session(self, connection: Connection) -> ChatPeer:
        peer = ChatPeer(connection)
        self.peers.put_nowait(peer)
        return peer

    @property
    def address(self) -> tuple[str, int]:
        return self.listener.listen_addrs[0]

    async def meet(self) -> ChatPeer:
        """The next connection, and nothing said yet."""
        async with asyncio.timeout(SECONDS):
            return await self.peers.get()

    async def accept(self, **limits: object) -> ChatPeer:
        """The next connection, welcomed."""
        peer = await self.meet()
        await peer.reads(type="hello")
        peer.send(welcome(**limits))
        return peer


def _refuse_quietly(event: str, **fields: object) -> None:
    """A test looks at the client."""


@contextlib.asynccontextmanager
async def scripted_chat(pki: PKI, tls: TLSPolicy | None = None) -> AsyncIterator[ChatScript]:
    service = ChatScript()
    service.tls = tls or service.tls
    shell = Shell(SystemClock(), ConnectionLimits(), None, _refuse_quietly)
    material = TLSMaterial.load(pki.certs, service.tls)
    service.listener = Listener(shell, service, ServiceCounters("chat"), material, [("127.0.0.1", 0)])
    service.listener.start()
    try:
        yield service
    finally:
        for connection in shell.live:
            connection.drop(Refusal.DRAINING)
        await service.listener.drain(0)
