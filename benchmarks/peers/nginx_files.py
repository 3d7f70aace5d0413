"""nginx serving files as its manual advises: sendfile, kernel TLS where there is one, open files kept."""

from __future__ import annotations

from benchmarks.peers import common, nginx

HTTP = """\
  sendfile on;
  tcp_nopush on;
  ssl_conf_command Options KTLS;
  open_file_cache max=1000 inactive=20s;
  open_file_cache_valid 2s;
  default_type application/octet-stream;
"""
SERVER = """\
    root {directory};
    autoindex on;
"""


def main() -> None:
    given = common.arguments()
    nginx.start(given, http=HTTP, server=SERVER.format(directory=given.files))


if __name__ == "__main__":
    main()
