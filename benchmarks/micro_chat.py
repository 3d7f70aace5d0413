"""Where the time of one chat message goes, part by part, in one process and without a socket.

``python -m benchmarks.micro_chat`` prints µs per `say` of 128 bytes in a live room, and per delivery, the
best of many rounds. A turn of the loop brings one TLS record full of `say`s from one publisher;
authentication, scopes, sequence numbers, acknowledgements, limits and metrics are the daemon's own. What it
cannot show is the event loop and the kernel: ``python -m benchmarks fan-out`` has the whole.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from benchmarks.micro_call_path import Client, daemon_parts
from secure_net.clock import SystemClock
from secure_net.daemon.parts import Parts
from secure_net.identity.authority import Authority
from secure_net.identity.setup import load_signer
from secure_net.limits import Limits
from secure_net.messaging import messages, server
from secure_net.messaging.frames import FrameReader, encode, encode_many
from secure_net.messaging.server import Chat, ChatService, ChatSession
from secure_net.metrics import ChatCounters, ServiceCounters
from secure_net.store.broker import Broker
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSPolicy

SAYS = 60  # in a turn: what fits one TLS record
ROUNDS = 400
MEMBERS = (1, 10, 100)
BODY = b'"' + b"x" * 126 + b'"'


def say(number: int) -> bytes:
    return b'{"type":"say","room":"bench","id":"%032x","body":%b}' % (number * 0x9E3779B97F4A7C15, BODY)


def token(directory: Path) -> str:
    clock = SystemClock()
    signer = load_signer(Authority.load(directory / "ca", clock))
    scopes = ("chat:publish:bench", "chat:subscribe:bench")
    return signer.issue("demo", scopes, now=clock.wall(), lifetime=3600.0)


class Room:
    """A publisher and so many members, each behind TLS; `turn` ends the loop's turn."""

    def __init__(
        self, parts: Parts, credential: str, members: int, scheduled: list[Callable[[], None]]
    ) -> None:
        self._parts, self._scheduled = parts, scheduled
        chat = Chat(
            parts.authenticator,
            cast(Broker, None),  # a live room asks for none
            ChatCounters(),
            clock=SystemClock(),
            limits=Limits(),
            is_live=lambda room: True,
        )
        self.counters = ServiceCounters("chat")
        self._service = ChatService("chat", chat, self.counters, TLSPolicy())
        hello = b'{"type":"hello","token":"%b"}' % credential.encode()
        self._clients = [self._client(hello, b'{"type":"join","room":"bench"}') for _ in range(members)]
        self.publisher = self._client(hello)
        self.turn()

    def _client(self, *requests: bytes) -> Client:
        # The layer of any service will do: what differs is the ALPN, which our clients offer as HTTP's.
        layer_of = self._parts.listeners["rpc"]._layer
        connection = Connection(self._parts.shell, self._service, self.counters, layer_of)
        client = Client(connection, self._parts.inputs.material.directory / "ca.pem")
        client.feed(client.records(encode_many(requests), 1)[0])
        if b"welcome" not in client.answer():
            raise RuntimeError("not welcome")
        return client

    @property
    def session(self) -> ChatSession:
        return cast(ChatSession, self.publisher._connection._session)

    def turn(self) -> None:
        scheduled, self._scheduled[:] = list(self._scheduled), []
        for callback in scheduled:
            callback()

    def forget(self) -> None:
        """Let go of what nobody will read."""
        for client in (self.publisher, *self._clients):
            client.forget()

    def whole(self, record: bytes) -> None:
        self.publisher.feed(record)
        self.turn()


def timed(act: Callable[[], Any]) -> float:
    """µs for one of the `say`s of a turn."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) / SAYS * 1e6


def parts_of_a_say(room: Room) -> dict[str, float]:
    """The way of a `say` to the rooms, without TLS and deliveries."""
    payloads = [say(number) for number in range(SAYS)]
    stream, limits = b"".join(map(encode, payloads)), Limits().chat
    requests = messages.read_requests(payloads, limits)
    session, reader = room.session, FrameReader(65_536)

    def frames() -> None:
        reader.receive(stream)
        while reader.next_batch():
            pass

    clocks: dict[str, Callable[[], Any]] = {
        "bytes into payloads": frames,
        "payloads into requests": lambda: messages.read_requests(payloads, limits),
        "permitted, numbered, encoded": lambda: session._work(iter(requests)),
    }
    best = dict.fromkeys(clocks, float("inf"))
    for _ in range(ROUNDS):
        for name, act in clocks.items():
            best[name] = min(best[name], timed(act))
        room.turn()
        room.forget()
    return best


def whole(room: Room) -> float:
    """µs of one `say`, from its TLS record to those of all members."""
    payload = b"".join(encode(say(number)) for number in range(SAYS))
    records = room.publisher.records(payload, ROUNDS)
    best = float("inf")
    for record in records:
        best = min(best, timed(lambda record=record: room.whole(record)))  # type: ignore[misc]
        room.forget()
    return best


def measure(parts: Parts, credential: str) -> list[str]:
    """The lines to print."""
    scheduled: list[Callable[[], None]] = []
    server._soon = scheduled.append  # here the turns of the loop end when we say so
    rooms = {members: Room(parts, credential, members, scheduled) for members in MEMBERS}
    lines = [f"{name:36} {best:6.2f} µs" for name, best in parts_of_a_say(rooms[MEMBERS[0]]).items()]
    for members, room in rooms.items():
        best = whole(room)
        lines.append(
            f"{f'the whole, {members} members':36} {best:6.2f} µs a message, {best / members:6.3f} a delivery"
        )
    return lines


async def main() -> None:
    with tempfile.TemporaryDirectory() as place, daemon_parts(Path(place)) as parts:
        credential = token(Path(place))
        gc.collect()
        gc.freeze()
        print("\n".join(measure(parts, credential)))


if __name__ == "__main__":
    asyncio.run(main())
