"""A real Chromium, driven through its WebDriver (W3C WebDriver, over `http.client`).

::

    with chromium(tmp_path, trust=pki.ca) as browser:      # skips where it is missing, fails with CI=true
        page = browser.open("https://localhost:8446/", width=360, height=740, dark=True)
        page.find("#token").type("secret", ENTER)
        page.wait(lambda: page.text("#my-name") == "ana")
        page.screenshot(tmp_path / "page.png")
        assert page.console() == []                        # no error, no violation of the policy

Each page is a browser of its own: other cookies, other connections. `find` waits for what is not there yet;
nothing sleeps for a fixed time.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.support import peers

SECONDS = 20.0
PAUSE_SECONDS = 0.02

# WebDriver section 17.4.2: keys that have no character.
ENTER, ESCAPE, TAB, SHIFT = "\ue007", "\ue00c", "\ue004", "\ue008"
UP, DOWN, PAGE_UP, HOME, END = "\ue013", "\ue015", "\ue00e", "\ue011", "\ue010"

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # how WebDriver marks a reference to an element
_PORT = re.compile(r"started successfully on port (\d+)")

# Nothing but the page: no look-ups, updates or first-run pages, which a closed network refuses by the dozen.
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests may be root, for whom Chromium has none
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--no-first-run",
    "--no-default-browser-check",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--lang=en-GB",
)

T = TypeVar("T")


class BrowserError(Exception):
    """What the driver answered: its error code and message."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message.splitlines()[0] if message else ''}")


class Element:
    """Something on a page. Stale once the page has replaced it: find it again."""

    def __init__(self, page: Page, reference: str) -> None:
        self._page, self.reference = page, reference

    def _do(self, method: str, command: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._page.command(method, f"/element/{self.reference}/{command}", body)

    def click(self) -> None:
        self._do("POST", "click", {})

    def type(self, *texts: str) -> None:
        """Keys, as a person presses them."""
        self._do("POST", "value", {"text": "".join(texts)})

    def clear(self) -> None:
        self._do("POST", "clear", {})

    @property
    def text(self) -> str:
        """As it is shown."""
        return str(self._do("GET", "text"))

    @property
    def is_shown(self) -> bool:
        return bool(self._do("GET", "displayed"))

    def attribute(self, name: str) -> str | None:
        found = self._do("GET", f"attribute/{name}")
        return None if found is None else str(found)

    def value_of(self, name: str) -> Any:
        """A property of the element as it is now, such as what was typed (`value`)."""
        return self._do("GET", f"property/{name}")

    @property
    def role(self) -> str:
        """As a screen reader is told it."""
        return str(self._do("GET", "computedrole"))

    @property
    def label(self) -> str:
        """Its accessible name."""
        return str(self._do("GET", "computedlabel"))


class Page:
    """One browser with one window."""

    def __init__(self, driver: Driver, session: str) -> None:
        self._driver, self._session = driver, session

    def command(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._driver.command(method, f"/session/{self._session}{path}", body)

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of Chromium's DevTools protocol."""
        return self.command("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def close(self) -> None:
        self._driver.close(self._session)

    # --- where, and how it looks ---------------------------------------------------------------------

    def go(self, url: str) -> None:
        self.command("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        return str(self.command("GET", "/url"))

    @property
    def title(self) -> str:
        return str(self.command("GET", "/title"))

    def size(self, width: int, height: int) -> None:
        """In CSS pixels; the page sees a screen of that size."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, *, dark: bool = False, still: bool = False) -> None:
        """What the person has asked of the system: dark colours, reduced motion."""
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        self.devtools(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in features.items()],
        )

    def screenshot(self, path: Path) -> Path:
        """What the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self.command("GET", "/screenshot")))
        return path

    # --- what is there -------------------------------------------------------------------------------

    def all(self, selector: str) -> list[Element]:
        """What a CSS selector finds now."""
        found = self.command("POST", "/elements", {"using": "css selector", "value": selector})
        return [Element(self, item[_ELEMENT]) for item in found]

    def find(self, selector: str, seconds: float = SECONDS) -> Element:
        """The first that a CSS selector finds and that is shown, once there is one."""
        return self.wait(
            lambda: next((item for item in self.all(selector) if item.is_shown), None), seconds, selector
        )

    def text(self, selector: str) -> str:
        """The shown text of the first that a selector finds now, empty where there is none."""
        return next((item.text for item in self.all(selector)), "")

    def texts(self, selector: str) -> list[str]:
        return list(
            self.run(
                "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector
            )
        )

    @property
    def focused(self) -> Element:
        return Element(self, self.command("GET", "/element/active")[_ELEMENT])

    def press(self, *keys: str) -> None:
        """Keys for whatever has the focus."""
        self.focused.type(*keys)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns."""
        return self.command("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_later(self, script: str, *arguments: Any) -> Any:
        """What a script gives to the function that it finds behind its arguments, when it calls that."""
        return self.command("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def console(self) -> list[str]:
        """What was written to the console since this was last asked, violations of a policy included."""
        entries = self.command("POST", "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def wait(self, condition: Callable[[], T], seconds: float = SECONDS, what: str = "it") -> T:
        """Ask until what `condition` gives is true, and return that. Raises `TimeoutError`.

        An element that the page replaced meanwhile is looked for again.
        """
        deadline, value = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                value = condition()
            except BrowserError as error:
                if error.code not in {"stale element reference", "no such element"}:
                    raise
            if value:
                return value
            time.sleep(PAUSE_SECONDS)
        raise TimeoutError(
            f"{what}: not so within {seconds:g} s; last {value!r}; {self.text('body')[:2000]!r}"
        )


class Driver:
    """chromedriver, and the browsers it has started. `prefix` runs it, as unshare does."""

    def __init__(
        self,
        directory: Path,
        program: Path,
        browser: Path,
        arguments: Sequence[str],
        prefix: Sequence[str | Path] = (),
    ) -> None:
        self._directory, self._browser, self._arguments = directory, browser, arguments
        self._sessions: list[str] = []
        home = directory / "home"
        environ = os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
        self._process = subprocess.Popen(
            [*prefix, program, "--port=0", f"--log-path={directory / 'chromedriver.log'}"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # the browsers are of its group: at the end none of them is left
        )
        self._http = http.client.HTTPConnection("127.0.0.1", self._read_port(), timeout=60)

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := _PORT.search(line):
                return int(found[1])
        raise RuntimeError("chromedriver did not start")

    def command(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One command; the value it gives. Raises `BrowserError`."""
        payload = None if body is None else json.dumps(body).encode()
        self._http.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
        answer = self._http.getresponse()
        value = json.loads(answer.read())["value"]
        if answer.status >= 400:
            raise BrowserError(value["error"], value["message"])
        return value

    def open(
        self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False, still: bool = True
    ) -> Page:
        """A new browser, showing `url`."""
        profile = self._directory / f"profile-{len(self._sessions)}-{time.monotonic_ns()}"
        options = {
            "binary": str(self._browser),
            "args": [
                *_FLAGS,
                *self._arguments,
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
            ],
        }
        capabilities = {
            "browserName": "chrome",
            "pageLoadStrategy": "eager",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        made = self.command("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._sessions.append(made["sessionId"])
        page = Page(self, made["sessionId"])
        page.size(width, height)
        page.prefer(dark=dark, still=still)
        page.go(url)
        return page

    def close(self, session: str) -> None:
        self._sessions.remove(session)
        self.command("DELETE", f"/session/{session}")

    def stop(self) -> None:
        try:
            for session in tuple(self._sessions):
                with contextlib.suppress(BrowserError, OSError, http.client.HTTPException):
                    self.close(session)
        finally:
            self._http.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()


class _Home:
    """A home for Chromium: its certificates lie in NSS's database there, as it reads it on Linux."""

    def __init__(self, directory: Path) -> None:
        self._database = directory / ".pki" / "nssdb"
        self._database.mkdir(parents=True)
        self._run("certutil", "-N", "--empty-password")

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [peers.need(program), "-d", f"sql:{self._database}", *arguments]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def trust(self, ca: Path) -> None:
        """A CA for servers."""
        self._run("certutil", "-A", "-t", "C,,", "-n", "secure-net", "-i", ca)

    def own(self, certificate: Path, key: Path) -> None:
        """A client certificate and its key."""
        pair = pkcs12.serialize_key_and_certificates(
            b"own",
            serialization.load_pem_private_key(key.read_bytes(), None),  # type: ignore[arg-type]
            x509.load_pem_x509_certificate(certificate.read_bytes()),
            None,
            serialization.BestAvailableEncryption(b"transport"),
        )
        file = self._database.with_name("own.p12")
        file.write_bytes(pair)
        self._run("pk12util", "-i", file, "-W", "transport", "-K", "")


# Which certificate to show a person picks in a dialog; a policy does where there is none to pick.
_POLICIES = Path("/etc/chromium")
_PICK_ANY = {"AutoSelectCertificateForUrls": ['{"pattern":"*","filter":{}}']}


def _policy_prefix(place: Path) -> list[str | Path]:
    """The command that runs another with this policy where Chromium looks for it, for that one alone."""
    if os.geteuid() != 0 or peers.find("unshare") is None or not _POLICIES.is_dir():
        reason = "Chromium picks a client certificate by a policy under /etc: needs root and unshare"
        if peers.in_ci():
            pytest.fail(reason)
        pytest.skip(reason)
    folder = place / "etc" / "policies" / "managed"
    folder.mkdir(parents=True)
    (folder / "certificates.json").write_text(json.dumps(_PICK_ANY))
    script = f'mount --bind "$0" {_POLICIES} && exec "$@"'
    return [peers.need("unshare"), "--mount", "sh", "-c", script, place / "etc"]


@contextlib.contextmanager
def chromium(
    directory: Path,
    *,
    trust: Path | None = None,
    certificate: tuple[Path, Path] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Driver]:
    """Chromium with a home of its own under `directory`; it believes the CA in `trust`, and shows the client
    `certificate` (with its key) to whoever asks."""
    browser, program = peers.need("chromium"), peers.need("chromedriver")
    place = directory / "chromium"
    home = _Home(place / "home")
    if trust is not None:
        home.trust(trust)
    prefix: list[str | Path] = []
    if certificate is not None:
        home.own(*certificate)
        prefix = _policy_prefix(place)
    driver = Driver(place, program, browser, arguments, prefix)
    try:
        yield driver
    finally:
        driver.stop()
        shutil.rmtree(place, ignore_errors=True)  # some 20 MB of profile for each page
