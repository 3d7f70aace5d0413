"""A real Prometheus scrapes the daemon with our scrape configuration; its API shows what was counted."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.daemon import ROOT, RunningDaemon

SCRAPE_SECONDS = 40.0
CALLS = 7


def metrics_text(daemon: RunningDaemon) -> bytes:
    url = daemon.admin_url + "/metrics"
    with urllib.request.urlopen(url, context=daemon.context("metrics")) as answer:  # noqa: S310
        return bytes(answer.read())


def test_promtool_finds_nothing_to_say(daemon: RunningDaemon) -> None:
    promtool = peers.need("promtool")
    daemon.call("math.double", 1)
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=metrics_text(daemon), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _configuration(daemon: RunningDaemon, place: Path) -> Path:
    """deploy/prometheus/prometheus.yml, with paths and addresses of this test, and both ways to log in."""
    text = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    (place / "token").write_text(daemon.token("metrics", "admin:read:metrics"))
    for name in ("metrics.pem", "metrics.key"):
        (place / name).write_bytes((daemon.certs / "clients" / name).read_bytes())
    (place / "ca.pem").write_bytes(daemon.ca.read_bytes())
    (place / "secure-net.rules.yml").write_bytes(
        (ROOT / "deploy" / "prometheus" / "secure-net.rules.yml").read_bytes()
    )
    text = text.replace("/etc/prometheus/secure-net/", f"{place}/").replace("15s", "1s")
    text = text.replace('"localhost:9443"', f'"localhost:{daemon.admin[1]}"')
    text = text.replace("targets: []", f'targets: ["localhost:{daemon.admin[1]}"]')
    path = place / "prometheus.yml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def prometheus(configuration: Path) -> Iterator[str]:
    program, port = peers.need("prometheus"), _free_port()
    place = configuration.parent
    with (place / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={place / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=place,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def query(base: str, expression: str) -> dict[str, float]:
    """Job to value; empty while there is nothing yet."""
    url = f"{base}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            result = json.load(answer)["data"]["result"]
    except OSError:  # it has not started yet
        return {}
    return {series["metric"]["job"]: float(series["value"][1]) for series in result}


def test_it_scrapes_by_certificate_and_by_token(daemon: RunningDaemon, tmp_path: Path) -> None:
    expression = 'sum by (job) (secure_net_rpc_calls_total{method="reports.summary", outcome="ok"})'
    with prometheus(_configuration(daemon, tmp_path)) as base:
        for _ in range(CALLS):
            daemon.call("reports.summary", [1.0])
        end = time.monotonic() + SCRAPE_SECONDS
        wanted = {"secure-net": float(CALLS), "secure-net-token": float(CALLS)}
        while query(base, expression) != wanted:
            assert time.monotonic() < end, (
                query(base, expression),
                (tmp_path / "prometheus.log").read_text(),
            )
            time.sleep(0.2)
        assert query(base, "min by (job) (up)") == dict.fromkeys(wanted, 1.0)


def test_a_stranger_gets_nothing(daemon: RunningDaemon) -> None:
    for name in (None, "demo"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(  # noqa: S310
                daemon.admin_url + "/metrics", context=daemon.context(name)
            )
        assert caught.value.code == (401 if name is None else 403)
        caught.value.close()
    with pytest.raises(urllib.error.URLError) as refused:
        urllib.request.urlopen(  # noqa: S310
            daemon.admin_url + "/metrics", context=ssl.create_default_context()
        )
    assert "certificate verify failed" in str(refused.value)


def test_random_names_make_no_series(daemon: RunningDaemon) -> None:
    def series() -> int:
        return len(re.findall(rb"^secure_net", metrics_text(daemon), re.MULTILINE))

    daemon.call("math.double", 1)
    with daemon.proxy() as proxy:
        with contextlib.suppress(Exception):
            proxy.no.such()
        before = series()
        for number in range(500):
            with pytest.raises(Exception, match="-32601"):
                getattr(proxy, f"random{number}.name")()
    assert series() == before
