"""Access tokens: JWTs after RFC 9068 (access tokens) and RFC 8725 (how not to fall for forged ones). Pure.

A token is ``header.payload.signature``, each base64url. We accept exactly what `TokenSigner` issues:

* header: ``alg`` EdDSA (Ed25519), ``typ`` at+jwt, ``kid``, and nothing else. So a token can bring no key
  of its own (``jwk``, ``jku``, ``x5u``, ``x5c``), ask for no other algorithm and no extension (``crit``).
* claims: ``iss``, ``sub``, ``aud``, ``client_id``, ``iat``, ``nbf``, ``exp``, ``jti``, ``scope``; and
  ``cnf`` ``{"x5t#S256": …}`` when bound to a client certificate (RFC 8705 section 3.1). Claims we do not
  know are ignored, as RFC 7519 section 4 has it; a ``cnf`` of another kind is refused, since ignoring it
  would unbind the token.

Cheap checks come first: size, shape, header; then the signature; then the claims.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from secure_net.errors import AuthenticationError, ConfigurationError
from secure_net.identity import jose
from secure_net.identity.names import is_name, issuer
from secure_net.identity.policy import Grant
from secure_net.limits import TokenLimits

_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_TOKEN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLAIMS: dict[str, type] = {
    "iss": str,
    "sub": str,
    "aud": str,
    "client_id": str,
    "iat": int,
    "nbf": int,
    "exp": int,
    "jti": str,
    "scope": str,
}
_THUMBPRINT_BYTES = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. Times in unix seconds; `thumbprint` is that of the certificate it is
    bound to, or None."""

    subject: str
    grant: Grant
    token_id: str
    key_id: str
    issued_at: int
    expires_at: int
    thumbprint: bytes | None


def is_token_id(text: str) -> bool:
    """Whether `text` may be a `jti` of ours; a token itself never is, as it has dots."""
    return _TOKEN_ID.fullmatch(text) is not None


class TokenSigner:
    """Issues tokens with the signing key in ``ca/``. The daemon has none."""

    def __init__(self, key: Ed25519PrivateKey, trust_domain: str, limits: TokenLimits | None = None) -> None:
        self._key = key
        self._trust_domain = trust_domain
        self._limits = limits or TokenLimits()
        self.public = jose.PublicKey.of(key.public_key())

    def issue(
        self,
        subject: str,
        scopes: Iterable[str],
        *,
        now: float,
        lifetime: float = 3600.0,
        thumbprint: bytes | None = None,
    ) -> str:
        """A token for `subject` with `scopes`, valid for `lifetime` seconds from `now` (unix seconds).

        `thumbprint` (`certificates.thumbprint`) binds it to a client certificate. Raises
        `ConfigurationError` for a name or scope that is none, a lifetime above 24 h, or a token that
        would grow too long.
        """
        if not is_name(subject):
            raise ConfigurationError(repr(subject), "not a name", "names are [a-z0-9][a-z0-9._-]{0,63}")
        if not 1 <= lifetime <= self._limits.token_lifetime_seconds:
            raise ConfigurationError(
                "ttl", f"{lifetime:g} s", f"a token lives for 1 to {self._limits.token_lifetime_seconds:g} s"
            )
        try:
            grant = Grant.parse(scopes)
        except ValueError as error:
            raise ConfigurationError("scope", str(error), "a scope is service:verb:resource") from error
        if not grant.scopes:
            raise ConfigurationError("scope", "none given", "a token needs at least one")
        issued_at = int(now)
        claims: dict[str, Any] = {
            "iss": issuer(self._trust_domain),
            "sub": subject,
            "aud": self._trust_domain,
            "client_id": subject,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + int(lifetime),
            "jti": jose.encode(secrets.token_bytes(16)),
            "scope": " ".join(map(str, grant.scopes)),
        }
        if thumbprint is not None:
            claims["cnf"] = {"x5t#S256": jose.encode(thumbprint)}
        token = sign({"alg": _ALGORITHM, "kid": self.public.id, "typ": _TYPE}, claims, self._key)
        if len(token) > self._limits.token_bytes:
            raise ConfigurationError(
                "scope", "too many for one token", f"a token has at most {self._limits.token_bytes} bytes"
            )
        return token


def sign(header: dict[str, Any], claims: dict[str, Any], key: Ed25519PrivateKey) -> str:
    """The compact serialisation (RFC 7515 section 3.1). Checks nothing."""
    signing_input = ".".join(
        jose.encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)
    )
    return f"{signing_input}.{jose.encode(OKPAlgorithm().sign(signing_input.encode(), key))}"


class TokenVerifier:
    """Says whether a token is one of ours, and what it says. Remembers nothing."""

    def __init__(self, keys: jose.KeySet, trust_domain: str, limits: TokenLimits | None = None) -> None:
        self.keys = keys
        self._issuer = issuer(trust_domain)
        self._audience = trust_domain
        self._limits = limits or TokenLimits()
        self._signatures = OKPAlgorithm()

    def verify(self, token: bytes, now: float) -> Claims:
        """The claims of `token` at `now` (unix seconds).

        Every cause of refusal raises the same `AuthenticationError`; its detail is for the log, and
        holds nothing of the token. A binding (`Claims.thumbprint`) is the caller's to compare.
        """
        try:
            return self._verify(token, now)
        except ValueError as error:
            # Details of the JSON parser would quote the token; ours do not.
            detail = "malformed" if isinstance(error, json.JSONDecodeError | UnicodeError) else str(error)
            raise AuthenticationError(f"token: {detail}") from None

    def _verify(self, token: bytes, now: float) -> Claims:
        if len(token) > self._limits.token_bytes:
            raise ValueError("too long")
        parts = token.split(b".", 3)
        if len(parts) != 3:
            raise ValueError("not three parts")
        header, payload, signature = map(jose.decode, parts)
        key_id = _read_header(header)
        key = self.keys.find(key_id, now)
        if key is None:
            raise ValueError("signed by no key of ours")
        if not self._signatures.verify(token[: token.rindex(b".")], key.key, signature):
            raise ValueError("wrong signature")
        return self._read_claims(jose.parse_object(payload), key_id, now)

    def _read_claims(self, claims: dict[str, Any], key_id: str, now: float) -> Claims:
        for name, kind in _CLAIMS.items():
            # `type` and not `isinstance`: True is an int too.
            if type(claims.get(name)) is not kind:
                raise ValueError(f"claim {name} is absent or of the wrong type")
        if claims["iss"] != self._issuer or claims["aud"] != self._audience:
            raise ValueError("issued by, or for, somebody else")
        if not is_name(claims["sub"]) or not is_name(claims["client_id"]):
            raise ValueError("the subject is not a name")
        if not is_token_id(claims["jti"]):
            raise ValueError("unusable jti")
        self._check_times(claims["iat"], claims["nbf"], claims["exp"], now)
        return Claims(
            subject=claims["sub"],
            grant=_read_scope(claims["scope"]),
            token_id=claims["jti"],
            key_id=key_id,
            issued_at=claims["iat"],
            expires_at=claims["exp"],
            thumbprint=_read_confirmation(claims["cnf"]) if "cnf" in claims else None,
        )

    def _check_times(self, issued_at: int, not_before: int, expires_at: int, now: float) -> None:
        if expires_at <= now:
            raise ValueError("expired")
        if max(issued_at, not_before) > now + self._limits.token_skew_seconds:
            raise ValueError("not valid yet")
        if not 0 < expires_at - issued_at <= self._limits.token_lifetime_seconds:
            raise ValueError("lives too long")


def _read_header(data: bytes) -> str:
    """The key's id. The set of members is closed: see the top of this file."""
    header = jose.parse_object(data)
    if header.keys() != {"alg", "typ", "kid"}:
        raise ValueError("header members other than alg, typ and kid")
    if header["alg"] != _ALGORITHM or header["typ"] != _TYPE:
        raise ValueError("wrong alg or typ")
    if type(header["kid"]) is not str:
        raise ValueError("kid is not a string")
    return header["kid"]


def _read_scope(text: str) -> Grant:
    try:
        return Grant.parse(text.split(" "))
    except ValueError:
        raise ValueError("unusable scope") from None


def _read_confirmation(confirmation: object) -> bytes:
    if type(confirmation) is not dict or confirmation.keys() != {"x5t#S256"}:
        raise ValueError("bound in a way we do not know")
    text = confirmation["x5t#S256"]
    if type(text) is not str:
        raise ValueError("bound to what is no thumbprint")
    thumbprint = jose.decode(text.encode())
    if len(thumbprint) != _THUMBPRINT_BYTES:
        raise ValueError("bound to what is no thumbprint")
    return thumbprint
