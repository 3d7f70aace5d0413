"""Every example of README.md is run as it stands there, against the daemon that it speaks of.

A line of an example that ends in ``prints X`` prints a line with X in it. What differs from the reader's
machine: the ports, and `.venv/bin/secure-net`, which is a script of one line here.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.interop.test_prometheus import SCRAPE_SECONDS, prometheus, query
from tests.support import peers
from tests.support.daemon import LISTEN, ROOT, RunningDaemon, environment, init, start_daemon
from tests.support.waiting import until

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PRINTS = re.compile(r"# prints (.+)$", re.MULTILINE)
_FILE_NAME = re.compile(r"# (\w+\.py)\b")
# Here the reader installs, or has stopped the daemon.
_NOT_WHILE_IT_RUNS = ("make serve", "state/store.db")


class Example(NamedTuple):
    language: str
    text: str

    @property
    def prints(self) -> list[str]:
        return [expected.strip() for expected in _PRINTS.findall(self.text)]


EXAMPLES = [Example(*found) for found in _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))]
RUNNABLE = [
    example
    for example in EXAMPLES
    if example.language in ("sh", "python")
    and not example.text.startswith("# orders.py")
    and not any(words in example.text for words in _NOT_WHILE_IT_RUNS)
]


def _only(language: str, words: str) -> str:
    (text,) = (example.text for example in EXAMPLES if example.language == language and words in example.text)
    return text


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """The daemon of a reader who has written `orders.py` and named it."""
    house = init(tmp_path_factory.mktemp("readme"))
    (house / "orders.py").write_text(_only("python", "# orders.py"))
    (services,) = re.findall(r"^services = .*$", _only("toml", "[rpc]"), re.MULTILINE)
    toml = house / "secure-net.toml"
    toml.write_text(re.sub(r"^services = \[.*?\]", services, toml.read_text(), flags=re.MULTILINE))
    program = house / ".venv" / "bin" / "secure-net"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m secure_net.cli "$@"\n')
    program.chmod(0o755)
    daemon = start_daemon(house)
    try:
        yield daemon
    finally:
        daemon.stop()


def _run(daemon: RunningDaemon, example: Example) -> str:
    """What it printed."""
    text = example.text.replace("localhost:8443", f"localhost:{daemon.rpc[1]}")
    text = text.replace("localhost:9443", f"localhost:{daemon.admin[1]}")
    text = text.replace("localhost:8444", f"localhost:{daemon.addresses['files'][1]}")
    if example.language == "python":
        name = _FILE_NAME.match(text)
        assert name is not None, "an example in Python says the name of its file first"
        (daemon.directory / name[1]).write_text(text)
        command = [sys.executable, name[1]]
    else:
        command = ["sh", "-e", "-c", text]
    known = {LISTEN[service]: f"{host}:{port}" for service, (host, port) in daemon.addresses.items()}
    done = subprocess.run(
        command,
        cwd=daemon.directory,
        env=environment(**known),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_every_example_does_what_it_says_in_the_order_of_the_page(reader: RunningDaemon) -> None:
    peers.need("curl")
    for example in RUNNABLE:
        lines = iter(_run(reader, example).splitlines())
        for expected in example.prints:
            assert any(expected in line for line in lines), (expected, example.text)


def test_what_was_revoked_is_in_the_backup_that_is_put_back(reader: RunningDaemon) -> None:
    reader.cli("revoke", "demo")
    _run(reader, Example("sh", "rm -f state-backup.db\n" + _backup_line()))
    reader.cli("user", "unlock", "demo")
    assert reader.stop() == 0
    restore = subprocess.run(
        ["sh", "-e", "-c", _only("sh", "install -m 600")],
        cwd=reader.directory,
        capture_output=True,
        check=False,
    )
    assert (restore.returncode, restore.stderr) == (0, b"")
    again = start_daemon(reader.directory)
    try:
        assert again.cli("call", "math.double", "21").stdout == "42\n"
        refused = again.cli("call", "--cert", "certs/clients/demo.pem", "math.double", "21", check=False)
        assert refused.returncode == 77
        assert re.search(r"^demo +locked", again.cli("user", "list").stdout, re.MULTILINE)
    finally:
        again.stop()


def _backup_line() -> str:
    (line,) = (line for line in _only("sh", " backup ").splitlines() if " backup " in line)
    return line


def test_the_scrape_configuration_is_one(daemon: RunningDaemon) -> None:
    """As it stands there, beside the configuration: a real Prometheus finds the daemon up."""
    text = _only("yaml", "scrape_configs").replace("localhost:9443", f"localhost:{daemon.admin[1]}")
    path = daemon.directory / "prometheus.yml"
    path.write_text("global: {scrape_interval: 1s}\n" + text)
    with prometheus(path) as api:
        assert until(lambda: query(api, "up") == {"secure-net": 1.0}, SCRAPE_SECONDS)


def test_the_service_s_table_is_one() -> None:
    assert set(tomllib.loads(_only("toml", "[rpc]"))) == {"rpc"}
