"""redis-server: pub/sub with nothing saved, or with `--durable` a log that is synced before each answer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.peers import common

# The load comes from all of 127.0.0.0/8, which protected mode does not know for loopback. One I/O thread, as
# there is one core. Subscribers are not cut off for the bytes that wait for them, and nothing is rewritten
# while it is measured. Latency tracking, on by default, has no reader here.
CONFIGURATION = """\
bind {host}
protected-mode no
port 0
tls-port {port}
tls-cert-file "{certificate}"
tls-key-file "{key}"
tls-auth-clients no
tls-protocols "TLSv1.3"
tcp-backlog 1024
maxclients 20000
dir "{directory}"
save ""
io-threads 1
latency-tracking no
client-output-buffer-limit pubsub 0 0 0
client-output-buffer-limit normal 0 0 0
"""
TRANSIENT = "appendonly no\n"
DURABLE = "appendonly yes\nappendfsync always\nauto-aof-rewrite-percentage 0\n"


def main() -> None:
    given = common.arguments()
    directory = Path.cwd()
    program = shutil.which("redis-server")
    assert program is not None
    file = directory / "redis.conf"
    text = CONFIGURATION + (DURABLE if given.durable else TRANSIENT)
    file.write_text(common.filled(text, given, directory), encoding="ascii")
    os.execv(program, [program, str(file)])  # noqa: S606 - the process that is measured becomes Redis itself


if __name__ == "__main__":
    main()
