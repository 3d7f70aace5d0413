"""``secure-net echo``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_net.daemon.echo_servers import EchoServer
from tests.support.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return make_site(tmp_path, capsys)


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    identities = {"admin": ["*:*:**"], "stranger": []}
    with EchoServer("127.0.0.1", 0, directory=site.pki.certs, identities=identities) as server:
        assert server.address is not None
        yield f"echo://localhost:{server.address[1]}"


def test_the_answer_is_printed(site: Site, url: str) -> None:
    assert site.run("echo", "--url", url, "hello") == 0
    assert site.out == "ECHO: hello\n"


def test_as_json(site: Site, url: str) -> None:
    assert site.run("echo", "--url", url, "--json", "grüße") == 0
    assert site.json == {"answer": "ECHO: grüße"}


def test_what_comes_back_cannot_act_on_the_terminal(site: Site, url: str) -> None:
    assert site.run("echo", "--url", url, "\x1b[31mred") == 0
    assert site.out == "ECHO: \\x1b[31mred\n"


def test_a_message_that_is_too_long_is_wrong_usage(site: Site, url: str) -> None:
    assert site.run("echo", "--url", url, "x" * 65_531) == 2
    assert "65530 bytes" in site.err


def test_who_may_not_is_told_so_in_one_line(site: Site, url: str) -> None:
    certificate, _ = site.pki.client("stranger")
    assert site.run("echo", "--url", url, "--cert", str(certificate), "hello") == 1
    assert site.err.count("\n") == 1
    assert "echo:use" in site.err


def test_a_token_is_no_credential_here(site: Site, url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x.y.z")
    (site.pki.certs / "clients" / "admin.pem").unlink()
    assert site.run("echo", "--url", url, "--token-file", str(token), "hello") == 78
    assert "no certificate" in site.err


def test_an_address_of_another_kind_is_wrong_usage(site: Site) -> None:
    assert site.run("echo", "--url", "https://localhost:1", "hello") == 2
    assert "echo://host:9800" in site.err
