"""nginx, one worker, TLS 1.3: a fixed string, as what HTTPS alone costs in C, or (`nginx_files`) files."""

from __future__ import annotations

import os
import shutil
import xmlrpc.client
from pathlib import Path

from benchmarks.peers import common

CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log warn;
events {{
  use epoll;
  worker_connections 4096;
  multi_accept on;
}}
http {{
  access_log off;
  server_tokens off;
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests 100000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{http}
  server {{
    listen {host}:{port} ssl backlog=1024;
    ssl_protocols TLSv1.3;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
{server}
  }}
}}
"""


FIXED = """\
    location = /RPC2 {{
      default_type text/xml;
      return 200 "{answer}";
    }}
"""


def main() -> None:
    start(common.arguments(), server=FIXED.format(answer=xmlrpc.client.dumps((14,), methodresponse=True)))


def start(given: common.Arguments, *, server: str, http: str = "") -> None:
    """Become nginx, with these directives for its one server, and for all."""
    directory = Path.cwd()
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None
    file = directory / "nginx.conf"
    file.write_text(
        CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",  # its scratch directory is ours alone
            directory=directory,
            host=common.HOST,
            port=given.port,
            certificate=given.certificate,
            key=given.key,
            http=http,
            server=server,
        ),
        encoding="ascii",
    )
    command = [program, "-e", str(directory / "nginx-error.log"), "-c", str(file)]
    os.execv(program, command)  # noqa: S606 - the process that is measured becomes nginx itself


if __name__ == "__main__":
    main()
