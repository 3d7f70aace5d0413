"""What our CA signs, judged by OpenSSL, and how our own reader judges it; misfits are in tests/hostile."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from secure_net.clock import SystemWall
from secure_net.errors import AuthorityError, ConfigurationError
from secure_net.identity import certificates
from secure_net.identity.certificates import DAY, Constraints
from tests.support.pki import PKI, make_pki

NOW = SystemWall().wall()
NAMES = ("example.org", "10.0.0.7", "fd00::7")


@pytest.fixture(scope="module")
def ca_key() -> ec.EllipticCurvePrivateKey:
    return certificates.new_key()


@pytest.fixture(scope="module")
def ca(ca_key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return certificates.build_ca(ca_key, Constraints.choose(NAMES), NOW)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"), names=NAMES)


def openssl(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_openssl_accepts_both_leaves_strictly_and_for_their_purpose_only(pki: PKI) -> None:
    server, client = pki.server[0], pki.client("demo")[0]
    common = ("verify", "-x509_strict", "-check_ss_sig", "-CAfile", pki.ca)
    for certificate, purpose, good in (
        (server, "sslserver", True),
        (client, "sslclient", True),
        (server, "sslclient", False),
        (client, "sslserver", False),
    ):
        code, text = openssl(*common, "-purpose", purpose, certificate)
        assert (code == 0) is good, text
    for name in ("-verify_hostname", "-verify_ip"):
        value = "localhost" if name == "-verify_hostname" else "fd00::7"
        assert openssl(*common, name, value, server)[0] == 0
    assert openssl(*common, "-verify_hostname", "elsewhere.example", server)[0] != 0


def test_openssl_reads_our_crl(pki: PKI, tmp_path: Path) -> None:
    record = next(record for record in pki.authority.records() if record.name == "metrics")
    pki.authority.revoke(record.serial)
    crl = tmp_path / "crl.pem"
    crl.write_bytes(pki.authority.crl())
    common = ("verify", "-x509_strict", "-crl_check", "-CRLfile", crl, "-CAfile", pki.ca)
    assert openssl(*common, pki.client("demo")[0])[0] == 0
    code, text = openssl(*common, pki.client("metrics")[0])
    assert code != 0
    assert "revoked" in text


def test_constraints_there_and_back(ca: x509.Certificate) -> None:
    constraints = Constraints.of(ca)
    assert constraints == Constraints.choose(NAMES)
    assert constraints.trust_domain == "example.org"
    assert constraints.names == ("example.org", "localhost", "10.0.0.7", "fd00::7", "127.0.0.1", "::1")
    for name in ("example.org", "a.example.org", "localhost", "127.0.0.1", "::1", "0:0::1"):
        assert constraints.permit(name)
    for name in ("org", "xexample.org", "127.0.0.2", "*.example.org", "EXAMPLE.org", ""):
        assert not constraints.permit(name)


@pytest.mark.parametrize(
    "names", [["Example.org"], ["a b"], ["10.0.0.1", "example.org"], ["*.example.org"], [""]]
)
def test_names_that_no_ca_can_have(names: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"server\.names"):
        Constraints.choose(names)


def test_nameless_means_localhost() -> None:
    assert Constraints.choose([]).names == ("localhost", "127.0.0.1", "::1")


def test_a_foreign_ca_is_told(ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> None:
    def foreign(*constraints: x509.NameConstraints, critical: bool = True) -> x509.Certificate:
        builder = certificates._builder(ca.subject, ca.subject, ca_key.public_key(), NOW, NOW + DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), True)
        for constraint in constraints:
            builder = builder.add_extension(constraint, critical)
        return builder.sign(ca_key, hashes.SHA256())

    ours = Constraints.choose(NAMES).extension()
    excluding = x509.NameConstraints(None, [x509.DNSName("x")])
    for certificate in (foreign(), foreign(ours, critical=False), foreign(excluding)):
        with pytest.raises(ConfigurationError, match="not a CA of ours"):
            Constraints.of(certificate)


def test_a_server_s_profile(ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> None:
    names = ["a.example.org", "10.0.0.7", "a.example.org"]
    leaf = certificates.build_server(ca, ca_key, certificates.new_key().public_key(), names, now=NOW)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(san.value) == [
        x509.DNSName("a.example.org"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.7")),
    ]
    assert len(leaf.subject) == 0
    assert san.critical
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert life.total_seconds() == 397 * DAY
    assert int(NOW) - leaf.not_valid_before_utc.timestamp() in {299, 300}
    assert leaf.serial_number.bit_length() <= 128


def test_names_outside_the_constraints_fail_and_name_the_cure(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> None:
    key = certificates.new_key().public_key()
    for name in ("elsewhere.example", "10.0.0.8", "*.example.org", "bad name"):
        with pytest.raises(AuthorityError, match=r"outside the names .*`secure-net init"):
            certificates.build_server(ca, ca_key, key, ["example.org", name], now=NOW)


def test_lifetimes_are_bounded(ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> None:
    key = certificates.new_key().public_key()
    for lifetime in (0, -1, 397 * DAY + 1):
        with pytest.raises(ConfigurationError, match="397 days"):
            certificates.build_client(ca, ca_key, key, "demo", now=NOW, lifetime=lifetime)
    end = ca.not_valid_after_utc.timestamp()
    late = certificates.build_client(ca, ca_key, key, "demo", now=end - 10)
    assert late.not_valid_after_utc == ca.not_valid_after_utc
    with pytest.raises(ConfigurationError, match="the CA has expired"):
        certificates.build_client(ca, ca_key, key, "demo", now=end)
    with pytest.raises(ConfigurationError, match="not a name"):
        certificates.build_client(ca, ca_key, key, "De mo", now=NOW)


def test_a_client_is_read(ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> None:
    leaf = certificates.build_client(ca, ca_key, certificates.new_key().public_key(), "demo", now=NOW)
    read = certificates.read_client(leaf.public_bytes(Encoding.DER), "example.org")
    assert read.name == "demo"
    assert read.serial == certificates.serial_text(leaf.serial_number)
    assert (read.not_before, read.issued_at) == (int(NOW - 300), int(NOW - 300) + 300)
    assert read.not_after == int(NOW + 90 * DAY)


def test_who_has_signed_it(ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> None:
    leaf = certificates.build_client(ca, ca_key, certificates.new_key().public_key(), "demo", now=NOW)
    other_key = certificates.new_key()
    other = certificates.build_ca(other_key, Constraints.choose(NAMES), NOW)
    same_name = certificates.build_ca(ca_key, Constraints.choose(NAMES), NOW + 60)  # renewed: the same key
    assert certificates.is_trusted(leaf, [other, ca])
    assert not certificates.is_trusted(leaf, [other])
    assert not certificates.is_trusted(leaf, [])
    assert certificates.is_trusted(leaf, [same_name]) == (same_name.subject == ca.subject)


def test_serials_as_people_paste_them() -> None:
    serial = "00ab" + "0" * 28
    for text in (serial, serial.upper(), "0x" + serial, "AB:" + ":".join(["00"] * 14), f" {serial}\n"):
        assert certificates.parse_serial(text) == serial
    for text in ("", "x", "-1", "0x", "1" * 41, "1_0", "\u0661"):
        assert certificates.parse_serial(text) is None


def test_a_crl_there_and_back(ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> None:
    crl = certificates.build_crl(ca, ca_key, [("ab", NOW)], number=7, now=NOW)
    read = certificates.read_crl(crl.public_bytes(Encoding.PEM), [ca])
    assert (read.number, read.serials) == (7, {"0" * 30 + "ab"})
    assert (read.this_update, read.next_update) == (int(NOW - 300), int(NOW + 30 * DAY))


def test_a_crl_that_is_not_ours(ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> None:
    def bare(*extensions: tuple[x509.ExtensionType, bool]) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ca.subject)
            .last_update(certificates._moment(NOW))
            .next_update(certificates._moment(NOW + 60))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    number = (x509.CRLNumber(1), False)
    assert certificates.read_crl(bare(number), [ca]).number == 1
    with pytest.raises(ConfigurationError, match="not a full CRL"):
        certificates.read_crl(bare(number, (x509.DeltaCRLIndicator(1), True)), [ca])
    for text in (b"", b"junk", bare()):
        with pytest.raises(ConfigurationError, match="not a CRL with a number"):
            certificates.read_crl(text, [ca])
    # The same name and another key, or another name: both are somebody else.
    same_name = certificates._builder(
        ca.subject, ca.subject, certificates.new_key().public_key(), NOW, NOW + DAY
    )
    stranger_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    strangers = [
        certificates.build_ca(ca_key, Constraints.choose(NAMES), NOW),
        same_name.sign(ca_key, hashes.SHA256()),
        x509.CertificateBuilder()
        .subject_name(ca.subject)
        .issuer_name(ca.subject)
        .public_key(stranger_key.public_key())
        .serial_number(1)
        .not_valid_before(certificates._moment(NOW))
        .not_valid_after(certificates._moment(NOW + 60))
        .sign(stranger_key, hashes.SHA256()),
    ]
    for stranger in strangers:
        with pytest.raises(ConfigurationError, match="not signed by our CA"):
            certificates.read_crl(bare(number), [stranger])
    assert certificates.read_crl(bare(number), [*strangers, ca]).number == 1
