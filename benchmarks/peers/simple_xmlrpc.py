"""The standard library's SimpleXMLRPCServer, one thread per connection, HTTP/1.1 keep-alive."""

from __future__ import annotations

import ssl
from socketserver import ThreadingMixIn
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from benchmarks.peers import common


class Server(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True
    request_queue_size = 128


class KeepAliveHandler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"


def serve(handler: type[SimpleXMLRPCRequestHandler]) -> None:
    given = common.arguments()
    server = Server((common.HOST, given.port), handler, logRequests=False, bind_and_activate=True)
    context: ssl.SSLContext = common.server_context(given)
    # The handshake runs in the connection's thread, at its first read, and does not hold up accept().
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    for name, method in common.METHODS.items():
        server.register_function(method, name)
    server.serve_forever()


if __name__ == "__main__":
    serve(KeepAliveHandler)
