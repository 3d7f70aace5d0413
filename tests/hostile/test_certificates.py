"""THREATS.md, "TLS and certificates": the rows on certificate profiles.

`read_client` is what the daemon asks after a handshake; the chain itself is OpenSSL's to judge, so those rows
run a handshake in memory with the very contexts that servers and clients use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secure_net.clock import SystemWall
from secure_net.errors import AuthenticationError, ConfigurationError, Refusal
from secure_net.identity import certificates
from secure_net.identity.certificates import Constraints, read_client, read_crl
from secure_net.identity.revocation import Revocations
from secure_net.wire.tls import TLSMaterial, TLSPolicy, client_context, server_context
from tests.support.pki import PKI, make_pki

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.fromtimestamp(int(SystemWall().wall()), datetime.UTC)
GOOD_URI = "spiffe://localhost/demo"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


@dataclasses.dataclass
class Leaf:
    """A client certificate as ours are; each test changes one thing. None leaves an extension out."""

    key: PrivateKey = dataclasses.field(default_factory=certificates.new_key)
    subject: x509.Name = dataclasses.field(default_factory=lambda: x509.Name([]))
    names: list[x509.GeneralName] | None = dataclasses.field(
        default_factory=lambda: [x509.UniformResourceIdentifier(GOOD_URI)]
    )
    names_critical: bool = True
    purposes: list[x509.ObjectIdentifier] | None = dataclasses.field(
        default_factory=lambda: [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    constraints: x509.BasicConstraints | None = dataclasses.field(
        default_factory=lambda: x509.BasicConstraints(False, None)
    )
    usage: x509.KeyUsage | None = dataclasses.field(default_factory=lambda: certificates._LEAF_USAGE)
    start: datetime.datetime = NOW - DAY
    end: datetime.datetime = NOW + DAY
    digest: hashes.HashAlgorithm = dataclasses.field(default_factory=hashes.SHA256)

    def sign(self, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.start)
            .not_valid_after(self.end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
                ),
                False,
            )
        )
        for extension, critical in (
            (self.constraints, True),
            (self.usage, True),
            (x509.ExtendedKeyUsage(self.purposes) if self.purposes else None, False),
            (x509.SubjectAlternativeName(self.names) if self.names else None, self.names_critical),
        ):
            if extension is not None:
                builder = builder.add_extension(extension, critical)
        return builder.sign(key, self.digest)

    def by(self, pki: PKI) -> x509.Certificate:
        return self.sign(pki.authority.certificate, pki.authority._key())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def misfit(certificate: bytes) -> None:
    with pytest.raises(AuthenticationError) as raised:
        read_client(certificate, "localhost")
    assert raised.value.reason is Refusal.CERTIFICATE_PROFILE


def test_the_leaf_that_the_others_differ_from_is_accepted(pki: PKI) -> None:
    assert read_client(der(Leaf().by(pki)), "localhost").name == "demo"


@pytest.mark.parametrize(
    "purposes",
    [
        None,
        [ExtendedKeyUsageOID.SERVER_AUTH],
        [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
        [ExtendedKeyUsageOID.CODE_SIGNING],
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
    ],
)
def test_wrong_or_no_extended_key_usage(pki: PKI, purposes: list[x509.ObjectIdentifier] | None) -> None:
    misfit(der(Leaf(purposes=purposes).by(pki)))


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://example.org/demo",
        "spiffe://localhost.example.org/demo",
        "spiffe://LOCALHOST/demo",
        "SPIFFE://localhost/demo",
        "https://localhost/demo",
        "spiffe://localhost:443/demo",
        "spiffe://user@localhost/demo",
    ],
)
def test_wrong_trust_domain(pki: PKI, uri: str) -> None:
    misfit(der(Leaf(names=[x509.UniformResourceIdentifier(uri)]).by(pki)))


@pytest.mark.parametrize(
    "path", ["", "a/b", "../admin", "Demo", "demo?x", "demo#x", "demo%00", "demo\n", "x" * 65]
)
def test_a_spiffe_id_that_holds_no_name(pki: PKI, path: str) -> None:
    misfit(der(Leaf(names=[x509.UniformResourceIdentifier(f"spiffe://localhost/{path}")]).by(pki)))


@pytest.mark.parametrize(
    "names",
    [
        None,
        [
            x509.UniformResourceIdentifier(GOOD_URI),
            x509.UniformResourceIdentifier("spiffe://localhost/admin"),
        ],
        [x509.UniformResourceIdentifier(GOOD_URI), x509.DNSName("localhost")],
        [x509.DNSName("localhost")],
        [x509.DNSName(GOOD_URI)],
        [x509.RFC822Name("demo@localhost")],
        [x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4"))],
    ],
)
def test_two_subject_alternative_names_or_another_kind(
    pki: PKI, names: list[x509.GeneralName] | None
) -> None:
    misfit(der(Leaf(names=names).by(pki)))


def test_a_subject_alternative_name_that_is_not_critical(pki: PKI) -> None:
    misfit(der(Leaf(names_critical=False).by(pki)))


def test_a_subject_that_is_not_empty(pki: PKI) -> None:
    misfit(der(Leaf(subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])).by(pki)))


@pytest.mark.parametrize(
    "leaf",
    [
        lambda: Leaf(constraints=x509.BasicConstraints(True, 0)),
        lambda: Leaf(constraints=None),
        lambda: Leaf(usage=certificates._CA_USAGE),
        lambda: Leaf(usage=None),
    ],
    ids=["ca", "no constraints", "ca usage", "no usage"],
)
def test_a_leaf_that_could_sign(pki: PKI, leaf: type[Leaf]) -> None:
    misfit(der(leaf().by(pki)))


@pytest.mark.parametrize(
    "leaf",
    [
        lambda: Leaf(key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        lambda: Leaf(key=ec.generate_private_key(ec.SECP384R1())),
        lambda: Leaf(key=ed25519.Ed25519PrivateKey.generate()),
        lambda: Leaf(digest=hashes.SHA384()),
    ],
    ids=["rsa", "p384", "ed25519", "sha384"],
)
def test_another_key_or_signature(pki: PKI, leaf: type[Leaf]) -> None:
    misfit(der(leaf().by(pki)))


def test_a_client_certificate_that_lives_too_long(pki: PKI) -> None:
    misfit(der(Leaf(end=NOW + 397 * DAY).by(pki)))


def test_our_own_server_certificate_as_a_client(pki: PKI) -> None:
    server = x509.load_pem_x509_certificate(pki.server[0].read_bytes())
    misfit(der(server))


def test_what_is_no_certificate(pki: PKI) -> None:
    good = der(Leaf().by(pki))
    for junk in (b"", b"\x30", b"\x30\x80", good[:-1], good + b"\0", b"x" * 100_000, good[:40]):
        misfit(junk)


@pytest.mark.filterwarnings("ignore:Parsed a serial number:cryptography.utils.CryptographyDeprecationWarning")
def test_a_flipped_byte_raises_nothing_else(pki: PKI) -> None:
    """Its signature is OpenSSL's to check; ours is to read it or to refuse it."""
    good = der(Leaf().by(pki))
    for place, flip in itertools.product(range(len(good)), (0x01, 0x41, 0x80, 0xFF)):
        with contextlib.suppress(AuthenticationError):
            read_client(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :], "localhost")


def test_an_older_crl_takes_nothing_back(pki: PKI) -> None:
    serial = pki.authority.issue_client("revoked").record.serial
    older = read_crl(pki.authority.crl(), [pki.authority.certificate])
    pki.authority.revoke(serial)
    newer = read_crl(pki.authority.crl(), [pki.authority.certificate])
    revocations = Revocations()
    assert serial in revocations.import_crl(newer)
    assert revocations.import_crl(older) == frozenset()
    assert revocations.crl_number == newer.number
    assert serial in revocations._certificates


# ---------------------------------------------------------------------------- judged by OpenSSL


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> bytes | None:
    """Shake hands in memory. Returns the client's certificate; raises `ssl.SSLError` of either side."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up, server_hostname=name)
    waiting = [theirs, ours]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert not waiting
    return ours.getpeercert(binary_form=True)


def save(
    directory: Path, leaf: x509.Certificate, key: PrivateKey, *chain: x509.Certificate
) -> tuple[Path, Path]:
    certificate, secret = directory / "leaf.pem", directory / "leaf.key"
    pems = [each.public_bytes(serialization.Encoding.PEM) for each in (leaf, *chain)]
    certificate.write_bytes(b"".join(pems))
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, secret


def shake_as_client(pki: PKI, pair: tuple[Path, Path]) -> bytes | None:
    server = server_context(TLSMaterial.load(pki.certs), TLSPolicy(client_certificates="required"))
    return handshake(client_context(pki.ca, *pair), server)


def shake_as_server(pki: PKI, ca: Path, pair: tuple[Path, Path], name: str = "localhost") -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*pair)
    handshake(client_context(ca, *pki.client("demo")), server, name)


def server_leaf(**changes: object) -> Leaf:
    leaf = Leaf(purposes=[ExtendedKeyUsageOID.SERVER_AUTH], names=[x509.DNSName("localhost")])
    return dataclasses.replace(leaf, **changes)  # type: ignore[arg-type]  # the tests name its fields


def test_a_good_leaf_passes_both_contexts(pki: PKI, tmp_path: Path) -> None:
    leaf = Leaf()
    certificate = leaf.by(pki)
    assert shake_as_client(pki, save(tmp_path, certificate, leaf.key)) == der(certificate)
    server = server_leaf()
    shake_as_server(pki, pki.ca, save(tmp_path, server.by(pki), server.key))


def test_a_client_certificate_as_server_and_the_reverse(pki: PKI) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_as_server(pki, pki.ca, pki.client("demo"))
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_as_client(pki, pki.server)


def test_a_leaf_that_signs_another_leaf(pki: PKI, tmp_path: Path) -> None:
    parent, child = Leaf(), Leaf(names=[x509.UniformResourceIdentifier("spiffe://localhost/admin")])
    issuer = parent.by(pki)
    assert isinstance(parent.key, ec.EllipticCurvePrivateKey)
    with pytest.raises(ssl.SSLError):
        shake_as_client(pki, save(tmp_path, child.sign(issuer, parent.key), child.key, issuer))


def test_an_intermediate_below_our_ca(pki: PKI, tmp_path: Path) -> None:
    """Its path length is 0: not even a certificate that says it is a CA may stand in between."""
    middle = Leaf(
        subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")]),
        constraints=x509.BasicConstraints(True, 0),
        usage=certificates._CA_USAGE,
        purposes=None,
        names=None,
    )
    issuer = middle.by(pki)
    child = Leaf()
    assert isinstance(middle.key, ec.EllipticCurvePrivateKey)
    with pytest.raises(ssl.SSLCertVerificationError, match="path length"):
        shake_as_client(pki, save(tmp_path, child.sign(issuer, middle.key), child.key, issuer))


@pytest.mark.parametrize(
    "leaf",
    [
        lambda: Leaf(names=[x509.UniformResourceIdentifier("spiffe://example.org/demo")]),
        lambda: Leaf(start=NOW - 2 * DAY, end=NOW - DAY),
        lambda: Leaf(start=NOW + DAY, end=NOW + 2 * DAY),
    ],
    ids=["another trust domain", "expired", "not yet valid"],
)
def test_client_chains_that_openssl_refuses(pki: PKI, tmp_path: Path, leaf: type[Leaf]) -> None:
    made = leaf()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_as_client(pki, save(tmp_path, made.by(pki), made.key))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"names": [x509.DNSName("example.org")]}, "example.org"),
        ({"names": [x509.DNSName("localhost")]}, "127.0.0.1"),
        ({"end": NOW - DAY / 2}, "localhost"),
        ({"purposes": [ExtendedKeyUsageOID.CODE_SIGNING]}, "localhost"),
        ({"names_critical": False}, "localhost"),
    ],
    ids=["outside the constraints", "wrong name", "expired", "purpose", "empty subject, names not critical"],
)
def test_servers_that_our_clients_refuse(
    pki: PKI, tmp_path: Path, changes: dict[str, object], name: str
) -> None:
    made = server_leaf(**changes)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_as_server(pki, pki.ca, save(tmp_path, made.by(pki), made.key), name)


@pytest.mark.parametrize("flaw", ["not critical", "no usage", "no key identifier"])
def test_a_ca_that_is_not_strict(pki: PKI, tmp_path: Path, flaw: str) -> None:
    """`VERIFY_X509_STRICT` (RFC 5280 section 4.2): a CA's basic constraints are critical, and so on."""
    key = certificates.new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lax CA")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(True, 0), flaw != "not critical")
    )
    if flaw != "no usage":
        builder = builder.add_extension(certificates._CA_USAGE, True)
    if flaw != "no key identifier":
        builder = builder.add_extension(identifier, False)
    ca = builder.sign(key, hashes.SHA256())
    path = tmp_path / "ca.pem"
    path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    named = builder.sign(key, hashes.SHA256()) if flaw != "no key identifier" else _with_identifier(ca, key)
    leaf = server_leaf()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_as_server(pki, path, save(tmp_path, leaf.sign(named, key), leaf.key))


def _with_identifier(ca: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """The same CA as far as a leaf can tell, with the identifier that a leaf must point to."""
    return (
        x509.CertificateBuilder()
        .subject_name(ca.subject)
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )


def test_a_ca_without_path_length_is_not_one_of_ours(pki: PKI, tmp_path: Path) -> None:
    """OpenSSL takes a root without a path length; our own reading of the CA does not."""
    key = certificates.new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "open CA")])
    for path_length, usable in ((None, False), (1, False), (0, True)):
        ca = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(True, path_length), True)
            .add_extension(Constraints.choose(["localhost"]).extension(), True)
            .sign(key, hashes.SHA256())
        )
        if usable:
            assert Constraints.of(ca).trust_domain == "localhost"
        else:
            with pytest.raises(ConfigurationError, match="path length"):
                Constraints.of(ca)
