"""The standard library's SimpleXMLRPCServer as it comes: HTTP/1.0, so a handshake for every call."""

from __future__ import annotations

from xmlrpc.server import SimpleXMLRPCRequestHandler

from benchmarks.peers.simple_xmlrpc import serve

if __name__ == "__main__":
    serve(SimpleXMLRPCRequestHandler)
