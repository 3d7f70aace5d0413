"""gRPC Python, asyncio: `grpc.aio.server`."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from benchmarks.peers import common
from benchmarks.peers.grpc_messages import Number
from benchmarks.peers.grpc_sync import credentials, handlers


async def double(request: Any, _context: Any) -> Any:
    return Number(value=common.double(request.value))


async def same(request: Any, _context: Any) -> Any:
    return request


async def main() -> None:
    given = common.arguments()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers(double, same),))
    server.add_secure_port(f"{common.HOST}:{given.port}", credentials(given))
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
