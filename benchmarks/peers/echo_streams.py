"""Framed echo on asyncio's streams with asyncio's TLS: as its manual shows."""

from __future__ import annotations

import asyncio

from benchmarks.peers import common, frames


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            size = int(await reader.readexactly(frames.WIDTH))
            writer.write(frames.answer(await reader.readexactly(size)))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    given = common.arguments()
    context = common.server_context(given)
    server = await asyncio.start_server(echo, common.HOST, given.port, ssl=context, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
