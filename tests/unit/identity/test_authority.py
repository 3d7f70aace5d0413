from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from secure_net.errors import AuthorityError, ConfigurationError
from secure_net.identity import certificates
from secure_net.identity.authority import Authority
from secure_net.identity.certificates import DAY, read_client, read_crl
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def authority(tmp_path: Path, clock: FakeClock) -> Authority:
    return Authority.create(tmp_path / "ca", ["example.org"], clock)


def test_a_ca_is_made_once_and_found_again(authority: Authority, clock: FakeClock) -> None:
    directory = authority.directory
    modes = {path.name: path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())}
    assert modes == {"ca": 0o700, "ca.key": 0o600, "ca.pem": 0o644, "index.json": 0o600}
    again = Authority.load(directory, clock)
    assert (again.pem, again.trust_domain) == (authority.pem, "example.org")
    with pytest.raises(ConfigurationError, match="is not empty"):
        Authority.create(directory, ["example.org"], clock)


def test_an_issued_certificate_is_in_the_index(authority: Authority) -> None:
    issued = authority.issue_client("demo")
    assert authority.records() == (issued.record,)
    leaf = x509.load_pem_x509_certificate(issued.certificate)
    read = read_client(leaf.public_bytes(serialization.Encoding.DER), "example.org")
    assert (read.serial, read.name, read.issued_at) == (
        issued.record.serial,
        issued.record.name,
        issued.record.issued_at,
    )
    key = serialization.load_pem_private_key(issued.key, None)
    assert key.public_key() == leaf.public_key()
    assert "PRIVATE" not in repr(issued)


def test_a_server_bears_all_names_unless_told(authority: Authority) -> None:
    assert authority.issue_server("server").record.names == ("example.org", "localhost", "127.0.0.1", "::1")
    assert authority.issue_server("db", ["db.example.org"]).record.names == ("db.example.org",)
    with pytest.raises(AuthorityError, match="outside the names"):
        authority.issue_server("db", ["db.example.com"])
    with pytest.raises(ConfigurationError, match="not a name"):
        authority.issue_server("../db", ["db.example.org"])
    assert len(authority.records()) == 2


def test_renewal_keeps_names_and_lifetime_and_takes_a_new_key(authority: Authority, clock: FakeClock) -> None:
    first = authority.issue_server("db", ["db.example.org"], lifetime=10 * DAY)
    clock.advance(5 * DAY)
    second = authority.renew("server", "db")
    assert second.record.names == ("db.example.org",)
    assert second.record.not_after == first.record.not_after + 5 * DAY
    assert second.key != first.key
    client = authority.issue_client("demo", lifetime=DAY)
    assert authority.renew("client", "demo").record.not_after == client.record.not_after
    longest = authority.issue_server("long")
    assert authority.renew("server", "long").record.not_after == longest.record.not_after
    with pytest.raises(AuthorityError, match="no client certificate was issued"):
        authority.renew("client", "db")


def test_what_was_revoked_is_not_renewed(authority: Authority) -> None:
    issued = authority.issue_client("demo")
    authority.revoke(issued.record.serial.upper())
    with pytest.raises(AuthorityError, match="was revoked"):
        authority.renew("client", "demo")


def test_revocation_by_serial_and_by_name(authority: Authority, clock: FakeClock) -> None:
    one, two = authority.issue_client("demo"), authority.issue_client("demo")
    server = authority.issue_server("demo")
    revoked = authority.revoke(one.record.serial)
    assert revoked.revoked_at == clock.wall()
    clock.advance(60)
    assert authority.revoke(one.record.serial) == revoked
    by_name = authority.revoke_name("demo")
    assert [record.serial for record in by_name] == [one.record.serial, two.record.serial]
    assert [record.revoked_at for record in by_name] == [clock.wall() - 60, clock.wall()]
    assert authority.records()[-1] == server.record
    assert authority.revoke_name("nobody") == ()
    for serial in ("ff", "junk"):
        with pytest.raises(AuthorityError, match="no certificate with that serial"):
            authority.revoke(serial)


def test_each_crl_has_the_next_number(authority: Authority, clock: FakeClock) -> None:
    short, long = authority.issue_client("short", lifetime=DAY), authority.issue_client("long")
    authority.issue_client("stays")
    authority.revoke(short.record.serial)
    authority.revoke(long.record.serial)
    first = read_crl(authority.crl(), [authority.certificate])
    clock.advance(2 * DAY)
    second = read_crl(authority.crl(lifetime=DAY), [authority.certificate])
    assert (first.number, second.number) == (1, 2)
    assert first.serials == {short.record.serial, long.record.serial}
    assert second.serials == {long.record.serial}
    assert second.next_update == int(clock.wall() + DAY)


def test_a_damaged_ca_is_told_with_its_file(authority: Authority, clock: FakeClock, tmp_path: Path) -> None:
    directory = authority.directory
    other = Authority.create(tmp_path / "other", ["example.org"], clock)
    rsa = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    for key in (b"junk", rsa, (other.directory / "ca.key").read_bytes()):
        (directory / "ca.key").write_bytes(key)
        with pytest.raises(ConfigurationError, match=r"ca\.key: not "):
            authority.issue_client("demo")
    for text in (b"", b"{}x", b'{"version": 2}', b'{"version": 1, "extra": 1}'):
        (directory / "index.json").write_bytes(text)
        with pytest.raises(ConfigurationError, match=r"index\.json: damaged"):
            authority.records()
    (directory / "ca.pem").write_bytes(b"junk")
    with pytest.raises(ConfigurationError, match=r"ca\.pem: not a certificate"):
        Authority.load(directory, clock)
    with pytest.raises(ConfigurationError, match="secure-net init"):
        Authority.load(tmp_path / "nowhere", clock)


def test_an_index_is_replaced_as_a_whole(authority: Authority) -> None:
    authority.issue_client("demo")
    index = json.loads((authority.directory / "index.json").read_bytes())
    assert index["certificates"][0]["name"] == "demo"
    assert [path.name for path in authority.directory.iterdir() if path.name.startswith(".")] == []


def _issue_many(directory: Path) -> None:
    for _ in range(5):
        Authority.load(directory, FakeClock()).issue_client("demo")


def test_two_commands_at_once_lose_nothing(authority: Authority) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_issue_many, args=(authority.directory,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    records = authority.records()
    assert len(records) == 10
    assert len({record.serial for record in records}) == 10


def test_the_key_is_p256(authority: Authority) -> None:
    assert isinstance(certificates.new_key().curve, type(authority._key().curve))
