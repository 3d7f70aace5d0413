"""What a running daemon says of itself: the answer of the act `status`, as JSON.

The daemon fills it in; `secure-net status` and the status page show it. Times are Unix seconds. Fields
are only ever added.
"""

from __future__ import annotations

from typing import Any

import msgspec


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One service on its listener. `error` is the listener's last exception, empty when there was none."""

    name: str
    addresses: tuple[str, ...]
    connections_open: int
    connections_total: int
    refused_total: int
    error: str = ""
    refused: dict[str, int] = {}  # by reason, those that happened


class CertificateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate the daemon shows or trusts. `file` is its name under ``[tls].directory``."""

    file: str
    names: tuple[str, ...]
    not_after: float
    days_left: float  # negative once it has expired


class RevocationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is refused. `crl_expires_at` is 0 where no CRL was imported."""

    epoch: int
    certificates: int
    tokens: int
    names_blocked: int
    crl_expires_at: float = 0.0


class RecordStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The trail and the log. `audit_head` is the last one signed, as `audit verify --head` takes it."""

    audit_head: str
    audit_dropped: int
    log_dropped: int


class ChatStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The rooms in memory, who is in them (once for each room), and what was said since the start."""

    rooms: int
    members: int
    messages: int


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """The last minutes, a value a second, oldest first; all series are of the same length.

    `series` has ``connections`` (open), and by the second ``calls`` (of RPC, answered), ``messages`` (frames
    and WebSocket messages received), ``requests`` (answered by the file server) and ``refused``: those of the
    services there are.
    """

    series: dict[str, tuple[float, ...]]
    seconds: float = 1.0  # between two values


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `principals` are those who are connected now, with how many connections."""

    version: str
    process: int
    started_at: float
    uptime_seconds: float
    draining: bool
    services: tuple[ServiceStatus, ...]
    certificates: tuple[CertificateStatus, ...]
    revocations: RevocationStatus
    records: RecordStatus
    principals: dict[str, int] = {}
    buffered_bytes: int = 0
    chat: ChatStatus | None = None  # where no room can be
    problems: dict[str, str] = {}  # what `/readyz` finds, by the name of its check; empty while all is well
    activity: Activity | None = None
    audit: tuple[dict[str, Any], ...] = ()  # the last lines of the trail, newest first, without signed heads
