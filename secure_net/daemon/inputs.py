"""What a daemon reads from disk at its start and at every reload: all of it, before anything changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from cryptography import x509

from secure_net.config import Configuration
from secure_net.daemon.reload import changed_keys, effective
from secure_net.errors import ConfigurationError
from secure_net.identity import files
from secure_net.identity.certificates import Constraints, RevocationList, read_crl
from secure_net.identity.jose import KeySet
from secure_net.identity.policy import Grant
from secure_net.identity.setup import load_keys
from secure_net.wire.tls import TLSMaterial, TLSPolicy

_HTTP = ("http/1.1", "http/1.0")  # the latter alone is what `curl --http1.0` offers
# What each service speaks, by the names of RFC 7301; frames have none, and welcome who offers none.
_ALPN: Mapping[str, tuple[str, ...]] = {"rpc": _HTTP, "files": _HTTP, "chat-web": _HTTP, "admin": _HTTP}
RENEW_SERVER = "run `secure-net ca renew server`, then `secure-net reload`"


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
        authorities = tuple(x509.load_pem_x509_certificates(material.ca_pem.encode()))
        _refuse(out_of_time(material.certificate, str(directory / "server.pem"), now, RENEW_SERVER))
        _refuse(foreign(authorities, str(directory / "ca.pem"), configuration.server.audience))
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
    return TLSPolicy(
        _ALPN.get(name, ()), configuration.minimum(name), configuration.client_certificates(name)
    )


def out_of_time(
    certificate: x509.Certificate, where: str, now: float, cure: str
) -> Iterator[ConfigurationError]:
    """What is wrong with a certificate that has expired (`cure` says what then), or has not begun."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end.timestamp():
        yield ConfigurationError(where, f"expired on {end:%Y-%m-%d %H:%M} UTC", cure)
    elif now < begin.timestamp():
        yield ConfigurationError(where, f"not valid before {begin:%Y-%m-%d %H:%M} UTC", "set the clock")


def foreign(
    authorities: Iterable[x509.Certificate], where: str, audience: str
) -> Iterator[ConfigurationError]:
    """What is wrong with those that no `secure-net init` made, or made for another trust domain.

    OpenSSL takes a CA without a path length, and every client of a foreign trust domain would be refused.
    """
    for authority in authorities:
        try:
            domain = Constraints.of(authority).trust_domain
        except ConfigurationError as error:
            yield ConfigurationError(where, error.problem, error.cure)
            continue
        if domain != audience:
            problem = (
                f"{audience} is not the trust domain of {where}, which is {domain}: it names no client here"
            )
            yield ConfigurationError("server.names", problem, f"put {domain} first")


def _refuse(problems: Iterable[ConfigurationError]) -> None:
    for problem in problems:
        raise problem
