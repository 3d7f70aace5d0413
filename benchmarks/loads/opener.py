"""Opens TLS connections and holds them open, spread over 127.0.0.0/8.

    python -m benchmarks.loads.opener PORT CA REQUEST-FILE ANSWER-BYTES

Each connection makes one exchange, so that it is idle as a connection is that was used (and that had to
authenticate). Reads on stdin how many shall be open, a number a line, and answers with the same number
once they are.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import sys
from pathlib import Path

from benchmarks.harness import raise_open_files
from benchmarks.loads.probe import SECONDS, context

PER_SOURCE = 100  # below every per-source limit
FIRST_SOURCE = (127 << 24) + (1 << 16) + 1  # 127.1.0.1


def source(index: int) -> str:
    """The address that the connection with this number comes from."""
    return socket.inet_ntoa((FIRST_SOURCE + index // PER_SOURCE).to_bytes(4, "big"))


def opened(index: int, port: int, tls: ssl.SSLContext, request: bytes, answer_bytes: int) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=SECONDS, source_address=(source(index), 0))
    # Else the request waits for the acknowledgement of our Finished: 40 ms where no ticket carries it.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = tls.wrap_socket(plain, server_hostname="localhost")
    connection.sendall(request)
    missing = answer_bytes
    while missing > 0:
        data = connection.recv(missing)
        if not data:
            raise ConnectionError(f"connection {index} was closed by the server")
        missing -= len(data)
    return connection


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("authority", type=Path)
    parser.add_argument("request", type=Path)
    parser.add_argument("answer_bytes", type=int)
    given = parser.parse_args()
    raise_open_files()
    tls, request = context(given.authority), given.request.read_bytes()
    held: list[ssl.SSLSocket] = []
    for line in sys.stdin:
        while len(held) < int(line):
            held.append(opened(len(held), given.port, tls, request, given.answer_bytes))
        print(len(held), flush=True)


if __name__ == "__main__":
    main()
