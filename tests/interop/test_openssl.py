"""`openssl s_client`, `verify` and `crl` against the running daemon and what `secure-net init` made."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.daemon import RunningDaemon, run_daemon
from tests.support.scrape import metric
from tests.support.waiting import until

REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

# What OpenSSL calls the alerts of RFC 8446 section 6 and RFC 7301 section 3.2.
PROTOCOL_VERSION = "alert protocol version"
HANDSHAKE_FAILURE = "alert handshake failure"
NO_PROTOCOL = "alert no application protocol"
UNRECOGNIZED_NAME = "alert number 112"  # unrecognized_name
CERTIFICATE_REQUIRED = "alert certificate required"
UNKNOWN_CA = "alert unknown ca"

# Debian's OpenSSL does not even offer these at its own security level.
OLD = ("-cipher", "ALL:@SECLEVEL=0")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon that was told to accept TLS 1.2."""
    with run_daemon(tmp_path_factory.mktemp("old"), environ={"SECURE_NET_TLS__MINIMUM": "1.2"}) as running:
        yield running


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon that demands client certificates."""
    environ = {"SECURE_NET_TLS__CLIENT_CERTIFICATES": "required"}
    with run_daemon(tmp_path_factory.mktemp("strict"), environ=environ) as running:
        yield running


@dataclasses.dataclass(frozen=True)
class Spoken:
    """What `s_client` said. `text` is its report and whatever the daemon answered."""

    code: int
    text: str

    def said(self, what: str) -> bool:
        return what.lower() in self.text.lower()

    @property
    def protocol(self) -> str:
        found = re.search(r"^(?:New|Reused), (TLSv1\.\d), Cipher is (\S+)", self.text, re.MULTILINE)
        assert found, self.text
        return found[1]

    @property
    def cipher(self) -> str:
        found = re.search(r"Cipher is (\S+)", self.text)
        assert found, self.text
        return found[1]


def s_client(
    daemon: RunningDaemon,
    *arguments: str,
    service: str = "admin",
    name: str | None = None,
    request: bytes = REQUEST,
) -> Spoken:
    """Connect, verify strictly, send `request`, read until the daemon closes."""
    host, port = daemon.addresses[service]
    certificate: list[str] = []
    if name is not None:
        pem, key = daemon.certificate(name)
        certificate = ["-cert", str(pem), "-key", str(key)]
    done = subprocess.run(
        [
            *(str(peers.need("openssl")), "s_client", "-connect", f"{host}:{port}"),
            *("-CAfile", str(daemon.ca), "-x509_strict", "-verify_return_error", "-verify", "3"),
            *("-ign_eof", *certificate, *arguments),
        ],
        input=request,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return Spoken(done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace"))


def openssl(*arguments: str | Path) -> str:
    return subprocess.run(
        [str(peers.need("openssl")), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout


# --- versions and ciphers ---------------------------------------------------------------------------------


def test_tls_1_3_by_default(daemon: RunningDaemon) -> None:
    spoken = s_client(daemon)
    assert spoken.code == 0
    assert spoken.protocol == "TLSv1.3"
    assert spoken.said("Verify return code: 0 (ok)")
    assert spoken.said("Compression: NONE")
    assert spoken.said("HTTP/1.1 200 OK")


@pytest.mark.parametrize("service", ["rpc", "admin"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1", "-tls1"])
def test_tls_1_2_and_older_are_refused_by_default(daemon: RunningDaemon, service: str, version: str) -> None:
    before = metric(daemon, "refused_total", service=service, reason="handshake")
    spoken = s_client(daemon, version, *OLD, service=service)
    assert spoken.code == 1
    assert spoken.said(PROTOCOL_VERSION)
    assert not spoken.said("HTTP/1.1")
    until(lambda: metric(daemon, "refused_total", service=service, reason="handshake") == before + 1)


@pytest.mark.parametrize(
    "cipher",
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ],
)
def test_tls_1_2_where_configured_by_ecdhe_and_aead(old: RunningDaemon, cipher: str) -> None:
    spoken = s_client(old, "-tls1_2", "-cipher", cipher)
    assert (spoken.code, spoken.protocol, spoken.cipher) == (0, "TLSv1.2", cipher)
    assert spoken.said("Secure Renegotiation IS supported")  # RFC 5746: said, and then not done
    assert spoken.said("Extended master secret: yes")
    assert spoken.said("HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "cipher",
    [
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-CCM8",
        "AES128-GCM-SHA256",
        "AES128-SHA",
        "DHE-RSA-AES128-GCM-SHA256",
        "AECDH-AES128-SHA",
        "ADH-AES128-GCM-SHA256",
        "PSK-AES128-GCM-SHA256",
        "ECDHE-ECDSA-NULL-SHA",
    ],
)
def test_tls_1_2_by_nothing_else(old: RunningDaemon, cipher: str) -> None:
    spoken = s_client(old, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert spoken.code == 1
    assert spoken.said(HANDSHAKE_FAILURE) or spoken.said("no ciphers available")  # not even in the client


@pytest.mark.parametrize("version", ["-tls1_1", "-tls1"])
def test_tls_1_1_is_refused_whatever_is_configured(old: RunningDaemon, version: str) -> None:
    spoken = s_client(old, version, *OLD)
    assert spoken.code == 1
    assert spoken.said(PROTOCOL_VERSION)


def test_who_can_speak_1_3_does(old: RunningDaemon) -> None:
    assert s_client(old).protocol == "TLSv1.3"


def test_renegotiation_gets_nowhere(old: RunningDaemon) -> None:
    # Without -ign_eof an "R" at the start of a line asks the client to renegotiate.
    host, port = old.admin
    done = subprocess.run(
        [
            *(str(peers.need("openssl")), "s_client", "-connect", f"{host}:{port}", "-CAfile", str(old.ca)),
            "-tls1_2",
        ],
        input=b"R\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in done.stdout + done.stderr


def test_groups(daemon: RunningDaemon) -> None:
    for group in ("X25519", "P-256"):
        assert s_client(daemon, "-groups", group).code == 0


# --- names and protocols -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("-servername", "localhost"), ("-noservername",)], ids=str)
def test_our_name_or_none(daemon: RunningDaemon, arguments: tuple[str, ...]) -> None:
    assert s_client(daemon, *arguments).code == 0


@pytest.mark.parametrize("name", ["example.org", "localhost.example.org", "xn--80ak6aa92e.com"])
@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
def test_another_name_gets_an_alert(old: RunningDaemon, name: str, version: str) -> None:
    before = metric(old, "refused_total", service="admin", reason="server_name")
    spoken = s_client(old, "-servername", name, version)
    assert spoken.code == 1
    assert spoken.said(UNRECOGNIZED_NAME)
    until(lambda: metric(old, "refused_total", service="admin", reason="server_name") == before + 1)


@pytest.mark.parametrize(
    ("offer", "chosen"), [("http/1.1", "http/1.1"), ("h2,http/1.1", "http/1.1"), ("http/1.0", "http/1.0")]
)
def test_alpn(daemon: RunningDaemon, offer: str, chosen: str) -> None:
    spoken = s_client(daemon, "-alpn", offer)
    assert spoken.code == 0
    assert spoken.said(f"ALPN protocol: {chosen}")


@pytest.mark.parametrize("offer", ["h2", "imap", "ftp,smtp", "http/1.2", "HTTP/1.1", "acme-tls/1"])
@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
def test_alpn_of_other_protocols_gets_an_alert(old: RunningDaemon, offer: str, version: str) -> None:
    before = metric(old, "refused_total", service="rpc", reason="alpn")
    spoken = s_client(old, "-alpn", offer, version, service="rpc")
    assert spoken.code == 1
    assert spoken.said(NO_PROTOCOL)
    until(lambda: metric(old, "refused_total", service="rpc", reason="alpn") == before + 1)


# --- sessions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
@pytest.mark.parametrize("name", [None, "metrics"])
def test_tickets_are_not_offered(old: RunningDaemon, version: str, name: str | None, tmp_path: Path) -> None:
    """On 1.3 that is the end of resumption. A session id of 1.2 cannot be kept from being resumed by any
    means of Python's; who resumes one is looked at like everybody else (tests/hostile/test_daemon_tls.py)."""
    kept = tmp_path / "session"
    spoken = s_client(old, version, "-sess_out", str(kept), name=name)
    assert spoken.code == 0
    assert spoken.said("HTTP/1.1 200 OK")
    assert not spoken.said("TLS session ticket")
    assert not spoken.said("New Session Ticket arrived")
    assert kept.exists() == (version == "-tls1_2")


def test_early_data_is_not_taken(daemon: RunningDaemon) -> None:
    assert s_client(daemon).said("Early data was not sent")
    assert not s_client(daemon).said("Max Early Data: 1")


# --- certificates ------------------------------------------------------------------------------------------


def test_the_chain_verifies_strictly_for_its_purpose_alone(daemon: RunningDaemon) -> None:
    server, ca = daemon.certs / "server.pem", daemon.ca
    strictly = ("verify", "-x509_strict", "-CAfile", ca)
    assert openssl(*strictly, "-purpose", "sslserver", "-verify_hostname", "localhost", server)
    assert openssl(*strictly, "-purpose", "sslserver", "-verify_ip", "127.0.0.1", server)
    assert openssl(*strictly, "-purpose", "sslserver", "-verify_ip", "::1", server)
    for name in ("admin", "metrics", "demo"):
        client = daemon.certificate(name)[0]
        assert openssl(*strictly, "-purpose", "sslclient", client)
        with pytest.raises(subprocess.CalledProcessError):
            openssl(*strictly, "-purpose", "sslserver", client)
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*strictly, "-purpose", "sslclient", server)
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*strictly, "-verify_hostname", "example.org", server)


def test_the_certificates_as_openssl_prints_them(daemon: RunningDaemon) -> None:
    ca = openssl("x509", "-in", daemon.ca, "-noout", "-text")
    assert "CA:TRUE, pathlen:0" in ca
    assert "Name Constraints: critical" in ca
    server = openssl("x509", "-in", daemon.certs / "server.pem", "-noout", "-text")
    assert re.search(r"Extended Key Usage:[^\n]*\n +TLS Web Server Authentication\n", server)
    assert "NIST CURVE: P-256" in server
    client = openssl("x509", "-in", daemon.certificate("demo")[0], "-noout", "-text")
    assert re.search(r"Extended Key Usage:[^\n]*\n +TLS Web Client Authentication\n", client)
    assert "URI:spiffe://localhost/demo" in client
    assert re.search(r"Subject: *\n", client)


def test_the_chain_is_the_leaf_and_our_ca(daemon: RunningDaemon) -> None:
    # OpenSSL adds the issuer that it finds among the CAs for client certificates.
    sent = s_client(daemon, "-showcerts").text.partition("Server certificate")[0]
    sent_pem = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", sent, re.DOTALL)
    ours = [(daemon.certs / name).read_text().strip() for name in ("server.pem", "ca.pem")]
    assert sent_pem == ours


def test_the_crl_verifies_and_says_who_is_revoked(old: RunningDaemon) -> None:
    """The last of `old`'s tests: it revokes a certificate of its own."""
    crl = old.certs / "crl.pem"
    verified = ("crl", "-in", crl, "-CAfile", old.ca, "-noout")
    assert "No Revoked Certificates" in openssl(*verified, "-text")
    old.cli("ca", "issue", "client", "gone")
    pem, _ = old.certificate("gone")
    checked = ("verify", "-x509_strict", "-crl_check", "-CAfile", old.ca, "-CRLfile", crl)
    assert openssl(*checked, pem)
    old.cli("ca", "revoke", str(pem))
    (serial,) = re.findall(r"serial=(\w+)", openssl("x509", "-in", pem, "-noout", "-serial"))
    assert f"Serial Number: {serial}" in openssl(*verified, "-text")
    assert openssl(*verified, "-crlnumber")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        openssl(*checked, pem)
    assert "certificate revoked" in failed.value.stderr
    assert openssl(*checked, old.certificate("demo")[0])


# --- client certificates -----------------------------------------------------------------------------------


def test_a_client_certificate_where_one_is_required(strict: RunningDaemon) -> None:
    assert s_client(strict, name="metrics").said("HTTP/1.1 200 OK")


@pytest.mark.parametrize("service", ["rpc", "admin"])
def test_none_where_one_is_required(strict: RunningDaemon, service: str) -> None:
    # On TLS 1.3 the client's handshake is over before the server has seen that there is none.
    spoken = s_client(strict, service=service)
    assert spoken.said(CERTIFICATE_REQUIRED)
    assert not spoken.said("HTTP/1.1")


def test_a_client_certificate_of_a_stranger(daemon: RunningDaemon, tmp_path: Path) -> None:
    key, pem = tmp_path / "key", tmp_path / "pem"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", key, "-out", pem, "-subj", "/CN=stranger", "-days", "1"),
    )
    spoken = s_client(daemon, "-cert", str(pem), "-key", str(key))
    assert spoken.said(UNKNOWN_CA)
    assert not spoken.said("HTTP/1.1")


def test_our_server_certificate_as_a_client(daemon: RunningDaemon) -> None:
    server = daemon.certs / "server"
    spoken = s_client(
        daemon, "-cert", str(server.with_suffix(".pem")), "-key", str(server.with_suffix(".key"))
    )
    assert spoken.said("alert")
    assert not spoken.said("HTTP/1.1")
