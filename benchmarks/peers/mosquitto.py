"""mosquitto: MQTT with nothing saved, no bound on what waits for a subscriber, no log."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.peers import common

CONFIGURATION = """\
{user}
per_listener_settings false
persistence false
sys_interval 0
log_type none
connection_messages false
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 0
set_tcp_nodelay true
listener {port} {host}
allow_anonymous true
certfile {certificate}
keyfile {key}
tls_version tlsv1.3
"""


def main() -> None:
    given = common.arguments()
    directory = Path.cwd()
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None
    file = directory / "mosquitto.conf"
    file.write_text(common.filled(CONFIGURATION, given, directory), encoding="ascii")
    os.execv(program, [program, "-c", str(file)])  # noqa: S606 - the process that is measured becomes it


if __name__ == "__main__":
    main()
