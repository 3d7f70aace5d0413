"""The rows of "TLS and certificates" of the threat list against the running daemon.

(`tests/interop/test_openssl.py` has versions, ciphers, SNI, ALPN and foreign certificates.)
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, init, run_daemon, start_daemon
from tests.support.flood import client_hello, closed, connected
from tests.support.peer import NotHTTPError, Peer, rpc, value
from tests.support.scrape import metric
from tests.support.waiting import until

CUT_SECONDS = 1.0
HANDSHAKE_SECONDS = 2.0

_names = count()


@pytest.fixture(scope="module", params=["1.3", "1.2"])
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDaemon]:
    """Once as it comes, once with clients that speak 1.2 and could resume."""
    environ = {
        "SECURE_NET_TLS__MINIMUM": request.param,
        "SECURE_NET_LIMITS__HANDSHAKE_SECONDS": str(HANDSHAKE_SECONDS),
    }
    with run_daemon(tmp_path_factory.mktemp("tls"), environ=environ) as running:
        yield running


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """As it comes, for what is the same on every version."""
    environ = {
        "SECURE_NET_TLS__MINIMUM": "1.3",
        "SECURE_NET_LIMITS__HANDSHAKE_SECONDS": str(HANDSHAKE_SECONDS),
    }
    with run_daemon(tmp_path_factory.mktemp("modern"), environ=environ) as running:
        yield running


def _context(daemon: RunningDaemon, name: str | None) -> ssl.SSLContext:
    context = daemon.context(name)
    if daemon.environ["SECURE_NET_TLS__MINIMUM"] == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def _issue(daemon: RunningDaemon) -> str:
    """A client certificate of a fresh name, which may call."""
    name = f"client-{next(_names)}"
    daemon.cli("ca", "issue", "client", name, "--scope", "rpc:call:**")
    return name


def _call(peer: Peer) -> Any:
    peer.send(rpc("account.whoAmI"))
    return value(peer.answer())["name"]


def _is_refused(
    daemon: RunningDaemon,
    context: ssl.SSLContext,
    session: ssl.SSLSession | None = None,
    reason: str = "certificate_revoked",
) -> bool:
    """Whether a new connection gets no result, and is counted. A chain that does not verify ends in an alert,
    which on 1.3 the client sees at its first read; a certificate that only we refuse, in 401 and the end."""
    before = metric(daemon, "refused_total", service="rpc", reason=reason)
    try:
        with Peer(daemon.rpc, context, session=session) as peer:
            peer.send(rpc("account.whoAmI"))
            answer = peer.answer()
            if answer.status == 200:
                return False
            assert answer.status == 401
            assert peer.rest() == b""
    except (ssl.SSLError, NotHTTPError, ConnectionError):
        pass
    until(lambda: metric(daemon, "refused_total", service="rpc", reason=reason) == before + 1)
    return True


# --- revocation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ca revoke", "revoke"])
def test_a_revoked_certificate_fresh_resumed_and_already_open(daemon: RunningDaemon, command: str) -> None:
    name = _issue(daemon)
    context, bystander = _context(daemon, name), _context(daemon, "demo")
    with Peer(daemon.rpc, bystander) as other, Peer(daemon.rpc, context) as peer:
        assert (_call(peer), _call(other)) == (name, "demo")
        session = peer.socket.session
        what = str(daemon.certificate(name)[0]) if command == "ca revoke" else name
        daemon.cli(*command.split(), what)
        peer.socket.settimeout(CUT_SECONDS)
        assert peer.rest() == b""  # cut, in order
        assert _call(other) == "demo"
    reason = "certificate_revoked" if command == "ca revoke" else "revoked"
    assert _is_refused(daemon, context, reason=reason)
    assert _is_refused(daemon, context, session, reason=reason)
    assert not _is_refused(daemon, bystander)


def test_a_session_that_is_not_revoked_is_refused_or_resumed_as_itself(daemon: RunningDaemon) -> None:
    """So that the test above tries a real session: on 1.2 it resumes, on 1.3 there is none to resume."""
    context = _context(daemon, "demo")
    with Peer(daemon.rpc, context) as first:
        assert _call(first) == "demo"
        session = first.socket.session
    with Peer(daemon.rpc, context, session=session) as second:
        assert _call(second) == "demo"
        assert second.socket.session_reused == (second.socket.version() == "TLSv1.2")


def test_revoke_takes_the_tokens_too_and_unlock_gives_nothing_back(daemon: RunningDaemon) -> None:
    name = _issue(daemon)
    token = daemon.token(name, "rpc:call:**")
    nobody = _context(daemon, None)
    with Peer(daemon.rpc, nobody) as peer:
        peer.send(rpc("account.whoAmI", token=token))
        assert value(peer.answer())["name"] == name
        answer = json.loads(daemon.cli("revoke", name, "--json").stdout)
        assert answer["connections_cut"] == 1
        peer.socket.settimeout(CUT_SECONDS)
        assert peer.rest() == b""

    def status(shown: str) -> int:
        with Peer(daemon.rpc, nobody) as fresh:
            fresh.send(rpc("account.whoAmI", token=shown))
            return fresh.answer().status

    assert status(token) == 401
    assert status(daemon.token(name, "rpc:call:**")) == 401  # blocked, whatever is issued
    daemon.cli("user", "unlock", name)
    assert status(token) == 401
    assert _is_refused(daemon, _context(daemon, name), reason="revoked")


def test_a_connection_with_two_credentials_is_cut_by_either(daemon: RunningDaemon) -> None:
    holder, subject = _issue(daemon), _issue(daemon)
    token = daemon.token(subject, "rpc:call:**")
    for revoked in (holder, subject):
        if revoked == subject:  # the first round took the certificate
            holder = _issue(daemon)
        with Peer(daemon.rpc, _context(daemon, holder)) as peer:
            peer.send(rpc("account.whoAmI", token=token))
            assert value(peer.answer())["name"] == subject
            daemon.cli("revoke", revoked)
            peer.socket.settimeout(CUT_SECONDS)
            assert peer.rest() == b""


def test_what_was_revoked_stays_so_after_a_restart(tmp_path: Path) -> None:
    house = init(tmp_path / "house")
    first = start_daemon(house, environ={"SECURE_NET_TLS__MINIMUM": "1.3"})
    try:
        name = _issue(first)
        first.cli("ca", "revoke", str(first.certificate(name)[0]))
    finally:
        assert first.stop() == 0
    (house / "certs" / "crl.pem").unlink()  # the store is the authority, not this
    second = start_daemon(house, environ={"SECURE_NET_TLS__MINIMUM": "1.3"})
    try:
        assert _is_refused(second, _context(second, name))
    finally:
        second.stop()


# --- CRL ------------------------------------------------------------


def test_an_older_crl_does_not_un_revoke(modern: RunningDaemon, tmp_path: Path) -> None:
    crl = modern.certs / "crl.pem"
    older = shutil.copy(crl, tmp_path)
    name = _issue(modern)
    modern.cli("ca", "revoke", str(modern.certificate(name)[0]))
    newest = crl.read_bytes()
    shutil.copy(older, crl)
    modern.cli("reload")
    assert _is_refused(modern, _context(modern, name))
    crl.write_bytes(newest)
    modern.cli("reload")
    assert _is_refused(modern, _context(modern, name))


def test_a_crl_from_the_ca_s_own_machine_cuts(modern: RunningDaemon, tmp_path: Path) -> None:
    name = _issue(modern)
    # Where the CA is kept there is no daemon and no state.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(modern.directory / "ca", elsewhere / "ca")
    shutil.copytree(modern.certs, elsewhere / "certs")
    (elsewhere / "secure-net.toml").write_text("")
    serial = modern.certificate(name)[0]
    said = modern.cli("--config", str(elsewhere / "secure-net.toml"), "ca", "revoke", str(serial)).stdout
    assert "copy it to the daemon and run `secure-net reload`" in said
    with Peer(modern.rpc, _context(modern, name)) as peer:
        assert _call(peer) == name
        # The CA has moved: from now on it is kept there.
        shutil.copytree(elsewhere / "ca", modern.directory / "ca", dirs_exist_ok=True)
        shutil.copy(elsewhere / "certs" / "crl.pem", modern.certs)
        modern.cli("reload")
        peer.socket.settimeout(CUT_SECONDS)
        assert peer.rest() == b""
    assert _is_refused(modern, _context(modern, name))


def test_an_expired_crl_is_a_finding_and_no_outage(modern: RunningDaemon) -> None:
    modern.cli("ca", "crl", "--ttl", "1s")
    modern.cli("reload")
    ends = metric(modern, "crl_expiry_timestamp_seconds")
    assert 0 < ends <= time.time() + 1
    until(lambda: time.time() > ends)
    with Peer(modern.rpc, _context(modern, "demo")) as peer:
        assert _call(peer) == "demo"
    modern.cli("reload")  # nor does a reload, or a restart, mind
    assert metric(modern, "crl_expiry_timestamp_seconds") == ends
    findings = json.loads(modern.cli("check", "--json", check=False).stdout)
    (stale,) = (finding for finding in findings if finding["where"].endswith("crl.pem"))
    assert (stale["level"], stale["problem"]) == ("warning", "stale: its next update is overdue")
    modern.cli("ca", "crl")
    modern.cli("reload")
    assert metric(modern, "crl_expiry_timestamp_seconds") > time.time()


def test_a_crl_that_somebody_else_signed_is_refused(modern: RunningDaemon, tmp_path: Path) -> None:
    other = init(tmp_path / "other")
    crl = modern.certs / "crl.pem"
    ours = crl.read_bytes()
    shutil.copy(other / "certs" / "crl.pem", crl)
    done = modern.cli("reload", check=False)
    crl.write_bytes(ours)
    assert done.returncode == 1
    assert "crl.pem" in done.stderr
    modern.cli("reload")


# --- trust ------------------------------------------------------------


def test_a_smaller_ca_set_un_trusts(daemon: RunningDaemon, tmp_path: Path) -> None:
    other = init(tmp_path / "other") / "certs"
    stranger = ssl.create_default_context(cafile=str(daemon.ca))
    stranger.load_cert_chain(other / "clients" / "demo.pem", other / "clients" / "demo.key")
    if daemon.environ["SECURE_NET_TLS__MINIMUM"] == "1.2":
        stranger.maximum_version = ssl.TLSVersion.TLSv1_2
    assert _is_refused(daemon, stranger, reason="certificate_invalid")
    ours = daemon.ca.read_bytes()
    daemon.ca.write_bytes(ours + (other / "ca.pem").read_bytes())
    daemon.cli("reload")
    with (
        Peer(daemon.rpc, stranger) as peer,
        Peer(daemon.rpc, _context(daemon, "demo")) as bystander,
    ):
        assert (_call(peer), _call(bystander)) == ("demo", "demo")
        session = peer.socket.session
        daemon.ca.write_bytes(ours)
        daemon.cli("reload")
        peer.socket.settimeout(CUT_SECONDS)
        assert peer.rest() == b""  # the open connection is cut as well
        assert _call(bystander) == "demo"
    assert _is_refused(daemon, stranger, reason="certificate_invalid")
    assert _is_refused(daemon, stranger, session, reason="certificate_invalid")


# --- what is no TLS, and what stops half-way ------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"EHLO there\r\n",
        b"SSH-2.0-x\r\n",
        b"\x00",
        b"\x80\x2e\x01\x00\x02",  # SSL 2.0
        b"\n",
    ],
)
def test_plaintext_is_closed_and_counted(modern: RunningDaemon, first: bytes) -> None:
    before = metric(modern, "refused_total", service="rpc", reason="plaintext")
    with socket.create_connection(modern.rpc, 10) as plain:
        plain.sendall(first)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while data := plain.recv(4096):
                said += data
    assert len(said) <= 7  # nothing, or a TLS alert; never an answer
    until(lambda: metric(modern, "refused_total", service="rpc", reason="plaintext") == before + 1)


def test_silence_in_the_handshake_is_closed_at_its_deadline(modern: RunningDaemon) -> None:
    hello = client_hello()
    beginnings = (b"", b"\x16", b"\x16\x03", hello[: len(hello) // 2], hello)
    before = metric(modern, "refused_total", service="rpc", reason="handshake_deadline")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(modern.rpc, 1, first))[0] for first in beginnings]
        assert closed(silent, HANDSHAKE_SECONDS + 5) == len(silent)
    after = metric(modern, "refused_total", service="rpc", reason="handshake_deadline")
    assert after == before + len(beginnings)


@pytest.mark.parametrize("half", [False, True], ids=["silent", "half-a-hello"])
def test_a_thousand_who_stop_do_not_slow_the_honest(modern: RunningDaemon, half: bool) -> None:
    hello = client_hello()
    context = _context(modern, "demo")
    seconds = []
    with connected(modern.rpc, 1000, hello[: len(hello) // 2] if half else b"") as sockets:
        for _ in range(100):
            began = time.monotonic()
            with Peer(modern.rpc, context) as peer:
                assert _call(peer) == "demo"
            seconds.append(time.monotonic() - began)
        assert closed(sockets, HANDSHAKE_SECONDS + 5) == len(sockets)
    assert sorted(seconds)[98] < 1.0
    until(lambda: metric(modern, "connections_open", service="rpc") == 0)


def test_a_client_hello_that_never_ends(modern: RunningDaemon) -> None:
    with connected(modern.rpc, 1) as (plain,):
        with contextlib.suppress(ConnectionError):
            for _ in range(20):  # a handshake message of 16 MiB, as announced, in records of 4 KiB
                plain.sendall(b"\x16\x03\x01\x10\x00" + b"\x01\xff\xff\xff" + bytes(4092))
        assert closed([plain], HANDSHAKE_SECONDS + 5) == 1
