"""The echo service from the client's side: the chapter's `send_message_to_server`, hardened.

Where the recipe is wrong we are right: it trusts `recv(n)` to return n bytes, and its message travels in the
clear. Here the server is verified, our certificate is shown, and the answer has a deadline as a whole.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext

from secure_net import discovery
from secure_net.errors import (
    AuthenticationError,
    DeadlineExceededError,
    LocalProtocolError,
    OutcomeUnknownError,
    Refusal,
    RemoteProtocolError,
)
from secure_net.limits import FrameLimits
from secure_net.messaging.echo import PREFIX
from secure_net.messaging.frames import FrameReader, encode
from secure_net.wire.blocking import BlockingConnection

DEADLINE_SECONDS = 10.0


class EchoClient:
    """One connection; messages are echoed one by one.

    ::

        with EchoClient("localhost", 9800) as client:
            client.send("hello")                        # "ECHO: hello"
    """

    def __init__(
        self,
        host: str | None = None,
        port: int = 9800,
        *,
        url: str | None = None,
        ca: str | Path | None = None,
        certificate: tuple[str | Path, str | Path] | None = None,
        context: SSLContext | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to `host` and `port`, or to `url` (``echo://host:9800``), or as configured.

        `ca` and `certificate` (certificate and key, PEM files) default to those of the discovered
        configuration; `context` takes the place of both. `deadline_seconds` holds for connecting, and for
        each message anew. Raises `ConfigurationError`, `VerificationError`, `DeadlineExceededError`,
        `TransportError`.
        """
        address = url if url is not None or host is None else (host, port)
        found = discovery.find("echo", address, ca=ca, certificate=certificate, context=context)
        self._monotonic, self._seconds = monotonic, deadline_seconds
        limits = FrameLimits()
        self._longest = limits.frame_bytes - len(PREFIX)
        self._reader = FrameReader(limits.frame_bytes)
        self._stream = BlockingConnection(
            found.host, found.port, found.context, monotonic() + deadline_seconds, monotonic
        )

    def send(self, message: str) -> str:
        """The answer to `message`, which is ``ECHO: `` and the message where the server is one of these.

        Raises `LocalProtocolError` for a message whose answer would not fit a frame, `OutcomeUnknownError`
        where no answer came, `AuthenticationError` where our certificate is not believed,
        `RemoteProtocolError` for what is no answer. After any but the first the connection is of no use.
        """
        payload = message.encode()
        if len(payload) > self._longest:
            raise LocalProtocolError(f"a message has at most {self._longest} bytes")
        deadline = self._monotonic() + self._seconds
        try:
            self._say(encode(payload), deadline)
            while not (answers := self._reader.next_batch()):
                self._receive(deadline)
        except DeadlineExceededError:
            raise
        except TimeoutError as error:
            raise OutcomeUnknownError("the deadline passed before the answer") from error
        except OSError as error:
            raise _lost(error) from error
        if len(answers) > 1 or self._reader.buffered:
            raise RemoteProtocolError(Refusal.MALFORMED, "more than one answer to one message")
        try:
            return answers[0].decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(Refusal.MALFORMED, "the answer is not UTF-8") from error

    def _say(self, data: bytes, deadline: float) -> None:
        try:
            self._stream.send(data, deadline)
        except TimeoutError:
            raise
        except OSError as error:
            # Whoever turns us away may have closed before this was sent: why, is still to be read.
            try:
                self._stream.receive(deadline)
            except ssl.SSLError as why:
                raise why from error
            raise

    def _receive(self, deadline: float) -> None:
        data = self._stream.receive(deadline)
        if not data:
            raise OutcomeUnknownError(
                "the server closed instead of answering: we lack the scope echo:use, or it is stopping"
            )
        self._reader.receive(data)

    def close(self) -> None:
        """Say goodbye."""
        self._stream.close()

    def __enter__(self) -> EchoClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _lost(error: OSError) -> AuthenticationError | OutcomeUnknownError:
    """TLS 1.3 says at the first read what it thinks of our certificate."""
    alert = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if "CERTIFICATE" in alert:
        return AuthenticationError("the server does not believe our certificate, or was shown none")
    return OutcomeUnknownError("the connection was lost before the answer")


def send_message_to_server(
    host: str,
    port: int,
    message: str,
    *,
    ca: str | Path | None = None,
    certificate: tuple[str | Path, str | Path] | None = None,
    context: SSLContext | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> str:
    """Send one message, return the server's answer. The parameters and errors are those of `EchoClient`."""
    with EchoClient(
        host, port, ca=ca, certificate=certificate, context=context, deadline_seconds=deadline_seconds
    ) as client:
        return client.send(message)
