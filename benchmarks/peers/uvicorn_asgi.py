"""uvicorn with httptools and uvloop, one worker, a bare ASGI application, access log off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from benchmarks.peers import common

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def application(scope: Message, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    answer = common.answer(body)
    headers = [(b"content-type", b"text/xml"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def main() -> None:
    serve(application, common.arguments())


def serve(served: Callable[[Message, Receive, Send], Awaitable[None]], given: common.Arguments) -> None:
    """Run an ASGI application, as bare as uvicorn can."""
    config = uvicorn.Config(
        served,
        host=common.HOST,
        port=given.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        ssl_certfile=given.certificate,
        ssl_keyfile=given.key,
    )
    config.load()
    assert config.ssl is not None
    config.ssl.minimum_version = common.server_context(given).minimum_version
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
