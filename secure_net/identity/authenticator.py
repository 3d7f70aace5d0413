"""The one place that says who somebody is.

A token is verified once, then remembered by its SHA-256 until it ends or the epoch grows: verifying costs
some 150 µs, remembering 2. What depends on the moment is looked at every time: its end, and whether the
connection shows the certificate it is bound to. Only tokens that were accepted are remembered.

The epoch grows with every change of policy, revocations or keys. A principal belongs to one epoch;
`current` gives its successor, or says that there is none.
"""

from __future__ import annotations

import hashlib
import hmac

from secure_net.clock import Clock
from secure_net.errors import AuthenticationError, Refusal
from secure_net.identity.certificates import read_client, thumbprint
from secure_net.identity.jose import KeySet
from secure_net.identity.policy import NOTHING, Credential, Grant, Policy, Principal
from secure_net.identity.revocation import Revocations
from secure_net.identity.tokens import TokenVerifier
from secure_net.limits import TokenLimits


class Authenticator:
    """Turns what a peer shows into a principal."""

    def __init__(
        self,
        *,
        clock: Clock,
        trust_domain: str,
        policy: Policy,
        revocations: Revocations,
        keys: KeySet,
        limits: TokenLimits | None = None,
    ) -> None:
        """`trust_domain` is the first of ``server.names``, and the audience of tokens; `keys` are those of
        ``certs/token-keys.json``."""
        self.epoch = 1
        self._wall = clock.wall
        self._trust_domain = trust_domain
        self._policy = policy
        self._revocations = revocations
        self._limits = limits or TokenLimits()
        self._verifier = TokenVerifier(keys, trust_domain, self._limits)
        self._longest = self._limits.token_bytes
        # The token's digest -> who it is, and the thumbprint it is bound to.
        self._remembered: dict[bytes, tuple[Principal, bytes | None]] = {}
        policy.on_change.append(self._changed)
        revocations.on_change.append(self._changed)

    def replace_keys(self, keys: KeySet) -> None:
        """Verify with these keys from now on (reload); sessions of a key that is gone end."""
        self._verifier = TokenVerifier(keys, self._trust_domain, self._limits)
        self._changed()

    def certificate(self, der: bytes) -> Principal:
        """Who a client certificate names, once OpenSSL has verified its chain.

        Raises `AuthenticationError` with CERTIFICATE_PROFILE, CERTIFICATE_REVOKED, REVOKED or EXPIRED as
        its reason. Expiry is looked at here too: a resumed session verifies no chain.
        """
        read = read_client(der, self._trust_domain)
        if not read.not_before <= self._wall() < read.not_after:
            raise AuthenticationError("certificate: not valid now", Refusal.EXPIRED)
        return self._admit(
            read.name,
            Credential("certificate", read.serial, read.issued_at, read.not_after),
            self._entry(read.name),
        )

    def bearer(self, token: bytes, certificate: bytes | None) -> Principal:
        """Who a token names, on a connection that showed `certificate` (DER) or None.

        Every cause of refusal raises an `AuthenticationError` with the same reason; its detail is for
        the log.
        """
        if len(token) > self._longest:
            raise AuthenticationError("token: too long")
        digest = hashlib.sha256(token).digest()
        remembered = self._remembered.get(digest)
        principal, bound = remembered or self._verify(token)
        if principal.expires_at <= self._wall():
            self._remembered.pop(digest, None)
            raise AuthenticationError("token: expired")
        if bound is not None and not (
            certificate is not None and hmac.compare_digest(bound, thumbprint(certificate))
        ):
            raise AuthenticationError("token: bound to another certificate")
        if remembered is None:
            self._remember(digest, (principal, bound))
        return principal

    def current(self, principal: Principal) -> Principal:
        """The same person under the policy as it is now; the same object while nothing has changed.

        Raises `AuthenticationError` (REVOKED, CERTIFICATE_REVOKED, EXPIRED, CREDENTIAL) when the session
        has to end.
        """
        if self._wall() >= principal.expires_at:
            raise AuthenticationError("the session's credential has ended", Refusal.EXPIRED)
        epoch = (
            self.epoch
        )  # before the policy is read: a worker of a threaded engine may ask while it changes
        if principal.epoch == epoch:
            return principal
        credential = principal.credentials[0]
        if credential.kind != "token":
            return self._admit(principal.name, credential, self._entry(principal.name), epoch)
        if self._verifier.keys.find(credential.key_id, self._wall()) is None:
            raise AuthenticationError("token: signed by no key of ours")
        return self._admit(
            principal.name, credential, self._token_grants(principal.name, principal.grants[0]), epoch
        )

    def _verify(self, token: bytes) -> tuple[Principal, bytes | None]:
        claims = self._verifier.verify(token, self._wall())
        credential = Credential("token", claims.token_id, claims.issued_at, claims.expires_at, claims.key_id)
        try:
            principal = self._admit(
                claims.subject, credential, self._token_grants(claims.subject, claims.grant)
            )
        except AuthenticationError as error:
            raise AuthenticationError(f"token: {error.reason}") from None
        return principal, claims.thumbprint

    def _admit(
        self, name: str, credential: Credential, grants: tuple[Grant, ...], epoch: int | None = None
    ) -> Principal:
        reason = self._revocations.refuses_credential(name, credential)
        if reason is not None:
            raise AuthenticationError(credential.kind, reason)
        return Principal(
            name, grants, (credential,), credential.expires_at, self.epoch if epoch is None else epoch
        )

    def _entry(self, name: str) -> tuple[Grant, ...]:
        return (self._policy.entry(name) or NOTHING,)

    def _token_grants(self, name: str, own: Grant) -> tuple[Grant, ...]:
        """A token's own scopes, and never more than its subject's entry where there is one."""
        entry = self._policy.entry(name)
        return (own,) if entry is None else (own, entry)

    def _remember(self, digest: bytes, verified: tuple[Principal, bytes | None]) -> None:
        if len(self._remembered) >= self._limits.token_cache_count:
            del self._remembered[next(iter(self._remembered))]  # the one verified longest ago
        self._remembered[digest] = verified

    def _changed(self) -> None:
        self.epoch += 1
        # Those of an older epoch would never be used again.
        self._remembered.clear()
