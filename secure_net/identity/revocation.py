"""What was taken back, in memory. Pure.

The store is the authority; this is its reading side, loaded from a snapshot at start and told of every
change after its commit. Whoever holds a principal compares `epoch`: once it has grown, they ask again.

An identity is revoked in two ways at once. It is *blocked*: nothing with its name is accepted until it is
unlocked. And what was issued to it *before* stays refused for ever, so that unlocking does not bring a lost
key back. Issue times are whole seconds: what was issued within the second of a revocation counts as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from secure_net.errors import Refusal
from secure_net.identity.certificates import RevocationList
from secure_net.identity.policy import Credential
from secure_net.store import Snapshot


class Revocations:
    """Serials, token ids and names that are refused.

    `blocked` maps a name to when it was blocked, `revoked_before` to the moment up to which what was issued
    to it is refused; both in unix seconds. `on_change` is called after every change, with `epoch` grown.
    """

    def __init__(
        self,
        *,
        certificates: Iterable[str] = (),
        tokens: Iterable[str] = (),
        blocked: Mapping[str, float] | None = None,
        revoked_before: Mapping[str, float] | None = None,
        crl_number: int = -1,
        epoch: int = 0,
    ) -> None:
        self._certificates = set(certificates)
        self._tokens = set(tokens)
        self._blocked = dict(blocked or {})
        self._revoked_before = dict(revoked_before or {})
        self.crl_number = crl_number  # the highest that was imported; -1: none
        # Its nextUpdate. Once past, it is a metric and a finding of `check`; nobody is refused for it.
        self.crl_expires_at = 0.0
        self.epoch = epoch
        self.on_change: list[Callable[[], None]] = []

    @classmethod
    def load(cls, snapshot: Snapshot) -> Revocations:
        """What the store holds, as of one commit."""
        names = snapshot.names.items()
        return cls(
            certificates=snapshot.revoked_certificates,
            tokens=snapshot.revoked_tokens,
            blocked={name: at for name, record in names if (at := record.blocked_since) is not None},
            revoked_before={name: at for name, record in names if (at := record.revoked_before) is not None},
            crl_number=snapshot.crl_number,
            epoch=snapshot.epoch,
        )

    def refuses_credential(self, name: str, credential: Credential) -> Refusal | None:
        """Why this credential of `name` is not accepted, or None."""
        if credential.kind == "certificate" and credential.id in self._certificates:
            return Refusal.CERTIFICATE_REVOKED
        if credential.kind == "token" and credential.id in self._tokens:
            return Refusal.REVOKED
        if name in self._blocked:
            return Refusal.REVOKED
        before = self._revoked_before.get(name)
        # A password has no time of issue: blocking its name is what refuses it.
        if before is not None and credential.kind != "password" and credential.issued_at <= before:
            return Refusal.REVOKED
        return None

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many certificates, tokens and names are refused, for the status."""
        return len(self._certificates), len(self._tokens), len(self._blocked)

    def revoke_certificate(self, serial: str) -> None:
        """`serial` as `certificates.serial_text` writes it."""
        if serial not in self._certificates:
            self._certificates.add(serial)
            self._changed()

    def revoke_token(self, token_id: str) -> None:
        if token_id not in self._tokens:
            self._tokens.add(token_id)
            self._changed()

    def revoke_name(self, name: str, at: float) -> None:
        """Block `name`, and refuse for ever what was issued to it up to `at` (unix seconds)."""
        self._blocked.setdefault(name, at)
        # A clock set back must not un-revoke.
        self._revoked_before[name] = max(at, self._revoked_before.get(name, at))
        self._changed()

    def lock_name(self, name: str, at: float) -> None:
        """Block `name`; what it holds works again once it is unlocked."""
        if name not in self._blocked:
            self._blocked[name] = at
            self._changed()

    def unlock_name(self, name: str) -> None:
        """Accept `name` again, with what is issued from now on."""
        if self._blocked.pop(name, None) is not None:
            self._changed()

    def import_crl(self, crl: RevocationList) -> frozenset[str]:
        """Add a CRL's serials to ours; the new ones are returned, for the store.

        Nothing is ever taken back by a CRL, and one with a lower number than the last is ignored.
        """
        if crl.number < self.crl_number:
            return frozenset()
        self.crl_number, self.crl_expires_at = crl.number, crl.next_update
        new = crl.serials - self._certificates
        if new:
            self._certificates |= new
            self._changed()
        return new

    def _changed(self) -> None:
        self.epoch += 1
        for callback in self.on_change:
            callback()
