"""aiohttp's static files on uvloop, with listings."""

from __future__ import annotations

from aiohttp import web

from benchmarks.peers import aiohttp_web, common


def main() -> None:
    given = common.arguments()
    application = web.Application()
    application.router.add_static("/", given.files, show_index=True)
    aiohttp_web.serve(application, given)


if __name__ == "__main__":
    main()
