"""Who is logged in to the status page: opaque random ids, and whom each stands for. Pure.

An id is a secret of 256 random bits, made here and kept nowhere but in the browser: we keep its SHA-256. What
it stands for is asked of the authenticator each time it is shown, so that a session ends with its token, by a
revocation, and never has more than policy gives at that moment.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, NamedTuple

from secure_net.errors import AuthenticationError

if TYPE_CHECKING:
    from secure_net.identity.authenticator import Authenticator
    from secure_net.identity.policy import Principal
    from secure_net.limits import AdminLimits


class _Session(NamedTuple):
    digest: bytes
    principal: Principal
    certificate: bytes  # SHA-256 of that of the connection at the log-in; empty where it showed none


class PageSessions:
    """At most `admin_sessions_count`, and of one principal `admin_sessions_per_principal_count`: beyond, the
    one begun longest ago ends."""

    def __init__(self, authenticator: Authenticator, limits: AdminLimits) -> None:
        self.limits = limits
        self._authenticator = authenticator
        self._sessions: dict[bytes, _Session] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, principal: Principal, certificate: bytes | None) -> bytes:
        """A new session's id. `certificate` (DER) is the connection's, None where it shows none: a token
        that is bound to one stays bound (RFC 8705)."""
        mine = [key for key, session in self._sessions.items() if session.principal.name == principal.name]
        for key in mine[: max(0, len(mine) + 1 - self.limits.admin_sessions_per_principal_count)]:
            del self._sessions[key]
        while len(self._sessions) >= self.limits.admin_sessions_count:
            del self._sessions[next(iter(self._sessions))]
        value = secrets.token_urlsafe(32).encode("ascii")
        digest = hashlib.sha256(value).digest()
        self._sessions[digest] = _Session(digest, principal, _fingerprint(certificate))
        return value

    def find(self, value: bytes, certificate: bytes | None) -> Principal | None:
        """Who is behind an id on a connection with `certificate`, or None. What has ended is forgotten."""
        digest = hashlib.sha256(value).digest()
        session = self._sessions.get(digest)
        if session is None or not hmac.compare_digest(session.digest, digest):
            return None
        if not hmac.compare_digest(session.certificate, _fingerprint(certificate)):
            return None
        try:
            principal = self._authenticator.current(session.principal)
        except AuthenticationError:
            del self._sessions[digest]
            return None
        if principal is not session.principal:
            self._sessions[digest] = session._replace(principal=principal)
        return principal

    def end(self, value: bytes) -> None:
        """Log out. Harmless where there is no such session."""
        self._sessions.pop(hashlib.sha256(value).digest(), None)


def _fingerprint(certificate: bytes | None) -> bytes:
    return b"" if certificate is None else hashlib.sha256(certificate).digest()
