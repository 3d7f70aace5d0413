"""aiohttp's server with its C extensions, on uvloop as its manual advises, access log off."""

from __future__ import annotations

import uvloop
from aiohttp import web

from benchmarks.peers import common


async def call(request: web.Request) -> web.Response:
    return web.Response(body=common.answer(await request.read()), content_type="text/xml")


def main() -> None:
    application = web.Application()
    application.router.add_post("/RPC2", call)
    serve(application, common.arguments())


def serve(application: web.Application, given: common.Arguments) -> None:
    web.run_app(
        application,
        host=common.HOST,
        port=given.port,
        ssl_context=common.server_context(given),
        access_log=None,
        print=lambda *_: None,
        backlog=1024,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
