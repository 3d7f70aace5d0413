from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return make_site(tmp_path, capsys)


def test_yes_and_the_rule_that_says_so(site: Site) -> None:
    assert site.run("policy", "explain", "reports", "rpc:call:reports.daily") == 0
    assert site.out == "yes: rpc:call:reports.* in identities.reports allows it\n"
    assert list((site.directory / "state").iterdir()) == []


def test_no_and_why(site: Site) -> None:
    assert site.run("policy", "explain", "reports", "rpc:call:math.double") == 77
    assert site.out == ""
    assert site.err.endswith("no scope in identities.reports matches (rpc:call:reports.*)\n")
    assert site.run("policy", "explain", "nobody", "echo:use", "--json") == 77
    assert site.json["permitted"] is False


def test_the_state_s_entries_count(site: Site) -> None:
    assert site.run("ca", "issue", "client", "nightly", "--scope", "echo:use") == 0
    assert site.run("policy", "explain", "nightly", "echo:use", "--json") == 0
    assert site.json == {
        "name": "nightly",
        "action": "echo:use",
        "permitted": True,
        "rule": "echo:use",
        "source": "the store",
        "reason": "echo:use in the store allows it",
    }
    assert site.run("policy", "explain", "reports", "rpc:call:reports.x") == 0


@pytest.mark.parametrize(
    "arguments", [("reports", "rpc"), ("Re", "echo:use"), ("reports",), ("reports", "*:*:**")]
)
def test_wrong_usage(site: Site, arguments: tuple[str, ...]) -> None:
    assert site.run("policy", "explain", *arguments) == 2
