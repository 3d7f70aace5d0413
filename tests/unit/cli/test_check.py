"""`secure-net check`: every finding with its cure, and the exit code that a script wants."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.site import Site, make_site

SERVICES = """
from secure_net import Registry
registry = Registry()
"""
CONFIGURATION = """
[rpc]
listen = "127.0.0.1:0"
services = ["checked_services:registry"]
[admin]
[limits]
connections_count = 200
"""


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    (tmp_path / "checked_services.py").write_text(SERVICES)
    tmp_path.chmod(0o755)
    return make_site(tmp_path, capsys, CONFIGURATION)


def test_nothing_found(site: Site) -> None:
    assert site.run("check") == 0
    assert (site.out, site.err) == ("nothing found\n", "")
    assert site.run("check", "--json") == 0
    assert site.json == []


def test_warnings_do_not_fail(site: Site) -> None:
    path = site.directory / "secure-net.toml"
    path.write_text(path.read_text() + '[tls]\nminimum = "1.2"\n')
    assert site.run("check") == 0
    assert site.out.startswith("warning: tls.minimum: rpc accepts TLS 1.2\n    cure: ")


def test_errors_fail_with_78(site: Site) -> None:
    (site.directory / "certs" / "server.key").chmod(0o644)
    path = site.directory / "secure-net.toml"
    path.write_text(path.read_text().replace("checked_services", "no_such_module"))
    assert site.run("check") == 78
    assert "error: rpc.services[0]: cannot import no_such_module" in site.out
    assert "cure: run `chmod 600" in site.out
    assert site.err == f"secure-net: {site.directory}/secure-net.toml: 2 findings of level error\n"
    assert site.run("check", "--json") == 78
    assert {finding["level"] for finding in site.json} == {"error"}


def test_a_configuration_that_cannot_be_read_is_one_line(site: Site) -> None:
    (site.directory / "secure-net.toml").write_text("[rcp]")
    assert site.run("check") == 78
    assert site.err == "secure-net: rcp: unknown table; did you mean `rpc`?\n"
