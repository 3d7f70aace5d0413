"""starlette's static files on uvicorn."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from benchmarks.peers import common, uvicorn_asgi


def main() -> None:
    given = common.arguments()
    application = Starlette(routes=[Mount("/", StaticFiles(directory=given.files))])
    uvicorn_asgi.serve(application, given)


if __name__ == "__main__":
    main()
