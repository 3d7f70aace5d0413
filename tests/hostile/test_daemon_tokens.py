"""Forged, expired, revoked and misplaced tokens against the running daemon: one identical 401.

(`test_tokens_and_passwords.py` has every forgery, at the authenticator.)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.support.daemon import RunningDaemon
from tests.support.peer import Answer, Peer, get, post, rpc, value
from tests.support.pki import der
from tests.support.scrape import metric
from tests.support.waiting import until


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Forge:
    """Has a good token, and the very key that signed it: what it changes is what is refused."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self.good = daemon.token("demo", "rpc:call:math.*")
        header, payload, _ = self.good.split(".")
        self.header: dict[str, Any] = json.loads(_decode(header))
        self.claims: dict[str, Any] = json.loads(_decode(payload))
        key = load_pem_private_key((daemon.directory / "ca" / "token.key").read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self.key = key
        self.thumbprint = _encode(hashlib.sha256(der(daemon.certificate("demo")[0])).digest())

    def sign(
        self, *, header: dict[str, Any] | None = None, key: Ed25519PrivateKey | None = None, **claims: Any
    ) -> str:
        """A token signed as ours are; a claim that is None is left out."""
        told = {name: claim for name, claim in (self.claims | claims).items() if claim is not None}
        parts = [_encode(json.dumps(part).encode()) for part in (self.header | (header or {}), told)]
        signed = ".".join(parts)
        return f"{signed}.{_encode((key or self.key).sign(signed.encode()))}"

    def hmac(self) -> str:
        """HS256, with the public key as the secret."""
        public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signed = ".".join(
            _encode(json.dumps(part).encode()) for part in (self.header | {"alg": "HS256"}, self.claims)
        )
        return f"{signed}.{_encode(hmac.digest(public, signed.encode(), 'sha256'))}"


@pytest.fixture(scope="module")
def forge(daemon: RunningDaemon) -> Forge:
    return Forge(daemon)


FORGERIES: dict[str, Callable[[Forge], str]] = {
    "nonsense": lambda forge: "nonsense",
    "empty parts": lambda forge: "..",
    "alg none": lambda forge: forge.sign(header={"alg": "none"}).rpartition(".")[0] + ".",
    "alg HS256": lambda forge: forge.hmac(),
    "alg ES256": lambda forge: forge.sign(header={"alg": "ES256"}),
    "alg in mixed case": lambda forge: forge.sign(header={"alg": "eddsa"}),
    "kid as a path": lambda forge: forge.sign(header={"kid": "../../../../dev/null"}),
    "kid as SQL": lambda forge: forge.sign(header={"kid": "' OR 1=1 --"}),
    "kid as a list": lambda forge: forge.sign(header={"kid": [forge.header["kid"]]}),
    "jku": lambda forge: forge.sign(header={"jku": "https://127.0.0.1/keys"}),
    "x5u": lambda forge: forge.sign(header={"x5u": "https://127.0.0.1/chain"}),
    "unknown crit": lambda forge: forge.sign(header={"crit": ["x"], "x": 1}),
    "typ of another kind": lambda forge: forge.sign(header={"typ": "JWT"}),
    "no exp": lambda forge: forge.sign(exp=None),
    "exp as a string": lambda forge: forge.sign(exp=str(forge.claims["exp"])),
    "expired": lambda forge: forge.sign(iat=1.0, nbf=1.0, exp=3600.0),
    "expired a second ago": lambda forge: forge.sign(exp=time.time() - 1),
    "valid for a year": lambda forge: forge.sign(exp=time.time() + 366 * 86_400),
    "not yet valid": lambda forge: forge.sign(nbf=time.time() + 3600),
    "wrong aud": lambda forge: forge.sign(aud="https://example.org"),
    "wrong iss": lambda forge: forge.sign(iss="https://example.org"),
    "bound to another certificate": lambda forge: forge.sign(cnf={"x5t#S256": "A" * 43}),
    "bound, and no certificate shown": lambda forge: forge.sign(cnf={"x5t#S256": forge.thumbprint}),
    "another key": lambda forge: forge.sign(key=Ed25519PrivateKey.generate()),
    "one letter": lambda forge: forge.good[:-5] + ("A" if forge.good[-5] != "A" else "B") + forge.good[-4:],
    "trailing =": lambda forge: forge.good + "=",
    "without its signature": lambda forge: forge.good.rpartition(".")[0] + ".",
    "cut short": lambda forge: forge.good[:-10],
    "16 KiB": lambda forge: "x" * 16_384,
    "deep JSON": lambda forge: _encode(b'{"a":' * 800) + ".e30.e30",
}


def _ask(daemon: RunningDaemon, token: str, name: str | None = None) -> Answer:
    with Peer(daemon.rpc, daemon.context(name)) as peer:
        peer.send(rpc("math.double", 21, token=token))
        return peer.answer()


@pytest.fixture(scope="module")
def refusal(daemon: RunningDaemon) -> bytes:
    """What every wrong token gets, apart from the time."""
    return _ask(daemon, "wrong").without_date


def test_the_good_one_is_accepted(daemon: RunningDaemon, forge: Forge) -> None:
    assert value(_ask(daemon, forge.good)) == 42
    assert value(_ask(daemon, forge.sign(jti="another"))) == 42
    assert value(_ask(daemon, forge.sign(cnf={"x5t#S256": forge.thumbprint}), name="demo")) == 42


@pytest.mark.parametrize("name", FORGERIES)
def test_every_forgery_gets_one_identical_401(
    daemon: RunningDaemon, forge: Forge, refusal: bytes, name: str
) -> None:
    assert refusal.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    for _ in range(2):  # never cached
        assert _ask(daemon, FORGERIES[name](forge)).without_date == refusal
    assert value(_ask(daemon, forge.good)) == 42


@pytest.mark.parametrize("name", ["nonsense", "alg none", "expired", "bound to another certificate"])
def test_a_certificate_does_not_make_a_wrong_token_good(
    daemon: RunningDaemon, forge: Forge, refusal: bytes, name: str
) -> None:
    assert _ask(daemon, FORGERIES[name](forge), name="admin").without_date == refusal


def test_a_token_that_grew_too_large_for_a_head_gets_431(daemon: RunningDaemon) -> None:
    assert _ask(daemon, "x" * 1_000_000).status == 431


def test_refused_logins_are_counted_and_logged_with_the_address(daemon: RunningDaemon) -> None:
    before = metric(daemon, "auth_total", service="rpc", method="token", outcome="refused")
    with Peer(daemon.rpc, daemon.context(None)) as peer:
        where = "{}:{}".format(*peer.socket.getsockname()[:2])
        peer.send(rpc("math.double", 21, token="wrong.token.text"))
        assert peer.answer().status == 401
    assert metric(daemon, "auth_total", service="rpc", method="token", outcome="refused") == before + 1
    (line,) = until(lambda: [line for line in daemon.log.read_text().splitlines() if where in line])
    assert json.loads(line)["reason"] == "credential"
    assert "wrong.token.text" not in daemon.log.read_text()


@pytest.mark.parametrize(
    "field",
    [
        b"Basic ZGVtbzpkZW1v",
        b"Bearer",
        b"Bearer ",
        b"Bearer a b",
        b"Token x",
        b'Bearer "x"',
        b"bearer,x",
        b"x",
    ],
)
def test_fields_that_are_no_bearer_token(daemon: RunningDaemon, refusal: bytes, field: bytes) -> None:
    with Peer(daemon.rpc, daemon.context(None)) as peer:
        peer.send(post(b"", b"Authorization: " + field))
        assert peer.answer().without_date == refusal


def test_two_authorization_fields(daemon: RunningDaemon, forge: Forge) -> None:
    good = b"Authorization: Bearer " + forge.good.encode()
    for other in (good, b"Authorization: Bearer x", b"Authorization: Basic x"):
        with Peer(daemon.rpc, daemon.context(None)) as peer:
            peer.send(rpc("math.double", 21, fields=[good, other]))
            assert peer.answer().status in {400, 401}


def test_elsewhere_a_token_is_none(daemon: RunningDaemon, forge: Forge) -> None:
    """RFC 6750 sections 2.2 and 2.3, which nobody should use: in the query, the body, a cookie."""
    good = forge.good.encode()
    body = b"access_token=" + good
    for wire in (
        post(b"", path=b"/RPC2?access_token=" + good),
        post(body, content_type=b"application/x-www-form-urlencoded"),
        rpc("math.double", 21, fields=[b"Cookie: access_token=" + good]),
        rpc("math.double", 21, fields=[b"X-Authorization: Bearer " + good]),
        rpc("math.double", 21, fields=[b"Proxy-Authorization: Bearer " + good]),
    ):
        with Peer(daemon.rpc, daemon.context(None)) as peer:
            peer.send(wire)
            assert peer.answer().status == 401
    with Peer(daemon.admin, daemon.context(None)) as peer:
        peer.send(get(b"/metrics?access_token=" + daemon.token("metrics", "admin:read:metrics").encode()))
        assert peer.answer().status == 401


def test_expired_while_the_connection_is_open(daemon: RunningDaemon, forge: Forge) -> None:
    token = forge.sign(jti="short", exp=int(time.time()) + 2)
    with Peer(daemon.rpc, daemon.context(None)) as peer:
        peer.send(rpc("math.double", 21, token=token))
        assert value(peer.answer()) == 42
        peer.rest()  # the session ends when its token does
    assert time.time() >= json.loads(_decode(token.split(".")[1]))["exp"]
    assert _ask(daemon, token).status == 401


def test_revoked_by_jti_in_every_spelling(daemon: RunningDaemon, forge: Forge, refusal: bytes) -> None:
    token = daemon.token("demo", "rpc:call:math.*")
    jti = json.loads(_decode(token.split(".")[1]))["jti"]
    with Peer(daemon.rpc, daemon.context(None)) as peer:
        peer.send(rpc("math.double", 21, token=token))
        assert value(peer.answer()) == 42
        daemon.cli("token", "revoke", jti)
        peer.rest()  # cut
    for spelling in (token, token + "=", forge.sign(jti=jti), forge.sign(jti=jti, iat=time.time() - 1)):
        assert _ask(daemon, spelling).without_date == refusal
    assert value(_ask(daemon, forge.good)) == 42  # the same subject's other token


def test_bound_to_a_certificate_it_is_worth_nothing_without(daemon: RunningDaemon, refusal: bytes) -> None:
    token = daemon.token("demo", "rpc:call:**", bind=str(daemon.certificate("demo")[0]))
    assert value(_ask(daemon, token, name="demo")) == 42
    for name in (None, "admin", "metrics"):
        assert _ask(daemon, token, name=name).without_date == refusal


def test_no_more_than_the_subject_s_own_entry(daemon: RunningDaemon) -> None:
    token = daemon.token("metrics", "*:*:**")
    assert _ask(daemon, token).status == 403


def test_a_key_that_was_rotated_out_and_removed(daemon: RunningDaemon, forge: Forge, refusal: bytes) -> None:
    """The last of them: it takes the key away that signed the others."""
    daemon.cli("token", "rotate")
    assert value(_ask(daemon, forge.sign(jti="after"))) == 42  # until no token of its can be valid any more
    keys: Path = daemon.certs / "token-keys.json"
    content = json.loads(keys.read_text())
    content["keys"] = [key for key in content["keys"] if key["kid"] != forge.header["kid"]]
    keys.write_text(json.dumps(content))
    daemon.cli("reload")
    assert _ask(daemon, forge.good).without_date == refusal
    assert value(_ask(daemon, daemon.token("demo", "rpc:call:math.*"))) == 42
