"""`secure-net reload` without a daemon; with one: tests/unit/test_daemon.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return make_site(tmp_path, capsys)


def test_no_daemon(site: Site) -> None:
    assert site.run("reload") == 1
    assert site.err == "secure-net: no daemon is running here\n"


def test_a_wrong_configuration_fails_the_reload_and_nothing_else(site: Site) -> None:
    (site.directory / "secure-net.toml").write_text("[rcp]")
    assert site.run("reload") == 1
    assert "not reloaded, a running daemon goes on as it was: rcp: unknown table" in site.err


def test_no_configuration_is_78(site: Site) -> None:
    (site.directory / "secure-net.toml").unlink()
    assert site.run("reload") == 78
