"""The status page in a real Chromium: who logs in sees live figures, at a desk and on a phone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import ENTER, TAB, Driver, Page, chromium
from tests.support.daemon import LISTEN, RunningDaemon, start_daemon
from tests.support.file_daemon import run_file_daemon
from tests.support.file_daemon import url as files_url
from tests.support.files import write

SCOPE = "admin:read:status"
SCREENS = [(1280, 800), (360, 740)]

# What Chromium itself writes when a page is not for everybody, or the server is not there.
_EXPECTED = ("status of 401", "status of 403", "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY")

# A served page that tries the status page: files carry `sandbox`, so it needs a person's help to run at all.
_TRY = """
const done = arguments[1];
fetch(arguments[0], {credentials: "include"}).then(
  (answer) => done(`got ${answer.status}`), () => done("blocked"));
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with run_file_daemon(tmp_path_factory.mktemp("house")) as daemon:
        write(daemon.directory / "www" / "page.html", b"<title>a served page</title><p>hello")
        yield daemon


@pytest.fixture(scope="module")
def driver(house: RunningDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with chromium(tmp_path_factory.mktemp("browser"), trust=house.ca) as driver:
        yield driver


@pytest.fixture
def token(house: RunningDaemon) -> str:
    return house.token("ana", SCOPE)


Look = Callable[..., Page]


@pytest.fixture
def look(house: RunningDaemon, driver: Driver, token: str) -> Iterator[Look]:
    """The page, after logging in; nothing unexpected may be on its console."""
    pages: list[Page] = []

    def look(**options: Any) -> Page:
        page = driver.open(f"{house.admin_url}/status", **options)
        pages.append(page)
        page.find("#token").type(token)
        page.find("button").click()
        page.find("#services")
        return page

    yield look
    lines = [line for page in pages for line in page.console()]
    for page in pages:
        page.close()
    assert [line for line in lines if not any(word in line for word in _EXPECTED)] == []


def figure(page: Page, name: str, part: str = "now") -> str:
    return page.text(f'[data-chart="{name}"] [data-{part}]')


@pytest.fixture
def calls(house: RunningDaemon) -> Iterator[None]:
    """Somebody calls, again and again, for as long as the test runs."""
    stop = threading.Event()

    def call() -> None:
        with house.proxy() as proxy:
            while not stop.wait(0.02):
                proxy.math.double(21)

    caller = threading.Thread(target=call)
    caller.start()
    yield
    stop.set()
    caller.join()


def test_live_figures_change_while_calls_are_made(look: Look, house: RunningDaemon, calls: None) -> None:
    page = look()
    assert page.text("[data-state]") == "Serving"
    assert page.text(".me strong") == "ana"
    page.wait(lambda: float(figure(page, "calls")) > 1, what="calls are shown")
    line = '[data-chart="calls"] .line'
    first, at = page.find(f"{line[:-6]} svg").attribute("aria-label"), page.text("[data-at]")
    drawn = page.all(line)[0].attribute("d")
    page.wait(lambda: page.all(line)[0].attribute("d") != drawn and page.text("[data-at]") != at)
    assert str(first).startswith("Calls per second, the last")
    page.wait(lambda: "demo" in page.texts("#principals td span"))
    assert {"rpc", "files", "admin"} <= set(page.texts("#services td:first-child span"))
    house.cli("echo", "hello")
    page.wait(lambda: figure(page, "messages", "peak") != "0")
    house.cli("revoke", "somebody")
    page.wait(lambda: "name somebody" in page.texts("#audit td:last-child span"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS, ids=["desk", "phone"])
def test_it_fits_the_screen(
    look: Look, tmp_path: Path, screen: tuple[int, int], dark: bool, calls: None
) -> None:
    width, height = screen
    page = look(width=width, height=height, dark=dark)
    page.wait(lambda: figure(page, "calls", "peak") != "0")
    assert page.run("return document.documentElement.scrollWidth") <= width
    hidden = page.run(
        "return [...document.querySelectorAll('main :not(thead, thead *)')].filter((one) =>"
        " one.clientWidth && getComputedStyle(one).overflowX === 'visible' &&"
        " one.scrollWidth > one.clientWidth + 1).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert hidden == []
    small = page.run(
        "return [...document.querySelectorAll('button, summary, a:not(.skip)')].filter((one) =>"
        " one.getBoundingClientRect().height < (one.tagName === 'A' ? 12 : 24)).map((one) => one.outerHTML)"
    )
    assert small == []
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == dark
    assert page.screenshot(tmp_path / "status.png").stat().st_size > 10_000
    assert contrast(page) == []


# Text whose contrast with what is behind it is under 4.5 (WCAG 2.2, 1.4.3).
_CONTRAST = """
const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const colour = (text) => text.match(/[0-9.]+/g).map(Number);
const behind = (one) => {
  for (; one; one = one.parentElement) {
    const found = colour(getComputedStyle(one).backgroundColor);
    if (found.length < 4 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};
const speaks = (one) => one.checkVisibility() && one.clientWidth > 1 &&
  [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
return [...document.querySelectorAll("body *")].filter(speaks).filter((one) => {
    const [a, b] = [light(colour(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5;
  }).map((one) => one.outerHTML.slice(0, 80));
"""


def contrast(page: Page) -> list[str]:
    return list(page.run(_CONTRAST))


@pytest.mark.parametrize(("width", "height"), SCREENS, ids=["desk", "phone"])
def test_it_reads_without_script(
    house: RunningDaemon, driver: Driver, token: str, width: int, height: int
) -> None:
    page = driver.open("about:blank", width=width, height=height)
    try:
        page.devtools("Emulation.setScriptExecutionDisabled", value=True)
        page.go(f"{house.admin_url}/status")
        page.find("#token").type(token)
        page.find("button").click()
        page.find("#services")
        assert page.text("[data-state]") == "Serving"
        assert not page.all("#pause:not([hidden])")
        (path,) = page.all('[data-chart="connections"] .line')
        assert str(path.attribute("d")).startswith("M")
        page.find("#minutes summary").click()
        assert page.find("#minutes td").is_shown
        page.find(".me button").click()
        page.find("#token")
    finally:
        page.close()


def test_by_keyboard_alone(house: RunningDaemon, driver: Driver, token: str) -> None:
    page = driver.open(f"{house.admin_url}/status")
    try:
        page.wait(lambda: page.focused.attribute("id") == "token")
        page.press(token, TAB, ENTER)
        page.find("#services")
        order = []
        for _ in range(5):
            page.press(TAB)
            order.append(page.focused.text or page.focused.role)
            outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", order  # what has the focus shows it
        assert order == [
            "Skip to the services",
            "Pause",
            "Log out",
            "The last minutes in figures",
            "status.json",
        ]
        page.find("#minutes summary")
        page.run("document.querySelector('#minutes summary').focus()")
        page.press(ENTER)
        page.wait(lambda: page.find("#minutes td").is_shown)
    finally:
        page.close()


def test_what_a_screen_reader_is_told(look: Look) -> None:
    for width, height in SCREENS:
        page = look(width=width, height=height)
        assert page.find("[data-state]").role == "status"
        assert page.find('[data-chart="calls"] svg').role in {"image", "img"}
        assert page.find('[data-chart="calls"] svg').label.startswith("Calls per second, the last")
        table = page.find("#services table")
        assert (table.role, table.label) == ("table", "Services")
        assert page.find("#services td").role == "cell"  # rows that are shown as cards are rows all the same
        assert page.find("#pause").label == "Pause"


def test_it_can_be_paused(look: Look, calls: None) -> None:
    page = look()
    page.wait(lambda: figure(page, "calls", "peak") != "0")
    page.find("#pause").click()
    assert page.find("#pause").attribute("aria-pressed") == "true"
    assert page.text("#fresh") == "Paused at"
    at = page.text("[data-at]")
    asked = (
        "return performance.getEntriesByType('resource').filter((one) => one.name.endsWith('json')).length"
    )
    before = page.run(asked)
    page.run_later("setTimeout(arguments[0], 2500)")
    assert (page.run(asked) - before <= 1, page.text("[data-at]")) == (True, at)
    page.find("#pause").click()
    page.wait(lambda: page.text("[data-at]") != at)
    assert page.text("#fresh") == "As of"


def test_logging_out_and_wrong_tokens(look: Look, house: RunningDaemon) -> None:
    page = look()
    page.find(".me button").click()
    page.find("#token").type("nonsense")
    page.find("button").click()
    page.wait(lambda: "not valid" in page.text("#problem"))
    assert page.find("#token").value_of("value") == ""
    assert "nonsense" not in page.url
    page.find("#token").type(house.token("ben", "rpc:call:**"))
    page.find("button").click()
    page.wait(lambda: "has no scope" in page.text("#problem"))
    page.find("#token").type(house.token("ben", SCOPE))
    page.find("button").click()
    page.wait(lambda: page.text(".me strong") == "ben")


def test_nothing_is_kept_of_a_token(look: Look, token: str) -> None:
    page = look()
    assert page.run("return [document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
    assert "eyJ" not in page.run("return document.documentElement.outerHTML") + page.url
    (cookie,) = page.command("GET", "/cookie")
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    assert cookie["name"] == "__Host-secure-net-status"
    assert cookie["value"] not in token


def test_the_page_asks_for_a_token_when_the_session_has_ended(look: Look, house: RunningDaemon) -> None:
    page = look()
    (cookie,) = page.command("GET", "/cookie")
    page.command("DELETE", f"/cookie/{cookie['name']}")
    page.find("#token")


def test_a_page_among_the_served_files_gets_nothing(look: Look, house: RunningDaemon) -> None:
    """Threat list, "Pages": it is of the same site, so that the browser shows it the cookie."""
    page = look()
    for path in ("/status.json", "/status"):
        page.go(files_url(house, "/page.html"))
        assert page.run_later(_TRY, house.admin_url + path) == "blocked"
        lines = "\n".join(page.console())
        assert "CORS" in lines or "blocked" in lines, lines
    page.run(
        "const frame = document.createElement('iframe'); frame.src = arguments[0]; frame.id = 'frame';"
        "document.body.append(frame);",
        f"{house.admin_url}/status",
    )
    page.wait(lambda: any("frame" in line.lower() or "403" in line for line in page.console()))
    page.go(f"{house.admin_url}/status")  # a person who goes there is welcome
    page.find("#services")


def test_the_policy_holds_in_the_browser(look: Look) -> None:
    page = look()
    page.run(
        "const script = document.createElement('script');"
        "try { script.textContent = 'window.taken = 1'; } catch {}"
        "document.head.append(script);"
        "try { document.body.insertAdjacentHTML('beforeend', '<b id=taken>x</b>'); } catch {}"
        "const style = document.createElement('style'); style.textContent = 'body { display: none }';"
        "document.head.append(style);"
    )
    assert page.run("return [window.taken ?? null, document.getElementById('taken')]") == [None, None]
    assert page.find("#services").is_shown
    answer = "fetch('https://localhost:1/').then(() => arguments[0]('got'), () => arguments[0]('blocked'))"
    assert page.run_later(answer) == "blocked"
    assert len([line for line in page.console() if "Content Security Policy" in line]) >= 2


def test_a_certificate_needs_no_form(house: RunningDaemon, tmp_path: Path) -> None:
    with chromium(tmp_path, trust=house.ca, certificate=house.certificate("admin")) as driver:
        page = driver.open(f"{house.admin_url}/status")
        page.find("#services")
        assert page.text(".me strong") == "admin"
        assert page.all(".me button") == []  # there is nothing to log out of
        assert page.console() == []


def test_when_the_daemon_goes_and_comes_back(tmp_path: Path) -> None:
    with run_file_daemon(tmp_path) as daemon, chromium(tmp_path, trust=daemon.ca) as driver:
        token = daemon.token("ana", SCOPE)
        page = driver.open(f"{daemon.admin_url}/status")
        page.find("#token").type(token)
        page.find("button").click()
        page.find("#services")
        daemon.stop()
        page.wait(lambda: page.text("#fresh").startswith("No answer"))
        assert page.all("body.stale")
        again = start_daemon(daemon.directory, environ={LISTEN["admin"]: f"127.0.0.1:{daemon.admin[1]}"})
        try:
            page.find("#token")  # sessions are in memory: the page asks anew
        finally:
            again.stop()
