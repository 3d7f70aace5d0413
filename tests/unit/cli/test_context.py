"""How a client command finds the daemon: flag, environment, [client], and what stands beside."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from secure_net import config
from secure_net.cli.context import ClientFlags, ClientSettings, CommandContext, client_options, service_url
from secure_net.errors import ConfigurationError

NOTHING = ClientFlags()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and nothing configured anywhere else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "etc.toml")
    return tmp_path


def configure(here: Path, text: str = "[rpc]") -> None:
    (here / "secure-net.toml").write_text(text)
    clients = here / "certs" / "clients"
    clients.mkdir(parents=True, exist_ok=True)
    (here / "certs" / "ca.pem").touch()
    (clients / "admin.pem").touch()


def settings(flags: ClientFlags = NOTHING) -> ClientSettings:
    return CommandContext().client("rpc", flags)


def test_beside_a_configuration_nothing_need_be_said(here: Path) -> None:
    configure(here)
    found = settings()
    assert found.url == "https://127.0.0.1:8443/RPC2"
    assert found.ca == here / "certs" / "ca.pem"
    assert found.certificate == here / "certs" / "clients" / "admin.pem"
    assert found.key == here / "certs" / "clients" / "admin.key"
    assert (found.token, found.token_file) == (None, None)


def test_a_wildcard_is_reached_by_name(here: Path) -> None:
    configure(here, '[server]\nnames = ["rpc.example.org"]\n[rpc]\nlisten = "0.0.0.0:1"')
    assert settings().url == "https://rpc.example.org:1/RPC2"
    configure(here, '[rpc]\nlisten = "[::]:1"')
    assert settings().url == "https://localhost:1/RPC2"


def test_the_client_table_goes_before_what_stands_beside(here: Path) -> None:
    table = 'url = "https://h/RPC2"\nca = "a.pem"\ncert = "c.pem"\nkey = "k.pem"\ntoken_file = "t"'
    configure(here, f"[client]\n{table}")
    assert settings() == ClientSettings(
        "https://h/RPC2", here / "a.pem", here / "c.pem", here / "k.pem", None, here / "t"
    )


def test_a_token_takes_the_place_of_admin_s_certificate(here: Path) -> None:
    configure(here, '[rpc]\n[client]\ntoken = "t"')
    found = settings()
    assert (found.token, found.certificate, found.key) == ("t", None, None)
    configure(here)
    assert settings(ClientFlags(token_file=Path("t"))).certificate is None


def test_flags_go_before_all(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(here, '[client]\nurl = "https://table/RPC2"\ncert = "c.pem"\nkey = "k.pem"')
    monkeypatch.setenv("SECURE_NET_CLIENT__URL", "https://environment/RPC2")
    assert settings().url == "https://environment/RPC2"
    flags = ClientFlags("https://flag/RPC2", Path("f.pem"), Path("x.pem"))
    found = settings(flags)
    assert (found.url, found.ca, found.certificate) == ("https://flag/RPC2", Path("f.pem"), Path("x.pem"))
    assert found.key == Path("x.key")
    assert settings(ClientFlags(cert=Path("x.pem"), key=Path("y.key"))).key == Path("y.key")
    monkeypatch.setenv("SECURE_NET_CLIENT__TOKEN", "t")
    found = settings(ClientFlags(token_file=Path("f.token")))
    assert (found.token, found.token_file) == (None, Path("f.token"))


def test_flags_are_enough_where_there_is_no_configuration(here: Path) -> None:
    found = settings(ClientFlags("https://h/RPC2", Path("ca.pem")))
    assert (found.url, found.ca, found.certificate) == ("https://h/RPC2", Path("ca.pem"), None)


@pytest.mark.parametrize(
    ("text", "flags", "path", "cure"),
    [
        (None, NOTHING, "client.url", "--url"),
        (None, ClientFlags(url="https://h"), "client.ca", "--ca"),
        ("[admin]", NOTHING, "client.url", "--url"),
        ('[rpc]\nlisten = "127.0.0.1:0"', NOTHING, "rpc.listen", "--url"),
    ],
)
def test_what_is_missing_names_its_cure(
    here: Path, text: str | None, flags: ClientFlags, path: str, cure: str
) -> None:
    if text is not None:
        configure(here, text)
    with pytest.raises(ConfigurationError) as caught:
        settings(flags)
    assert caught.value.path == path
    assert cure in caught.value.cure


@pytest.mark.parametrize(
    "url", ["http://h/RPC2", "h:1", "https://", "https://h:x/", "https://h:0/", "https://["]
)
def test_an_address_that_is_none_of_ours_is_wrong_usage(url: str) -> None:
    with pytest.raises(click.BadParameter, match="there is no http"):
        service_url("rpc")(url)


def test_commands_of_the_daemon_need_a_file(here: Path) -> None:
    context = CommandContext()
    with pytest.raises(ConfigurationError, match="secure-net init"):
        _ = context.configuration
    with pytest.raises(ConfigurationError, match="secure-net init"):
        context.require_file()
    configure(here)
    CommandContext().require_file()
    assert CommandContext().state_directory == here / "state"
    assert CommandContext(here / "secure-net.toml").configuration.file == here / "secure-net.toml"


def test_the_flags_arrive_as_one(here: Path) -> None:
    seen: list[tuple[str, ClientFlags]] = []

    @click.command()
    @click.argument("word")
    @client_options("rpc")
    @click.pass_obj
    def command(context: object, *, word: str, flags: ClientFlags) -> None:
        """What it does."""
        seen.append((word, flags))

    assert command.help == "What it does."
    arguments = ["w", "--url", "https://u", "--ca", "c", "--cert", "x", "--key", "y", "--token-file", "t"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    assert CliRunner().invoke(command, ["w"]).exit_code == 0
    assert seen == [
        ("w", ClientFlags("https://u", Path("c"), Path("x"), Path("y"), Path("t"))),
        ("w", NOTHING),
    ]
