"""The lines a daemon prints when it is up: where it listens, and what a newcomer would try. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from secure_net.addresses import Address
from secure_net.config import Configuration

_PATHS = {"rpc": "/RPC2", "admin": ""}
_PAGES = {"rpc": "", "admin": "  (/metrics /livez /readyz)"}

Listening = Mapping[str, Iterable[Address]]


def service_lines(listening: Listening) -> Iterator[str]:
    """One line for each address of each service, the one it really has."""
    for service, addresses in listening.items():
        for address in addresses:
            yield f"{service:<8}https://{address}{_PATHS[service]}{_PAGES[service]}"


def commands(
    configuration: Configuration, listening: Listening, names: Collection[str], program: str
) -> Iterator[str]:
    """Ready-to-paste commands as `demo` with its certificate. Nothing where there is no such certificate, or
    no RPC. `names` are those of the server's certificate, `program` is how ``secure-net`` was called."""
    certificate = configuration.tls_directory / "clients" / "demo.pem"
    if configuration.rpc is None or not certificate.is_file():
        return
    name = configuration.server.names[0]
    address = next(iter(listening["rpc"])).reachable(name)
    if address.host not in names:
        address = address._replace(host=name)
    url = f"https://{address}{_PATHS['rpc']}"
    ca, key = configuration.tls_directory / "ca.pem", certificate.with_suffix(".key")
    yield "Call a method, as demo with its certificate:"
    yield _call(url, ca, certificate, program)
    yield _server_proxy(url, ca, certificate, key)
    yield _curl(url, ca, certificate, key)


def _call(url: str, ca: Path, certificate: Path, program: str) -> str:
    where = ["--url", url, "--ca", str(ca), "--cert", str(certificate)]
    return shlex.join([program, "call", *where, "math.double", "21"])


def _server_proxy(url: str, ca: Path, certificate: Path, key: Path) -> str:
    code = (
        "import ssl, xmlrpc.client; "
        f"context = ssl.create_default_context(cafile={json.dumps(str(ca))}); "
        f"context.load_cert_chain({json.dumps(str(certificate))}, {json.dumps(str(key))}); "
        f"print(xmlrpc.client.ServerProxy({json.dumps(url)}, context=context).math.double(21))"
    )
    return shlex.join(["python3", "-c", code])


def _curl(url: str, ca: Path, certificate: Path, key: Path) -> str:
    body = (
        "<methodCall><methodName>math.double</methodName>"
        "<params><param><value><int>21</int></value></param></params></methodCall>"
    )
    files = ["--cacert", str(ca), "--cert", str(certificate), "--key", str(key)]
    return shlex.join(["curl", *files, "--header", "Content-Type: text/xml", "--data", body, url])
