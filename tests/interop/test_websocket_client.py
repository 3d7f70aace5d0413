"""Chat behind the page, as the client of `websockets` speaks it: another implementation of RFC 6455."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from secure_net.limits import ChatLimits
from secure_net.messaging.websocket import SUBPROTOCOL
from tests.support.chat_web import ChatWeb, chat_web
from tests.support.pki import PKI, make_pki

SECONDS = 20.0


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def house(pki: PKI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatWeb]:
    with chat_web(pki, tmp_path_factory.mktemp("house")) as house:
        yield house


class Peer:
    """A client that says `hello` and then what it is told."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send an object, and give what comes next."""
        self.connection.send(json.dumps(request))
        return self.next()

    def next(self, kind: str = "") -> dict[str, Any]:
        """What comes next; of this type, if one is named."""
        while True:
            found: dict[str, Any] = json.loads(self.connection.recv(timeout=SECONDS))
            if kind in ("", found["type"]):
                return found


@contextlib.contextmanager
def joined(
    house: ChatWeb, pki: PKI, name: str = "ana", certificate: str = "", **options: Any
) -> Iterator[Peer]:
    context = ssl.create_default_context(cafile=str(pki.ca))
    if certificate:
        context.load_cert_chain(*map(str, pki.client(certificate)))
    settings: dict[str, Any] = {"origin": house.url, "subprotocols": [SUBPROTOCOL], "proxy": None} | options
    with connect(house.url.replace("https", "wss") + "/socket", ssl=context, **settings) as connection:
        peer = Peer(connection)
        hello = {} if certificate else {"token": pki.token(name, "chat:*:**")}
        assert peer.ask(type="hello", **hello)["principal"] == (certificate or name)
        yield peer


def test_saying_and_hearing(house: ChatWeb, pki: PKI) -> None:
    with joined(house, pki, "ana") as ana, joined(house, pki, "ben") as ben:
        assert ana.connection.subprotocol == SUBPROTOCOL
        assert ana.ask(type="join", room="peer")["type"] == "joined"
        assert ben.ask(type="join", room="peer")["type"] == "joined"
        ben.connection.send(
            json.dumps({"type": "say", "room": "peer", "id": "0" * 32, "body": "gr\u00fc\u00df dich"})
        )
        message = ana.next("message")
        assert (message["from"], message["body"], message["seq"]) == ("ben", "gr\u00fc\u00df dich", 1)
        assert ben.next("ack") == {"type": "ack", "id": "0" * 32, "seq": 1}


def test_a_certificate_needs_no_token(house: ChatWeb, pki: PKI) -> None:
    with joined(house, pki, certificate="demo") as demo:
        assert demo.ask(type="ping") == {"type": "pong"}


def test_the_largest_body_in_one_message_and_in_fragments(house: ChatWeb, pki: PKI) -> None:
    body = "\u00e4" * ((ChatLimits().chat_body_bytes - 2) // 2)
    text = json.dumps({"type": "say", "room": "large", "id": "1" * 32, "body": body}, ensure_ascii=False)
    with joined(house, pki) as ana:
        ana.ask(type="join", room="large")
        ana.connection.send(text)
        assert ana.next("message")["body"] == body
        again = text.replace("1" * 32, "2" * 32)
        ana.connection.send([again[:1], again[1:100], again[100:]])
        assert ana.next("message")["seq"] == 2


def test_a_ping_of_the_protocol_s_own(house: ChatWeb, pki: PKI) -> None:
    with joined(house, pki) as ana:
        assert ana.connection.ping(b"still there?").wait(SECONDS)


def test_no_compression_is_agreed_on(house: ChatWeb, pki: PKI) -> None:
    with joined(house, pki, compression="deflate") as ana:
        assert ana.connection.protocol.extensions == []


@pytest.mark.parametrize("origin", [None, "https://localhost", "null", "https://evil.example"])
def test_another_origin(house: ChatWeb, pki: PKI, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as caught, joined(house, pki, origin=origin):
        pass
    assert caught.value.response.status_code == 403


def test_the_closing_handshake(house: ChatWeb, pki: PKI) -> None:
    with joined(house, pki) as ana:
        ana.connection.close(1001, "bye")
        assert (ana.connection.close_code, ana.connection.close_reason) == (1001, "bye")


def test_a_restart_is_said(pki: PKI, tmp_path: Path) -> None:
    with chat_web(pki, tmp_path) as house, joined(house, pki) as ana:
        house.stop()
        assert ana.next()["code"] == "draining"
        with pytest.raises(ConnectionClosed) as caught:
            ana.next()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
        house.start()
