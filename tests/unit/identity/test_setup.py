from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from secure_net.errors import ConfigurationError, ExistsError, StateFullError
from secure_net.identity import certificates, files, setup
from secure_net.identity.authority import Authority
from secure_net.identity.certificates import read_crl
from secure_net.identity.tokens import TokenVerifier
from secure_net.wire.tls import TLSMaterial, TLSPolicy, client_context, server_context
from tests.support.clock import FakeClock
from tests.support.pki import make_pki

DAY = 24 * 3600


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def tree(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): path.stat().st_mode & 0o777 for path in sorted(directory.rglob("*"))
    }


def test_the_layout_and_its_modes(tmp_path: Path, clock: FakeClock) -> None:
    setup.create_development_pki(tmp_path / "new", ["localhost"], clock)
    assert tree(tmp_path / "new") == {
        "ca": 0o700,
        "ca/ca.key": 0o600,
        "ca/ca.pem": 0o644,
        "ca/index.json": 0o600,
        "ca/token.key": 0o600,
        "certs": 0o755,
        "certs/ca.pem": 0o644,
        "certs/clients": 0o755,
        "certs/clients/admin.key": 0o600,
        "certs/clients/admin.pem": 0o644,
        "certs/clients/demo.key": 0o600,
        "certs/clients/demo.pem": 0o644,
        "certs/clients/metrics.key": 0o600,
        "certs/clients/metrics.pem": 0o644,
        "certs/crl.pem": 0o644,
        "certs/server.key": 0o600,
        "certs/server.pem": 0o644,
        "certs/token-keys.json": 0o644,
    }


def test_it_serves(tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    material = TLSMaterial.load(pki.certs)
    assert {"localhost", "127.0.0.1", "::1"} <= set(material.names)
    server_context(material, TLSPolicy())
    certificate, key = pki.client("demo")
    assert client_context(pki.ca, certificate, key).verify_mode is ssl.CERT_REQUIRED


def test_a_readme_in_certs_is_no_obstacle(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "README.md").write_text("here")
    setup.create_development_pki(tmp_path, ["localhost"], clock)
    assert (tmp_path / "certs" / "README.md").read_text() == "here"


@pytest.mark.parametrize(
    "there", ["ca/", "ca/index.json", "certs/server.key", "certs/clients/demo.pem", "certs"]
)
def test_nothing_is_overwritten_and_nothing_half_written(
    tmp_path: Path, clock: FakeClock, there: str
) -> None:
    obstacle = tmp_path / there
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.mkdir() if there.endswith("/") else obstacle.write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(ExistsError, match="exists already, and is not overwritten"):
        setup.create_development_pki(tmp_path, ["localhost"], clock)
    assert tree(tmp_path) == before


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def write_new(path: Path, data: bytes, mode: int = files.SECRET, cure: str = "") -> None:
        nonlocal written
        written += 1
        if written == 7:
            raise StateFullError(str(path))
        path.write_bytes(data)

    monkeypatch.setattr(files, "write_new", write_new)
    with pytest.raises(StateFullError):
        setup.create_development_pki(tmp_path, ["localhost"], clock)
    assert tree(tmp_path) == {}


def test_a_pair_is_written_once_and_renewed_on_purpose(tmp_path: Path, clock: FakeClock) -> None:
    authority = Authority.create(tmp_path / "ca", ["localhost"], clock)
    stem = tmp_path / "out" / "a.b"
    paths = setup.write_pair(stem, authority.issue_client("a.b"))
    assert [path.name for path in paths] == ["a.b.pem", "a.b.key"]
    with pytest.raises(ExistsError, match="secure-net ca renew"):
        setup.write_pair(stem, authority.issue_client("a.b"))
    renewed = authority.renew("client", "a.b")
    setup.write_pair(stem, renewed, replace=True)
    assert [path.read_bytes() for path in paths] == [renewed.certificate, renewed.key]
    assert paths[1].stat().st_mode & 0o777 == 0o600
    paths[0].unlink()
    with pytest.raises(ExistsError, match=r"a\.b\.key: exists already"):
        setup.write_pair(stem, renewed)
    assert not paths[0].exists()


def test_a_crl_takes_the_place_of_the_last(tmp_path: Path, clock: FakeClock) -> None:
    authority = setup.create_development_pki(tmp_path, ["localhost"], clock)
    path = setup.write_crl(tmp_path / "certs", authority)
    assert read_crl(path.read_bytes(), [authority.certificate]).number == 2


def test_rotation_lets_older_tokens_live_out_their_day(tmp_path: Path, clock: FakeClock) -> None:
    authority = setup.create_development_pki(tmp_path, ["localhost"], clock)
    certs = tmp_path / "certs"
    old = setup.load_signer(authority)
    token = old.issue("demo", ["echo:use"], now=clock.wall(), lifetime=DAY).encode()
    setup.rotate_signing_key(authority, certs, clock)
    new = setup.load_signer(authority)
    assert new.public.id != old.public.id
    verifier = TokenVerifier(setup.load_keys(certs), "localhost")
    assert verifier.verify(token, clock.wall() + DAY - 1)
    assert verifier.verify(new.issue("demo", ["echo:use"], now=clock.wall()).encode(), clock.wall())
    clock.advance(DAY + 2)
    newest = setup.rotate_signing_key(authority, certs, clock)
    assert [key.id for key in newest.keys] == [setup.load_signer(authority).public.id, new.public.id]
    assert (authority.directory / setup.TOKEN_KEY).stat().st_mode & 0o777 == 0o600
    assert (certs / setup.TOKEN_KEYS).stat().st_mode & 0o777 == 0o644


def test_a_rotation_cut_off_leaves_a_published_key(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = setup.create_development_pki(tmp_path, ["localhost"], clock)
    certs, whole = tmp_path / "certs", files.replace
    for good_writes in range(3):
        left = good_writes

        def replace(path: Path, data: bytes, mode: int = files.SECRET) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise StateFullError(str(path))
            whole(path, data, mode)

        with monkeypatch.context() as patch:
            patch.setattr(files, "replace", replace)
            with pytest.raises(StateFullError):
                setup.rotate_signing_key(authority, certs, clock)
        token = setup.load_signer(authority).issue("demo", ["echo:use"], now=clock.wall()).encode()
        assert TokenVerifier(setup.load_keys(certs), "localhost").verify(token, clock.wall())


def test_a_damaged_key_or_key_set_is_told_with_its_file(tmp_path: Path, clock: FakeClock) -> None:
    authority = setup.create_development_pki(tmp_path, ["localhost"], clock)
    p256 = certificates.new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for text, problem in ((b"junk", "not a private key"), (p256, "not an Ed25519 key")):
        (authority.directory / setup.TOKEN_KEY).write_bytes(text)
        with pytest.raises(ConfigurationError, match=problem):
            setup.load_signer(authority)
    (tmp_path / "certs" / setup.TOKEN_KEYS).write_bytes(b"{}")
    with pytest.raises(ConfigurationError, match="damaged"):
        setup.load_keys(tmp_path / "certs")
    (tmp_path / "certs" / setup.TOKEN_KEYS).unlink()
    with pytest.raises(ConfigurationError, match="secure-net token rotate"):
        setup.load_keys(tmp_path / "certs")
