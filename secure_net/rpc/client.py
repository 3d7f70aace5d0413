"""The client for programs without an event loop.

::

    with RPCClient("https://localhost:8443/RPC2", ca="certs/ca.pem", token_file="demo.token") as client:
        client.math.double(21)                                    # 42
        client.call("math.double", 21, deadline_seconds=2.0)      # the same

A connection is kept between calls, and made anew where the server has closed it: that is found out before
a call is sent. A call of which anything was sent is never sent again.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Unpack

from secure_net.errors import (
    DeadlineExceededError,
    OutcomeUnknownError,
    Refusal,
    RemoteProtocolError,
)
from secure_net.http.client_protocol import Answer, HTTPClientMachine
from secure_net.limits import HTTPLimits
from secure_net.rpc.encode import dumps_call
from secure_net.rpc.exchange import Target, TargetOptions
from secure_net.wire.blocking import BlockingConnection


class RPCMethod:
    """A remote method by its name, ``client.math.double``: call it, or go one name further."""

    __slots__ = ("_call", "_name")

    def __init__(self, call: Callable[..., Any], name: str) -> None:
        self._call, self._name = call, name

    def __getattr__(self, name: str) -> RPCMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return RPCMethod(self._call, f"{self._name}.{name}")

    def __call__(self, *params: Any) -> Any:
        return self._call(self._name, *params)


class RPCClient:
    """Calls the methods of one server. Usable by several threads, one call at a time.

    `url` is ``https://HOST:PORT/RPC2``. `ca` is the PEM file of the CA that signed the server's certificate;
    chain and name are verified, always. The credential is `token`, or `token_file` (read again when it has
    changed), or `certificate`, the PEM files of a client certificate and its key. `context` takes the place
    of `ca` and `certificate`. What is not given is taken from the discovered configuration.

    A call may take `deadline_seconds`, connecting included; the default leaves the server time to answer
    with its own deadline's fault. Raises `ConfigurationError`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        **options: Unpack[TargetOptions],
    ) -> None:
        self._target = Target(url, **options)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def call(self, method: str, *params: Any, deadline_seconds: float | None = None) -> Any:
        """Call `method` and give its result.

        Raises a kind of `FaultError` (`rpc.faults`) for a fault; `EncodeError` for a parameter that has no
        XML-RPC form; `AuthenticationError`, `NotPermittedError`, `UnavailableError` where the server
        refuses; `VerificationError`, `DeadlineExceededError`, `TransportError` where nothing was sent;
        `OutcomeUnknownError` where the call may have run; `RemoteProtocolError` for an answer that is none.
        """
        target = self._target
        body = dumps_call(method, params, target.limits)
        seconds = target.deadline_seconds if deadline_seconds is None else deadline_seconds
        deadline = self._monotonic() + seconds
        if not self._lock.acquire(timeout=max(0.0, seconds)):
            raise DeadlineExceededError("other threads' calls took until the deadline")
        try:
            answer = self._exchange(body, deadline)
        finally:
            self._lock.release()
        return target.value_of(answer)

    def __getattr__(self, name: str) -> RPCMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return RPCMethod(self.call, name)

    def close(self) -> None:
        """Close the connection. A later call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> RPCClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _exchange(self, body: bytes, deadline: float) -> Answer:
        headers = self._target.headers()
        if self._connection is not None and not self._connection.is_usable():
            self.close()
        if self._connection is None:
            self._connection = _Connection(self._target, deadline, self._monotonic)
        connection, self._connection = self._connection, None
        # From here on the connection is kept only if the exchange ends well.
        try:
            answer = connection.exchange(self._target.path, headers, body, deadline)
        except BaseException:
            connection.close()
            raise
        if connection.machine.reusable:
            self._connection = connection
        else:
            connection.close()
        return answer


class _Connection:
    """One TLS connection and its machine."""

    def __init__(self, target: Target, deadline: float, monotonic: Callable[[], float]) -> None:
        self.machine = HTTPClientMachine(
            HTTPLimits(), host=target.host_field, body_bytes=target.limits.rpc_answer_bytes
        )
        self._stream = BlockingConnection(target.host, target.port, target.context, deadline, monotonic)
        self.is_usable, self.close = self._stream.is_usable, self._stream.close

    def exchange(
        self, path: str, headers: tuple[tuple[bytes, bytes], ...], body: bytes, deadline: float
    ) -> Answer:
        self.machine.send_request("POST", path, headers, body)
        lost: OSError | None = None
        try:
            self._stream.send(self.machine.data_to_send(), deadline)
        except TimeoutError as error:
            raise OutcomeUnknownError("the deadline passed while the call was sent") from error
        except OSError as error:
            lost = error  # an answer that refuses a body may have come before all of the body has left
        try:
            while (answer := self.machine.next_event()) is None:
                self._receive(deadline)
        except TimeoutError as error:
            raise OutcomeUnknownError("the deadline passed before the answer") from error
        except OSError as error:
            raise OutcomeUnknownError("the connection was lost before the answer") from (lost or error)
        except RemoteProtocolError as error:
            if error.reason is not Refusal.TRUNCATED:
                raise
            raise OutcomeUnknownError("the connection ended before the answer") from (lost or error)
        return answer

    def _receive(self, deadline: float) -> None:
        try:
            data = self._stream.receive(deadline)
        except ssl.SSLEOFError:
            self.machine.receive_eof(clean=False)
            return
        if data:
            self.machine.receive_data(data)
        else:
            self.machine.receive_eof(clean=True)
