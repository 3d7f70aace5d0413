"""A development PKI in the layout of ``secure-net init``, made in some 20 ms.

::

    @pytest.fixture(scope="module")
    def pki(tmp_path_factory):
        return make_pki(tmp_path_factory.mktemp("pki"))

    pki.certs                     # what [tls].directory points to
    pki.token("demo", "rpc:call:math.*")
    pki.client("stranger")        # paths of its certificate and key
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from secure_net.clock import SystemWall
from secure_net.identity.authority import Authority, WallClock
from secure_net.identity.certificates import thumbprint
from secure_net.identity.jose import KeySet
from secure_net.identity.setup import CLIENTS, create_development_pki, load_keys, load_signer, write_pair
from secure_net.identity.tokens import TokenSigner


def der(certificate: Path) -> bytes:
    """A PEM certificate's DER form, as a connection shows it."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)


@dataclasses.dataclass(frozen=True)
class PKI:
    """Where everything is, and short ways to more of it."""

    directory: Path
    authority: Authority
    signer: TokenSigner
    clock: WallClock

    @property
    def certs(self) -> Path:
        return self.directory / "certs"

    @property
    def ca(self) -> Path:
        return self.certs / "ca.pem"

    @property
    def server(self) -> tuple[Path, Path]:
        """The server's certificate and key, for localhost, 127.0.0.1 and ::1."""
        return self.certs / "server.pem", self.certs / "server.key"

    @property
    def trust_domain(self) -> str:
        return self.authority.trust_domain

    @property
    def keys(self) -> KeySet:
        return load_keys(self.certs)

    def client(self, name: str) -> tuple[Path, Path]:
        """A client's certificate and key, issued now if there are none."""
        stem = self.certs / "clients" / name
        certificate, key = stem.with_name(f"{name}.pem"), stem.with_name(f"{name}.key")
        if not certificate.exists():
            write_pair(stem, self.authority.issue_client(name))
        return certificate, key

    def client_der(self, name: str) -> bytes:
        return der(self.client(name)[0])

    def token(self, subject: str, *scopes: str, ttl: float = 3600.0, bind: Path | None = None) -> str:
        """A token for `subject` (default scope: everything), bound to the certificate `bind` if given."""
        return self.signer.issue(
            subject,
            scopes or ("*:*:**",),
            now=self.clock.wall(),
            lifetime=ttl,
            thumbprint=None if bind is None else thumbprint(der(bind)),
        )


def make_pki(
    directory: Path,
    *,
    names: Sequence[str] = ("localhost",),
    clients: Sequence[str] = CLIENTS,
    clock: WallClock | None = None,
) -> PKI:
    """Write a PKI under `directory`; by the system's time unless a `clock` is given."""
    # OpenSSL reads the system's time and no other: real handshakes need certificates of today.
    clock = clock or SystemWall()
    authority = create_development_pki(directory, names, clock, clients=clients)
    return PKI(directory, authority, load_signer(authority), clock)
