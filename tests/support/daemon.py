"""The real daemon: `secure-net serve` as a process of its own, in a folder that `secure-net init` wrote.

::

    def test_something(daemon: RunningDaemon) -> None:        # fixture of tests/conftest.py, one per module
        daemon.rpc                                            # ("127.0.0.1", 41287)
        daemon.call("math.double", 21)                        # by the stdlib's ServerProxy, as demo
        daemon.cli("status", "--json")                        # by our command line, in its folder

    with run_daemon(tmp_path, environ={"SECURE_NET_LIMITS__IDLE_SECONDS": "1"}) as daemon: ...
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
READY_SECONDS = 20.0
STOP_SECONDS = 60.0

_SERVICE_LINE = re.compile(r"^(?P<service>[a-z-]+) +[a-z]+://(?P<host>\[[^]]+\]|[^:/]+):(?P<port>\d+)")

# The variable that says where each service listens.
LISTEN = {
    "rpc": "SECURE_NET_RPC__LISTEN",
    "files": "SECURE_NET_FILES__LISTEN",
    "echo": "SECURE_NET_ECHO__LISTEN",
    "chat": "SECURE_NET_CHAT__LISTEN",
    "chat-web": "SECURE_NET_CHAT__WEB",
    "admin": "SECURE_NET_ADMIN__LISTEN",
}

CLI = [sys.executable, "-m", "secure_net.cli"]


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would configure secure_net, and with coverage where it is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SECURE_NET_")}
    return kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | more


def init(directory: Path, *arguments: str) -> Path:
    """`secure-net init`, with the examples' services; returns the directory."""
    examples = directory / "examples"
    examples.mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "services.py", examples)
    subprocess.run(
        [*CLI, "init", str(directory), *arguments], check=True, stdout=subprocess.DEVNULL, env=environment()
    )
    return directory


class RunningDaemon:
    """A daemon that said `ready`. `lines` is what it printed until then, `log` the path of its stderr."""

    def __init__(self, directory: Path, environ: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.directory = directory
        self.log = directory / "stderr.jsonl"
        written = (directory / "secure-net.toml").read_text()
        ports = {
            variable: "127.0.0.1:0"
            for service, variable in LISTEN.items()
            if f"[{service.partition('-')[0]}]" in written  # a variable of its own would begin the service
        }
        # An empty value takes a variable away.
        self.environ = {name: value for name, value in environment(**{**ports, **environ}).items() if value}
        with self.log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*prefix, *CLI, "serve"],
                cwd=directory,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        self._printed: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        self.lines: list[str] = []
        self.addresses: dict[str, tuple[str, int]] = {}

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._printed.put(line.rstrip("\n"))
        self._printed.put(None)

    def wait_ready(self) -> None:
        """Read what it prints until `ready`. Raises `RuntimeError` with its log when it ends before."""
        while True:
            line = self._printed.get(timeout=READY_SECONDS)
            if line is None:
                code = self.process.wait(STOP_SECONDS)
                raise RuntimeError(f"serve ended with {code}: {self.log.read_text()}")
            self.lines.append(line)
            found = _SERVICE_LINE.match(line)
            if found:
                self.addresses.setdefault(found["service"], (found["host"].strip("[]"), int(found["port"])))
            if line == "ready":
                return

    # --- where it is ----------------------------------------------------------------------------------

    @property
    def rpc(self) -> tuple[str, int]:
        return self.addresses["rpc"]

    @property
    def admin(self) -> tuple[str, int]:
        return self.addresses["admin"]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.rpc[1]}/RPC2"

    @property
    def admin_url(self) -> str:
        return f"https://localhost:{self.admin[1]}"

    @property
    def certs(self) -> Path:
        return self.directory / "certs"

    @property
    def ca(self) -> Path:
        return self.certs / "ca.pem"

    def certificate(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a client."""
        return self.certs / "clients" / f"{name}.pem", self.certs / "clients" / f"{name}.key"

    # --- ways to it -----------------------------------------------------------------------------------

    def context(self, name: str | None = "demo") -> ssl.SSLContext:
        """The standard library's own verifying context, showing the certificate of `name`."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if name is not None:
            context.load_cert_chain(*map(str, self.certificate(name)))
        return context

    def proxy(self, name: str | None = "demo", token: str | None = None) -> xmlrpc.client.ServerProxy:
        headers = [("Authorization", f"Bearer {token}")] if token else []
        return xmlrpc.client.ServerProxy(
            self.url, context=self.context(name), headers=headers, allow_none=True, use_builtin_types=True
        )

    def call(self, method: str, *parameters: Any) -> Any:
        """One call by the stdlib's `ServerProxy`, as demo."""
        with self.proxy() as proxy:
            return getattr(proxy, method)(*parameters)

    def cli(self, *arguments: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Our command line, beside the configuration. The real ports are in its environment."""
        known = {LISTEN[service]: f"{host}:{port}" for service, (host, port) in self.addresses.items()}
        return subprocess.run(
            [*CLI, *arguments],
            cwd=self.directory,
            env=self.environ | known,
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            timeout=STOP_SECONDS,
        )

    def token(self, subject: str, *scopes: str, **options: str) -> str:
        """A fresh access token by `secure-net token issue`."""
        flags = [part for scope in scopes for part in ("--scope", scope)]
        flags += [part for name, value in options.items() for part in (f"--{name}", value)]
        return self.cli("token", "issue", subject, *flags).stdout.strip()

    # --- its end --------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(STOP_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def start_daemon(
    directory: Path, *, environ: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> RunningDaemon:
    """Serve in a folder that `init` made before; the caller stops it. `prefix` runs it, as prlimit does."""
    daemon = RunningDaemon(directory, environ or {}, prefix)
    try:
        daemon.wait_ready()
    except (RuntimeError, queue.Empty):
        daemon.kill()
        raise
    return daemon


@contextlib.contextmanager
def run_daemon(
    directory: Path, *, environ: Mapping[str, str] | None = None, configuration: str = ""
) -> Iterator[RunningDaemon]:
    """A fresh daemon under `directory`/house; `configuration` is added to its secure-net.toml."""
    house = init(directory / "house")
    if configuration:
        with (house / "secure-net.toml").open("a") as file:
            file.write(configuration)
    daemon = start_daemon(house, environ=environ)
    try:
        yield daemon
    finally:
        daemon.stop()
