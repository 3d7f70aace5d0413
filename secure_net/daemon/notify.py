"""What the daemon tells systemd: datagrams to ``$NOTIFY_SOCKET`` (sd_notify(3)).

Without that variable every call does nothing, so the daemon need not know whether systemd is there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Readiness, reload, stop and watchdog. A datagram that cannot be sent is dropped, and counted."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the NUL of the abstract namespace; other forms (vsock) are not for us.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.enabled = address.startswith(("@", "/"))
        self.watchdog_seconds = _watchdog(environ)
        self.dropped = 0

    def ready(self, status: str) -> None:
        """The services listen; `status` is a line for `systemctl status`."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self, monotonic: float) -> None:
        """A reload begins; `monotonic` is CLOCK_MONOTONIC in seconds (Type=notify-reload demands it)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic * 1_000_000)}")

    def stopping(self) -> None:
        """The daemon drains."""
        self._send("STOPPING=1\nSTATUS=draining")

    def alive(self) -> None:
        """The loop turns; to be called well within `watchdog_seconds`."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self.enabled:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(state.encode(), self._address)
            except OSError:
                self.dropped += 1  # systemd's own watchdog and start timeout judge what is missing


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """Seconds within which systemd wants a sign of life, None if it wants none of this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    process = environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (process and process != str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 or None
