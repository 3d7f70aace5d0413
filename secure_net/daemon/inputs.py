"""What a daemon reads from disk at its start and at every reload: all of it, before anything changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from cryptography import x509

from secure_net.config import Configuration
from secure_net.daemon.reload import changed_keys, effective
from secure_net.errors import ConfigurationError
from secure_net.identity import files
from secure_net.identity.certificates import RevocationList, read_crl
from secure_net.identity.jose import KeySet
from secure_net.identity.policy import Grant
from secure_net.identity.setup import load_keys
from secure_net.wire.tls import TLSMaterial, TLSPolicy

ALPN = ("http/1.1", "http/1.0")  # the latter alone is what `curl --http1.0` offers


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """A configuration, and what it points to. `crl` is None where there is no crl.pem.

    `needs_restart`: the keys that have changed, and of which `configuration` has what already runs.
    """

    configuration: Configuration
    material: TLSMaterial
    authorities: tuple[x509.Certificate, ...]
    keys: KeySet
    crl: RevocationList | None
    grants: Mapping[str, Grant]
    needs_restart: tuple[str, ...] = ()

    @classmethod
    def load(cls, written: Configuration, now: float, running: Configuration | None = None) -> Inputs:
        """Read what `written` points to; where it takes the place of `running`, as far as it can.

        Raises `ConfigurationError` for whatever would keep peers from being served; `now` is Unix time.
        """
        configuration = written if running is None else effective(running, written)
        directory = configuration.tls_directory
        policies = (tls_policy(configuration, name) for name in configuration.services)
        material = TLSMaterial.load(directory, *policies)
        _refuse_invalid_now(material.certificate, str(directory / "server.pem"), now)
        authorities = tuple(x509.load_pem_x509_certificates(material.ca_pem.encode()))
        crl_path = directory / "crl.pem"
        return cls(
            configuration=configuration,
            material=material,
            authorities=authorities,
            keys=load_keys(directory),
            crl=read_crl(files.read(crl_path), authorities) if crl_path.exists() else None,
            grants={name: Grant.parse(entry.scopes) for name, entry in configuration.identities.items()},
            needs_restart=changed_keys(configuration, written),
        )

    @property
    def certificate_ends(self) -> dict[str, float]:
        """notAfter in Unix seconds, by a closed set of names."""
        ends = [authority.not_valid_after_utc.timestamp() for authority in self.authorities]
        return {"server": self.material.certificate.not_valid_after_utc.timestamp(), "ca": min(ends)}


def tls_policy(configuration: Configuration, name: str) -> TLSPolicy:
    """What the service `name` demands of TLS."""
    return TLSPolicy(ALPN, configuration.minimum(name), configuration.client_certificates(name))


def _refuse_invalid_now(certificate: x509.Certificate, where: str, now: float) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end.timestamp():
        cure = "run `secure-net ca renew server`"
        raise ConfigurationError(where, f"expired on {end:%Y-%m-%d %H:%M} UTC", cure)
    if now < begin.timestamp():
        raise ConfigurationError(where, f"not valid before {begin:%Y-%m-%d %H:%M} UTC", "set the clock")
