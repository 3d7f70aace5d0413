"""The browser client in a real Chromium: two people in one room, and what happens to them."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secure_net.messaging.websocket import SUBPROTOCOL
from secure_net.store.broker import Publication
from tests.support.browser import ENTER, ESCAPE, SHIFT, TAB, Driver, Page, chromium
from tests.support.chat_web import ChatWeb, chat_web
from tests.support.daemon import RunningDaemon
from tests.support.pki import PKI, make_pki

ALL = ("chat:*:**",)
SAID = ".message:not(.pending) .bubble"

# What Chromium itself writes when a server is not there.
_LOST = ("ERR_CONNECTION_REFUSED", "WebSocket connection to")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def house(pki: PKI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatWeb]:
    with chat_web(pki, tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def driver(pki: PKI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with chromium(tmp_path_factory.mktemp("browser"), trust=pki.ca) as driver:
        yield driver


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """A page without any policy."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>elsewhere</title>")

    def log_message(self, *_: object) -> None:
        """Nothing is worth a line."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of a page of another origin, on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


# What becomes of a WebSocket that this page opens: "open" or "closed".
_TRY = (
    "const socket = new WebSocket(arguments[0], arguments[1]);"
    "socket.onopen = () => arguments[2]('open'); socket.onclose = () => arguments[2]('closed');"
)


def try_socket(page: Page, house: ChatWeb) -> str:
    return str(page.run_later(_TRY, house.url.replace("https", "wss") + "/socket", SUBPROTOCOL))


Enter = Callable[..., Page]


@pytest.fixture(scope="module")
def idle(driver: Driver) -> list[Page]:
    """Browsers that nobody uses: starting one costs more than most tests."""
    return []


@pytest.fixture
def enter(pki: PKI, house: ChatWeb, driver: Driver, idle: list[Page]) -> Iterator[Enter]:
    """A page on which somebody has signed in with a token; its console must stay empty."""
    pages = []

    def enter(
        name: str, room: str, *scopes: str, width: int = 1280, height: int = 800, dark: bool = False
    ) -> Page:
        page = idle.pop() if idle else driver.open("about:blank")
        pages.append(page)
        page.size(width, height)
        page.prefer(dark=dark, still=True)
        page.go(f"{house.url}/#{room}")
        page.find("#token").type(pki.token(name, *(scopes or ALL)), ENTER)
        page.wait(lambda: page.text("#my-name") == name or page.all("#app:not([hidden])"))
        return page

    yield enter
    lines = [line for page in pages for line in page.console()]
    for page in pages:
        page.go("about:blank")
        idle.append(page)
    assert [line for line in lines if not any(word in line for word in _LOST)] == []


def seed(house: ChatWeb, room: str, *bodies: object, sender: str = "cleo", ago: float = 3600.0) -> None:
    """Messages that were said before anybody came."""

    async def publish() -> None:
        now = time.time() - ago
        await house.broker.publish(
            [
                Publication(room, sender, secrets.token_bytes(16), now + index, json.dumps(body).encode())
                for index, body in enumerate(bodies)
            ]
        )

    house.do(publish())


def say(page: Page, *lines: str) -> None:
    for line in lines:
        page.find("#text").type(line, ENTER)


def until_said(page: Page, *texts: str) -> None:
    """Until these, in this order and each once, are what is said on the page."""
    page.wait(lambda: page.texts(SAID) == list(texts), what=f"{page.texts(SAID)} is {texts}")


def test_two_people_in_one_room(enter: Enter) -> None:
    ana, ben = enter("ana", "pair"), enter("ben", "pair")
    for page in (ana, ben):
        page.wait(lambda page=page: page.texts("#people .label") and len(page.texts("#people .label")) == 2)
    assert ana.texts("#people .label") == ["ana", "ben"]
    assert ben.texts("#people .label") == ["ben", "ana"]  # oneself first
    say(ana, "hello ben")
    until_said(ben, "hello ben")
    assert ben.text(".message .name") == "ben" or ben.text(".message .name") == "ana"
    ben.find("#text").type("one line", SHIFT + ENTER + SHIFT, "another", ENTER)
    until_said(ana, "hello ben", "one line\nanother")
    until_said(ben, "hello ben", "one line\nanother")
    assert ana.texts(".own .bubble") == ["hello ben"]
    assert ben.texts(".own .bubble") == ["one line\nanother"]
    assert ana.texts(".message:not(.own) .name") == ["ben"]
    assert ana.texts(".day span") == ["Today"]
    ben.find("#leave").click()
    ana.wait(lambda: ana.texts("#people .label") == ["ana"])
    assert ben.title == "Chat"


def test_markup_is_text(enter: Enter, house: ChatWeb) -> None:
    words = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>&amp;"
    seed(house, "markup", words, {"<b>": "</b>", "list": [1, None]})
    page = enter("ana", "markup")
    page.wait(lambda: len(page.texts(SAID)) == 2)
    assert page.texts(SAID) == [words, '{\n  "<b>": "</b>",\n  "list": [\n    1,\n    null\n  ]\n}']
    assert page.all(".bubble *") == []
    assert page.title == "#markup \u2013 Chat"


def test_by_keyboard_alone(enter: Enter, pki: PKI, house: ChatWeb) -> None:
    page = enter("ana", "")
    assert page.focused.attribute("id") == "join-room"  # there is nothing else to begin with
    page.press("keys", ENTER)
    page.wait(lambda: page.focused.attribute("id") == "text")
    page.press("typed", ENTER)
    until_said(page, "typed")
    order = []
    page.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.run("document.querySelector('.skip').focus()")
    for _ in range(9):
        order.append(page.focused.attribute("id") or page.focused.text)
        outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or order[-1] == "composer", order  # what has the focus shows it
        page.press(TAB)
    assert order == [
        "Skip to writing a message",
        "#\nkeys",
        "join-room",
        order[3],
        "sign-out",
        "leave",
        "scroller",
        "text",
        "send",
    ]
    page.run("document.querySelector('.skip').focus()")
    page.press(ENTER)
    page.press(TAB)
    assert page.focused.attribute("id") == "text"


def test_what_a_screen_reader_is_told(enter: Enter) -> None:
    ana, ben = enter("ana", "aloud"), enter("ben", "aloud")
    assert (ana.find("#text").role, ana.find("#text").label) == ("textbox", "Message to aloud")
    assert ana.find("#scroller").label == "Messages"
    assert (ana.find("#rooms button").role, ana.find("#rooms button").attribute("aria-current")) == (
        "button",
        "true",
    )
    assert ana.find("#room-title").role == "heading"
    assert ana.find("#state").role == "status"
    assert ana.find("#rooms-panel").label == "Rooms"
    say(ben, "can you hear me?")
    ana.wait(lambda: ana.texts("#announcer") == ["ben: can you hear me?"])
    say(ana, "yes")
    until_said(ana, "can you hear me?", "yes")
    assert ana.texts("#announcer") == ["ben: can you hear me?"]  # not what one says oneself
    unnamed = ana.run(
        "return [...document.querySelectorAll('button, input, textarea')].filter((one) =>"
        " !one.textContent.trim() && !one.labels?.length && !one.getAttribute('aria-label')).length"
    )
    assert unnamed == 0


def test_wrong_tokens(driver: Driver, pki: PKI, house: ChatWeb) -> None:
    page = driver.open(house.url)
    try:
        page.find("#login-token").click()
        page.wait(lambda: page.text("#login-error") == "Paste a token first.")
        page.find("#token").type("nonsense", ENTER)
        page.wait(lambda: "not valid" in page.text("#login-error"))
        assert page.find("#token").value_of("value") == ""
        assert page.find("#token").label == "Access token"
        page.find("#token").type(pki.token("ben", *ALL), ENTER)
        page.wait(lambda: page.text("#my-name") == "ben")
        assert page.text("#login-error") == ""
        page.find("#sign-out").click()
        page.find("#token")
        assert page.texts("#my-name") == ["ben"]
        assert not page.all("#app:not([hidden])")
    finally:
        page.close()


def test_nothing_is_kept_of_a_token(enter: Enter, pki: PKI) -> None:
    page = enter("ana", "trace")
    assert page.run("return [document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
    assert "ey" not in page.url
    text = page.run("return document.documentElement.outerHTML + document.getElementById('token').value")
    assert "eyJ" not in text
    addresses = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert addresses
    assert all("token" not in address and "eyJ" not in address for address in addresses)


def test_the_policy_holds_in_the_browser(enter: Enter) -> None:
    page = enter("ana", "policy")
    page.run(
        "const script = document.createElement('script');"
        "try { script.textContent = 'window.taken = 1'; } catch {}"
        "document.head.append(script);"
        "const style = document.createElement('style'); style.textContent = 'body { display: none }';"
        "document.head.append(style);"
        "try { document.body.insertAdjacentHTML('beforeend', '<b id=taken>x</b>'); } catch {}"
    )
    assert page.run("return [window.taken ?? null, document.getElementById('taken')]") == [None, None]
    assert page.find("#composer").is_shown
    answer = "fetch('https://localhost:1/').then(() => arguments[0]('got'), () => arguments[0]('blocked'))"
    assert page.run_later(answer) == "blocked"
    assert len([line for line in page.console() if "Content Security Policy" in line]) >= 3


def test_a_page_from_elsewhere_gets_no_socket(driver: Driver, house: ChatWeb, elsewhere: str) -> None:
    before = house.refused().get("not_permitted", 0)
    page = driver.open(house.url)
    try:
        assert try_socket(page, house) == "open"
        page.go(elsewhere)
        assert try_socket(page, house) == "closed"
        assert house.refused().get("not_permitted", 0) == before + 1, page.console()
    finally:
        page.close()


def test_rooms_unread_and_what_is_new(enter: Enter) -> None:
    ana, ben = enter("ana", "front,back"), enter("ben", "back")
    say(ben, "first", "second")
    ana.wait(lambda: ana.texts(".badge") == ["2"])
    assert ana.title == "(2) #front \u2013 Chat"
    back = ana.all("#rooms button")[1]
    assert back.label == "back, 2 new messages"
    back.click()
    until_said(ana, "first", "second")
    assert ana.texts(".badge") == []
    assert ana.title == "#back \u2013 Chat"
    assert [row for row in ana.texts("#messages > li") if row == "New"] == ["New"]
    ana.find("#text").type("a draft")
    ana.all("#rooms button")[0].click()
    assert ana.find("#text").value_of("value") == ""
    ana.all("#rooms button")[1].click()
    assert ana.find("#text").value_of("value") == "a draft"
    assert ana.texts(".separator.new") == []
    assert ana.url.endswith("#back,front")


def test_history_as_one_scrolls_up(enter: Enter, house: ChatWeb) -> None:
    seed(house, "long", *(f"number {number}" for number in range(1, 131)), ago=200_000.0)
    page = enter("ana", "long")
    page.wait(lambda: len(page.texts(SAID)) == 50)
    assert page.texts(SAID)[-1] == "number 130"
    assert page.texts(".day span") not in ([], ["Today"])
    # What is being read stays where it is, while what was before it is put on top.
    page.run("document.getElementById('scroller').scrollTop = 10")
    page.wait(lambda: len(page.texts(SAID)) == 100)
    top = "return document.elementFromPoint(640, 140).textContent"
    assert page.run(top) not in ("number 31", "number 32")
    page.run("document.getElementById('scroller').scrollTop = 0")
    page.wait(lambda: len(page.texts(SAID)) == 130)
    assert page.texts(SAID) == [f"number {number}" for number in range(1, 131)]
    assert not page.all("#older:not([hidden])")
    ben = enter("ben", "long")
    say(ben, "and one more")
    page.run("document.getElementById('scroller').scrollTop = 0")
    page.wait(lambda: page.text("#jump").startswith(("1 new message", "To the newest")))
    page.find("#jump").click()
    page.wait(lambda: page.texts(SAID)[-1] == "and one more" and not page.all("#jump:not([hidden])"))


def test_a_restart_loses_and_doubles_nothing(enter: Enter, house: ChatWeb) -> None:
    ana, ben = enter("ana", "restart"), enter("ben", "restart")
    say(ana, "before")
    until_said(ben, "before")
    house.stop()
    ana.wait(
        lambda: ana.text("#state-text").startswith(("The server restarts", "No connection", "Connecting"))
    )
    say(ana, "meanwhile 1", "meanwhile 2")
    assert ana.texts(".pending .bubble") == ["meanwhile 1", "meanwhile 2"]
    house.start()
    everything = ("before", "meanwhile 1", "meanwhile 2")
    for page in (ana, ben):
        page.wait(lambda page=page: page.text("#state-text") == "Connected")
        until_said(page, *everything)
        assert page.texts(".pending") == []
    say(ben, "after")
    until_said(ana, *everything, "after")
    until_said(ben, *everything, "after")
    assert ana.texts("#people .label") == ["ana", "ben"]


def test_a_room_that_keeps_nothing(enter: Enter) -> None:
    ana, ben = enter("ana", "live.desk"), enter("ben", "live.desk")
    ben.wait(lambda: len(ben.texts("#people .label")) == 2)
    say(ana, "now")
    until_said(ben, "now")
    until_said(ana, "now")
    late = enter("demo", "live.desk")
    late.wait(lambda: len(late.texts("#people .label")) == 3)
    assert late.texts(SAID) == []


def test_what_one_may_not(enter: Enter) -> None:
    page = enter("ana", "silent", "chat:subscribe:silent")
    say(page, "may I?")
    page.wait(lambda: "Not sent: you may not write in this room" in page.text(".pending .foot"))
    page.find(".pending .foot button:last-of-type").click()
    assert page.texts(".pending") == []
    page.find("#join-room").type("secret", ENTER)
    page.wait(lambda: page.text("#join-problem") == "You may not read \u201csecret\u201d.")
    assert page.texts("#rooms .label") == ["silent"]
    page.find("#join-room").type("No Such Name!", ENTER)
    page.wait(lambda: "letters" in page.text("#join-problem"))


def test_too_long(enter: Enter) -> None:
    page = enter("ana", "length")
    page.run("document.getElementById('text').value = 'x'.repeat(50_000)")
    page.find("#send").click()
    page.wait(lambda: page.text("#composer-problem") == "This message is too long: 49 KiB, and 48 KiB fit.")
    page.run("document.getElementById('text').value = '\\u00e4'.repeat(20_000)")
    page.find("#send").click()
    until_said(page, "\u00e4" * 20_000)


def test_whoever_is_revoked_is_told_so(enter: Enter, house: ChatWeb) -> None:
    page = enter("carl", "gone")
    house.call(lambda: house.revocations.revoke_name("carl", time.time()))
    say(page, "still here?")
    page.wait(lambda: page.text("#login-error") == "Your access was revoked.")
    assert page.texts("#messages li") == []


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone(enter: Enter, dark: bool) -> None:
    page = enter("ana", f"phone{dark:d}".lower(), width=360, height=740, dark=dark)
    say(page, "x" * 400, "short")
    page.wait(lambda: len(page.texts(SAID)) == 2)
    assert page.run("return document.documentElement.scrollWidth") == 360
    assert page.run("return document.getElementById('scroller').scrollWidth") <= 360
    assert not page.all("#rooms-panel")[0].is_shown
    page.find("#show-rooms").click()
    page.find("#join-room")
    assert page.focused.label == "Close the list of rooms"
    assert page.run("return document.getElementById('conversation').inert")
    page.press(ESCAPE)
    page.wait(lambda: page.focused.attribute("id") == "show-rooms")
    page.find("#show-people").click()
    page.find("#leave-narrow").click()
    page.wait(lambda: page.text("#empty .big") == "No room is open")
    sizes = page.run("return [...document.querySelectorAll('.bar .icon')].map((icon) => icon.offsetWidth)")
    assert min(sizes) >= 40
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 23, 29)") is dark


def test_who_has_a_client_certificate_needs_no_token(
    house: ChatWeb, pki: PKI, elsewhere: str, tmp_path: Path
) -> None:
    with chromium(tmp_path, trust=pki.ca, certificate=pki.client("demo")) as driver:
        page = driver.open(house.url + "/#certificate")
        page.wait(lambda: page.text("#my-name") == "demo")
        say(page, "known by my certificate")
        until_said(page, "known by my certificate")
        page.find("#sign-out").click()
        assert page.find("#login-certificate").text == "Continue as demo"
        page.find("#login-certificate").click()
        page.wait(lambda: page.texts(SAID) == ["known by my certificate"])
        assert page.console() == []
        # With the same certificate, from a page that is not ours.
        before = house.refused().get("not_permitted", 0)
        page.go(elsewhere)
        assert try_socket(page, house) == "closed"
        assert house.refused().get("not_permitted", 0) == before + 1


def test_the_daemon_serves_it(daemon: RunningDaemon, tmp_path: Path) -> None:
    """As a newcomer has it: `init`, `serve`, the address that is printed, and a token."""
    host, port = daemon.addresses["chat-web"]
    with chromium(tmp_path, trust=daemon.ca) as driver:
        page = driver.open(f"https://localhost:{port}/#lobby")
        page.find("#token").type(daemon.token("demo", "chat:*:**"), ENTER)
        page.wait(lambda: page.text("#my-name") == "demo")
        say(page, "is anybody there?")
        until_said(page, "is anybody there?")
        assert page.console() == []
        page.go(f"https://{host}:{port}/")
        page.find("#token")
