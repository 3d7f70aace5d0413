"""What is read from disk before anything changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from secure_net import config
from secure_net.daemon.inputs import Inputs
from secure_net.errors import ConfigurationError
from secure_net.identity.certificates import Constraints, new_key
from tests.support.clock import FakeClock
from tests.support.pki import make_pki

TEXT = '[rpc]\n[identities.demo]\nscopes = ["rpc:call:**"]'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make_pki(tmp_path, clock=FakeClock())
    return tmp_path


def load(place: Path, now: float | None = None) -> Inputs:
    configuration = config.parse(TEXT, place / "secure-net.toml", {})
    return Inputs.load(configuration, FakeClock().wall() if now is None else now)


def test_everything_is_there(place: Path) -> None:
    inputs = load(place)
    assert "localhost" in inputs.material.names
    assert inputs.crl is not None
    assert inputs.crl.serials == frozenset()
    assert inputs.grants["demo"].allows("rpc", "call", "a.b")
    assert len(inputs.keys.keys) == 1
    ends = inputs.certificate_ends
    assert set(ends) == {"server", "ca"}
    assert ends["server"] < ends["ca"]


def test_no_crl_is_no_mishap(place: Path) -> None:
    (place / "certs" / "crl.pem").unlink()
    assert load(place).crl is None


@pytest.mark.parametrize(
    ("days", "problem", "cure"),
    [(398, "expired on 20", "ca renew server"), (-1, "not valid before", "set the clock")],
)
def test_a_certificate_out_of_its_time(place: Path, days: int, problem: str, cure: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(place, FakeClock().wall() + days * 86_400)
    assert caught.value.path.endswith("server.pem")
    assert problem in caught.value.problem
    assert cure in caught.value.cure


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key", "token-keys.json", "crl.pem"])
def test_a_damaged_file_is_named(place: Path, name: str) -> None:
    path = place / "certs" / name
    path.write_text("not what it should be")
    with pytest.raises(ConfigurationError) as caught:
        load(place)
    assert name in caught.value.path
    assert "\n" not in str(caught.value)


def authority_without_path_length() -> bytes:
    """As ours but for that, which OpenSSL takes as a root."""
    key, begin = new_key(), datetime.fromtimestamp(FakeClock().wall(), UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "no path length")])
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(Constraints.choose(["localhost"]).extension(), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def test_a_ca_without_path_length(place: Path) -> None:
    """Every one in ca.pem counts: each is trusted."""
    path = place / "certs" / "ca.pem"
    path.write_bytes(path.read_bytes() + authority_without_path_length())
    with pytest.raises(ConfigurationError) as caught:
        load(place)
    assert caught.value.path == str(path)
    assert "its path length is not 0" in caught.value.problem


def test_a_ca_of_another_trust_domain(place: Path) -> None:
    """Else the daemon starts, and refuses every client certificate."""
    text = TEXT + '\n[server]\nnames = ["rpc.example.org", "localhost"]'
    with pytest.raises(ConfigurationError) as caught:
        Inputs.load(config.parse(text, place / "secure-net.toml", {}), FakeClock().wall())
    assert caught.value.path == "server.names"
    assert "rpc.example.org is not the trust domain of" in caught.value.problem
    assert caught.value.cure == "put localhost first"
