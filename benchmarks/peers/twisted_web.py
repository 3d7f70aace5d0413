"""Twisted's own XML-RPC resource on its epoll reactor, access log off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor, ssl
from twisted.web import resource, server, xmlrpc

from benchmarks.peers import common


class Math(xmlrpc.XMLRPC):
    def xmlrpc_double(self, value: int) -> int:
        return common.double(value)


class Bench(xmlrpc.XMLRPC):
    def xmlrpc_same(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return common.same(rows)


class QuietSite(server.Site):
    def log(self, request: Any) -> None:
        """No access log."""


def main() -> None:
    given = common.arguments()
    calls = xmlrpc.XMLRPC()
    calls.putSubHandler("math", Math())
    calls.putSubHandler("bench", Bench())
    root = resource.Resource()
    root.putChild(b"RPC2", calls)
    pem = Path(given.key).read_bytes() + Path(given.certificate).read_bytes()
    identity = ssl.PrivateCertificate.loadPEM(pem)
    options = ssl.CertificateOptions(
        privateKey=identity.privateKey.original,
        certificate=identity.original,
        raiseMinimumTo=ssl.TLSVersion.TLSv1_3,
    )
    reactor.listenSSL(given.port, QuietSite(root), options, backlog=1024, interface=common.HOST)
    reactor.run()


if __name__ == "__main__":
    main()
