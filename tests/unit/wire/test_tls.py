"""TLS without I/O: contexts, what they are loaded from, the gate, and the layer whatever it is fed."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_net.errors import ConfigurationError, Refusal, RemoteProtocolError
from secure_net.wire import tls
from secure_net.wire.hello import ClientHello
from secure_net.wire.tls import (
    BURST,
    SLICE,
    HelloGate,
    PlainLayer,
    TLSLayer,
    TLSMaterial,
    TLSPolicy,
    client_context,
    server_context,
)
from tests.support.pki import PKI, make_pki
from tests.support.records import RecordWriter

NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Pair:
    """A client's and a server's layer that hand each other what they queue."""

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        *,
        alpn: tuple[str, ...] = (),
        hostname: str = "localhost",
    ) -> None:
        self.server = TLSLayer(server, gate=HelloGate(NAMES, alpn))
        self.client = TLSLayer(client, server_hostname=hostname)

    def shake(self, size: int = 1 << 20) -> Pair:
        self.client.begin()
        self.server.begin()
        while not (self.client.established and self.server.established):
            for sender, receiver in ((self.client, self.server), (self.server, self.client)):
                for piece in pieces(sender.ciphertext(), size):
                    assert receiver.receive(piece) == b""
        return self

    def carry(self, data: bytes) -> bytes:
        """From the client to the server."""
        for piece in pieces(data, SLICE):
            self.client.send(piece)
        return self.server.receive(self.client.ciphertext())


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.fixture(scope="module")
def material(pki: PKI) -> TLSMaterial:
    return TLSMaterial.load(pki.certs)


def pair(pki: PKI, material: TLSMaterial, policy: TLSPolicy | None = None, **client: object) -> Pair:
    policy = policy or TLSPolicy()
    context = client_context(pki.ca, **client)  # type: ignore[arg-type]
    return Pair(server_context(material, policy), context, alpn=policy.alpn)


def refusal(pair: Pair) -> tuple[Refusal, str]:
    with pytest.raises(RemoteProtocolError) as caught:
        pair.shake()
    return caught.value.reason, caught.value.detail


# -- the handshake ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 1 << 14])
def test_a_handshake_whatever_it_is_split_into(pki: PKI, material: TLSMaterial, size: int) -> None:
    both = pair(pki, material).shake(size)
    assert both.server.version() == both.client.version() == "TLSv1.3"
    assert both.carry(b"hello") == b"hello"
    assert both.server.peer_certificate() is None
    assert both.client.peer_certificate() is not None


def test_1_2_where_it_is_configured(pki: PKI, material: TLSMaterial) -> None:
    context = client_context(pki.ca, minimum="1.2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    both = Pair(server_context(material, TLSPolicy(minimum="1.2")), context).shake()
    assert both.server.version() == "TLSv1.2"
    assert both.carry(b"hello") == b"hello"


def test_1_2_where_it_is_not(pki: PKI, material: TLSMaterial) -> None:
    context = client_context(pki.ca, minimum="1.2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    both = Pair(server_context(material, TLSPolicy()), context)
    assert refusal(both) == (Refusal.HANDSHAKE, "UNSUPPORTED_PROTOCOL")
    assert both.server.ciphertext() == b"\x15\x03\x03\x00\x02\x02\x46"  # protocol_version


def test_only_forward_secret_aead_in_1_2(material: TLSMaterial) -> None:
    ciphers = server_context(material, TLSPolicy(minimum="1.2")).get_ciphers()
    assert {cipher["aead"] for cipher in ciphers} == {True}
    assert {cipher["kea"] for cipher in ciphers} == {"kx-ecdhe", "kx-any"}


@pytest.mark.parametrize("policy", ["off", "optional", "required"])
def test_what_a_server_context_permits(material: TLSMaterial, policy: str) -> None:
    context = server_context(material, TLSPolicy(client_certificates=policy))  # type: ignore[arg-type]
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert not context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF  # D9: an expired CRL would refuse everybody
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert (context.num_tickets == 0) == (policy != "off")
    assert bool(context.options & ssl.OP_NO_TICKET) == (policy != "off")


def test_a_certificate_is_optional_required_or_never_asked_for(pki: PKI, material: TLSMaterial) -> None:
    shown = pki.client("demo")[0]
    assert pair(pki, material, certificate=shown).shake().server.peer_certificate() == pki.client_der("demo")
    off = TLSPolicy(client_certificates="off")
    assert pair(pki, material, off, certificate=shown).shake().server.peer_certificate() is None
    required = TLSPolicy(client_certificates="required")
    both = pair(pki, material, required, certificate=shown).shake()
    assert both.server.peer_certificate() == pki.client_der("demo")


def test_a_certificate_that_is_required_and_missing(pki: PKI, material: TLSMaterial) -> None:
    both = pair(pki, material, TLSPolicy(client_certificates="required"))
    assert refusal(both) == (Refusal.CERTIFICATE_REQUIRED, "PEER_DID_NOT_RETURN_A_CERTIFICATE")
    assert both.client.established  # it learns of it when it reads
    with pytest.raises(RemoteProtocolError, match="CERTIFICATE_REQUIRED"):
        both.client.receive(both.server.ciphertext())


def test_a_certificate_of_another_authority(pki: PKI, material: TLSMaterial, tmp_path: Path) -> None:
    foreign = trustme.CA().issue_cert("demo@example.org")
    certificate, key = tmp_path / "c.pem", tmp_path / "c.key"
    foreign.cert_chain_pems[0].write_to_path(str(certificate))
    foreign.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    reason, _ = refusal(pair(pki, material, certificate=certificate))
    assert reason is Refusal.CERTIFICATE_INVALID


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1", "::1"])
def test_a_client_verifies_the_name(pki: PKI, material: TLSMaterial, hostname: str) -> None:
    both = Pair(server_context(material, TLSPolicy()), client_context(pki.ca), hostname=hostname).shake()
    assert both.carry(b"x") == b"x"


def test_a_client_refuses_another_name(pki: PKI, material: TLSMaterial) -> None:
    both = Pair(server_context(material, TLSPolicy()), client_context(pki.ca), hostname="127.0.0.2")
    assert refusal(both)[0] is Refusal.CERTIFICATE_INVALID


def test_a_client_refuses_another_authority(material: TLSMaterial, pki: PKI) -> None:
    pem = trustme.CA().cert_pem.bytes().decode()
    both = Pair(server_context(material, TLSPolicy()), client_context(pem))
    assert refusal(both)[0] is Refusal.CERTIFICATE_INVALID


def test_alpn_is_agreed(pki: PKI, material: TLSMaterial) -> None:
    both = pair(pki, material, TLSPolicy(alpn=("http/1.1",)), alpn=("h2", "http/1.1")).shake()
    assert both.carry(b"x") == b"x"


@pytest.mark.parametrize(
    ("ours", "hello", "expected"),
    [
        ((), ClientHello(None, ()), None),
        ((), ClientHello("localhost", ()), None),
        (("a",), ClientHello(None, ()), None),
        (("a", "b"), ClientHello(None, (b"x", b"b")), None),
        (("a",), ClientHello(None, (b"x",)), Refusal.ALPN),
        ((), ClientHello(None, (b"x",)), Refusal.ALPN),
        (("a",), ClientHello("elsewhere", (b"a",)), Refusal.SERVER_NAME),
        (("a",), ClientHello("", (b"a",)), Refusal.SERVER_NAME),
    ],
)
def test_the_gate(ours: tuple[str, ...], hello: ClientHello, expected: Refusal | None) -> None:
    refused = HelloGate(NAMES, ours).refusal(hello)
    assert (refused and refused[0]) == expected


@pytest.mark.parametrize(
    ("hostname", "offer", "expected"),
    [
        ("elsewhere.example", (), (Refusal.SERVER_NAME, b"\x70")),
        ("localhost", ("smtp",), (Refusal.ALPN, b"\x78")),
    ],
)
def test_a_hello_that_is_not_for_us_gets_its_alert_and_openssl_never_sees_it(
    pki: PKI, material: TLSMaterial, hostname: str, offer: tuple[str, ...], expected: tuple[Refusal, bytes]
) -> None:
    both = Pair(
        server_context(material, TLSPolicy(alpn=("http/1.1",))),
        client_context(pki.ca, alpn=offer),
        alpn=("http/1.1",),
        hostname=hostname,
    )
    reason, alert = expected
    assert refusal(both)[0] is reason
    both.server.close()
    assert both.server.ciphertext() == b"\x15\x03\x03\x00\x02\x02" + alert
    assert both.server.ciphertext() == b""


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x70"])
def test_a_refused_peer_gets_nothing_of_its_own_back(material: TLSMaterial, first: bytes) -> None:
    layer = TLSLayer(server_context(material, TLSPolicy()), gate=HelloGate(NAMES, ()))
    with pytest.raises(RemoteProtocolError, match="plaintext"):
        layer.receive(first)
    layer.close()
    assert layer.ciphertext() == b""


def test_what_follows_the_handshake_in_one_piece(pki: PKI, material: TLSMaterial) -> None:
    both = pair(pki, material)
    both.client.begin()
    both.server.receive(both.client.ciphertext())
    both.client.receive(both.server.ciphertext())
    both.client.send(b"early")
    both.client.send(bytes(SLICE))
    assert both.server.receive(both.client.ciphertext()) == b""
    assert both.server.established
    assert both.server.receive(b"") == b"early" + bytes(SLICE)


def test_a_handshake_that_breaks_off_in_the_middle(pki: PKI, material: TLSMaterial) -> None:
    both = pair(pki, material)
    both.client.begin()
    both.server.receive(both.client.ciphertext())
    with pytest.raises(RemoteProtocolError) as caught:
        both.server.receive(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert caught.value.reason is Refusal.HANDSHAKE
    assert both.server.owes


# -- the stream ---------------------------------------------------------------------------------------------


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40_000), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 50_000), max_size=6),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_of_the_stream_gives_the_same_plaintext(
    pki: PKI, material: TLSMaterial, chunks: list[bytes], cuts: list[int]
) -> None:
    both = pair(pki, material).shake()
    plaintext = b"".join(chunks)
    for chunk in chunks:
        for piece in pieces(chunk, SLICE):
            both.client.send(piece)
    both.client.close()
    ciphertext, received = memoryview(both.client.ciphertext()), b""
    for cut in [*cuts, len(ciphertext)]:
        received += both.server.receive(ciphertext[:cut])
        ciphertext = ciphertext[cut:]
    assert received == plaintext
    assert both.server.peer_closed
    both.server.receive_eof()
    assert not both.server.truncated


@pytest.mark.parametrize("size", [1, SLICE, SLICE + 1, BURST - 1, BURST])
def test_bulk_is_the_same_stream(pki: PKI, material: TLSMaterial, size: int) -> None:
    both = pair(pki, material).shake()
    data = bytes(range(256)) * (size // 256 + 1)
    both.client.send(b"before")
    sealed = both.client.encrypted(memoryview(data)[:size])
    assert both.server.receive(sealed) == b"before" + data[:size]
    assert not both.client.owes
    assert PlainLayer().encrypted(memoryview(data)[:size]) == data[:size]


def test_both_ways_and_the_end(pki: PKI, material: TLSMaterial) -> None:
    both = pair(pki, material).shake()
    both.server.send(b"from the server")
    both.server.close()
    assert both.client.receive(both.server.ciphertext()) == b"from the server"
    assert both.client.peer_closed
    both.client.close()
    assert both.server.receive(both.client.ciphertext()) == b""
    assert both.server.peer_closed
    assert both.server.receive(b"\x17\x03\x03\x00\x20" + bytes(32)) == b""


def test_close_notify_in_one_piece_with_the_last_data(pki: PKI, material: TLSMaterial) -> None:
    both = pair(pki, material).shake()
    both.client.send(b"one")
    both.client.send(b"two")
    both.client.close()
    assert both.server.receive(both.client.ciphertext()) == b"onetwo"
    assert both.server.peer_closed


def test_an_end_without_close_notify_is_truncated(pki: PKI, material: TLSMaterial) -> None:
    both = pair(pki, material).shake()
    both.server.receive_eof()
    assert both.server.truncated


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_record_that_does_not_decrypt(pki: PKI, material: TLSMaterial, before: int) -> None:
    both = pair(pki, material).shake()
    for _ in range(before + 1):
        both.client.send(b"good")
    ciphertext = bytearray(both.client.ciphertext())
    ciphertext[-1] ^= 1
    with pytest.raises(RemoteProtocolError) as caught:
        both.server.receive(bytes(ciphertext))
    assert caught.value.reason is Refusal.RECORD
    both.server.close()
    with pytest.raises(RemoteProtocolError, match="ALERT_BAD_RECORD_MAC"):
        both.client.receive(both.server.ciphertext())


def test_nothing_is_owed_until_a_key_is_asked_for(pki: PKI, material: TLSMaterial, tmp_path: Path) -> None:
    context = client_context(pki.ca)
    context.keylog_filename = str(tmp_path / "keys")
    both = Pair(server_context(material, TLSPolicy()), context).shake()
    assert not both.server.owes
    records = RecordWriter(tmp_path / "keys", both.client._object)
    assert both.server.receive(records.record(b"before")) == b"before"
    updates = records.key_update(requested=True) + records.key_update(requested=True)
    assert both.server.receive(updates + records.record(b"behind")) == b"behind"
    assert both.server.owes  # OpenSSL answers one when it reads or writes the next time
    assert both.client.receive(both.server.ciphertext()) == b""
    both.server.send(b"by the new key")
    assert both.client.receive(both.server.ciphertext()) == b"by the new key"


def test_the_plain_layer() -> None:
    layer = PlainLayer()
    layer.begin()
    assert layer.receive(memoryview(b"data")) == b"data"
    layer.send(b"one")
    layer.send(b"two")
    layer.close()
    layer.receive_eof()
    assert layer.ciphertext() == b"onetwo"
    assert layer.ciphertext() == b""
    assert (layer.established, layer.peer_closed, layer.truncated, layer.owes) == (True, False, False, False)
    assert layer.peer_certificate() is None


# -- what rests on disk -------------------------------------------------------------------------------------


@pytest.fixture
def certs(pki: PKI, tmp_path: Path) -> Path:
    for name in ("ca.pem", "server.pem", "server.key"):
        shutil.copy(pki.certs / name, tmp_path / name)
    return tmp_path


def test_material(certs: Path) -> None:
    assert TLSMaterial.load(certs).names == NAMES


def test_material_has_a_context_for_each_policy(certs: Path) -> None:
    policies = TLSPolicy(), TLSPolicy(minimum="1.2", client_certificates="required")
    contexts = TLSMaterial.load(certs, *policies).contexts
    assert set(contexts) == set(policies)
    assert contexts[policies[1]].verify_mode is ssl.CERT_REQUIRED


def test_a_pair_that_is_swapped_while_it_is_read(
    certs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one service would show the old certificate and the other the new."""
    fresh = make_pki(tmp_path_factory.mktemp("fresh"))

    def swapping(material: TLSMaterial, policy: TLSPolicy) -> ssl.SSLContext:
        context = server_context(material, policy)
        for path in fresh.server:
            shutil.copy(path, certs)
        return context

    monkeypatch.setattr(tls, "server_context", swapping)
    with pytest.raises(ConfigurationError, match="changed while they were read; try again"):
        TLSMaterial.load(certs, TLSPolicy(), TLSPolicy(minimum="1.2"))


def problem(certs: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        TLSMaterial.load(certs)
    return str(caught.value).replace(str(certs), "CERTS")


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
def test_a_missing_file(certs: Path, name: str) -> None:
    (certs / name).unlink()
    assert problem(certs).startswith(f"CERTS/{name}: ")
    assert problem(certs).endswith("; run `secure-net init`")


@pytest.mark.parametrize("name", ["ca.pem", "server.pem"])
def test_a_file_that_is_no_certificate(certs: Path, name: str) -> None:
    (certs / name).write_text("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n")
    assert "is not a PEM certificate" in problem(certs)
    (certs / name).write_bytes(b"\xff\xfe")
    assert problem(certs) == f"CERTS/{name}: cannot be read: is not a PEM file"


def test_a_file_that_cannot_be_read(certs: Path) -> None:
    (certs / "ca.pem").unlink()
    (certs / "ca.pem").mkdir()
    assert problem(certs) == "CERTS/ca.pem: cannot be read: Is a directory"


def test_a_key_that_others_can_read(certs: Path) -> None:
    (certs / "server.key").chmod(0o640)
    assert problem(certs) == (
        "CERTS/server.key: is a secret that others can read; run `chmod 600 CERTS/server.key`"
    )


def test_a_key_that_is_no_file(certs: Path) -> None:
    (certs / "server.key").unlink()
    (certs / "server.key").mkdir(mode=0o700)
    assert problem(certs) == "CERTS/server.key: is not a regular file"


def other_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_the_key_of_another_certificate(certs: Path) -> None:
    pem = other_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (certs / "server.key").write_bytes(pem)
    assert "is not the key of server.pem" in problem(certs)


def test_an_encrypted_key_fails_and_asks_no_terminal(certs: Path) -> None:
    pem = other_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (certs / "server.key").write_bytes(pem)
    assert "is not the key of server.pem" in problem(certs)


def test_a_certificate_without_names(certs: Path) -> None:
    key, name = other_key(), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (certs / "server.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    assert problem(certs).startswith("server.pem: bears no names")


def test_a_clients_files(pki: PKI, tmp_path: Path) -> None:
    certificate, key = pki.client("demo")
    client_context(pki.ca.read_text(), certificate, key)
    with pytest.raises(ConfigurationError, match="is not a PEM certificate"):
        client_context("nothing of the kind")
    with pytest.raises(ConfigurationError, match="does not exist"):
        client_context(tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match=r"none\.key: cannot be read"):
        client_context(pki.ca, tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match="cannot be loaded with its key"):
        client_context(pki.ca, certificate, pki.server[1])
