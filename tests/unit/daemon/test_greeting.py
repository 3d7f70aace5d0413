"""The first lines a newcomer sees."""

from __future__ import annotations

import shlex
from pathlib import Path

from secure_net import config
from secure_net.addresses import Address
from secure_net.config import Configuration
from secure_net.daemon import greeting


def configured(tmp_path: Path, text: str = "[rpc]\n[admin]") -> Configuration:
    clients = tmp_path / "certs" / "clients"
    clients.mkdir(parents=True)
    (clients / "demo.pem").touch()
    return config.parse(text, tmp_path / "secure-net.toml", {})


def test_one_line_for_each_address() -> None:
    listening = {
        "rpc": [Address("127.0.0.1", 8443), Address("::1", 8443)],
        "files": [Address("h", 5)],
        "echo": [Address("h", 2)],
        "chat": [Address("h", 3)],
        "chat-web": [Address("h", 4)],
        "admin": [Address("h", 1)],
    }
    assert list(greeting.service_lines(listening)) == [
        "rpc       https://127.0.0.1:8443/RPC2",
        "rpc       https://[::1]:8443/RPC2",
        "files     https://h:5/",
        "echo      echo://h:2",
        "chat      chat://h:3",
        "chat-web  https://h:4/",
        "admin     https://h:1  (/status /metrics /livez /readyz)",
    ]


def test_commands_can_be_pasted_whatever_the_path(tmp_path: Path) -> None:
    house = tmp_path / 'it\'s a "house"'
    configuration = configured(house)
    listening = {"rpc": [Address("127.0.0.1", 4242)]}
    lines = list(
        greeting.commands(configuration, listening, {"localhost", "127.0.0.1"}, "/opt/x y/secure-net")
    )
    call, proxy, curl = (shlex.split(line) for line in lines[1:])
    assert call[0] == "/opt/x y/secure-net"
    assert call[-2:] == ["math.double", "21"]
    assert str(house / "certs" / "ca.pem") in call
    assert proxy[:2] == ["python3", "-c"]
    compile(proxy[2], "proxy", "exec")
    assert "https://127.0.0.1:4242/RPC2" in proxy[2]
    assert curl[0] == "curl"
    assert curl[-1] == "https://127.0.0.1:4242/RPC2"
    assert "token" not in " ".join(lines)


def test_files_are_fetched_from_the_first_root(tmp_path: Path) -> None:
    listening = {"files": [Address("127.0.0.1", 4242)]}
    for path, url in (("/", "https://127.0.0.1:4242/"), ("/manuals", "https://127.0.0.1:4242/manuals/")):
        text = f'[files]\n[[files.roots]]\npath = "{path}"\ndirectory = "x"'
        configuration = configured(tmp_path / path.strip("/"), text)
        _, curl = greeting.commands(configuration, listening, {"127.0.0.1"}, "secure-net")
        assert shlex.split(curl)[-1] == url
    assert list(greeting.commands(configured(tmp_path / "x", "[files]"), listening, (), "secure-net")) == []


def test_an_address_the_certificate_does_not_bear_is_replaced_by_the_name(tmp_path: Path) -> None:
    configuration = configured(tmp_path, '[server]\nnames = ["rpc.example.org"]\n[rpc]')
    for host in ("0.0.0.0", "10.0.0.1"):  # noqa: S104 - what a configuration may say
        lines = list(
            greeting.commands(configuration, {"rpc": [Address(host, 1)]}, {"localhost"}, "secure-net")
        )
        assert "https://rpc.example.org:1/RPC2" in lines[1]


def test_what_runs_can_be_tried(tmp_path: Path) -> None:
    listening = {"echo": [Address("127.0.0.1", 2)], "chat": [Address("h", 3)], "chat-web": [Address("h", 4)]}
    lines = list(greeting.commands(configured(tmp_path), listening, {"127.0.0.1"}, "secure-net"))
    echo, chat, token = (shlex.split(line) for line in lines[1::2])
    assert (echo[1], echo[3], echo[-1]) == ("echo", "echo://127.0.0.1:2", "hello")
    assert (chat[1], chat[3], chat[-1]) == ("chat", "chat://localhost:3", "lobby")
    assert "https://localhost:4/" in lines[4]
    assert token[1:4] == ["token", "issue", "demo"]


def test_without_demo_or_rpc_there_is_nothing_to_try(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "[admin]")
    assert list(greeting.commands(configuration, {}, set(), "secure-net")) == []
    configuration = config.parse("[rpc]", tmp_path / "elsewhere" / "secure-net.toml", {})
    assert list(greeting.commands(configuration, {"rpc": [Address("h", 1)]}, set(), "secure-net")) == []
