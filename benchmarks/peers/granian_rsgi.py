"""granian, one worker and one runtime thread, HTTP/1 only, by its own RSGI interface on uvloop.

TLS is done in Rust (rustls). Its single-threaded runtime is what it picks by itself for RSGI.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes

from benchmarks.peers import common

HEADERS = [("content-type", "text/xml")]


async def application(scope: Any, proto: Any) -> None:
    proto.response_bytes(200, HEADERS, common.answer(await proto()))


def main() -> None:
    given = common.arguments()
    Granian(
        "benchmarks.peers.granian_rsgi:application",
        address=common.HOST,
        port=given.port,
        interface=Interfaces.RSGI,
        workers=1,
        runtime_threads=1,
        runtime_mode=RuntimeModes.st,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
        ssl_cert=Path(given.certificate),
        ssl_key=Path(given.key),
    ).serve()


if __name__ == "__main__":
    main()
