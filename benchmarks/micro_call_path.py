"""Where the time of one call goes, part by part, in one process and without a socket.

``python -m benchmarks.micro_call_path`` prints µs per keep-alive ``math.double`` with a token, the best of
many rounds. It drives the daemon's own parts (with authentication, policy, limits and metrics, as `secure-net
init` configures them) through a transport that keeps what it is given. What it cannot show is the event loop
and the kernel: ``python -m benchmarks rpc`` has the whole. The figures in ``docs/architecture.md`` come from
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from benchmarks.payloads import DOUBLE
from secure_net import config
from secure_net.audit.trail import AuditTrail
from secure_net.cli.init import write
from secure_net.clock import SystemClock
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.parts import Parts
from secure_net.daemon.registries import load_registries
from secure_net.daemon.services import RPCPart
from secure_net.http.server import HTTPSession
from secure_net.identity.authority import Authority
from secure_net.identity.setup import load_signer
from secure_net.log import get_logger
from secure_net.metrics import Metrics
from secure_net.rpc.decode import loads_call, parse_call
from secure_net.store.sqlite import SQLiteStore
from secure_net.wire.connection import Connection
from secure_net.wire.tls import TLSLayer, client_context

CALLS = 2_000
ROUNDS = 25
BODY = DOUBLE.request()


class Keeping(asyncio.Transport):
    """Takes all at once, and keeps it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000)})
        self.sent: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits here."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.sent.append(data)

    def pause_reading(self) -> None:
        """Nothing comes but what is fed."""

    def resume_reading(self) -> None:
        """The same."""

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        """Nothing to end."""


class Client:
    """The other end of the stream, in memory."""

    def __init__(self, connection: Connection, ca: Path) -> None:
        self._connection, self._transport = connection, Keeping()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = client_context(ca, alpn=("http/1.1",))
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        connection.connection_made(self._transport)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.feed(self._outgoing.read())
                self._incoming.write(b"".join(self._transport.sent))
                self._transport.sent.clear()
            else:
                self.feed(self._outgoing.read())
                return

    def feed(self, data: bytes) -> None:
        buffer = self._connection.get_buffer(-1)
        buffer[: len(data)] = data
        self._connection.buffer_updated(len(data))

    def records(self, request: bytes, count: int) -> list[bytes]:
        """The same request, encrypted `count` times."""
        found = []
        for _ in range(count):
            self._tls.write(request)
            found.append(self._outgoing.read())
        return found

    def answer(self) -> bytes:
        """What has come back since this was last asked."""
        self._incoming.write(b"".join(self._transport.sent))
        self._transport.sent.clear()
        return self._tls.read(1 << 16)

    def forget(self) -> None:
        """Let go of the answers that nobody will read."""
        self._transport.sent.clear()


@contextlib.contextmanager
def daemon_parts(directory: Path) -> Iterator[Parts]:
    """What a daemon is made of, in a folder that `secure-net init` wrote; nothing listens."""
    write(directory, ("localhost",))
    written = config.load(directory / config.FILE_NAME, {})
    configuration = msgspec.structs.replace(written, echo=None, chat=None)  # no part of a call
    clock, metrics = SystemClock(), Metrics()
    store = SQLiteStore.open(configuration.state_directory)
    trail = AuditTrail.open(configuration.state_directory, clock)
    parts = Parts(
        Inputs.load(configuration, clock.wall()),
        store.snapshot(),
        load_registries(configuration),
        clock=clock,
        metrics=metrics,
        trail=trail,
        logger=get_logger("rpc"),
        checks={},
    )
    try:
        yield parts
    finally:
        parts.close()
        trail.close()
        store.close()


def request(directory: Path) -> bytes:
    """A call as a keep-alive client with a token sends it."""
    clock = SystemClock()
    signer = load_signer(Authority.load(directory / "ca", clock))
    token = signer.issue("demo", ("rpc:call:math.*",), now=clock.wall(), lifetime=3600.0)
    head = (
        "POST /RPC2 HTTP/1.1\r\nHost: localhost:8443\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: text/xml\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    return head.encode() + BODY


def repeated(function: Callable[[], Any]) -> float:
    """µs of one call of `function`."""
    began = time.perf_counter()
    for _ in range(CALLS):
        function()
    return (time.perf_counter() - began) / CALLS * 1e6


def over(act: Callable[[bytes], Any], records: list[bytes]) -> float:
    """µs of `act` on one of `records`, each of which can be decrypted once."""
    began = time.perf_counter()
    for record in records:
        act(record)
    return (time.perf_counter() - began) / len(records) * 1e6


def measure(parts: Parts, raw: bytes) -> dict[str, float]:
    """The parts of a call, in µs, then the whole, and what is not part of it.

    All are measured in turn, again and again: what slows the machine down for a while slows all of them down,
    and the best of each is taken.
    """
    listener = parts.listeners["rpc"]
    connection = Connection(parts.shell, listener.service, listener.counters, listener._layer)
    client = Client(connection, parts.inputs.material.directory / "ca.pem")
    client.feed(client.records(raw, 1)[0])
    answer = client.answer()
    if not answer.startswith(b"HTTP/1.1 200") or connection.principal is None:
        raise RuntimeError(f"no answer to measure: {answer!r}")
    # The parts of one connection, which nobody but the shell has names for.
    session, layer = cast(HTTPSession, connection._session), cast(TLSLayer, connection._layer)
    machine, principal = session.machine, cast(Any, connection.principal)
    dispatcher = cast(RPCPart, parts._part("rpc")).dispatcher

    def without_tls() -> None:
        machine.receive_data(raw)
        session.handle(cast(Any, machine.next_event()))
        machine.next_event()
        machine.data_to_send()

    def encrypt() -> None:
        layer.send(answer)
        layer.ciphertext()

    clocks: dict[str, Callable[[], float]] = {
        "whole": lambda: over(client.feed, client.records(raw, CALLS)),
        "decrypt": lambda: over(layer.receive, client.records(raw, CALLS)),
        "encrypt": lambda: repeated(encrypt),
        "inside": lambda: repeated(without_tls),
        "read": lambda: repeated(lambda: loads_call(BODY, dispatcher.limits)),
        "run": lambda: repeated(lambda: dispatcher.dispatch("math.double", [7], principal, connection.peer)),
        "expat": lambda: repeated(lambda: parse_call(BODY, dispatcher.limits)),
    }
    best = dict.fromkeys(clocks, float("inf"))
    for _ in range(ROUNDS):
        for name, clock in clocks.items():
            best[name] = min(best[name], clock())
            client.forget()
    tls = best["decrypt"] + best["encrypt"]
    return {
        "TLS, in and out": tls,
        "channel and connection": best["whole"] - tls - best["inside"],
        "HTTP machine and session": best["inside"] - best["read"] - best["run"],
        "reading the call": best["read"],
        "dispatch, method, encoding": best["run"],
        "the whole": best["whole"],
        "(reading it by defusedxml)": best["expat"],
    }


async def main() -> None:
    with tempfile.TemporaryDirectory() as place, daemon_parts(Path(place)) as parts:
        raw = request(Path(place))
        gc.collect()
        gc.freeze()
        for name, microseconds in measure(parts, raw).items():
            print(f"{name:28} {microseconds:6.1f} µs")


if __name__ == "__main__":
    asyncio.run(main())
