"""What ``secure-net check`` finds: each check is a function from configuration and files to findings.

Nothing is started and nothing is changed. A finding has a cure; those of level *error* would keep the daemon
from starting or peers from trusting it, a *warning* is unsafe or soon will fail, a *notice* is worth knowing.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from cryptography import x509

from secure_net.config import Configuration
from secure_net.daemon.files_posture import files_problems
from secure_net.daemon.inputs import RENEW_SERVER, foreign, out_of_time
from secure_net.daemon.state_posture import state_problems
from secure_net.errors import ConfigurationError
from secure_net.identity.certificates import is_trusted, read_crl
from secure_net.identity.names import address as ip_address
from secure_net.identity.policy import Grant
from secure_net.identity.setup import load_keys
from secure_net.wire.tls import TLSMaterial, refuse_readable_by_others

Level = Literal["error", "warning", "notice"]
LEVELS: tuple[Level, ...] = ("error", "warning", "notice")

DAY = 24 * 3600.0
SOON_SECONDS = 21 * DAY  # a certificate that ends within this is a warning
FREE_BYTES = 256 * 1024 * 1024  # less room than this for the state is a warning
SPARE_DESCRIPTORS = 64  # for listeners, the store, the trail, the log and imports


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """`where` is a key's path or a file."""

    level: Level
    where: str
    problem: str
    cure: str

    @classmethod
    def of(cls, error: ConfigurationError) -> Finding:
        return cls("error", error.path, error.problem, error.cure)


Check = Callable[[Configuration, float], Iterable[Finding]]


def examine(configuration: Configuration, now: float) -> tuple[Finding, ...]:
    """Every finding, the gravest first. `now` is Unix time in seconds."""
    found = [finding for check in CHECKS for finding in check(configuration, now)]
    return tuple(sorted(found, key=lambda finding: LEVELS.index(finding.level)))


# --- certificates and keys ------------------------------------------------------------------------


def _material(configuration: Configuration, now: float) -> Iterator[Finding]:
    try:
        material = TLSMaterial.load(configuration.tls_directory)
    except ConfigurationError as error:
        yield Finding.of(error)
        return
    where = str(configuration.tls_directory / "server.pem")
    yield from _lifetime(material.certificate, where, now, RENEW_SERVER)
    yield from _names(configuration, material, where)
    authorities = x509.load_pem_x509_certificates(material.ca_pem.encode())
    ca_path = configuration.tls_directory / "ca.pem"
    for authority in authorities:
        yield from _lifetime(authority, str(ca_path), now, "make a new CA with `secure-net init` elsewhere")
    yield from map(Finding.of, foreign(authorities, str(ca_path), configuration.server.audience))
    if not is_trusted(material.certificate, authorities):
        yield Finding("error", where, f"not signed by {ca_path}: no client of ours trusts it", RENEW_SERVER)
    yield from _crl(configuration, authorities, now)


def _lifetime(certificate: x509.Certificate, where: str, now: float, cure: str) -> Iterator[Finding]:
    problems = tuple(out_of_time(certificate, where, now, cure))
    yield from map(Finding.of, problems)
    end = certificate.not_valid_after_utc
    if not problems and end.timestamp() - now < SOON_SECONDS:
        yield Finding("warning", where, f"ends on {end:%Y-%m-%d}", cure)


def _names(configuration: Configuration, material: TLSMaterial, where: str) -> Iterator[Finding]:
    missing = [name for name in configuration.server.names if name not in material.names]
    if missing:
        borne = " --dns ".join(dict.fromkeys((*configuration.server.names, *sorted(material.names))))
        cure = f"run `secure-net ca renew server --dns {borne}`, or correct server.names"
        yield Finding("error", where, f"does not bear {', '.join(missing)} of server.names", cure)
    exposed = [service for service in configuration.services if _reaches_network(configuration, service)]
    if exposed and all(map(_is_loopback, material.names)):
        problem = f"names this machine only, while {', '.join(exposed)} listens to the network"
        cure = (
            "add the name that clients use to server.names, and run `secure-net ca renew server --dns NAME`"
        )
        yield Finding("warning", where, problem, cure)


def _crl(
    configuration: Configuration, authorities: Iterable[x509.Certificate], now: float
) -> Iterator[Finding]:
    path = configuration.tls_directory / "crl.pem"
    cure = "run `secure-net ca crl`, then `secure-net reload`"
    if not path.exists():
        yield Finding("notice", str(path), "no CRL: revocations that another machine made are unknown", cure)
        return
    try:
        crl = read_crl(path.read_bytes(), authorities)
    except ConfigurationError as error:
        yield Finding("error", str(path), error.problem, error.cure)
    except OSError as error:
        yield Finding("error", str(path), error.strerror or "cannot be read", "correct its owner and mode")
    else:
        if crl.next_update <= now:
            yield Finding("warning", str(path), "stale: its next update is overdue", cure)


def _token_keys(configuration: Configuration, now: float) -> Iterator[Finding]:
    try:
        keys = load_keys(configuration.tls_directory)
    except ConfigurationError as error:
        yield Finding.of(error)
        return
    if not any(key.retires_at is None or key.retires_at > now for key in keys.keys):
        path = configuration.tls_directory / "token-keys.json"
        yield Finding(
            "warning",
            str(path),
            "holds no key in force: every token is refused",
            "run `secure-net token rotate`",
        )


def _clients(configuration: Configuration, now: float) -> Iterator[Finding]:
    for path in sorted((configuration.tls_directory / "clients").glob("*.pem")):
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            yield Finding("warning", str(path), "not a readable certificate", "remove it, or issue it anew")
            continue
        cure = f"run `secure-net ca renew {path.stem} --kind client`"
        for finding in _lifetime(certificate, str(path), now, cure):
            yield dataclasses.replace(finding, level="warning")


def _secrets(configuration: Configuration, now: float) -> Iterator[Finding]:
    certs, authority = configuration.tls_directory, configuration.base / "ca"
    files = [*certs.glob("clients/*.key"), *authority.glob("*.key")]
    if configuration.client.token_file:
        files.append(configuration.path(configuration.client.token_file))
    if configuration.client.token and configuration.file is not None:
        files.append(configuration.file)
    for path in sorted(files):
        try:
            refuse_readable_by_others(path)
        except ConfigurationError as error:
            yield Finding.of(error)
    for directory in (authority, configuration.state_directory):
        if directory.is_dir() and directory.stat().st_mode & 0o077:
            yield Finding("warning", str(directory), "open to others", f"run `chmod 700 {directory}`")


def _writable(configuration: Configuration, now: float) -> Iterator[Finding]:
    """Whoever can change these owns the daemon."""
    certs = configuration.tls_directory
    for path in (configuration.file, configuration.base, certs, certs / "ca.pem", certs / "token-keys.json"):
        if path is None or not path.exists():
            continue
        mode = path.stat().st_mode
        sticky = stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX)
        if mode & 0o022 and not sticky:
            yield Finding("error", str(path), "can be changed by others", f"run `chmod go-w {path}`")


# --- the configuration itself -----------------------------------------------------------------------


def _is_loopback(host: str) -> bool:
    number = ip_address(host)
    return number.is_loopback if number is not None else host == "localhost"


def _reaches_network(configuration: Configuration, service: str) -> bool:
    return not all(_is_loopback(address.host) for address in configuration.addresses(service))


def _services(configuration: Configuration, now: float) -> Iterator[Finding]:
    if not configuration.services:
        yield Finding("error", "rpc", "no service is configured", "add an [rpc] table")
    if configuration.rpc is not None and not configuration.rpc.services:
        cure = 'name your registries, such as services = ["mymodule:registry"]'
        yield Finding("warning", "rpc.services", "empty: there is nothing to call", cure)
    if configuration.admin is None:
        cure = 'add [admin] with listen = "127.0.0.1:9443"'
        yield Finding("notice", "admin", "no [admin] table: nothing to scrape and no probes", cure)
    elif configuration.client_certificates("admin") == "required":
        problem = "required: kubelet's probes have no certificate, and fail"
        yield Finding("notice", "admin.client_certificates", problem, 'set "optional" where they probe')


def _files(configuration: Configuration, now: float) -> Iterator[Finding]:
    if configuration.files is not None:
        yield from (Finding(*row) for row in files_problems(configuration.files, configuration.base))


def _versions(configuration: Configuration, now: float) -> Iterator[Finding]:
    for service in configuration.services:
        if configuration.minimum(service) == "1.2":
            own = configuration.services[service].table.minimum
            where = f"{service}.minimum" if own else "tls.minimum"
            problem = f"{service} accepts TLS 1.2"
            yield Finding("warning", where, problem, 'set "1.3" once the last old client is gone')


_EVERYTHING = (("admin", "write"), ("rpc", "call"), ("ftp", "write"))


def _identities(configuration: Configuration, now: float) -> Iterator[Finding]:
    for name, entry in configuration.identities.items():
        where = f"identities.{name}.scopes"
        if not entry.scopes:
            yield Finding("notice", where, "empty: may do nothing", "add a scope, or remove the table")
            continue
        grant = Grant.parse(entry.scopes)
        if name != "admin" and all(grant.allows(service, verb, "/any") for service, verb in _EVERYTHING):
            yield Finding("warning", where, "may do everything", "name the services and resources it needs")


# --- the machine --------------------------------------------------------------------------------------


def descriptors_needed(configuration: Configuration) -> int:
    """File descriptors for the connections that the limits allow, and for files with both of their twins."""
    limits = configuration.limits
    files = 3 * limits.files.files_open_count if configuration.files is not None else 0
    return limits.connection.connections_count + files + SPARE_DESCRIPTORS


def _descriptors(configuration: Configuration, now: float) -> Iterator[Finding]:
    needed = descriptors_needed(configuration)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        problem = f"asks for {needed} file descriptors, the hard limit is {hard}"
        cure = "raise it (LimitNOFILE= under systemd, `ulimit -Hn` in a shell), or lower this"
        yield Finding("warning", "limits.connections_count", problem, cure)


def _state(configuration: Configuration, now: float) -> Iterator[Finding]:
    state = configuration.state_directory
    place = state if state.is_dir() else state.parent
    if state.exists() and not state.is_dir():
        yield Finding("error", "server.state", f"{state} is no directory", "name a directory")
    elif not os.access(place, os.W_OK | os.X_OK):
        cure = "correct its owner, or run as the user that owns it"
        yield Finding("error", "server.state", f"{place} is missing or not writable", cure)
    else:
        yield from map(Finding.of, state_problems(state))
        room = os.statvfs(place)
        if room.f_bavail * room.f_frsize < FREE_BYTES:
            free = room.f_bavail * room.f_frsize // (1024 * 1024)
            yield Finding("warning", "server.state", f"{free} MiB free on the disk of {place}", "make room")


def _user(configuration: Configuration, now: float) -> Iterator[Finding]:
    exposed = any(_reaches_network(configuration, service) for service in configuration.services)
    authority_key = configuration.base / "ca" / "ca.key"
    if exposed and authority_key.exists():
        problem = "the CA's key rests beside a daemon that the network can reach"
        yield Finding(
            "notice", str(authority_key), problem, "move ca/ to another machine; the daemon needs none of it"
        )
    if exposed and os.geteuid() == 0:
        yield Finding("notice", "process", "runs as root", "run as a user of its own; see deploy/")


CHECKS: tuple[Check, ...] = (
    _material,
    _token_keys,
    _secrets,
    _writable,
    _clients,
    _services,
    _files,
    _versions,
    _identities,
    _descriptors,
    _state,
    _user,
)
