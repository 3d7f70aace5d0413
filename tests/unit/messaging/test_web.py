from __future__ import annotations

import html.parser
import json
import re

import pytest

from secure_net.messaging.assets import SECURITY
from secure_net.messaging.web import origins, read_page
from secure_net.messaging.websocket import encode
from tests.support.loops import in_loop
from tests.support.pki import PKI, make_pki
from tests.support.rig import Bench
from tests.support.transport import turns
from tests.support.webs import ORIGIN, WebRig
from tests.support.websocket import CLOSE, TEXT, close, frame, frames_in, upgrade


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


def ask(
    bench: Bench, path: str = "/", *fields: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost:8446", *fields, "", ""]
    bench.peer.send("\r\n".join(lines).encode())
    head, _, body = bench.peer.read().partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in rest), body


# --- the page --------------------------------------------------------------------------------------------


@in_loop
async def test_every_file_of_the_page(pki: PKI) -> None:
    bench = WebRig(pki).open()
    for name, content in read_page().items():
        status, headers, body = ask(bench, "/" if name == "index.html" else f"/{name}")
        assert (status, body, headers["content-length"]) == (200, content, str(len(content)))
        assert headers.items() >= {key.decode(): value.decode() for key, value in SECURITY}.items()
        again = ask(bench, "/" if name == "index.html" else f"/{name}", f"If-None-Match: {headers['etag']}")
        assert (again[0], again[2]) == (304, b"")
        assert "set-cookie" not in headers


@in_loop
async def test_what_else_is_asked_for(pki: PKI) -> None:
    bench = WebRig(pki).open()
    status, headers, body = ask(bench, "/", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    for path in (
        "/index.html",
        "/chat.js/",
        "/../pyproject.toml",
        "/%2e%2e/x",
        "/page",
        "/favicon.ico",
        "/Chat.js",
    ):
        status, headers, _ = ask(bench, path)
        assert (status, headers["content-security-policy"][:18]) == (404, "default-src 'none'")
    assert ask(bench, "/", method="POST")[:2][0] == 405
    assert ask(bench, "/whoami", method="PUT")[1]["allow"] == "GET, HEAD"
    assert ask(bench, "/socket", method="HEAD")[1]["allow"] == "GET"


@in_loop
async def test_no_body_is_wanted(pki: PKI) -> None:
    rig = WebRig(pki)
    assert ask(rig.open(), "/", "Content-Length: 1")[0] == 413
    bench = rig.open()
    bench.peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert bench.peer.read() == b""
    bench.peer.send(b"0\r\n\r\n")
    assert bench.peer.read().startswith(b"HTTP/1.1 200 ")
    bench.peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na")
    assert bench.peer.read().startswith(b"HTTP/1.1 413 ")


class _Links(html.parser.HTMLParser):
    """What a page refers to, and what a strict policy would not let it do."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]
        self.inline += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


def test_the_page_refers_to_its_own_files_and_nothing_else() -> None:
    page = read_page()
    links = _Links()
    links.feed(page["index.html"].decode())
    assert not links.inline
    files = {link.removeprefix("/") for link in links.found if not link.startswith("#")}
    assert files == {"chat.css", "chat.js", "icon.svg"}
    scripts = {name: content.decode() for name, content in page.items() if name.endswith(".js")}
    imported = {name for text in scripts.values() for name in re.findall(r'from "\./([a-z]+\.js)"', text)}
    assert imported | {"chat.js"} == set(scripts)
    for name, text in scripts.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|Function\(", text
        ), name
        assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie", text), name
        assert "http://" not in text
    assert b"url(" not in page["chat.css"]
    assert b"@import" not in page["chat.css"]
    for name, content in page.items():
        assert len(content.splitlines()) <= 600, name


def test_every_name_that_the_scripts_look_up_is_in_the_page() -> None:
    page = {name: content.decode() for name, content in read_page().items()}
    wanted = {name for text in page.values() for name in re.findall(r'byId\("([a-z-]+)"\)', text)}
    assert wanted <= set(re.findall(r'id="([a-z-]+)"', page["index.html"]))


# --- who is it -------------------------------------------------------------------------------------------


@in_loop
async def test_whoami(pki: PKI) -> None:
    rig = WebRig(pki)
    status, headers, body = ask(rig.open(), "/whoami")
    assert (status, json.loads(body), headers["cache-control"]) == (200, {"principal": None}, "no-store")
    _, _, body = ask(rig.open(pki.client("demo")[0]), "/whoami")
    assert json.loads(body) == {"principal": "demo"}


@in_loop
async def test_a_certificate_that_is_revoked_meanwhile(pki: PKI) -> None:
    rig = WebRig(pki)
    bench = rig.open(pki.client("demo")[0])
    assert ask(bench, "/whoami")[0] == 200
    rig.revocations.revoke_name("demo", rig.clock.wall())
    assert ask(bench, "/whoami")[0] == 401
    assert rig.refused() == {"revoked": 1}


# --- the socket ------------------------------------------------------------------------------------------


def test_origins() -> None:
    assert origins({"localhost", "Chat.Example"}, {8446}) == {
        "https://localhost:8446",
        "https://chat.example:8446",
    }
    assert origins({"::1", "127.0.0.1"}, {443, 8446}) == {
        "https://[::1]",
        "https://[::1]:8446",
        "https://127.0.0.1",
        "https://127.0.0.1:8446",
    }


@in_loop
async def test_a_request_becomes_a_websocket(pki: PKI) -> None:
    rig = WebRig(pki)
    bench = rig.open()
    bench.peer.send(upgrade() + frame(b"one") + frame(b"two"))
    head, _, rest = bench.peer.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert frames_in(rest) == [(TEXT, b"hello"), (TEXT, b"one"), (TEXT, b"two")]
    assert rig.counters.responses == {101: 1}
    bench.peer.send(close())
    assert frames_in(bench.peer.read()) == [(CLOSE, b"\x03\xe8")]
    assert bench.peer.closed
    bench.transport.feed_eof()
    await turns()
    assert rig.sessions[0].closings == 1
    assert rig.outcomes() == {"clean": 1}
    assert rig.at_rest()


@in_loop
async def test_a_page_first_and_then_the_socket_on_one_connection(pki: PKI) -> None:
    rig = WebRig(pki)
    bench = rig.open()
    assert ask(bench)[0] == 200
    bench.peer.send(upgrade())
    assert bench.peer.read().endswith(encode(b"hello"))


@in_loop
async def test_another_origin_is_answered_and_counted(pki: PKI) -> None:
    rig = WebRig(pki)
    bench = rig.open(pki.client("demo")[0])
    bench.peer.send(upgrade(origin=b"https://evil.example"))
    assert bench.peer.read().startswith(b"HTTP/1.1 403 ")
    assert bench.peer.closed
    assert rig.refusals() == [("not_permitted", "origin: https://evil.example")]
    assert rig.counters.responses == {403: 1}
    assert rig.sessions == []


@in_loop
async def test_what_is_no_handshake_is_answered_and_counted(pki: PKI) -> None:
    rig = WebRig(pki)
    bench = rig.open()
    bench.peer.send(upgrade(version=b"8"))
    answer = bench.peer.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"sec-websocket-version: 13\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert rig.refused() == {"malformed": 1}


@in_loop
async def test_the_origins_of_the_moment_count(pki: PKI) -> None:
    rig = WebRig(pki)
    rig.origins = frozenset({"https://new.example:8446"})
    bench = rig.open()
    bench.peer.send(upgrade(origin=ORIGIN))
    assert bench.peer.read().startswith(b"HTTP/1.1 403 ")
    bench = rig.open()
    bench.peer.send(upgrade(origin=b"https://new.example:8446"))
    assert bench.peer.read().startswith(b"HTTP/1.1 101 ")


@in_loop
async def test_draining(pki: PKI) -> None:
    rig = WebRig(pki)
    idle, talking = rig.open(), rig.open()
    talking.peer.send(upgrade() + frame(b"hi"))
    talking.peer.read()
    for connection in tuple(rig.shell.live):
        connection.drain()
    assert idle.peer.read() == b""
    assert frames_in(talking.peer.read()) == [(TEXT, b"draining"), (CLOSE, b"\x03\xf4")]
    assert idle.peer.closed
    assert talking.peer.closed


@in_loop
async def test_the_first_message_has_a_deadline(pki: PKI) -> None:
    rig = WebRig(pki)
    bench = rig.open()
    bench.peer.send(upgrade())
    bench.peer.read()
    rig.clock.advance(10.1)
    assert frames_in(bench.peer.read())[-1] == (CLOSE, b"\x03\xf0authentication_deadline")
    assert rig.refused() == {"authentication_deadline": 1}
