"""The private certificate authority: a directory that is taken offline as a whole.

::

    ca/                 0700
      ca.key            0600  the CA's key, PKCS #8
      ca.pem            0644  its certificate, the same as certs/ca.pem
      token.key         0600  the key that signs access tokens
      index.json        0600  every certificate that was issued, and the number of the last CRL

The names the CA may sign are read from its certificate and nowhere else. Two commands at once are kept
apart by a lock on the directory; the index is replaced as a whole, and a certificate is handed out only
after the index has it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from secure_net.errors import AuthorityError, ConfigurationError
from secure_net.identity import certificates, files
from secure_net.identity.certificates import Constraints
from secure_net.identity.names import is_name

Kind = Literal["server", "client"]

_CURE = "make a CA with `secure-net init`, or bring ca/ back from where it rests"


class WallClock(Protocol):
    """All that issuing needs of a clock: unix time in seconds."""

    def wall(self) -> float: ...


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate that was issued. Times in unix seconds; `revoked_at` is 0 while it stands."""

    serial: str
    kind: Kind
    name: str
    names: tuple[str, ...]
    issued_at: int
    not_after: int
    revoked_at: int = 0


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    crl_number: int = 0
    certificates: tuple[Record, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Issued:
    """A fresh certificate and its key, both PEM, and what the index says of them."""

    certificate: bytes
    key: bytes = dataclasses.field(repr=False)
    record: Record


class Authority:
    """The CA of one trust domain. Its key is read from disk only when something is signed."""

    def __init__(self, directory: Path, certificate: x509.Certificate, clock: WallClock) -> None:
        self.directory = directory
        self.certificate = certificate
        self.constraints = Constraints.of(certificate)
        self._clock = clock

    @classmethod
    def create(cls, directory: Path, names: Sequence[str], clock: WallClock) -> Authority:
        """Make a CA for `names` (host names and addresses, the trust domain first) in `directory`.

        The directory must not exist yet, or be empty. Raises `ConfigurationError` when it is not, or
        when a name is none, and `StateFullError` when the disk is full.
        """
        constraints = Constraints.choose(names)
        with files.told_clearly(directory, "choose another directory"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise ConfigurationError(str(directory), "is not empty", "choose another directory")
            directory.chmod(0o700)
        key = certificates.new_key()
        certificate = certificates.build_ca(key, constraints, clock.wall())
        files.write_new(directory / "ca.key", private_pem(key))
        files.write_new(directory / "ca.pem", _pem(certificate), files.PUBLIC)
        files.write_new(directory / "index.json", msgspec.json.encode(_Index()))
        return cls(directory, certificate, clock)

    @classmethod
    def load(cls, directory: Path, clock: WallClock) -> Authority:
        """Open the CA in `directory`. Raises `ConfigurationError` when there is none, or it is damaged."""
        path = directory / "ca.pem"
        try:
            certificate = x509.load_pem_x509_certificate(files.read(path, _CURE))
        except ValueError as error:
            raise ConfigurationError(str(path), "not a certificate", _CURE) from error
        return cls(directory, certificate, clock)

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return _pem(self.certificate)

    @property
    def trust_domain(self) -> str:
        return self.constraints.trust_domain

    def issue_server(
        self, name: str, names: Sequence[str] = (), *, lifetime: float = certificates.SERVER_SECONDS
    ) -> Issued:
        """A server's certificate, listed under `name`, for `names` (default: all the CA may sign).

        `lifetime` in seconds. Raises `AuthorityError` for a name outside the CA's constraints.
        """
        borne = tuple(names) or self.constraints.names

        def build(ca_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
            return certificates.build_server(
                self.certificate, ca_key, key, borne, now=self._clock.wall(), lifetime=lifetime
            )

        return self._issue("server", name, borne, build)

    def issue_client(self, name: str, *, lifetime: float = certificates.CLIENT_SECONDS) -> Issued:
        """A client's certificate for the identity `name`. `lifetime` in seconds."""

        def build(ca_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
            return certificates.build_client(
                self.certificate, ca_key, key, name, now=self._clock.wall(), lifetime=lifetime
            )

        return self._issue("client", name, (), build)

    def renew(self, kind: Kind, name: str, names: Sequence[str] = ()) -> Issued:
        """A fresh certificate and key with the lifetime of the last one issued to `name`.

        A server's bears `names` (default: those of the last one). The old one stays valid until it expires
        or is revoked. Raises `AuthorityError` when there is none, when the last one was revoked, or for
        a name outside the CA's constraints.
        """
        former = [record for record in self.records() if (record.kind, record.name) == (kind, name)]
        if not former:
            raise AuthorityError(
                name, f"no {kind} certificate was issued", f"`secure-net ca issue {kind} {name}`"
            )
        last = former[-1]
        if last.revoked_at:
            raise AuthorityError(
                name,
                "its last certificate was revoked",
                f"remove its files, then issue one anew: `secure-net ca issue {kind} {name}`",
            )
        lifetime = float(last.not_after - last.issued_at)
        if kind == "server":
            return self.issue_server(name, tuple(names) or last.names, lifetime=lifetime)
        return self.issue_client(name, lifetime=lifetime)

    def revoke(self, serial: str) -> Record:
        """Take one certificate back, by its serial in any spelling; no harm if it was already.

        The daemon learns of it from its store or from the next `crl`. Raises `AuthorityError` when
        this CA issued no such certificate.
        """
        wanted = certificates.parse_serial(serial)
        if not any(record.serial == wanted for record in self.records()):
            raise AuthorityError(
                serial, "this CA issued no certificate with that serial", "`secure-net ca list`"
            )
        return next(
            record
            for record in self._revoke(lambda record: record.serial == wanted)
            if record.serial == wanted
        )

    def revoke_name(self, name: str) -> tuple[Record, ...]:
        """Take back every client certificate of the identity `name`; returns them, the oldest first."""

        def chosen(record: Record) -> bool:
            return record.kind == "client" and record.name == name

        return tuple(record for record in self._revoke(chosen) if chosen(record))

    def records(self) -> tuple[Record, ...]:
        """Every certificate that was issued, the oldest first."""
        return self._index().certificates

    def crl(self, *, lifetime: float = certificates.CRL_SECONDS) -> bytes:
        """A new CRL, PEM, with the next number; valid for `lifetime` seconds.

        Expired certificates are left out: nobody accepts them anyway (RFC 5280 section 3.3).
        """
        with self._locked():
            index = self._index()
            now, number = self._clock.wall(), index.crl_number + 1
            revoked = [
                (record.serial, record.revoked_at)
                for record in index.certificates
                if record.revoked_at and record.not_after > now
            ]
            crl = certificates.build_crl(
                self.certificate, self._key(), revoked, number=number, now=now, lifetime=lifetime
            )
            self._write(msgspec.structs.replace(index, crl_number=number))
        return crl.public_bytes(serialization.Encoding.PEM)

    def _issue(
        self,
        kind: Kind,
        name: str,
        names: tuple[str, ...],
        build: Callable[[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey], x509.Certificate],
    ) -> Issued:
        if not is_name(name):
            raise ConfigurationError(repr(name), "not a name", "names are [a-z0-9][a-z0-9._-]{0,63}")
        key = certificates.new_key()
        certificate = build(self._key(), key.public_key())
        record = Record(
            serial=certificates.serial_text(certificate.serial_number),
            kind=kind,
            name=name,
            names=names,
            issued_at=int(certificate.not_valid_before_utc.timestamp()) + certificates.BACKDATE_SECONDS,
            not_after=int(certificate.not_valid_after_utc.timestamp()),
        )
        with self._locked():
            index = self._index()
            self._write(msgspec.structs.replace(index, certificates=(*index.certificates, record)))
        return Issued(_pem(certificate), private_pem(key), record)

    def _revoke(self, chosen: Callable[[Record], bool]) -> Iterable[Record]:
        now = int(self._clock.wall())
        with self._locked():
            index = self._index()
            after = tuple(
                msgspec.structs.replace(record, revoked_at=now)
                if chosen(record) and not record.revoked_at
                else record
                for record in index.certificates
            )
            self._write(msgspec.structs.replace(index, certificates=after))
        return after

    def _key(self) -> ec.EllipticCurvePrivateKey:
        path = self.directory / "ca.key"
        try:
            key = serialization.load_pem_private_key(files.read(path, _CURE), password=None)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(str(path), "not a private key", _CURE) from error
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != self.certificate.public_key()
        ):
            raise ConfigurationError(str(path), "not the key of ca.pem", _CURE)
        return key

    def _index(self) -> _Index:
        path = self.directory / "index.json"
        try:
            return msgspec.json.decode(files.read(path, _CURE), type=_Index)
        except msgspec.DecodeError as error:
            raise ConfigurationError(str(path), f"damaged: {error}", "bring it back from a copy") from error

    def _write(self, index: _Index) -> None:
        files.replace(self.directory / "index.json", msgspec.json.format(msgspec.json.encode(index)))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with files.told_clearly(self.directory, _CURE):
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
