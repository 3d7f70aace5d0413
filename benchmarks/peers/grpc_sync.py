"""gRPC Python, synchronous: `grpc.server` on a pool with a thread for each connection of the load."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from benchmarks.peers import common
from benchmarks.peers.grpc_messages import SERVICE, Number, Rows

THREADS = 16


def double(request: Any, _context: Any) -> Any:
    return Number(value=common.double(request.value))


def same(request: Any, _context: Any) -> Any:
    return request


def handlers(double_method: Any, same_method: Any) -> Any:
    """What generated code registers."""
    unary = grpc.unary_unary_rpc_method_handler
    methods = {
        "Double": unary(double_method, Number.FromString, Number.SerializeToString),
        "Same": unary(same_method, Rows.FromString, Rows.SerializeToString),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def credentials(given: common.Arguments) -> grpc.ServerCredentials:
    pair = (Path(given.key).read_bytes(), Path(given.certificate).read_bytes())
    return grpc.ssl_server_credentials((pair,))


def main() -> None:
    given = common.arguments()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=THREADS))
    server.add_generic_rpc_handlers((handlers(double, same),))
    server.add_secure_port(f"{common.HOST}:{given.port}", credentials(given))
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
