"""Certificate profiles: what our CA signs, and what we accept of a client. Pure.

========== ============================================ =====================================
           CA                                           leaf
========== ============================================ =====================================
key        ECDSA P-256, signed with SHA-256             the same
subject    a common name                                empty, hence the SAN is critical
SAN        none                                         a server's DNS names and addresses,
                                                        or a client's one SPIFFE ID
usage      keyCertSign, cRLSign                         digitalSignature
extended   none                                         serverAuth or clientAuth, never both
basic      CA, path length 0                            not a CA
names      permitted DNS, IP and URI, critical          inside them
========== ============================================ =====================================

Every certificate has a subject key identifier and every leaf its issuer's, which OpenSSL demands under
``X509_V_FLAG_X509_STRICT``. The URI constraint is the trust domain's host (RFC 5280 section 4.2.1.10),
so a stolen CA key makes neither foreign hosts nor foreign identities.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import ipaddress
import secrets
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from secure_net.errors import AuthenticationError, AuthorityError, ConfigurationError, Refusal
from secure_net.identity.names import Address, address, is_host_name, is_name, spiffe_id

DAY = 24 * 3600
BACKDATE_SECONDS = 300  # a peer's clock may be this far behind ours
CA_SECONDS = 3650 * DAY
LEAF_SECONDS_MAX = 397 * DAY  # what browsers accept of a server, backdating included
SERVER_SECONDS = LEAF_SECONDS_MAX
CLIENT_SECONDS = 90 * DAY
CRL_SECONDS = 30 * DAY
ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")

_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)
_LEAF_USAGE = x509.KeyUsage(**{**_NO_USAGE, "digital_signature": True})
_CA_USAGE = x509.KeyUsage(**{**_NO_USAGE, "key_cert_sign": True, "crl_sign": True})


def serial_text(serial: int) -> str:
    """A serial as we print and store it: 32 lower-case hexadecimal digits."""
    return f"{serial:032x}"


def parse_serial(text: str) -> str | None:
    """A serial as people paste it (upper case, colons, ``0x``) in the form of `serial_text`, or None."""
    digits = text.strip().lower().removeprefix("0x").replace(":", "")
    if not 0 < len(digits) <= 40 or not set(digits) <= set("0123456789abcdef"):
        return None
    return serial_text(int(digits, 16))


def thumbprint(der: bytes) -> bytes:
    """The SHA-256 of a certificate, which a bound token carries (RFC 8705 section 3.1)."""
    return hashlib.sha256(der).digest()


# ---------------------------------------------------------------------------- what the CA may sign


@dataclasses.dataclass(frozen=True, slots=True)
class Constraints:
    """The names a CA may sign, fixed when it was made; read back from its certificate."""

    trust_domain: str
    hosts: tuple[str, ...]
    addresses: tuple[Address, ...]

    @classmethod
    def choose(cls, names: Sequence[str]) -> Constraints:
        """From the names given to ``init``, the first of which is the trust domain.

        Raises `ConfigurationError` when one is neither a host name nor an address, or the first is
        no host name.
        """
        for name in names:
            if address(name) is None and not is_host_name(name):
                raise ConfigurationError(
                    "server.names",
                    f"{name!r} is neither a host name nor an address",
                    "write it in lower case",
                )
        every = tuple(dict.fromkeys((*names, *ALWAYS_NAMED)))
        if address(every[0]) is not None:
            raise ConfigurationError(
                "server.names", f"the first name, {every[0]}, is an address", "put a host name first"
            )
        hosts = tuple(name for name in every if address(name) is None)
        addresses = tuple(found for name in every if (found := address(name)) is not None)
        return cls(every[0], hosts, tuple(dict.fromkeys(addresses)))

    @classmethod
    def of(cls, ca: x509.Certificate) -> Constraints:
        """What `ca` may sign. Raises `ConfigurationError` when it is not one of our CAs."""
        try:
            basic = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
            extension = ca.extensions.get_extension_for_class(x509.NameConstraints)
        except (x509.ExtensionNotFound, ValueError) as error:
            raise _foreign_ca("it has no basic or no name constraints") from error
        if not basic.ca or basic.path_length != 0:  # OpenSSL takes a root without one
            raise _foreign_ca("its path length is not 0")
        permitted = extension.value.permitted_subtrees or []
        uris = [name.value for name in permitted if isinstance(name, x509.UniformResourceIdentifier)]
        if not extension.critical or len(uris) != 1:
            raise _foreign_ca("its name constraints are not those of secure-net init")
        return cls(
            uris[0],
            tuple(name.value for name in permitted if isinstance(name, x509.DNSName)),
            tuple(
                name.value.network_address
                for name in permitted
                if isinstance(name, x509.IPAddress)
                and isinstance(name.value, ipaddress.IPv4Network | ipaddress.IPv6Network)
            ),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, as a server certificate bears them; the trust domain first."""
        return (*self.hosts, *map(str, self.addresses))

    def permit(self, name: str) -> bool:
        """Whether a server may bear `name`: an address listed, or a host at or below one listed."""
        number = address(name)
        if number is not None:
            return number in self.addresses
        return is_host_name(name) and any(name == host or name.endswith("." + host) for host in self.hosts)

    def extension(self) -> x509.NameConstraints:
        networks = (ipaddress.ip_network(number) for number in self.addresses)
        return x509.NameConstraints(
            permitted_subtrees=[
                *map(x509.DNSName, self.hosts),
                *map(x509.IPAddress, networks),
                x509.UniformResourceIdentifier(self.trust_domain),
            ],
            excluded_subtrees=None,
        )


def _foreign_ca(problem: str) -> ConfigurationError:
    return ConfigurationError("ca.pem", f"not a CA of ours: {problem}", "make one with `secure-net init`")


# ---------------------------------------------------------------------------- signing


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def build_ca(key: ec.EllipticCurvePrivateKey, constraints: Constraints, now: float) -> x509.Certificate:
    """The self-signed certificate of a new CA, valid for ten years from `now` (unix seconds)."""
    subject = x509.Name(
        # The random part keeps two CAs for one name apart: OpenSSL looks issuers up by subject.
        [
            x509.NameAttribute(
                x509.NameOID.COMMON_NAME, f"{constraints.trust_domain[:40]} CA {secrets.token_hex(4)}"
            )
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(subject, subject, key.public_key(), now, now + CA_SECONDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(constraints.extension(), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_authority_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def build_server(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    *,
    now: float,
    lifetime: float = SERVER_SECONDS,
) -> x509.Certificate:
    """A server's certificate for `names` (host names and addresses, at least one).

    `lifetime` is in seconds, bounded by 397 days and by the CA's own end. Raises `AuthorityError`
    for a name outside the CA's constraints, naming the cure.
    """
    constraints = Constraints.of(ca)
    for name in names:
        if not constraints.permit(name):
            raise AuthorityError(
                name,
                f"outside the names this CA may sign ({', '.join(constraints.names)})",
                "a CA's names are fixed when it is made: "
                f"`secure-net init NEWDIR --name {constraints.trust_domain} --name {name}`",
            )
    general: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        number = address(name)
        general.append(x509.DNSName(name) if number is None else x509.IPAddress(number))
    return _build_leaf(
        ca, ca_key, key, general, purpose=ExtendedKeyUsageOID.SERVER_AUTH, now=now, lifetime=lifetime
    )


def build_client(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    name: str,
    *,
    now: float,
    lifetime: float = CLIENT_SECONDS,
) -> x509.Certificate:
    """A client's certificate for the identity `name`; `lifetime` as in `build_server`.

    Raises `ConfigurationError` when `name` cannot name an identity.
    """
    if not is_name(name):
        raise ConfigurationError(repr(name), "not a name", "names are [a-z0-9][a-z0-9._-]{0,63}")
    uri = x509.UniformResourceIdentifier(spiffe_id(Constraints.of(ca).trust_domain, name))
    return _build_leaf(
        ca, ca_key, key, [uri], purpose=ExtendedKeyUsageOID.CLIENT_AUTH, now=now, lifetime=lifetime
    )


def build_crl(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    revoked: Iterable[tuple[str, float]],
    *,
    number: int,
    now: float,
    lifetime: float = CRL_SECONDS,
) -> x509.CertificateRevocationList:
    """A full CRL (RFC 5280 section 5) of `revoked`: serials, and when each was revoked."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(_moment(now - BACKDATE_SECONDS))
        .next_update(_moment(now + lifetime))
        .add_extension(_authority_identifier(_key_identifier(ca)), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial, when in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(int(serial, 16))
            .revocation_date(_moment(when))
            .build()
        )
    return builder.sign(ca_key, hashes.SHA256())


def _build_leaf(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    names: list[x509.GeneralName],
    *,
    purpose: x509.ObjectIdentifier,
    now: float,
    lifetime: float,
) -> x509.Certificate:
    if not 0 < lifetime <= LEAF_SECONDS_MAX:
        raise ConfigurationError("ttl", f"{lifetime / DAY:g} days", "a certificate lives for up to 397 days")
    end = min(now + lifetime, now - BACKDATE_SECONDS + LEAF_SECONDS_MAX, ca.not_valid_after_utc.timestamp())
    if end <= now:
        raise ConfigurationError("ca.pem", "the CA has expired", "make a new one with `secure-net init`")
    return (
        _builder(x509.Name([]), ca.subject, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_LEAF_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority_identifier(_key_identifier(ca)), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, end: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(secrets.randbits(128) or 1)
        .not_valid_before(_moment(now - BACKDATE_SECONDS))
        .not_valid_after(_moment(end))
    )


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)


def _key_identifier(ca: x509.Certificate) -> x509.SubjectKeyIdentifier:
    return ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value


def _authority_identifier(identifier: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


# ---------------------------------------------------------------------------- reading


@dataclasses.dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a client's certificate says. Times in unix seconds."""

    name: str
    serial: str
    issued_at: float  # when it was signed: its notBefore is backdated
    not_before: float
    not_after: float


def is_trusted(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    """Whether one of `authorities` has signed it. Looks at nothing else: OpenSSL verified the rest."""
    return any(_issued(authority, certificate) for authority in authorities)


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def read_client(der: bytes, trust_domain: str) -> ClientCertificate:
    """Read a certificate whose chain OpenSSL has verified, and hold it to the client's profile.

    Raises `AuthenticationError` with `Refusal.CERTIFICATE_PROFILE` for anything that is not exactly
    what `build_client` signs. Whether it is valid now, or revoked, is the authenticator's to say.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        uri = _client_uri(certificate)
    except (
        ValueError,
        x509.InvalidVersion,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        UnsupportedAlgorithm,
    ) as error:
        raise _misfit(f"unreadable: {type(error).__name__}") from error
    name = uri.removeprefix(spiffe_id(trust_domain, ""))
    if name == uri or not is_name(name):
        raise _misfit("the SPIFFE ID is not one of this trust domain")
    not_before = certificate.not_valid_before_utc.timestamp()
    not_after = certificate.not_valid_after_utc.timestamp()
    if not_after - not_before > LEAF_SECONDS_MAX:
        raise _misfit("lives too long")
    return ClientCertificate(
        name=name,
        serial=serial_text(certificate.serial_number),
        issued_at=not_before + BACKDATE_SECONDS,
        not_before=not_before,
        not_after=not_after,
    )


def _client_uri(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _misfit("the key is not P-256")
    if not isinstance(certificate.signature_hash_algorithm, hashes.SHA256):
        raise _misfit("not signed with SHA-256")
    if certificate.serial_number <= 0:
        raise _misfit("the serial is not positive")
    if len(certificate.subject) != 0:
        raise _misfit("the subject is not empty")
    extensions = certificate.extensions
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise _misfit("a CA")
    if extensions.get_extension_for_class(x509.KeyUsage).value != _LEAF_USAGE:
        raise _misfit("wrong key usage")
    if list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) != [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]:
        raise _misfit("the extended key usage is not clientAuth alone")
    alternative = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    names = list(alternative.value)
    if (
        not alternative.critical
        or len(names) != 1
        or not isinstance(names[0], x509.UniformResourceIdentifier)
    ):
        raise _misfit("the subject alternative name is not one critical URI")
    return names[0].value


def _misfit(detail: str) -> AuthenticationError:
    return AuthenticationError(detail, Refusal.CERTIFICATE_PROFILE)


@dataclasses.dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL whose signature was verified. Times in unix seconds."""

    number: int
    this_update: float
    next_update: float
    serials: frozenset[str]


def read_crl(pem: bytes, authorities: Iterable[x509.Certificate]) -> RevocationList:
    """Read a CRL signed by one of `authorities`.

    Raises `ConfigurationError` when it is not a CRL, is signed by somebody else, has no number or no
    nextUpdate, or is not a full one (RFC 5280 section 5.2.4 and 5.2.5: deltas and partitions are critical).
    """
    try:
        crl = x509.load_pem_x509_crl(pem)
        extensions = crl.extensions
        number = extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise _bad_crl("not a CRL with a number") from error
    if not any(_has_signed(ca, crl) for ca in authorities):
        raise _bad_crl("not signed by our CA")
    if crl.next_update_utc is None or any(extension.critical for extension in extensions):
        raise _bad_crl("not a full CRL with a nextUpdate")
    return RevocationList(
        number=number,
        this_update=crl.last_update_utc.timestamp(),
        next_update=crl.next_update_utc.timestamp(),
        serials=frozenset(serial_text(entry.serial_number) for entry in crl),
    )


def _has_signed(ca: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    key = ca.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or crl.issuer != ca.subject:
        return False
    return crl.is_signature_valid(key)


def _bad_crl(problem: str) -> ConfigurationError:
    return ConfigurationError("crl.pem", problem, "write a new one with `secure-net ca crl`")
