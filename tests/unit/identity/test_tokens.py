"""What the signer issues and the verifier accepts; forgeries are in tests/hostile."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_net.errors import AuthenticationError, ConfigurationError
from secure_net.identity import jose
from secure_net.identity.jose import KeySet
from secure_net.identity.policy import Grant
from secure_net.identity.tokens import TokenSigner, TokenVerifier
from secure_net.limits import TokenLimits

NOW = 1_800_000_000.5


@pytest.fixture(scope="module")
def signer() -> TokenSigner:
    return TokenSigner(Ed25519PrivateKey.generate(), "example.org")


@pytest.fixture(scope="module")
def verifier(signer: TokenSigner) -> TokenVerifier:
    return TokenVerifier(KeySet([signer.public]), "example.org")


def test_a_token_there_and_back(signer: TokenSigner, verifier: TokenVerifier) -> None:
    token = signer.issue("demo", ["rpc:call:math.*", "echo:use"], now=NOW, lifetime=60)
    claims = verifier.verify(token.encode(), NOW)
    assert claims.subject == "demo"
    assert claims.grant == Grant.parse(["rpc:call:math.*", "echo:use"])
    assert (claims.issued_at, claims.expires_at) == (1_800_000_000, 1_800_000_060)
    assert claims.key_id == signer.public.id
    assert claims.thumbprint is None
    assert len(jose.decode(claims.token_id.encode())) == 16
    other = verifier.verify(signer.issue("demo", ["echo:use"], now=NOW).encode(), NOW)
    assert other.token_id != claims.token_id


def test_any_jwt_library_can_read_it(signer: TokenSigner) -> None:
    token = signer.issue("demo", ["echo:use"], now=NOW, thumbprint=b"x" * 32)
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": signer.public.id, "typ": "at+jwt"}
    options: jwt.types.Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    claims = jwt.decode(token, signer.public.key, ["EdDSA"], options, audience="example.org")
    assert set(claims) == {"iss", "sub", "aud", "client_id", "iat", "nbf", "exp", "jti", "scope", "cnf"}
    assert claims["iss"] == "spiffe://example.org"
    assert claims["sub"] == claims["client_id"] == "demo"


def test_a_binding_is_read(signer: TokenSigner, verifier: TokenVerifier) -> None:
    token = signer.issue("demo", ["echo:use"], now=NOW, thumbprint=b"x" * 32)
    assert verifier.verify(token.encode(), NOW).thumbprint == b"x" * 32


def test_the_edges_of_its_life(signer: TokenSigner, verifier: TokenVerifier) -> None:
    token = signer.issue("demo", ["echo:use"], now=NOW, lifetime=60).encode()
    verifier.verify(token, 1_800_000_059.9)
    verifier.verify(token, 1_800_000_000 - 30)
    for now in (1_800_000_060, 1_800_000_000 - 30.1):
        with pytest.raises(AuthenticationError):
            verifier.verify(token, now)


def test_claims_we_do_not_know_are_ignored(verifier: TokenVerifier, signer: TokenSigner) -> None:
    header, payload, _ = signer.issue("demo", ["echo:use"], now=NOW).split(".")
    claims = {**json.loads(jose.decode(payload.encode())), "auth_time": 1, "groups": ["a"]}
    again = f"{header}.{jose.encode(json.dumps(claims).encode())}"
    token = f"{again}.{jose.encode(signer._key.sign(again.encode()))}"
    assert verifier.verify(token.encode(), NOW).subject == "demo"


def test_a_retired_key_verifies_nothing(signer: TokenSigner) -> None:
    token = signer.issue("demo", ["echo:use"], now=NOW, lifetime=24 * 3600).encode()
    newer = TokenSigner(Ed25519PrivateKey.generate(), "example.org")
    keys = KeySet([signer.public]).rotated(newer.public, NOW, 24 * 3600)
    verifier = TokenVerifier(keys, "example.org")
    assert verifier.verify(token, NOW + 24 * 3600 - 1)
    with pytest.raises(AuthenticationError):
        verifier.verify(signer.issue("demo", ["echo:use"], now=NOW + 25 * 3600).encode(), NOW + 25 * 3600)


def test_details_never_quote_the_token(verifier: TokenVerifier) -> None:
    for token in (b'{"secret', b"c2VjcmV0.c2VjcmV0.c2VjcmV0", b"secret.secret.secret"):
        with pytest.raises(AuthenticationError) as raised:
            verifier.verify(token, NOW)
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("subject", "scopes", "lifetime"),
    [
        ("Demo", ["echo:use"], 60),
        ("demo", [], 60),
        ("demo", ["echo"], 60),
        ("demo", ["echo:use"], 0),
        ("demo", ["echo:use"], 24 * 3600 + 1),
        ("demo", [f"rpc:call:method{number}" for number in range(1000)], 60),
    ],
)
def test_the_signer_refuses(signer: TokenSigner, subject: str, scopes: list[str], lifetime: float) -> None:
    with pytest.raises(ConfigurationError):
        signer.issue(subject, scopes, now=NOW, lifetime=lifetime)


def test_limits_are_the_verifier_s_too(signer: TokenSigner) -> None:
    token = signer.issue("demo", ["echo:use"], now=NOW, lifetime=3600).encode()
    for limits in (TokenLimits(token_bytes=100), TokenLimits(token_lifetime_seconds=60)):
        with pytest.raises(AuthenticationError):
            TokenVerifier(KeySet([signer.public]), "example.org", limits).verify(token, NOW)
