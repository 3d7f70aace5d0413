"""The blocking client's connection: verified, and held to deadlines as a whole."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from secure_net.errors import DeadlineExceededError, TransportError, VerificationError
from secure_net.wire.blocking import BlockingConnection
from secure_net.wire.tls import client_context
from tests.support.pki import PKI, make_pki
from tests.support.scripted_server import Peer, Script, ScriptedServer

NEVER = 1e9


def now() -> float:
    return NEVER - 30.0


def connect(pki: PKI, server: ScriptedServer, host: str = "localhost") -> BlockingConnection:
    return BlockingConnection(host, server.port, client_context(pki.ca), NEVER, now)


def serve(pki: PKI, script: Script) -> ScriptedServer:
    return ScriptedServer(pki.certs, script)


def echo(peer: Peer) -> None:
    peer.send(peer.receive())
    peer.wait_for_end()


def test_bytes_go_there_and_back(pki: PKI) -> None:
    with serve(pki, echo) as server:
        stream = connect(pki, server)
        stream.send(b"hello", NEVER)
        assert stream.receive(NEVER) == b"hello"
        assert stream.is_usable()
        stream.close()


def test_an_end_and_a_cut_are_told_apart(pki: PKI) -> None:
    def ends(peer: Peer) -> None:
        peer.say_goodbye()

    def cut(peer: Peer) -> None:
        peer.connection.unwrap = lambda: None  # type: ignore[assignment, method-assign]

    with serve(pki, ends) as server:
        stream = connect(pki, server)
        assert stream.receive(NEVER) == b""
        assert not stream.is_usable()
        stream.close()
    with serve(pki, cut) as server:
        stream = connect(pki, server)
        with pytest.raises(ssl.SSLEOFError):
            stream.receive(NEVER)
        assert not stream.is_usable()
        stream.close()


def test_a_deadline_that_has_passed_sends_nothing(pki: PKI) -> None:
    with serve(pki, lambda peer: peer.wait_for_end()) as server:
        stream = connect(pki, server)
        with pytest.raises(DeadlineExceededError):
            stream.send(b"x", now())
        with pytest.raises(TimeoutError):
            stream.receive(now())
        with pytest.raises(TimeoutError):
            stream.receive(now() + 0.001)
        stream.close()


@pytest.mark.parametrize("host", ["nobody.invalid", ".", "127.0.0.9"])
def test_a_server_that_is_not_there(pki: PKI, host: str) -> None:
    with pytest.raises(TransportError):
        BlockingConnection(host, 1, client_context(pki.ca), NEVER, now)


def test_a_server_that_is_somebody_else(pki: PKI, tmp_path: Path) -> None:
    with serve(pki, echo) as server, pytest.raises(VerificationError):
        BlockingConnection("localhost", server.port, client_context(make_pki(tmp_path).ca), NEVER, now)
