"""What the Python peers share: their arguments, their TLS, and the work itself.

The work is the standard library's XML-RPC, bare: no defusedxml and no bounds, which favours the peers.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import ssl
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


@dataclasses.dataclass(frozen=True, slots=True)
class Arguments:
    port: int
    certificate: str
    key: str
    durable: bool = False
    debian: bool = False
    files: str = ""


def arguments() -> Arguments:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("certificate")
    parser.add_argument("key")
    parser.add_argument("--durable", action="store_true", help="sync to disk before the answer")
    parser.add_argument("--debian", action="store_true", help="Debian's version, where there are two")
    parser.add_argument("--files", default="", help="the folder that is served")
    return Arguments(**vars(parser.parse_args()))


def filled(configuration: str, given: Arguments, directory: Path) -> str:
    """A broker's configuration file for this run."""
    return configuration.format(
        host=HOST,
        port=given.port,
        certificate=given.certificate,
        key=given.key,
        directory=directory,
        user="user root" if os.geteuid() == 0 else "",  # its scratch directory is ours alone
    )


def server_context(given: Arguments) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(given.certificate, given.key)
    return context


def double(value: int) -> int:
    return value * 2


def same(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows


METHODS: dict[str, Callable[[Any], Any]] = {"math.double": double, "bench.same": same}


def answer(body: bytes) -> bytes:
    """An XML-RPC call in, its answer out."""
    params, name = xmlrpc.client.loads(body)
    assert name is not None
    return xmlrpc.client.dumps((METHODS[name](*params),), methodresponse=True).encode()
