"""TLS as a sans-IO layer over memory BIOs, and the only place that builds an `SSLContext`.

Theory of operation. `TLSLayer` holds one `ssl.SSLObject` between two `ssl.MemoryBIO`s. Ciphertext goes in
by `receive`, which returns the plaintext it held; plaintext goes in by `send`, and `ciphertext` takes what
must go to the peer. A server's layer withholds everything from OpenSSL until the ClientHello is whole and
its server name and ALPN offer are ours (`hello.py`).

Why not the event loop's own TLS: `docs/decisions/0002-own-tls-layer.md`.
"""

from __future__ import annotations

import dataclasses
import ssl
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from cryptography import x509

from secure_net.errors import ConfigurationError, Refusal, RemoteProtocolError
from secure_net.wire import hello

# A MemoryBIO keeps its peak size for life: both directions move in slices no larger than this.
SLICE = 16 * 1024

# What is sent in bulk is encrypted and written so much at a time: by single slices it costs a quarter more in
# all. Who was sent as much at once has a MemoryBIO of 88 KiB from then on, all others one of 22.
BURST = 4 * SLICE

# TLS 1.2, where it is configured at all: forward secret AEAD only.
CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"

MINIMA = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

ClientCertificates = Literal["off", "optional", "required"]
MinimumVersion = Literal["1.2", "1.3"]


@dataclasses.dataclass(frozen=True, slots=True)
class TLSPolicy:
    """What one service demands of TLS.

    `alpn`: the protocols it speaks; a client that offers only others is refused, one that offers none is
    welcome. `upgrade`: the connection begins in plaintext and TLS comes by the protocol's own command.
    """

    alpn: tuple[str, ...] = ()
    minimum: MinimumVersion = "1.3"
    client_certificates: ClientCertificates = "optional"
    upgrade: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class TLSMaterial:
    """What rests in `[tls].directory`, read once and replaced as a whole at a reload.

    `names`: the DNS names and addresses in the server certificate's SAN, lower case. `contexts`: one for
    each policy that was asked for, all of the same certificate and key; nothing is read again to serve.
    """

    directory: Path
    ca_pem: str
    certificate: x509.Certificate
    names: frozenset[str]
    contexts: Mapping[TLSPolicy, ssl.SSLContext]

    @classmethod
    def load(cls, directory: Path, *policies: TLSPolicy) -> TLSMaterial:
        """Read and check `ca.pem`, `server.pem` and `server.key`, and make a context for each policy.

        Raises `ConfigurationError`, also where the files were changed meanwhile.
        """
        ca_pem = _text(directory / "ca.pem")
        certificate_path, key_path = directory / "server.pem", directory / "server.key"
        certificate_pem = _text(certificate_path)
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
            x509.load_pem_x509_certificates(ca_pem.encode())
        except ValueError:
            raise ConfigurationError(
                f"{certificate_path} or {directory / 'ca.pem'}",
                "is not a PEM certificate",
                "run `secure-net ca renew server`, or bring ca.pem back",
            ) from None
        refuse_readable_by_others(key_path)
        pair = certificate_pem, _text(key_path)
        material = cls(directory, ca_pem, certificate, _names(certificate), {})
        # Without a policy one all the same: a key that does not fit shows here, not at the first peer.
        contexts = {policy: server_context(material, policy) for policy in policies or (TLSPolicy(),)}
        # `ssl` takes a key from a file only, so every context has read both again.
        if pair != (_text(certificate_path), _text(key_path)):
            raise ConfigurationError(
                str(certificate_path), "or its key changed while they were read", "try again"
            )
        return dataclasses.replace(material, contexts=contexts)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        raise ConfigurationError(str(path), "does not exist", "run `secure-net init`") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not a PEM file"
        raise ConfigurationError(str(path), f"cannot be read: {reason}") from None


def refuse_readable_by_others(path: Path) -> None:
    """A secret must be a regular file that group and others cannot touch. Raises `ConfigurationError`."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(
            str(path), f"cannot be read: {error.strerror}", "run `secure-net init`"
        ) from None
    if not stat.S_ISREG(mode):
        raise ConfigurationError(str(path), "is not a regular file")
    if mode & 0o077:
        raise ConfigurationError(str(path), "is a secret that others can read", f"run `chmod 600 {path}`")


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ConfigurationError(
            "server.pem", "bears no names (no subjectAltName)", "run `secure-net ca renew server --dns NAME`"
        ) from None
    dns = (name.lower() for name in names.get_values_for_type(x509.DNSName))
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return frozenset((*dns, *addresses))


def server_context(material: TLSMaterial, policy: TLSPolicy) -> ssl.SSLContext:
    """A fresh context. Trust only accumulates inside one, so a reload always builds anew (D9).

    Raises `ConfigurationError` where the key does not belong to the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, policy.minimum, policy.alpn)
    certificate, key = material.directory / "server.pem", material.directory / "server.key"
    try:
        context.load_cert_chain(
            certificate, key, password=""
        )  # an encrypted key fails, and never asks a terminal
    except (ssl.SSLError, OSError):
        raise ConfigurationError(
            str(key), "is not the key of server.pem", "run `secure-net ca renew server`"
        ) from None
    if policy.client_certificates != "off":
        context.load_verify_locations(cadata=material.ca_pem)
        required = policy.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        # A resumed session would bring its certificate along unverified (D9).
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def client_context(
    ca: Path | str,
    certificate: Path | None = None,
    key: Path | None = None,
    *,
    minimum: MinimumVersion = "1.3",
    alpn: tuple[str, ...] = (),
) -> ssl.SSLContext:
    """A context that verifies chain and name against our own CA and nothing else.

    `ca` is a path, or PEM text. `certificate` and `key` are shown when the server asks; `key` defaults
    to the same path with the suffix ``.key``. Raises `ConfigurationError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, minimum, alpn)
    pem = _text(ca) if isinstance(ca, Path) else ca
    try:
        context.load_verify_locations(cadata=pem)
    except ssl.SSLError:
        raise ConfigurationError(str(ca)[:200], "is not a PEM certificate") from None
    if certificate is not None:
        key = key or certificate.with_suffix(".key")
        refuse_readable_by_others(key)
        try:
            context.load_cert_chain(certificate, key, password="")
        except (ssl.SSLError, OSError):
            raise ConfigurationError(str(certificate), "cannot be loaded with its key") from None
    return context


def _harden(context: ssl.SSLContext, minimum: MinimumVersion, alpn: Iterable[str]) -> None:
    context.minimum_version = MINIMA[minimum]
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_ciphers(CIPHERS_1_2)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    protocols = list(alpn)
    if protocols:
        context.set_alpn_protocols(protocols)


class HelloGate:
    """Which ClientHellos a server lets through: by server name and ALPN offer."""

    __slots__ = ("_alpn", "_names")

    def __init__(self, names: frozenset[str], alpn: tuple[str, ...]) -> None:
        self._names = names
        self._alpn = frozenset(name.encode("ascii") for name in alpn)

    def refusal(self, client_hello: hello.ClientHello) -> tuple[Refusal, bytes] | None:
        """The reason and the fatal alert for a hello that is not for us, else None."""
        name, offer = client_hello
        if name is not None and name not in self._names:
            return Refusal.SERVER_NAME, hello.ALERT_UNRECOGNIZED_NAME
        if offer and self._alpn.isdisjoint(offer):
            return Refusal.ALPN, hello.ALERT_NO_APPLICATION_PROTOCOL
        return None


class PlainLayer:
    """What stands in for a `TLSLayer` until the upgrade: nothing is encrypted, and an end is just an end."""

    __slots__ = ("_outgoing",)

    established = True
    peer_closed = truncated = owes = False

    def __init__(self) -> None:
        self._outgoing = b""

    def begin(self) -> None:
        """Nothing to say."""

    def receive(self, data: bytes | memoryview) -> bytes:
        return bytes(data)

    def receive_eof(self) -> None:
        """Without TLS nothing tells an end from a cut."""

    def send(self, data: bytes | memoryview) -> None:
        self._outgoing += data

    def ciphertext(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def encrypted(self, data: bytes | memoryview) -> bytes:
        return bytes(data)

    def close(self) -> None:
        """FIN is all there is."""

    def peer_certificate(self) -> bytes | None:
        return None


class TLSLayer:
    """One TLS connection, without any I/O.

    Attributes: `established` once the handshake is done; `peer_closed` once the peer sent close_notify;
    `truncated` once its end came without one.
    """

    __slots__ = (
        "_alert",
        "_door",
        "_incoming",
        "_object",
        "_outgoing",
        "_pending",
        "_read",
        "established",
        "peer_closed",
        "truncated",
    )

    def __init__(
        self, context: ssl.SSLContext, *, gate: HelloGate | None = None, server_hostname: str | None = None
    ) -> None:
        """`gate` makes it a server's; `server_hostname`, the name to verify, a client's."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=gate is not None, server_hostname=server_hostname
        )
        # A server's, until its gate has let the peer through. OpenSSL sees nothing before.
        self._door = None if gate is None else (gate, hello.HelloReader())
        self._alert = b""
        self._read, self._pending = self._object.read, self._object.pending
        self.established = self.peer_closed = self.truncated = False

    def begin(self) -> None:
        """A client speaks first: queue its ClientHello. A server waits for one."""
        if self._door is None:
            self._shake()

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take ciphertext, return the plaintext in it, often none.

        Raises `RemoteProtocolError` (with the alert queued in `ciphertext`) when the handshake fails or
        the stream is broken. During the handshake it returns b"" and sets `established` when done;
        plaintext behind it comes from the next call, which may be ``receive(b"")``.
        """
        if not self.established:
            return self._receive_handshake(bytes(data))
        if len(data) <= SLICE:
            self._incoming.write(data)
            return self._decrypt()
        chunks = []
        for begin in range(0, len(data), SLICE):
            self._incoming.write(data[begin : begin + SLICE])
            chunks.append(self._decrypt())
        return b"".join(chunks)

    def receive_eof(self) -> None:
        """The transport's end. Sets `truncated` unless close_notify came before."""
        if not self.peer_closed:
            self.truncated = True

    def _receive_handshake(self, data: bytes) -> bytes:
        if self._door is not None:
            gate, reader = self._door
            client_hello = reader.receive(data)
            if client_hello is None:
                return b""
            refusal = gate.refusal(client_hello)
            if refusal is not None:
                reason, self._alert = refusal
                raise RemoteProtocolError(reason, f"hello {client_hello!r}")
            data, self._door = bytes(reader.received), None
        for begin in range(0, len(data), SLICE):
            self._incoming.write(data[begin : begin + SLICE])
            if not self.established:
                self._shake()
        return b""

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLCertVerificationError as error:
            raise RemoteProtocolError(Refusal.CERTIFICATE_INVALID, error.verify_message) from None
        except ssl.SSLError as error:
            reason = error.reason or "handshake"
            required = reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
            refusal = Refusal.CERTIFICATE_REQUIRED if required else Refusal.HANDSHAKE
            raise RemoteProtocolError(refusal, reason) from None
        self.established = True

    def _decrypt(self) -> bytes:
        incoming, pending, read = self._incoming, self._pending, self._read
        try:
            chunk = read(SLICE)
            if chunk and not incoming.pending and not pending():
                return chunk  # the usual case: one record, and no exception to say that there are no more
        except ssl.SSLError as error:
            self._ended(error)
            return b""
        chunks = [chunk]
        try:
            while chunk and (incoming.pending or pending()):
                chunk = read(SLICE)
                chunks.append(chunk)
        except ssl.SSLError as error:
            self._ended(error)
        else:
            self.peer_closed = not chunk
        return b"".join(chunks)

    def _ended(self, error: ssl.SSLError) -> None:
        """Why `read` gave nothing: more is needed, the peer is done, or the stream is broken."""
        if isinstance(error, ssl.SSLWantReadError):
            return
        if not isinstance(error, ssl.SSLZeroReturnError):
            raise RemoteProtocolError(Refusal.RECORD, error.reason or "record") from None
        self.peer_closed = True

    def send(self, data: bytes | memoryview) -> None:
        """Encrypt at most `SLICE` bytes; `ciphertext` then holds them."""
        self._object.write(data)

    @property
    def owes(self) -> bool:
        """Something must go to the peer that nobody sent: a handshake's flight, an alert, a new key."""
        return self._outgoing.pending > 0

    def ciphertext(self) -> bytes:
        """Whatever must go to the peer, and forget it."""
        if self._door is not None:
            alert, self._alert = self._alert, b""
            return alert
        return self._outgoing.read()

    def encrypted(self, data: bytes | memoryview) -> bytes:
        """`data`, at most a `BURST`, as it goes to the peer, after whatever else must."""
        if len(data) == BURST:
            self._object.write(data)
            return self._outgoing.read()
        records = []
        for begin in range(0, len(data), SLICE):
            self._object.write(data[begin : begin + SLICE])
            records.append(self._outgoing.read())
        return b"".join(records)

    def close(self) -> None:
        """Queue our close_notify."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            # Want-read means that it is queued; anything else that the peer has gone. Either way we close.
            return

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER, verified by OpenSSL, or None."""
        return self._object.getpeercert(binary_form=True)

    def version(self) -> str:
        return self._object.version() or ""
