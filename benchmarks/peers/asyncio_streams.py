"""An echo server on asyncio's streams with asyncio's TLS: what the standard library offers."""

from __future__ import annotations

import asyncio

from benchmarks.peers import common


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main() -> None:
    given = common.arguments()
    context = common.server_context(given)
    server = await asyncio.start_server(echo, common.HOST, given.port, ssl=context, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
