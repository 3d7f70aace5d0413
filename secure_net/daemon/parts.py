"""Everything a running daemon is made of, built from its inputs, and rebuilt in place at a reload.

Nothing here opens a file or binds a socket: `Inputs` has read what there is to read, and `life`
has the life cycle. A reload replaces what new connections and new calls get: contexts, keys, policy, limits.
Open connections stay, and feel a change of policy at their next act.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from cryptography import x509

from secure_net import __version__
from secure_net.addresses import Address
from secure_net.clock import Clock
from secure_net.config import Configuration
from secure_net.control.status import (
    CertificateStatus,
    ChatStatus,
    RecordStatus,
    RevocationStatus,
    ServiceStatus,
    Status,
)
from secure_net.daemon.activity import ActivityLog
from secure_net.daemon.core import Core
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.services import AdminPart, ChatPart, EchoPart, FilesPart, Part, RPCPart, listener_of
from secure_net.errors import AuthenticationError, Refusal
from secure_net.http.admin import Check
from secure_net.identity.certificates import is_trusted
from secure_net.log import Logger
from secure_net.messaging.web import origins
from secure_net.metrics import Metrics
from secure_net.rpc.registry import Registry
from secure_net.store import Snapshot
from secure_net.store.sqlite_broker import SQLiteBroker
from secure_net.wire.channel import State
from secure_net.wire.connection import Connection
from secure_net.wire.shell import source_of

if TYPE_CHECKING:
    from secure_net.audit.trail import AuditTrail
    from secure_net.identity.certificates import RevocationList
    from secure_net.identity.policy import Principal

DAY_SECONDS = 86_400.0
AUDIT_COUNT = 20  # lines of the trail that the status shows

_LOUD = frozenset({"internal_error", "rpc_method_failed"})
# Refused logins, which reach the log whatever its level.
_LOGINS = frozenset(
    {
        Refusal.CERTIFICATE_REQUIRED,
        Refusal.CERTIFICATE_INVALID,
        Refusal.CERTIFICATE_PROFILE,
        Refusal.CERTIFICATE_REVOKED,
        Refusal.CREDENTIAL,
        Refusal.REVOKED,
        Refusal.EXPIRED,
        Refusal.PENALTY,
    }
)


class Parts:
    """The parts, wired together. `inputs` is what they were made or last reloaded from."""

    def __init__(
        self,
        inputs: Inputs,
        snapshot: Snapshot,
        registry: Registry,
        *,
        clock: Clock,
        metrics: Metrics,
        trail: AuditTrail,
        logger: Logger,
        checks: Mapping[str, Check],
        broker: SQLiteBroker | None = None,
        status: Callable[[], Status] | None = None,
    ) -> None:
        """`broker` keeps the rooms of ``[chat]``, and is closed with the parts. `status` is what the status
        page shows: ours as the daemon completes it, and just ours where it does not."""
        configuration = inputs.configuration
        self.inputs, self.clock, self.metrics = inputs, clock, metrics
        self._trail, self._logger = trail, logger
        core = Core(inputs, clock=clock, metrics=metrics, log=self.log, snapshot=snapshot)
        self.core = core
        self.revocations, self.policy = core.revocations, core.policy
        self.authenticator, self.shell = core.authenticator, core.shell
        self._checks = checks
        self._show = status or (lambda: self.status(started_at=clock.wall(), draining=False, log_dropped=0))
        self.activity = ActivityLog(metrics, configuration.services)
        self._parts = self._built(configuration, registry, broker)
        self.listeners = {
            name: listener_of(name, core, self._part(name), inputs, configuration.addresses(name))
            for name in configuration.services
        }
        self._gauges()

    # --- building -------------------------------------------------------------------------------------

    def _built(
        self,
        configuration: Configuration,
        registry: Registry,
        broker: SQLiteBroker | None,
    ) -> dict[str, Part]:
        """By the table of the configuration that asks for it."""
        parts: dict[str, Part] = {}
        if configuration.rpc is not None:
            parts["rpc"] = RPCPart(self.core, configuration, registry, self._trail.record)
        if configuration.files is not None:
            parts["files"] = FilesPart(self.core, configuration, configuration.files)
        if configuration.echo is not None:
            parts["echo"] = EchoPart(self.core)
        if broker is not None:
            parts["chat"] = ChatPart(self.core, configuration, broker, self._chat_origins)
        if configuration.admin is not None:
            parts["admin"] = AdminPart(
                self.core, configuration, self._checks, self._show, lambda: self._origins("admin")
            )
        return parts

    def _origins(self, name: str) -> frozenset[str]:
        """Of a listener's own pages: every name of ours, on every port of it."""
        ports = {port for _, port in self.listeners[name].listen_addrs}
        return origins(self.inputs.material.names, ports)

    def _chat_origins(self) -> frozenset[str]:
        """Those of the page, and those that are configured."""
        table = self.inputs.configuration.chat
        return self._origins("chat-web").union(table.origins if table else ())

    def _part(self, name: str) -> Part:
        """One may serve several listeners: ``chat`` and ``chat-web`` are both that of ``[chat]``."""
        return self._parts[name.partition("-")[0]]

    def _gauges(self) -> None:
        self.metrics.certificates = lambda: self.inputs.certificate_ends
        self.metrics.crl_expiry = lambda: self.revocations.crl_expires_at or None
        self.metrics.buffered_bytes = lambda: self.shell.buffered_bytes

    # --- what happens while it runs -------------------------------------------------------------------

    def log(self, event: str, **fields: Any) -> None:
        """Where the shell and the dispatcher write: a log line, and refusals into the trail as well."""
        error = fields.pop("error", None)
        if event in _LOUD:
            self._logger.error(event, exc_info=error, **fields)
            return
        if "reason" not in fields:
            self._logger.info(event, **fields)
            return
        reason, source = Refusal(fields["reason"]), _source(str(fields.get("peer", "")))
        write = self._logger.always if reason in _LOGINS else self._logger.info
        write(event, **fields)
        self._trail.refused(str(fields.get("service", "")), reason, source)

    def import_crl(self, crl: RevocationList) -> None:
        """Refuse what `crl` names, from now on and on open connections; the store has it already."""
        self.metrics.revocations += len(self.revocations.import_crl(crl))
        self.cut_off()

    def count_revocation(self) -> None:
        """An act has revoked something."""
        self.metrics.revocations += 1

    def cut_off(self) -> int:
        """Close every connection whose certificate or session no longer stands; returns how many."""
        return sum(map(self._cut_where_refused, self._open_connections()))

    def _open_connections(self) -> list[Connection]:
        """Those to which something may still be sent: what waits is not for whoever lost the right to it."""
        return [
            connection
            for connection in self.shell.live
            if isinstance(connection, Connection) and connection.state < State.LINGERING
        ]

    def _cut_where_refused(self, connection: Connection) -> bool:
        for shown in (connection.principal, connection.certificate_principal):
            if shown is None:
                continue
            try:
                # The shell knows no more of it than a name; it came from our authenticator.
                self.authenticator.current(cast("Principal", shown))
            except AuthenticationError as error:
                connection.refuse(error.reason, error.detail)
                return True
        return False

    # --- reload ---------------------------------------------------------------------------------------

    def apply(self, inputs: Inputs) -> None:
        """Serve with `inputs`, which were loaded to take the place of ours, from now on. Cannot fail."""
        configuration = inputs.configuration
        fewer = not set(self.inputs.authorities) <= set(inputs.authorities)
        self.inputs = inputs
        for part in self._parts.values():
            part.apply(configuration)
        for name, listener in self.listeners.items():
            listener.service = self._part(name).service(name, configuration)
            listener.use(inputs.material)
        self.core.apply(inputs)
        if fewer:
            self._cut_untrusted()
        self.cut_off()

    def _cut_untrusted(self) -> None:
        """A CA is gone: what only it has signed ends, or an open connection would outlive the trust."""
        for connection in self._open_connections():
            if connection.certificate is None:
                continue
            shown = x509.load_der_x509_certificate(connection.certificate)
            if not is_trusted(shown, self.inputs.authorities):
                connection.refuse(Refusal.CERTIFICATE_INVALID, "its CA is trusted no more")

    # --- the end --------------------------------------------------------------------------------------

    def drain(self, seconds: float) -> None:
        """Begin nothing that would outlive so many seconds."""
        for part in self._parts.values():
            part.drain(seconds)

    def close(self) -> None:
        """Everything has been drained."""
        for part in self._parts.values():
            part.close()

    # --- what it says of itself -----------------------------------------------------------------------

    @property
    def listening(self) -> dict[str, tuple[Address, ...]]:
        """Where each service really listens."""
        return {
            name: tuple(Address(*address) for address in listener.listen_addrs)
            for name, listener in self.listeners.items()
        }

    def status(self, *, started_at: float, draining: bool, log_dropped: int) -> Status:
        """For ``secure-net status``; `started_at` is Unix time."""
        now = self.clock.wall()
        revoked_certificates, revoked_tokens, blocked = self.revocations.counts
        return Status(
            version=__version__,
            process=os.getpid(),
            started_at=started_at,
            uptime_seconds=now - started_at,
            draining=draining,
            services=tuple(map(self._service_status, self.listeners)),
            certificates=tuple(self._certificate_statuses(now)),
            revocations=RevocationStatus(
                epoch=self.revocations.epoch,
                certificates=revoked_certificates,
                tokens=revoked_tokens,
                names_blocked=blocked,
                crl_expires_at=self.revocations.crl_expires_at,
            ),
            records=RecordStatus(
                audit_head=self._trail.head, audit_dropped=self._trail.dropped, log_dropped=log_dropped
            ),
            principals=self.shell.live.principals(),
            buffered_bytes=self.shell.buffered_bytes,
            chat=self._chat_status() if "chat" in self._parts else None,
            problems={name: problem for name, check in self._checks.items() if (problem := check())},
            activity=self.activity.told,
            audit=self._trail.recent(AUDIT_COUNT),
        )

    def _chat_status(self) -> ChatStatus:
        chat = self.metrics.chat
        return ChatStatus(rooms=chat.rooms(), members=chat.members(), messages=chat.messages)

    def _service_status(self, name: str) -> ServiceStatus:
        counters, listener = self.metrics.service(name), self.listeners[name]
        return ServiceStatus(
            name=name,
            addresses=tuple(map(str, self.listening[name])),
            connections_open=counters.connections_open,
            connections_total=sum(counters.connections.values()) + counters.connections_open,
            refused_total=sum(counters.refused.values()),
            error=str(listener.last_exception or ""),
            refused={reason.value: count for reason, count in counters.refused.items() if count},
        )

    def _certificate_statuses(self, now: float) -> Iterator[CertificateStatus]:
        material = self.inputs.material
        names = {"server": tuple(sorted(material.names)), "ca": ()}
        for name, ends in self.inputs.certificate_ends.items():
            left = (ends - now) / DAY_SECONDS
            yield CertificateStatus(file=f"{name}.pem", names=names[name], not_after=ends, days_left=left)


def _source(peer: str) -> str:
    """Where `peer` (``192.0.2.1:51234``, ``[2001:db8::1]:51234``, or without a port) counts as from."""
    if peer.startswith("["):
        return source_of(peer[1:].partition("]")[0])
    return source_of(peer) if peer.count(":") > 1 else peer.partition(":")[0]
