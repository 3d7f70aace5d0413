from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from secure_net.clock import SystemWall
from secure_net.identity import jose
from secure_net.identity.certificates import thumbprint
from secure_net.identity.tokens import TokenVerifier
from secure_net.store.sqlite import SQLiteStore
from tests.support.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return make_site(tmp_path, capsys)


def test_a_token_is_printed_alone(site: Site) -> None:
    assert (
        site.run("token", "issue", "demo", "--scope", "rpc:call:math.*", "--scope", "echo:use", "--ttl", "5m")
        == 0
    )
    claims = TokenVerifier(site.pki.keys, "localhost").verify(site.out.strip().encode(), SystemWall().wall())
    assert claims.subject == "demo"
    assert [str(scope) for scope in claims.grant.scopes] == ["rpc:call:math.*", "echo:use"]
    assert claims.expires_at - claims.issued_at == 300
    assert site.err == ""


def test_a_token_in_a_file_is_nobody_else_s(site: Site) -> None:
    path = site.directory / "token"
    assert site.run("token", "issue", "demo", "--scope", "echo:use", "--out", path) == 0
    assert site.out == ""
    assert path.stat().st_mode & 0o777 == 0o600
    assert site.run("token", "issue", "demo", "--scope", "echo:use", "--out", path) == 1
    assert site.run("token", "inspect", path) == 0
    assert "echo:use" in site.out


def test_a_bound_token(site: Site) -> None:
    certificate, key = site.pki.client("demo")
    assert site.run("token", "issue", "demo", "--scope", "echo:use", "--bind", certificate) == 0
    claims = TokenVerifier(site.pki.keys, "localhost").verify(site.out.strip().encode(), SystemWall().wall())
    assert claims.thumbprint == thumbprint(site.pki.client_der("demo"))
    assert site.run("token", "issue", "demo", "--scope", "echo:use", "--bind", key) == 78


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("demo",), 2),
        (("Demo", "--scope", "echo:use"), 2),
        (("demo", "--scope", "everything"), 2),
        (("demo", "--scope", "echo:use", "--ttl", "0"), 2),
        (("demo", "--scope", "echo:use", "--ttl", "25h"), 2),
    ],
)
def test_what_is_not_issued(site: Site, arguments: tuple[str, ...], code: int) -> None:
    assert site.run("token", "issue", *arguments) == code
    assert site.out == ""


def inspect(site: Site, text: str, monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    return site.run("token", "inspect", *flags)


def test_inspection_shows_what_it_says(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    token = site.pki.token("demo", "echo:use", bind=site.pki.client("demo")[0])
    assert inspect(site, token + "\n", monkeypatch, "--json") == 0
    assert site.json["valid"] is True
    assert site.json["subject"] == "demo"
    assert site.json["scopes"] == ["echo:use"]
    assert len(jose.decode(site.json["bound_to"].encode())) == 32


@pytest.mark.parametrize("text", ["junk", "", "a.b.c", "x" * 10_000])
def test_inspection_of_what_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert inspect(site, text, monkeypatch) == 77
    assert site.err.startswith("secure-net: ")
    assert site.err.count("\n") == 1
    assert inspect(site, text, monkeypatch, "--json") == 77
    assert site.json["valid"] is False


def test_inspection_of_a_file_that_is_not_there(site: Site) -> None:
    assert site.run("token", "inspect", site.directory / "absent") == 78


def test_revocation_is_by_id_and_never_by_the_token_itself(site: Site) -> None:
    assert site.run("token", "revoke", site.pki.token("demo")) == 2
    assert site.run("token", "revoke", "some-id") == 0
    store = SQLiteStore.open(site.directory / "state")
    assert "some-id" in store.snapshot().revoked_tokens
    store.close()
    (site.directory / "secure-net.toml").write_text('[server]\nstate = "nowhere"\n')
    assert site.run("token", "revoke", "some-id") == 78


def test_rotation_keeps_the_old_tokens_good(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    old = site.pki.token("demo")
    assert site.run("token", "rotate") == 0
    first, second, *_ = site.out.splitlines()
    assert "signs from now on" in first
    assert second.startswith(site.pki.signer.public.id)
    assert "retires at" in second
    assert inspect(site, old, monkeypatch) == 0
    site.run("token", "issue", "demo", "--scope", "echo:use")
    assert inspect(site, site.out, monkeypatch) == 0
    store = SQLiteStore.open(site.directory / "state")
    recorded = store.snapshot().token_keys
    store.close()
    assert {kid: record.retired_at is None for kid, record in recorded.items()} == {
        first.split()[0]: True,
        site.pki.signer.public.id: False,
    }
