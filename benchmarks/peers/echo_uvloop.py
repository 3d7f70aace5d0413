"""Framed echo as a protocol on uvloop with uvloop's TLS: one write for all that one read held."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from benchmarks.peers import common, frames

WIDTH = frames.WIDTH


class Echo(asyncio.Protocol):
    __slots__ = ("_left", "_transport")

    def connection_made(self, transport: Any) -> None:
        self._transport = transport  # uvloop's own class, none of asyncio's
        self._left = b""

    def data_received(self, data: bytes) -> None:
        data = self._left + data
        answers, position, size = [], 0, len(data)
        while position + WIDTH <= size:
            end = position + WIDTH + int(data[position : position + WIDTH])
            if end > size:
                break
            answers.append(frames.answer(data[position + WIDTH : end]))
            position = end
        self._left = data[position:]
        self._transport.write(b"".join(answers))


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
