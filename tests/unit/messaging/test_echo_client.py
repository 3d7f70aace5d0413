"""The blocking echo client against peers that behave, and that do not."""

from __future__ import annotations

import itertools
import ssl
from pathlib import Path

import pytest

from secure_net.errors import (
    AuthenticationError,
    DeadlineExceededError,
    LocalProtocolError,
    OutcomeUnknownError,
    Refusal,
    RemoteProtocolError,
    VerificationError,
)
from secure_net.messaging.echo_client import EchoClient
from secure_net.messaging.frames import encode
from secure_net.wire.blocking import BlockingConnection
from secure_net.wire.tls import client_context
from tests.support.pki import PKI, make_pki
from tests.support.scripted_server import Peer, Script, ScriptedServer


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def answers(*answers: bytes) -> Script:
    def script(peer: Peer) -> None:
        for answer in answers:
            peer.receive()
            peer.send(answer)
        peer.wait_for_end()

    return script


def client(pki: PKI, server: ScriptedServer, **options: object) -> EchoClient:
    return EchoClient("localhost", server.port, ca=pki.ca, certificate=pki.client("demo"), **options)  # type: ignore[arg-type]


def test_messages_are_echoed_one_by_one(pki: PKI) -> None:
    script = answers(encode(b"ECHO: one"), encode("ECHO: grüße".encode()))
    with ScriptedServer(pki.certs, script) as server, client(pki, server) as peer:
        assert peer.send("one") == "ECHO: one"
        assert peer.send("grüße") == "ECHO: grüße"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"1_000", Refusal.MALFORMED),
        (b"99999", Refusal.TOO_LARGE),
        (encode(b"\xff"), Refusal.MALFORMED),
        (encode(b"a") + encode(b"b"), Refusal.MALFORMED),
        (encode(b"a") + b"0", Refusal.MALFORMED),
    ],
)
def test_what_is_no_answer_is_refused(pki: PKI, answer: bytes, reason: Refusal) -> None:
    with ScriptedServer(pki.certs, answers(answer)) as server, client(pki, server) as peer:
        with pytest.raises(RemoteProtocolError) as caught:
            peer.send("x")
        assert caught.value.reason is reason


def test_a_server_that_closes_instead_of_answering(pki: PKI) -> None:
    def closes(peer: Peer) -> None:
        peer.receive()
        peer.say_goodbye()

    with (
        ScriptedServer(pki.certs, closes) as server,
        client(pki, server) as peer,
        pytest.raises(OutcomeUnknownError, match="closed instead"),
    ):
        peer.send("x")


def test_a_server_that_is_cut_off(pki: PKI) -> None:
    def resets(peer: Peer) -> None:
        peer.receive()
        peer.reset()

    with (
        ScriptedServer(pki.certs, resets) as server,
        client(pki, server) as peer,
        pytest.raises(OutcomeUnknownError, match="lost"),
    ):
        peer.send("x")


def test_deadlines(pki: PKI) -> None:
    ticks = itertools.count(0.0, 3.0)
    with (
        ScriptedServer(pki.certs, answers()) as server,
        client(pki, server, deadline_seconds=12.0, monotonic=lambda: next(ticks)) as peer,
    ):
        with pytest.raises(OutcomeUnknownError, match="deadline"):
            peer.send("x")
        peer._seconds = 1.0
        with pytest.raises(DeadlineExceededError, match="before anything was sent"):
            peer.send("x")


def test_a_message_whose_answer_would_not_fit_is_not_sent(pki: PKI) -> None:
    with (
        ScriptedServer(pki.certs, answers()) as server,
        client(pki, server) as peer,
        pytest.raises(LocalProtocolError, match="65530"),
    ):
        peer.send("x" * 65_531)


def test_a_server_of_another_ca_is_not_believed(pki: PKI, tmp_path: Path) -> None:
    with ScriptedServer(pki.certs, answers()) as server, pytest.raises(VerificationError):
        EchoClient("localhost", server.port, context=client_context(make_pki(tmp_path).ca))


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        (ssl.SSLError(1, "alert"), AuthenticationError),
        (ssl.SSLEOFError(8, "EOF"), OutcomeUnknownError),
        (ConnectionResetError(), OutcomeUnknownError),
        (TimeoutError(), OutcomeUnknownError),
        (b"an answer to nothing", OutcomeUnknownError),
    ],
)
def test_a_server_that_closed_before_anything_was_said_may_have_left_word_why(
    pki: PKI, monkeypatch: pytest.MonkeyPatch, behind: Exception | bytes, expected: type[Exception]
) -> None:
    if isinstance(behind, ssl.SSLError):
        behind.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED" if type(behind) is ssl.SSLError else "EOF"

    def send(stream: BlockingConnection, data: bytes, deadline: float) -> None:
        raise BrokenPipeError

    def receive(stream: BlockingConnection, deadline: float) -> bytes:
        if isinstance(behind, Exception):
            raise behind
        return behind

    with ScriptedServer(pki.certs, answers()) as server, client(pki, server) as peer:
        monkeypatch.setattr(BlockingConnection, "send", send)
        monkeypatch.setattr(BlockingConnection, "receive", receive)
        with pytest.raises(expected):
            peer.send("x")


def test_a_certificate_that_is_required_and_not_shown(pki: PKI) -> None:
    with (
        ScriptedServer(pki.certs, answers(), certificate_required=True) as server,
        EchoClient("localhost", server.port, context=client_context(pki.ca)) as peer,
        pytest.raises(AuthenticationError),
    ):
        peer.send("x")
