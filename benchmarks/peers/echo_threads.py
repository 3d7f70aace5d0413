"""Framed echo on the standard library's threaded socketserver: blocking sockets, a thread each."""

from __future__ import annotations

import socketserver

from benchmarks.peers import common, frames


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


class Echo(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    rbufsize = 65536

    def handle(self) -> None:
        read, write = self.rfile.read, self.wfile.write
        while len(head := read(frames.WIDTH)) == frames.WIDTH:
            write(frames.answer(read(int(head))))


def main() -> None:
    given = common.arguments()
    server = Server((common.HOST, given.port), Echo)
    # The handshake runs in the connection's thread, at its first read, and does not hold up accept().
    context = common.server_context(given)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
