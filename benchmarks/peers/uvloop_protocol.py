"""An echo protocol on uvloop with uvloop's TLS: the leanest that a Python event loop offers."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from benchmarks.peers import common


class Echo(asyncio.Protocol):
    __slots__ = ("transport",)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport  # uvloop's own class, none of asyncio's

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def main() -> None:
    given = common.arguments()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Echo, common.HOST, given.port, ssl=common.server_context(given), backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
