"""A TLS server that does what a script says, connection by connection: for clients, and what they must stand.

::

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send_answer(14)

    with ScriptedServer(pki.certs, script) as server:
        RPCClient(server.url, ca=pki.ca).math.double(7)
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from secure_net.limits import RPCLimits
from secure_net.rpc.encode import dumps_answer
from secure_net.wire.tls import TLSMaterial, TLSPolicy, server_context

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
SECONDS = 30.0


class Peer:
    """The server's side of one connection."""

    def __init__(self, connection: ssl.SSLSocket, requests: list[tuple[bytes, bytes]]) -> None:
        self.connection = connection
        self._requests = requests
        self._kept = b""

    def read_request(self) -> tuple[bytes, bytes]:
        """Head and body of the next request."""
        while b"\r\n\r\n" not in self._kept:
            self._kept += self._some()
        head, _, rest = self._kept.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        size = int(length[1]) if length else 0
        while len(rest) < size:
            rest += self._some()
        self._kept = rest[size:]
        self._requests.append((head, rest[:size]))
        return head, rest[:size]

    def receive(self) -> bytes:
        """What the client has sent next. Raises `EOFError` where it has gone."""
        return self._some()

    def reset(self) -> None:
        """Go without a word: the client's kernel hears RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _some(self) -> bytes:
        data = self.connection.recv(65536)
        if not data:
            raise EOFError
        return data

    def send(self, raw: bytes) -> None:
        self.connection.sendall(raw)

    def send_body(self, body: bytes, *lines: str, status: str = "200 OK") -> None:
        """An answer with this body; `lines` are further header fields."""
        fields = "".join(f"{line}\r\n" for line in lines)
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
        self.send(head.encode() + body)

    def send_answer(self, value: Any) -> None:
        self.send_body(dumps_answer(value, RPCLimits()))

    def say_goodbye(self) -> None:
        """close_notify, without waiting for the client's."""
        self.connection.settimeout(0)
        with contextlib.suppress(OSError):
            self.connection.unwrap()
        self.connection.settimeout(SECONDS)

    def wait_for_end(self) -> None:
        """Until the client is gone."""
        try:
            while self.connection.recv(65536):
                pass
        except OSError:
            return


Script = Callable[[Peer], None]


class ScriptedServer:
    """Serves one connection per script, one after the other. `requests` are what was read."""

    def __init__(
        self, certs: Path, *scripts: Script, minimum: str = "1.3", certificate_required: bool = False
    ) -> None:
        certificates: Literal["required", "off"] = "required" if certificate_required else "off"
        policy = TLSPolicy(("http/1.1",), "1.3" if minimum == "1.3" else "1.2", certificates)
        self._context = server_context(TLSMaterial.load(certs), policy)
        self._scripts = scripts
        self.requests: list[tuple[bytes, bytes]] = []
        self.errors: list[BaseException] = []
        self.handshake_errors: list[OSError] = []
        self.done = [threading.Event() for _ in scripts]  # set when a script's connection is closed
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(SECONDS)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/RPC2"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            self._listening.shutdown(socket.SHUT_RDWR)  # who waits for a connection waits in vain
        self._thread.join(SECONDS)
        self._listening.close()
        if exception[0] is None and self.errors:
            raise self.errors[0]

    def _run(self) -> None:
        for script, done in zip(self._scripts, self.done, strict=True):
            try:
                self._serve(script)
            except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
                self.errors.append(error)
            done.set()

    def _serve(self, script: Script) -> None:
        plain, _ = self._listening.accept()
        plain.settimeout(SECONDS)
        try:
            connection = self._context.wrap_socket(plain, server_side=True)
        except OSError as error:  # what the client thought of us
            self.handshake_errors.append(error)
            return
        with connection:
            script(Peer(connection, self.requests))
