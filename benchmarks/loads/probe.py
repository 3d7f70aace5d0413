"""One request by a client that verifies: the right certificate, TLS 1.3, the right answer, and its size."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from benchmarks.payloads import Workload
from benchmarks.processes import BenchmarkError

SECONDS = 5.0


def accepts(port: int) -> bool:
    """Whether anyone listens there yet."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def context(authority: Path) -> ssl.SSLContext:
    """A client that verifies chain and name, and takes nothing below TLS 1.3."""
    verifying = ssl.create_default_context(cafile=str(authority))
    verifying.minimum_version = ssl.TLSVersion.TLSv1_3
    return verifying


def http_request(port: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The request as wrk sends it."""
    fields = {"Host": f"localhost:{port}", **headers, "Content-Length": str(len(body))}
    lines = ["POST /RPC2 HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


def get_request(port: int, path: str, headers: Mapping[str, str]) -> bytes:
    """A GET as wrk sends it."""
    fields = {"Host": f"localhost:{port}", **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join((*lines, "", "")).encode("ascii")


def exchange_http(connection: ssl.SSLSocket, request: bytes) -> tuple[bytes, bytes]:
    """Send a request; its answer's head and body, which must have a Content-Length."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _more(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += _more(connection)
    return head, body


def _more(connection: ssl.SSLSocket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise BenchmarkError("the server closed the connection before its answer was complete")
    return data


def http(port: int, workload: Workload, headers: Mapping[str, str], authority: Path) -> int:
    """Call once over HTTPS; the bytes of the whole answer. Raises BenchmarkError when it is not right."""
    head, body = _asked(port, http_request(port, workload.request(), headers), authority)
    if head.split(b" ", 2)[1] != b"200" or not workload.is_answered_by(body):
        raise BenchmarkError(f"wrong answer: {head.decode('latin-1')}\n{body[:500].decode('latin-1')}")
    return len(head) + 4 + len(body)


def file(port: int, path: str, headers: Mapping[str, str], content: bytes, authority: Path) -> int:
    """Fetch a file once; the bytes of the whole answer. Raises BenchmarkError where it is not `content`."""
    head, body = _asked(port, get_request(port, path, headers), authority)
    if head.split(b" ", 2)[1] != b"200" or body != content:
        raise BenchmarkError(f"wrong answer: {head.decode('latin-1')}")
    return len(head) + 4 + len(body)


def _asked(port: int, request: bytes, authority: Path) -> tuple[bytes, bytes]:
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as plain,
            context(authority).wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return exchange_http(connection, request)
    except OSError as error:
        raise BenchmarkError(f"no answer: {error}") from error


def grpc(port: int, workload: Workload, certificate: Path) -> int:
    """Call once by gRPC's own client; the DATA bytes of the answer. Raises BenchmarkError as above.

    It trusts the server's certificate itself: gRPC's BoringSSL knows no name constraints on addresses, which
    our CA bears, and refuses every chain that has them.
    """
    import grpc as library  # noqa: PLC0415 - a peer of the `bench` extra, perhaps not installed

    from benchmarks.loads.grpc import framed  # noqa: PLC0415
    from benchmarks.peers import grpc_messages  # noqa: PLC0415

    leaf, end, _ = certificate.read_bytes().partition(b"-----END CERTIFICATE-----\n")
    credentials = library.ssl_channel_credentials(leaf + end)
    with library.secure_channel(f"localhost:{port}", credentials) as channel:
        call = channel.unary_unary(grpc_messages.PATHS[workload.method])
        try:
            answer: bytes = call(grpc_messages.request(workload), timeout=SECONDS)
        except library.RpcError as error:
            raise BenchmarkError(f"no answer: {error.details()}") from error
    expected: bytes = grpc_messages.message_for(workload.expected).SerializeToString()
    if answer != expected:
        raise BenchmarkError(f"wrong answer: {answer[:500]!r}")
    return len(framed(answer))
