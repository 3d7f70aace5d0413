from __future__ import annotations

import json
from pathlib import Path

import pytest

from secure_net.audit.trail import AuditTrail
from secure_net.cli.main import run
from secure_net.errors import StateFullError
from secure_net.identity.certificates import read_crl
from secure_net.store import Snapshot
from secure_net.store.sqlite import SQLiteStore
from tests.support.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return make_site(tmp_path, capsys)


def snapshot(site: Site) -> Snapshot:
    store = SQLiteStore.open(site.directory / "state")
    try:
        return store.snapshot()
    finally:
        store.close()


def test_a_client_is_issued_with_its_scopes(site: Site) -> None:
    assert site.run("ca", "issue", "client", "nightly", "--scope", "rpc:call:math.*", "--ttl", "30d") == 0
    certificate, key = (site.pki.certs / "clients" / f"nightly.{suffix}" for suffix in ("pem", "key"))
    assert str(certificate) in site.out
    assert key.stat().st_mode & 0o777 == 0o600
    state = snapshot(site)
    assert state.identities == {"nightly": ("rpc:call:math.*",)}
    (record,) = state.certificates.values()
    assert (record.name, record.kind) == ("nightly", "client")
    assert record.serial == site.pki.authority.records()[-1].serial
    assert record.not_after - record.not_before == 30 * 24 * 3600


def test_a_server_bears_its_name_or_what_dns_says(site: Site) -> None:
    assert site.run("ca", "issue", "server", "db.localhost") == 0
    assert (site.pki.certs / "servers" / "db.localhost.pem").is_file()
    assert site.pki.authority.records()[-1].names == ("db.localhost",)
    out = site.directory / "out"
    assert site.run("ca", "issue", "server", "web", "--dns", "localhost", "--dns", "::1", "--out", out) == 0
    assert site.pki.authority.records()[-1].names == ("localhost", "::1")
    assert sorted(path.name for path in out.iterdir()) == ["web.key", "web.pem"]


def test_names_outside_the_constraints_fail_with_the_cure(site: Site) -> None:
    assert site.run("ca", "issue", "server", "db.example.org") == 1
    assert "outside the names this CA may sign" in site.err
    assert "secure-net init" in site.err
    assert site.err.count("\n") == 1
    assert not (site.pki.certs / "servers").exists()


def test_nothing_is_signed_that_could_not_be_written(site: Site) -> None:
    before = site.pki.authority.records()
    assert site.run("ca", "issue", "client", "demo") == 1
    assert "exists already" in site.err
    assert site.pki.authority.records() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("client", "No Name"),
        ("client", "x", "--scope", "rpc"),
        ("client", "x", "--ttl", "soon"),
        ("client", "x", "--ttl", "400d"),
        ("server", "x", "--ttl", "398d"),
        ("client",),
        ("other", "x"),
    ],
)
def test_wrong_usage(site: Site, arguments: tuple[str, ...]) -> None:
    assert site.run("ca", "issue", *arguments) == 2


def test_renewal_takes_the_place_of_the_old(site: Site) -> None:
    certificate, key = site.pki.server
    old = certificate.read_bytes(), key.read_bytes()
    assert site.run("ca", "renew", "server") == 0
    assert certificate.read_bytes() != old[0]
    assert key.read_bytes() != old[1]
    assert site.run("ca", "renew", "demo") == 0
    assert site.run("ca", "renew", "nobody") == 1
    site.pki.authority.issue_server("demo")
    assert site.run("ca", "renew", "demo") == 2
    assert "--kind" in site.err
    assert site.run("ca", "renew", "demo", "--kind", "client") == 0


def test_a_renewed_server_may_bear_other_names(site: Site) -> None:
    assert site.run("ca", "renew", "server", "--dns", "localhost", "--dns", "rpc.localhost") == 0
    assert site.pki.authority.records()[-1].names == ("localhost", "rpc.localhost")
    assert site.run("ca", "renew", "server") == 0
    assert site.pki.authority.records()[-1].names == ("localhost", "rpc.localhost")
    before = site.pki.server[0].read_bytes()
    assert site.run("ca", "renew", "server", "--dns", "db.example.org") != 0
    assert "outside the names this CA may sign" in site.err
    assert site.pki.server[0].read_bytes() == before
    assert site.run("ca", "renew", "demo", "--dns", "localhost") == 2


@pytest.mark.parametrize("by", ["serial", "file"])
def test_revocation_reaches_the_state_and_the_crl(site: Site, by: str) -> None:
    record = next(record for record in site.pki.authority.records() if record.name == "demo")
    chosen: str | Path = record.serial.upper() if by == "serial" else site.pki.client("demo")[0]
    assert site.run("ca", "revoke", chosen) == 0
    assert f"revoked client demo {record.serial}" in site.out
    assert record.serial in snapshot(site).revoked_certificates
    crl = read_crl((site.pki.certs / "crl.pem").read_bytes(), [site.pki.authority.certificate])
    assert record.serial in crl.serials


def test_an_unknown_serial_or_a_file_that_is_none(site: Site) -> None:
    assert site.run("ca", "revoke", "ff") == 1
    assert "secure-net ca list" in site.err
    assert site.run("ca", "revoke", site.pki.server[1]) == 78
    assert "not a PEM certificate" in site.err


def test_the_list(site: Site) -> None:
    record = next(record for record in site.pki.authority.records() if record.name == "demo")
    site.run("ca", "revoke", record.serial)
    assert site.run("ca", "list", "--json") == 0
    assert {row["name"]: row["state"] for row in site.json} == {
        "server": "valid",
        "admin": "valid",
        "metrics": "valid",
        "demo": "revoked",
    }
    assert site.run("ca", "list") == 0
    assert record.serial in site.out


def test_what_the_ca_is(site: Site) -> None:
    assert site.run("ca", "show") == 0
    assert site.pki.authority.pem.decode() in site.out
    text = site.out
    assert site.run("ca", "show", "--json") == 0
    shown = site.json
    assert len(shown["sha256"]) == 32 * 3 - 1
    assert shown["sha256"] in text
    assert shown["names"] == ["localhost", "127.0.0.1", "::1"]


def test_a_new_crl(site: Site) -> None:
    assert site.run("ca", "crl", "--ttl", "1d") == 0
    crl = read_crl((site.pki.certs / "crl.pem").read_bytes(), [site.pki.authority.certificate])
    assert crl.number == 2


def trail(site: Site) -> list[tuple[str, str, dict[str, object]]]:
    lines = (site.directory / "state" / "audit").iterdir()
    entries = [json.loads(line) for path in sorted(lines) for line in path.read_text().splitlines()]
    wanted = ("ca.", "token.")
    return [
        (entry["what"], entry["outcome"], entry.get("details", {}))
        for entry in entries
        if entry["what"].startswith(wanted)
    ]


def test_every_act_leaves_its_lines(site: Site) -> None:
    site.run("ca", "issue", "client", "carol", "--scope", "echo:use")
    serial = site.pki.authority.records()[-1].serial
    begun, done = trail(site)
    assert begun == ("ca.issue", "begun", {"name": "carol", "kind": "client", "scopes": ["echo:use"]})
    assert done[:2] == ("ca.issue", "done")
    assert done[2]["serial"] == serial
    site.run("ca", "renew", "carol")
    site.run("ca", "revoke", serial)
    site.run("ca", "crl")
    site.run("ca", "issue", "server", "x", "--dns", "elsewhere.example.org")
    site.run("token", "issue", "carol", "--scope", "echo:use")
    assert site.out.strip() not in str(trail(site))
    assert [line[:2] for line in trail(site)[2:]] == [
        ("ca.renew", "begun"),
        ("ca.renew", "done"),
        ("ca.revoke", "begun"),
        ("ca.revoke", "done"),
        ("ca.crl", "begun"),
        ("ca.crl", "done"),
        ("ca.issue", "begun"),
        ("ca.issue", "failed"),
        ("token.issue", "begun"),
        ("token.issue", "done"),
    ]
    assert trail(site)[-1][2]["jti"]


def test_nothing_is_signed_that_cannot_be_recorded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> int:
        raise StateFullError("audit: no space left")

    monkeypatch.setattr(AuditTrail, "require", full)
    before = site.pki.authority.records(), (site.pki.certs / "crl.pem").read_bytes()
    for arguments in (["issue", "client", "x"], ["renew", "demo"], ["revoke", before[0][-1].serial], ["crl"]):
        assert site.run("ca", *arguments) == 1
        assert "no space left" in site.err
    assert site.run("token", "issue", "demo", "--scope", "echo:use") == 1
    assert site.out == ""
    assert (site.pki.authority.records(), (site.pki.certs / "crl.pem").read_bytes()) == before


def test_a_ca_alone_on_its_machine(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No configuration, no state: issue and revoke all the same, and say what must be carried over."""
    (site.directory / "secure-net.toml").unlink()
    monkeypatch.chdir(site.directory)
    assert run(["ca", "issue", "client", "far"]) == 0
    assert run(["ca", "revoke", "certs/clients/far.pem"]) == 0
    assert "copy it to the daemon" in capsys.readouterr().out
    assert run(["ca", "issue", "client", "near", "--scope", "echo:use"]) == 78
    assert "no state here" in capsys.readouterr().err
    assert list((site.directory / "state").iterdir()) == []
    assert run(["ca", "list", "--ca-directory", "elsewhere"]) == 78
