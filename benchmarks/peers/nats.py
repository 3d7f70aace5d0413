"""nats-server: core NATS, or with `--durable` JetStream that syncs each message before it acknowledges it.

`--debian` takes Debian's, an older one, instead of PyPI's.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from benchmarks.peers import common

# Clients that read slowly are not cut off, and the server's own PINGs stay away from what is counted.
# 2.9 knows no minimum version of TLS: the load takes nothing below 1.3. GOMAXPROCS follows from its one core.
CONFIGURATION = """\
host: {host}
port: {port}
tls {{
  cert_file: "{certificate}"
  key_file: "{key}"
  timeout: 10
}}
max_connections: 20000
max_pending: 256MB
write_deadline: "30s"
ping_interval: "1h"
logtime: false
"""
DEBIAN = "/usr/sbin:/usr/bin"
JETSTREAM = """\
jetstream {{
  store_dir: "{directory}/jetstream"
  sync_interval: always
}}
"""


def main() -> None:
    given = common.arguments()
    directory = Path.cwd()
    program = shutil.which("nats-server", path=DEBIAN if given.debian else str(Path(sys.executable).parent))
    assert program is not None
    file = directory / "nats.conf"
    text = CONFIGURATION + (JETSTREAM if given.durable else "")
    file.write_text(common.filled(text, given, directory), encoding="ascii")
    os.execv(program, [program, "-c", str(file)])  # noqa: S606 - the process that is measured becomes it


if __name__ == "__main__":
    main()
