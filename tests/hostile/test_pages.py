"""The threat list's "Pages", and its "Frames and chat" over WebSocket, by raw sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator

import pytest

from secure_net.limits import ChatLimits, ConnectionLimits, FrameLimits, Limits
from secure_net.wire.tls import client_context
from tests.support.chat_web import ChatWeb, chat_web
from tests.support.pki import PKI, make_pki
from tests.support.waiting import until
from tests.support.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, frames_in, upgrade

SECONDS = 20.0
# Deadlines that a test can wait for, and an outbox that a test can fill.
LIMITS = Limits(
    connection=ConnectionLimits(authentication_seconds=1.0, idle_seconds=60.0),
    frame=FrameLimits(frame_seconds=0.3),
    chat=ChatLimits(chat_outbox_bytes=128 * 1024),
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def house(pki: PKI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatWeb]:
    with chat_web(pki, tmp_path_factory.mktemp("house"), limits=LIMITS) as house:
        yield house


class Raw:
    """A TLS connection, and what has come over it."""

    def __init__(self, house: ChatWeb, context: ssl.SSLContext, *, receive_bytes: int = 0) -> None:
        self.house = house
        plain = socket.socket()
        if receive_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.settimeout(SECONDS)
        plain.connect(("127.0.0.1", house.port))
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.received = b""

    def upgrade(self, *fields: bytes, origin: bytes | None = b"") -> bytes:
        """Ask for a WebSocket, from our own page unless told; the answer's head."""
        ours = self.house.url.encode()
        self.socket.sendall(upgrade(*fields, origin=ours if origin == b"" else origin))
        return self.until(b"\r\n\r\n")

    def until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            data = self.socket.recv(65_536)
            assert data, self.received
            self.received += data
        found, _, self.received = self.received.partition(mark)
        return found + mark

    def say(self, **request: object) -> None:
        self.socket.sendall(frame(json.dumps(request).encode()))

    def answer(self) -> dict[str, object]:
        """The next text message, read byte by byte so that nothing behind it is taken."""
        header = self._exactly(2)
        length = header[1]
        if length >= 126:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8), "big")
        payload = self._exactly(length)
        assert header[0] == 0x80 | TEXT, (header, payload)
        return dict(json.loads(payload))

    def _exactly(self, count: int) -> bytes:
        while len(self.received) < count:
            data = self.socket.recv(65_536)
            assert data, self.received
            self.received += data
        found, self.received = self.received[:count], self.received[count:]
        return found

    def rest(self) -> bytes:
        """Everything until the end."""
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(65_536):
                self.received += data
        found, self.received = self.received, b""
        return found

    def closing(self) -> int:
        """The code that the server closes with, after whatever it says."""
        (opcode, payload) = frames_in(self.rest())[-1]
        assert opcode == CLOSE
        return int.from_bytes(payload[:2], "big")


@contextlib.contextmanager
def raw(house: ChatWeb, certificate: str = "", *, receive_bytes: int = 0) -> Iterator[Raw]:
    context = client_context(house.pki.ca, house.pki.client(certificate)[0] if certificate else None)
    peer = Raw(house, context, receive_bytes=receive_bytes)
    try:
        yield peer
    finally:
        peer.socket.close()


@contextlib.contextmanager
def member(house: ChatWeb, name: str, room: str, *, receive_bytes: int = 0) -> Iterator[Raw]:
    """Somebody in a room, by WebSocket."""
    with raw(house, receive_bytes=receive_bytes) as peer:
        assert peer.upgrade().startswith(b"HTTP/1.1 101 ")
        peer.say(type="hello", token=house.pki.token(name, "chat:*:**"))
        assert peer.answer()["type"] == "welcome"
        peer.say(type="join", room=room)
        assert peer.answer()["type"] == "joined"
        yield peer


def counted(house: ChatWeb, reason: str) -> int:
    return house.refused().get(reason, 0)


# --- pages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", ["", "demo"])
@pytest.mark.parametrize(
    "origin",
    [
        None,
        b"null",
        b"https://evil.example",
        b"https://localhost",
        b"https://localhost:1",
        b"http://localhost:%d",
        b"https://localhost:%d.evil.example",
        b"https://evil.example#https://localhost:%d",
        b"https://127.0.0.1:%d",
        b"wss://localhost:%d",
    ],
)
def test_cross_origin_websocket(house: ChatWeb, certificate: str, origin: bytes | None) -> None:
    """Row "Cross-origin WebSocket, and the same with a client certificate"."""
    if origin is not None and b"%d" in origin:
        origin %= house.port
    before = counted(house, "not_permitted")
    with raw(house, certificate) as peer:
        peer.socket.sendall(upgrade(origin=origin) + frame(b'{"type":"hello"}'))
        answer = peer.rest()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"403 Forbidden\n")
    until(lambda: counted(house, "not_permitted") == before + 1)


def test_origin_twice(house: ChatWeb) -> None:
    with raw(house) as peer:
        assert peer.upgrade(b"Origin: https://evil.example").startswith(b"HTTP/1.1 403 ")


def test_a_name_that_is_not_ours(house: ChatWeb) -> None:
    """A name that is made to point here: its page has another origin, and TLS another server name."""
    with raw(house) as peer:
        assert peer.upgrade(origin=b"https://rebound.example:%d" % house.port).startswith(b"HTTP/1.1 403 ")


def test_cookies_are_neither_set_nor_heard(house: ChatWeb) -> None:
    """Row "Cookies ignore ports"."""
    token = house.pki.token("ana", "chat:*:**").encode()
    answers = []
    for fields in (b"", b"Cookie: __Host-session=%b; token=%b\r\n" % (token, token)):
        with raw(house) as peer:
            peer.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n" % fields)
            answers.append(peer.rest())
    plain, with_cookie = (answer.partition(b"\r\n\r\n") for answer in answers)
    assert plain[2] == with_cookie[2]
    for answer in answers:
        assert b"set-cookie" not in answer.lower()
        assert b"strict-transport-security" not in answer.lower()  # this is localhost, and it is opt-in
    with raw(house) as peer:
        assert peer.upgrade(b"Cookie: token=" + token, b"Authorization: Bearer " + token)
        peer.say(type="hello")
        assert peer.answer()["code"] == "unauthenticated"
        assert peer.closing() == 1008


def test_a_token_in_the_address_is_no_token(house: ChatWeb) -> None:
    token = house.pki.token("ana", "chat:*:**").encode()
    with raw(house) as peer:
        request = upgrade(origin=house.url.encode(), line=b"GET /socket?token=%b HTTP/1.1" % token)
        peer.socket.sendall(request)
        assert peer.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        peer.say(type="hello")
        assert peer.answer()["code"] == "unauthenticated"


def test_no_path_leads_out_of_the_page(house: ChatWeb) -> None:
    for path in (
        "/../assets.py",
        "/%2e%2e/assets.py",
        "/..%2fweb.py",
        "/page/chat.js",
        "//chat.js",
        "/chat.js%00",
    ):
        with raw(house) as peer:
            peer.socket.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            assert peer.rest().split(b" ")[1] in (b"404", b"400"), path


# --- frames and chat, over WebSocket ------------------------------------------------------------------------

# What is sent, the close code, the reason that is counted.
WRONG = {
    "unmasked": (frame(b"{}", mask=False), 1002, "malformed"),
    "compressed": (frame(b"{}", rsv=4), 1002, "malformed"),
    "reserved opcode": (frame(b"{}", 0x5), 1002, "malformed"),
    "continuation of nothing": (frame(b"{}", CONTINUATION), 1002, "malformed"),
    "fragmented ping": (frame(b"", PING, fin=False), 1002, "malformed"),
    "binary": (frame(b"{}", BINARY), 1003, "unsupported"),
    "not UTF-8": (frame(b'"\xff"'), 1007, "malformed"),
    "too large": (frame(b"x" * 65_537), 1009, "too_large"),
    "2^63 bytes announced": (b"\x81\xff\x7f" + b"\xff" * 7, 1009, "too_large"),
    "too large in fragments": (
        frame(b"x" * 65_000, fin=False) + frame(b"x" * 537, CONTINUATION),
        1009,
        "too_large",
    ),
    "a bomb of empty fragments": (
        frame(b"", fin=False) + frame(b"", CONTINUATION, fin=False) * 3000,
        1008,
        "too_large",
    ),
    "half a message, and silence": (frame(b"half", fin=False), 1008, "read_deadline"),
    "half a frame, and silence": (frame(b"half a frame")[:9], 1008, "read_deadline"),
    "a header, and silence": (b"\x81", 1008, "read_deadline"),
}


@pytest.mark.parametrize("name", WRONG)
def test_frames_that_break_the_rules(house: ChatWeb, name: str) -> None:
    """Refused at the header, or dropped at the deadline; counted with a reason; the others go on."""
    data, code, reason = WRONG[name]
    before = counted(house, reason)
    with member(house, "ana", "rules") as other:
        with member(house, "ben", "rules") as peer:
            peer.socket.sendall(data)
            assert peer.closing() == code
        until(lambda: counted(house, reason) == before + 1)
        other.say(type="ping")
        while other.answer()["type"] != "pong":
            pass


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"type":"unknown"}',
        b'{"type":"ping","more":1}',
        b'{"type":"join","room":"No Room"}',
        b'{"type":"say","room":"rules","id":"short","body":1}',
        b"[" * 60_000,
        b'{"type":"say","room":"rules","id":"%b","body":%b1%b}' % (b"0" * 32, b"[" * 40, b"]" * 40),
    ],
)
def test_json_that_breaks_the_rules(house: ChatWeb, text: bytes) -> None:
    """Row "JSON that is deep, huge, of the wrong type": `error`, and the connection lives."""
    with member(house, "ana", "json") as peer:
        peer.socket.sendall(frame(text))
        assert peer.answer()["code"] == "malformed"
        peer.say(type="ping")
        assert peer.answer() == {"type": "pong"}


def test_a_forged_sender(house: ChatWeb) -> None:
    with member(house, "ana", "forged") as peer:
        peer.say(**{"type": "say", "room": "forged", "id": "f" * 32, "body": 1, "from": "ben"})
        assert peer.answer()["code"] == "malformed"


@pytest.mark.parametrize("request_", [{"type": "join"}, {"type": "history", "limit": 5}, {"type": "who"}])
def test_a_room_outside_the_scopes(house: ChatWeb, request_: dict[str, object]) -> None:
    """Whether it exists or not, refused alike."""
    with member(house, "ana", "exists"), raw(house) as peer:
        peer.upgrade()
        peer.say(type="hello", token=house.pki.token("ben", "chat:*:other"))
        assert peer.answer()["type"] == "welcome"
        answers = []
        for room in ("exists", "not-there"):
            peer.say(room=room, **request_)
            answers.append(peer.answer() | {"room": ""})
        assert answers[0] == answers[1]
        assert answers[0]["code"] == "not_permitted"


def test_who_says_nothing_after_the_handshake(house: ChatWeb) -> None:
    before = counted(house, "authentication_deadline")
    with raw(house) as peer:
        peer.upgrade()
        peer.socket.sendall(frame(b"", PING) * 3)  # pings are no login
        said = frames_in(peer.rest())
    assert [opcode for opcode, _ in said[:3]] == [PONG] * 3
    assert said[-1][1][:2] == (1008).to_bytes(2, "big")
    assert counted(house, "authentication_deadline") == before + 1


def test_something_else_than_hello(house: ChatWeb) -> None:
    with raw(house) as peer:
        peer.upgrade()
        peer.say(type="join", room="rules")
        assert peer.answer()["code"] == "unauthenticated"
        assert peer.closing() == 1008


def test_a_member_who_stops_reading(house: ChatWeb) -> None:
    """Row "a member who stops reading": that member alone is disconnected, and memory is bounded."""
    before = house.metrics.chat.slow_consumers
    with member(house, "ben", "slow", receive_bytes=4096), member(house, "ana", "slow") as ana:
        number = 0
        while house.metrics.chat.slow_consumers == before:
            number += 1
            assert number < 2000, "nobody was too slow"
            ana.say(type="say", room="slow", id=f"{number:032x}", body="x" * 32_000)
            for _ in range(2):  # its message, and its ack
                answer = ana.answer()
                if answer["type"] == "presence":
                    answer = ana.answer()
                assert answer["type"] in {"message", "ack"}
            assert house.shell.buffered_bytes < 4 * 1024 * 1024
        assert counted(house, "outbox") >= 1
        ana.say(type="ping")
        while ana.answer()["type"] != "pong":
            pass
