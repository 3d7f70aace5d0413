"""Base64url, JSON and public keys as JOSE writes them, read strictly. Pure.

What lenient readers let through is what attackers live on: padding and stray bits in base64 give one
signed token many spellings, duplicate keys give one JSON text two meanings, deep nesting ends in a
`RecursionError`. Here each raises `ValueError`, with a text that holds nothing of the input.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# More brackets than any honest header, token or key set has; fewer than the parser has stack for.
_BRACKETS_COUNT = 256


def encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: bytes) -> bytes:
    """The bytes that `text` spells, when it is the one spelling that `encode` would give."""
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    # The last character may carry bits that decoding drops (RFC 4648 section 3.5).
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text:
        raise ValueError("not canonical base64url")
    return data


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 with no key given twice, no NaN, and no deep nesting."""
    if data.count(b"[") + data.count(b"{") > _BRACKETS_COUNT:
        raise ValueError("nested too deep")
    value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    if type(value) is not dict:
        raise ValueError("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("not a JSON number")


@dataclasses.dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that access tokens may be signed with.

    `retires_at` (unix seconds) is when no token signed by it can still be valid; None for the key in
    use. It is the ``exp`` of the JWK, which RFC 7517 leaves room for.
    """

    id: str
    key: Ed25519PublicKey
    retires_at: int | None = None

    @classmethod
    def of(cls, key: Ed25519PublicKey) -> PublicKey:
        """Named by its RFC 7638 thumbprint, so that one key never has two names."""
        members = {"crv": "Ed25519", "kty": "OKP", "x": encode(key.public_bytes_raw())}
        canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
        return cls(encode(hashlib.sha256(canonical.encode()).digest()), key)

    def to_jwk(self) -> dict[str, str | int]:
        """As a JWK (RFC 8037 section 2)."""
        jwk: dict[str, str | int] = {
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": "EdDSA",
            "use": "sig",
            "kid": self.id,
            "x": encode(self.key.public_bytes_raw()),
        }
        if self.retires_at is not None:
            jwk["exp"] = self.retires_at
        return jwk

    @classmethod
    def from_jwk(cls, jwk: object) -> PublicKey:
        """Raises `ValueError` for anything but an Ed25519 public key meant for signatures."""
        if type(jwk) is not dict:
            raise ValueError("not a JWK")
        fixed = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig"}
        if any(jwk.get(member) != value for member, value in fixed.items()):
            raise ValueError("not an Ed25519 key for signatures")
        if "d" in jwk:
            raise ValueError("a private key where only public ones belong")
        kid, x, retires_at = jwk.get("kid"), jwk.get("x"), jwk.get("exp")
        if type(kid) is not str or _KEY_ID.fullmatch(kid) is None:
            raise ValueError("no usable kid")
        if type(x) is not str or not (retires_at is None or type(retires_at) is int):
            raise ValueError("a member of the wrong type")
        return cls(kid, Ed25519PublicKey.from_public_bytes(decode(x.encode())), retires_at)


class KeySet:
    """The public keys that tokens may be signed with: ``certs/token-keys.json`` (RFC 7517 section 5)."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self.keys = tuple(keys)
        self._by_id = {key.id: key for key in self.keys}
        if len(self._by_id) != len(self.keys):
            raise ValueError("two keys with one kid")

    @classmethod
    def from_json(cls, data: bytes) -> KeySet:
        """Raises `ValueError` unless `data` is a JWK set of which every key is usable."""
        keys = parse_object(data).get("keys")
        if type(keys) is not list:
            raise ValueError("not a JWK set")
        return cls(map(PublicKey.from_jwk, keys))

    def to_json(self) -> bytes:
        return json.dumps({"keys": [key.to_jwk() for key in self.keys]}, indent=2).encode() + b"\n"

    def find(self, key_id: str, now: float) -> PublicKey | None:
        """The key of that name, unless it has retired by `now` (unix seconds)."""
        key = self._by_id.get(key_id)
        if key is None or (key.retires_at is not None and key.retires_at <= now):
            return None
        return key

    def rotated(self, new: PublicKey, now: float, lifetime: float) -> KeySet:
        """With `new` in use. The others retire once no token of theirs, valid for at most `lifetime`
        seconds, can be valid any more; those that have retired are left out."""
        others = (key for key in self.keys if key.id != new.id and self.find(key.id, now) is not None)
        last = int(now + lifetime) + 1
        return KeySet(
            (new, *(dataclasses.replace(key, retires_at=min(key.retires_at or last, last)) for key in others))
        )
