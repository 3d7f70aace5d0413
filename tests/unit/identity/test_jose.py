from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from secure_net.identity.jose import KeySet, PublicKey, decode, encode, parse_object

NOW = 1_800_000_000


def new_key() -> PublicKey:
    return PublicKey.of(Ed25519PrivateKey.generate().public_key())


@given(st.binary(max_size=100))
def test_base64url_there_and_back(data: bytes) -> None:
    assert decode(encode(data).encode()) == data


@given(st.binary(max_size=12))
def test_what_decodes_has_one_spelling(text: bytes) -> None:
    try:
        data = decode(text)
    except ValueError:
        return
    assert encode(data).encode() == text


@pytest.mark.parametrize("text", [b"YQ==", b"YQ=", b"YR", b"Y", b"YWI+", b"YWI/", b"YW I", b"YWI\n", b"YW.I"])
def test_other_spellings_are_refused(text: bytes) -> None:
    base64.urlsafe_b64decode(b"YQ==")
    with pytest.raises(ValueError, match="base64url"):
        decode(text)


def test_an_object() -> None:
    assert parse_object(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"1",
        b'"a"',
        b"null",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 01}',
        b'{"a": 1} x',
        b"\xff",
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": ' + b"[" * 5000,
        b'{"a":' * 3000,
        b'{"a": "' + b"[" * 257 + b'"}',
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_no_honest_object(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_object(text)


def test_a_key_is_named_by_its_thumbprint() -> None:
    """RFC 8037, appendix A.3."""
    x = decode(b"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert (
        PublicKey.of(Ed25519PublicKey.from_public_bytes(x)).id
        == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    )


def test_a_key_set_there_and_back() -> None:
    old, new = new_key(), new_key()
    keys = KeySet([new, old]).rotated(new, NOW, 3600)
    again = KeySet.from_json(keys.to_json())
    assert [key.id for key in again.keys] == [new.id, old.id]
    assert again.keys[0].retires_at is None
    assert again.keys[1].retires_at == NOW + 3601
    assert again.keys[0].key == new.key
    assert "d" not in json.loads(keys.to_json())["keys"][0]


def test_a_key_retires() -> None:
    old, new = new_key(), new_key()
    keys = KeySet([old]).rotated(new, NOW, 3600)
    assert keys.find(old.id, NOW + 3600) is not None
    assert keys.find(old.id, NOW + 3601) is None
    assert keys.find(new.id, NOW + 10**9) is not None
    assert keys.find("unknown", NOW) is None
    # The next rotation leaves out what has retired, and moves nobody's retirement.
    newest = new_key()
    assert [key.id for key in keys.rotated(newest, NOW + 7200, 3600).keys] == [newest.id, new.id]
    soon = keys.rotated(newest, NOW + 10, 3600)
    assert [key.retires_at for key in soon.keys] == [None, NOW + 3611, NOW + 3601]


def jwk(**changes: object) -> dict[str, object]:
    members: dict[str, object] = {**new_key().to_jwk(), **changes}
    return {name: value for name, value in members.items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "EC"},
        {"crv": "Ed448"},
        {"alg": "HS256"},
        {"use": "enc"},
        {"use": None},
        {"d": "AA"},
        {"kid": None},
        {"kid": 1},
        {"kid": "../key"},
        {"kid": ""},
        {"x": None},
        {"x": 1},
        {"x": "AA"},
        {"x": "A" * 43},
        {"x": "ä"},
        {"exp": "1"},
        {"exp": True},
        {"exp": 1.5},
    ],
)
def test_what_is_no_key_of_ours(changes: dict[str, object]) -> None:
    if changes == {"x": "A" * 43}:
        assert PublicKey.from_jwk(jwk(**changes))  # a key, if a poor one: all zero is a point of low order
        return
    with pytest.raises(ValueError):
        PublicKey.from_jwk(jwk(**changes))


def test_what_is_no_key_set() -> None:
    one = new_key().to_jwk()
    for value in ({}, {"keys": {}}, {"keys": ["x"]}, {"keys": [one, one]}):
        with pytest.raises(ValueError):
            KeySet.from_json(json.dumps(value).encode())
    assert KeySet.from_json(b'{"keys": []}').keys == ()
