"""THREATS.md, "Tokens and passwords": every row on tokens. What concerns passwords comes with them.

Each forgery differs from a token that is accepted in one thing, and is signed with the real key wherever a
signature could make a difference. All must raise one and the same `AuthenticationError`, and leave nothing
in the cache.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_net.errors import AuthenticationError, Refusal
from secure_net.identity import jose
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.certificates import thumbprint
from secure_net.identity.jose import KeySet
from secure_net.identity.policy import Policy
from secure_net.identity.revocation import Revocations
from secure_net.identity.tokens import TokenSigner
from tests.support.clock import FakeClock

KEY = Ed25519PrivateKey.generate()
SIGNER = TokenSigner(KEY, "example.org")
NOW = int(FakeClock().wall())
HEADER: dict[str, Any] = {"alg": "EdDSA", "kid": SIGNER.public.id, "typ": "at+jwt"}
CLAIMS: dict[str, Any] = {
    "iss": "spiffe://example.org",
    "sub": "demo",
    "aud": "example.org",
    "client_id": "demo",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 3600,
    "jti": "some-token",
    "scope": "rpc:call:math.*",
}
ABSENT = object()

Sign = Callable[[bytes], bytes]


def compact(header: bytes, payload: bytes, sign: Sign = KEY.sign) -> bytes:
    signing_input = f"{jose.encode(header)}.{jose.encode(payload)}".encode()
    return signing_input + b"." + jose.encode(sign(signing_input)).encode()


def changed(base: dict[str, Any], changes: dict[str, Any]) -> bytes:
    members = {name: value for name, value in {**base, **changes}.items() if value is not ABSENT}
    return json.dumps(members).encode()


def token(
    header: dict[str, Any] | None = None, claims: dict[str, Any] | None = None, sign: Sign = KEY.sign
) -> bytes:
    return compact(changed(HEADER, header or {}), changed(CLAIMS, claims or {}), sign)


@pytest.fixture
def revocations() -> Revocations:
    return Revocations()


@pytest.fixture
def authenticator(revocations: Revocations) -> Authenticator:
    return new_authenticator(revocations)


def new_authenticator(revocations: Revocations | None = None) -> Authenticator:
    return Authenticator(
        clock=FakeClock(),
        trust_domain="example.org",
        policy=Policy(),
        revocations=revocations or Revocations(),
        keys=KeySet([SIGNER.public]),
    )


def refused(authenticator: Authenticator, forged: bytes, certificate: bytes | None = None) -> None:
    for _ in range(2):
        with pytest.raises(AuthenticationError) as raised:
            authenticator.bearer(forged, certificate)
        assert type(raised.value) is AuthenticationError
        assert raised.value.reason is Refusal.CREDENTIAL
        assert raised.value.detail.startswith("token: ")
        assert raised.value.detail.isascii()
        assert raised.value.detail.isprintable()
    assert not authenticator._remembered


def test_the_token_that_the_forgeries_differ_from_is_accepted(authenticator: Authenticator) -> None:
    assert authenticator.bearer(token(), None).name == "demo"


def public_bytes(encoding: serialization.Encoding, form: serialization.PublicFormat) -> bytes:
    return SIGNER.public.key.public_bytes(encoding, form)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", [b"", b"x" * 64])
def test_alg_none(authenticator: Authenticator, alg: str, signature: bytes) -> None:
    refused(authenticator, token({"alg": alg}, sign=lambda _: signature))


def test_alg_none_without_a_third_part(authenticator: Authenticator) -> None:
    refused(authenticator, token({"alg": "none"}).rsplit(b".", 1)[0])


@pytest.mark.parametrize(
    "secret",
    [
        public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw),
        public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(SIGNER.public.to_jwk()).encode(),
        b"",
    ],
)
def test_alg_hs256_with_the_public_key_as_secret(authenticator: Authenticator, secret: bytes) -> None:
    refused(authenticator, token({"alg": "HS256"}, sign=lambda data: hmac.digest(secret, data, "sha256")))


def test_alg_es256(authenticator: Authenticator) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    refused(
        authenticator, token({"alg": "ES256"}, sign=lambda data: key.sign(data, ec.ECDSA(hashes.SHA256())))
    )


@pytest.mark.parametrize(
    "alg", ["eddsa", "EDDSA", "EdDsa", "EdDSA ", "Ed25519", "RS256", None, 1, ["EdDSA"], ABSENT]
)
def test_alg_in_mixed_case_and_other_algs(authenticator: Authenticator, alg: object) -> None:
    refused(authenticator, token({"alg": alg}))


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/null",
        "certs/token-keys.json",
        0,
        1,
        1.5,
        True,
        None,
        ["a"],
        [SIGNER.public.id],
        {"kid": SIGNER.public.id},
        "' OR '1'='1",
        "x' UNION SELECT 'secret' --",
        "",
        "unknown",
        SIGNER.public.id.lower(),
        SIGNER.public.id + "\0",
        ABSENT,
    ],
)
def test_kid_as_path_number_list_sql(authenticator: Authenticator, kid: object) -> None:
    refused(authenticator, token({"kid": kid}))


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys.json"},
        {"jwk": SIGNER.public.to_jwk()},
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": ["MIIB"]},
        {"x5t": "AAAA"},
        {"cty": "JWT"},
        {"zip": "DEF"},
        {"enc": "A256GCM"},
        {"b64": False},
    ],
    ids=lambda header: next(iter(header)),
)
def test_jku_jwk_x5u_x5c(authenticator: Authenticator, header: dict[str, Any]) -> None:
    refused(authenticator, token(header))


def test_a_key_brought_along_and_signed_with(authenticator: Authenticator) -> None:
    stranger = Ed25519PrivateKey.generate()
    jwk = TokenSigner(stranger, "example.org").public.to_jwk()
    refused(authenticator, token({"jwk": jwk, "kid": jwk["kid"]}, sign=stranger.sign))
    refused(authenticator, token({"jwk": jwk}, sign=stranger.sign))
    refused(authenticator, token(sign=stranger.sign))


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], ["unknown"], "exp", None, 1])
def test_unknown_crit(authenticator: Authenticator, crit: object) -> None:
    refused(authenticator, token({"crit": crit, "exp": NOW}))
    refused(authenticator, token({"crit": crit}))


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "AT+JWT", "application/at+jwt", "dpop+jwt", "", None, ["at+jwt"], ABSENT]
)
def test_typ_of_another_kind(authenticator: Authenticator, typ: object) -> None:
    refused(authenticator, token({"typ": typ}))


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_exp_nor_any_other_claim(authenticator: Authenticator, claim: str) -> None:
    refused(authenticator, token(claims={claim: ABSENT}))
    refused(authenticator, token(claims={claim: None}))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value", [str(NOW + 60), float(NOW + 60), True, [NOW + 60], {"value": NOW}, "never", "9" * 400, ""]
)
def test_exp_as_a_string(authenticator: Authenticator, claim: str, value: object) -> None:
    refused(authenticator, token(claims={claim: value}))


@pytest.mark.parametrize(
    "number", [b"1e999", b"-1e999", b"NaN", b"Infinity", b"9" * 5000, b"0x7fffffff", b"1_0"]
)
def test_exp_as_a_number_that_is_none(authenticator: Authenticator, number: bytes) -> None:
    payload = json.dumps(CLAIMS).encode().replace(str(NOW + 3600).encode(), number)
    refused(authenticator, compact(json.dumps(HEADER).encode(), payload))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("sub", ["demo"]),
        ("sub", "Demo"),
        ("sub", "demo\n"),
        ("sub", "../demo"),
        ("sub", ""),
        ("client_id", "a b"),
        ("jti", 1),
        ("jti", ""),
        ("jti", "x" * 65),
        ("jti", "a'--"),
        ("scope", ["rpc:call:math.*"]),
        ("scope", ""),
        ("scope", " rpc:call:math.*"),
        ("scope", "rpc:call:math.*  echo:use"),
        ("scope", "rpc:call:a\techo:use"),
        ("scope", "everything"),
        ("scope", "rpc:call:\ud800"),
    ],
)
def test_claims_of_the_wrong_type_or_form(authenticator: Authenticator, claim: str, value: object) -> None:
    refused(authenticator, token(claims={claim: value}))


def doubled(members: dict[str, Any], name: str, value: object) -> bytes:
    """The same members, with `name` once more in front, and once more behind."""
    once_more = f"{json.dumps(name)}: {json.dumps(value)}"
    return f"{{{once_more}, {json.dumps(members)[1:-1]}, {once_more}}}".encode()


@pytest.mark.parametrize(
    ("claim", "value"), [("sub", "admin"), ("exp", NOW + 60), ("scope", "*:*:**"), ("jti", "x")]
)
def test_duplicate_claims(authenticator: Authenticator, claim: str, value: object) -> None:
    header = json.dumps(HEADER).encode()
    refused(authenticator, compact(header, doubled(CLAIMS, claim, value)))
    refused(authenticator, compact(header, doubled(CLAIMS, claim, CLAIMS[claim])))
    escaped = json.dumps(CLAIMS)[:-1] + f', "\\u{ord(claim[0]):04x}{claim[1:]}": {json.dumps(value)}}}'
    refused(authenticator, compact(header, escaped.encode()))


def test_duplicate_header_members(authenticator: Authenticator) -> None:
    refused(authenticator, compact(doubled(HEADER, "alg", "EdDSA"), json.dumps(CLAIMS).encode()))
    refused(authenticator, compact(doubled(HEADER, "kid", "other"), json.dumps(CLAIMS).encode()))


_LAST_OF = {b"A": b"B", b"Q": b"R", b"g": b"h", b"w": b"x"}  # the same byte, with a stray bit set


def spellings(good: bytes) -> list[bytes]:
    """Other texts that a lenient reader of base64 takes for the same token."""
    header, payload, signature = good.split(b".")
    found = [
        good + b"=",
        good + b"==",
        good + b"===",
        good + b"\n",
        b" " + good,
        good + b"\0",
        good + b".",
        b"." + good,
        good.replace(b".", b"=.", 1),
        good.replace(b".", b"..", 1),
        good[:-5] + b"\n" + good[-5:],
        good[:-5] + b"!" + good[-5:],
        good + b"AAAA",
        header + b"." + payload + b"." + signature[:-1] + _LAST_OF[signature[-1:]],
    ]
    found += [good.replace(a, b) for a, b in ((b"-", b"+"), (b"_", b"/")) if a in good]
    return found


def test_trailing_equals_and_other_base64_variants_of_a_revoked_token(
    authenticator: Authenticator, revocations: Revocations
) -> None:
    good = token(claims={"jti": "revoked"})
    principal = authenticator.bearer(good, None)
    revocations.revoke_token(principal.credentials[0].id)
    for spelling in (good, *spellings(good)):
        refused(authenticator, spelling)


def test_other_spellings_of_a_good_token_are_refused_too(authenticator: Authenticator) -> None:
    for spelling in spellings(token()):
        refused(authenticator, spelling)
    resigned = jose.encode(json.dumps(HEADER).encode()).encode() + b"=."
    signing_input = resigned + jose.encode(json.dumps(CLAIMS).encode()).encode()
    refused(authenticator, signing_input + b"." + jose.encode(KEY.sign(signing_input)).encode())


def test_a_revoked_token_signed_anew_with_its_jti_stays_revoked(
    authenticator: Authenticator, revocations: Revocations
) -> None:
    """Revocation is by jti: another text with the same jti is the same token."""
    revocations.revoke_token("some-token")
    refused(authenticator, token(claims={"exp": NOW + 60}))


@pytest.mark.parametrize("aud", ["example.com", "EXAMPLE.ORG", "example.org.", ["example.org"], "", 1])
def test_wrong_aud(authenticator: Authenticator, aud: object) -> None:
    refused(authenticator, token(claims={"aud": aud}))


@pytest.mark.parametrize("iss", ["spiffe://example.com", "example.org", "spiffe://example.org/", "", ["x"]])
def test_wrong_iss(authenticator: Authenticator, iss: object) -> None:
    refused(authenticator, token(claims={"iss": iss}))


@pytest.mark.parametrize("claims", [{"nbf": NOW + 31}, {"iat": NOW + 31}, {"nbf": 10**300}])
def test_future_nbf(authenticator: Authenticator, claims: dict[str, Any]) -> None:
    refused(authenticator, token(claims=claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW},
        {"exp": NOW - 1},
        {"exp": 0},
        {"exp": -1},
        {"exp": 10**300},
        {"exp": NOW + 24 * 3600 + 1},
        {"iat": NOW - 24 * 3600},
        {"iat": -(10**300)},
    ],
)
def test_expired_or_valid_for_too_long(authenticator: Authenticator, claims: dict[str, Any]) -> None:
    refused(authenticator, token(claims=claims))


def test_bound_to_another_certificate(authenticator: Authenticator) -> None:
    bound = token(claims={"cnf": {"x5t#S256": jose.encode(thumbprint(b"mine"))}})
    refused(authenticator, bound, None)
    refused(authenticator, bound, b"another")
    refused(authenticator, bound, b"")
    assert authenticator.bearer(bound, b"mine").name == "demo"
    with pytest.raises(AuthenticationError):
        authenticator.bearer(bound, b"another")


@pytest.mark.parametrize(
    "cnf",
    [
        None,
        {},
        [],
        "x",
        {"jkt": "x"},
        {"jwk": {}},
        {"x5t#S256": 1},
        {"x5t#S256": ""},
        {"x5t#S256": "AAAA"},
        {"x5t#S256": "\ud800"},
        {"x5t#S256": jose.encode(hashlib.sha256(b"mine").digest()) + "="},
        {"x5t#S256": jose.encode(hashlib.sha256(b"mine").digest()), "jkt": "x"},
    ],
)
def test_bound_in_a_way_we_do_not_know(authenticator: Authenticator, cnf: object) -> None:
    refused(authenticator, token(claims={"cnf": cnf}), b"mine")


def test_one_megabyte(authenticator: Authenticator) -> None:
    refused(authenticator, token(claims={"padding": "x" * 1_000_000}))
    refused(authenticator, b"a" * 1_000_000)
    refused(authenticator, b"." * 1_000_000)
    refused(authenticator, b"a" * 8192)
    refused(authenticator, b"." * 8192)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_json(authenticator: Authenticator, opening: bytes) -> None:
    deep = opening * (5900 // len(opening))
    refused(authenticator, compact(deep, json.dumps(CLAIMS).encode()))
    refused(authenticator, compact(json.dumps(HEADER).encode(), deep))
    nested = json.dumps(CLAIMS).encode()[:-1] + b', "deep": ' + b"[" * 2000 + b"]" * 2000 + b"}"
    refused(authenticator, compact(json.dumps(HEADER).encode(), nested))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        b"\xff\xfe",
        "{}".encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"{'a': 1}",
    ],
)
def test_what_is_no_json_object(authenticator: Authenticator, payload: bytes) -> None:
    refused(authenticator, compact(json.dumps(HEADER).encode(), payload))
    refused(authenticator, compact(payload, json.dumps(CLAIMS).encode()))


def test_what_has_other_than_three_parts(authenticator: Authenticator) -> None:
    header, payload, signature = token().split(b".")
    for parts in ([], [header], [header, payload], [header, payload, signature, signature], [b"", b"", b""]):
        refused(authenticator, b".".join(parts))


def test_a_signature_with_its_scalar_out_of_range(authenticator: Authenticator) -> None:
    """RFC 8032 section 5.1.7: S + L would be a second signature for the same token."""
    order = 2**252 + 27742317777372353535851937790883648493

    def malleable(data: bytes) -> bytes:
        signature = KEY.sign(data)
        scalar = int.from_bytes(signature[32:], "little") + order
        return signature[:32] + scalar.to_bytes(32, "little")

    refused(authenticator, token(sign=malleable))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_whatever_bytes_come_the_answer_is_one(data: bytes) -> None:
    refused(new_authenticator(), data)


@settings(max_examples=200)
@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    good = bytearray(token())
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    refused(new_authenticator(), bytes(good))


def test_secrets_are_compared_in_constant_time(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    authenticator.bearer(token(claims={"cnf": {"x5t#S256": jose.encode(thumbprint(b"mine"))}}), b"mine")
    assert compared == [(thumbprint(b"mine"), thumbprint(b"mine"))]
