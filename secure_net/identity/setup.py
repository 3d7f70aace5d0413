"""The development PKI that ``secure-net init`` writes, and the rotation of token signing keys."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_net.errors import ConfigurationError, ExistsError
from secure_net.identity import files
from secure_net.identity.authority import Authority, Issued, WallClock
from secure_net.identity.certificates import CRL_SECONDS
from secure_net.identity.jose import KeySet, PublicKey
from secure_net.identity.tokens import TokenSigner
from secure_net.limits import TokenLimits
from secure_net.store.files import DISK

CLIENTS = ("admin", "metrics", "demo")
TOKEN_KEY = "token.key"  # noqa: S105 - the name of a file
TOKEN_KEYS = "token-keys.json"  # noqa: S105 - the name of a file
_CURE = "choose another directory, or remove what is there"


def create_development_pki(
    directory: Path, names: Sequence[str], clock: WallClock, *, clients: Sequence[str] = CLIENTS
) -> Authority:
    """Write ``ca/`` and ``certs/`` under `directory`, for a server with `names`.

    ::

        ca/      0700   see `authority`; the daemon needs none of it
        certs/          ca.pem, crl.pem, server.pem, server.key, token-keys.json
          clients/      NAME.pem and NAME.key for each of `clients`

    All is made in a folder of its own first, and nothing is overwritten: when a file is there already, or
    the disk is full, `directory` is left as it was. Raises `ExistsError`, `ConfigurationError` or
    `StateFullError`.
    """
    with files.told_clearly(directory, _CURE):
        directory.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".init-", dir=directory))
    try:
        authority = Authority.create(stage / "ca", names, clock)
        _fill(stage / "certs", authority, clients)
        _publish(stage, directory)
    finally:
        shutil.rmtree(stage)
    return Authority.load(directory / "ca", clock)


def _fill(certs: Path, authority: Authority, clients: Sequence[str]) -> None:
    key = Ed25519PrivateKey.generate()
    files.write_new(authority.directory / TOKEN_KEY, _private_pem(key))
    with files.told_clearly(certs):
        (certs / "clients").mkdir(parents=True)
    files.write_new(certs / "ca.pem", authority.pem, files.PUBLIC)
    files.write_new(certs / "crl.pem", authority.crl(), files.PUBLIC)
    files.write_new(certs / TOKEN_KEYS, KeySet([PublicKey.of(key.public_key())]).to_json(), files.PUBLIC)
    write_pair(certs / "server", authority.issue_server("server"))
    for name in clients:
        write_pair(certs / "clients" / name, authority.issue_client(name))


def _publish(stage: Path, directory: Path) -> None:
    """Link every staged file to its place. A link never replaces a file, and costs no disk."""
    made: list[Path] = []
    try:
        for source in sorted(stage.rglob("*")):
            target = directory / source.relative_to(stage)
            with files.told_clearly(target, _CURE):
                if source.is_file():
                    target.hardlink_to(source)
                elif target.is_dir() and target.name != "ca":
                    continue  # certs/ may hold a README already
                else:
                    target.mkdir(mode=source.stat().st_mode & 0o777)
            made.append(target)
    except BaseException:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()
        raise
    for folder in {path.parent for path in made}:
        DISK.sync_directory(folder)


def write_pair(stem: Path, issued: Issued, *, replace: bool = False) -> tuple[Path, Path]:
    """Write ``STEM.pem`` (0644) and ``STEM.key`` (0600); returns both paths.

    Raises `ExistsError` when one does, unless `replace` says that it is a renewal.
    """
    # Not `with_suffix`: names may have dots.
    certificate, key = stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.key")
    with files.told_clearly(stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
    if replace:
        files.replace(key, issued.key)
        files.replace(certificate, issued.certificate, files.PUBLIC)
        return certificate, key
    cure = f"`secure-net ca renew {issued.record.name}`"
    if certificate.exists():
        raise ExistsError(str(certificate), cure)
    files.write_new(key, issued.key, cure=cure)
    files.write_new(certificate, issued.certificate, files.PUBLIC)
    return certificate, key


def write_crl(certs: Path, authority: Authority, *, lifetime: float = CRL_SECONDS) -> Path:
    """Sign a CRL with the next number and put it in the place of ``crl.pem``."""
    path = certs / "crl.pem"
    files.replace(path, authority.crl(lifetime=lifetime), files.PUBLIC)
    return path


def load_signer(authority: Authority) -> TokenSigner:
    """The signer of access tokens. Raises `ConfigurationError` when its key is missing or damaged."""
    path = authority.directory / TOKEN_KEY
    try:
        key = serialization.load_pem_private_key(files.read(path), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(str(path), "not a private key", "`secure-net token rotate`") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(str(path), "not an Ed25519 key", "`secure-net token rotate`")
    return TokenSigner(key, authority.trust_domain)


def load_keys(certs: Path) -> KeySet:
    """The public keys in ``certs/token-keys.json``. Raises `ConfigurationError`."""
    path = certs / TOKEN_KEYS
    try:
        return KeySet.from_json(files.read(path, "`secure-net token rotate`"))
    except ValueError as error:
        raise ConfigurationError(str(path), f"damaged: {error}", "bring it back from a copy") from error


def rotate_signing_key(authority: Authority, certs: Path, clock: WallClock) -> KeySet:
    """Make a new signing key, publish its public half, and let the older ones retire.

    Older keys keep verifying until no token of theirs can be valid any more (24 h), then count for nothing.
    Cut off at any instant, this leaves a signing key whose public half is published. Returns the new set;
    the daemon has to reload it before it accepts tokens of the new key.
    """
    key = Ed25519PrivateKey.generate()
    new, old = PublicKey.of(key.public_key()), load_keys(certs)
    path = certs / TOKEN_KEYS
    files.replace(path, KeySet((new, *old.keys)).to_json(), files.PUBLIC)
    files.replace(authority.directory / TOKEN_KEY, _private_pem(key))
    rotated = old.rotated(new, clock.wall(), TokenLimits().token_lifetime_seconds)
    files.replace(path, rotated.to_json(), files.PUBLIC)
    return rotated


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
