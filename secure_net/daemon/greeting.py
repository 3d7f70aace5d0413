"""The lines a daemon prints when it is up: where it listens, and what a newcomer would try. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from secure_net.addresses import Address
from secure_net.config import Configuration

# Scheme, path, and what is there besides.
_URLS: Mapping[str, tuple[str, str, str]] = {
    "rpc": ("https", "/RPC2", ""),
    "files": ("https", "/", ""),
    "echo": ("echo", "", ""),
    "chat": ("chat", "", ""),
    "chat-web": ("https", "/", ""),
    "admin": ("https", "", "  (/status /metrics /livez /readyz)"),
}

Listening = Mapping[str, Iterable[Address]]


def service_lines(listening: Listening) -> Iterator[str]:
    """One line for each address of each service, the one it really has."""
    for service, addresses in listening.items():
        for address in addresses:
            yield f"{service:<9} {_url(service, address)}{_URLS[service][2]}"


def _url(service: str, address: Address) -> str:
    scheme, path, _ = _URLS[service]
    return f"{scheme}://{address}{path}"


def commands(
    configuration: Configuration, listening: Listening, names: Collection[str], program: str
) -> Iterator[str]:
    """Ready-to-paste commands as `demo` with its certificate. Nothing where there is no such certificate.

    `names` are those of the server's certificate, `program` is how ``secure-net`` was called.
    """
    certificate = configuration.tls_directory / "clients" / "demo.pem"
    if not certificate.is_file():
        return
    urls = {
        service: _url(service, _named(addresses, configuration.server.names[0], names))
        for service, addresses in listening.items()
    }
    ca, key = configuration.tls_directory / "ca.pem", certificate.with_suffix(".key")
    shown = ["--ca", str(ca), "--cert", str(certificate)]
    if "rpc" in urls:
        yield "Call a method, as demo with its certificate:"
        yield shlex.join([program, "call", "--url", urls["rpc"], *shown, "math.double", "21"])
        yield _server_proxy(urls["rpc"], ca, certificate, key)
        yield _curl(urls["rpc"], ca, certificate, key)
    if "files" in urls and configuration.files is not None and configuration.files.roots:
        yield "Fetch what is served:"
        path = configuration.files.roots[0].path.strip("/")
        folder = f"{urls['files']}{path}/" if path else urls["files"]
        files = ["--cacert", str(ca), "--cert", str(certificate), "--key", str(key)]
        yield shlex.join(["curl", "--location", *files, folder])
    if "echo" in urls:
        yield "Send a message, and have it back:"
        yield shlex.join([program, "echo", "--url", urls["echo"], *shown, "hello"])
    if "chat" in urls:
        yield "Chat, in two terminals or more:"
        yield shlex.join([program, "chat", "--url", urls["chat"], *shown, "lobby"])
    if "chat-web" in urls:
        yield f"The same in a browser that trusts {ca}: {urls['chat-web']}, with what this prints:"
        yield shlex.join([program, "token", "issue", "demo", "--scope", "chat:*:**", "--ttl", "1d"])


def _named(addresses: Iterable[Address], name: str, names: Collection[str]) -> Address:
    """The first of them, as a client on this machine writes it, by a name that the certificate bears."""
    address = next(iter(addresses)).reachable(name)
    return address if address.host in names else address._replace(host=name)


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
