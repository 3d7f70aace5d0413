"""The command line as a whole: its commands, its exit codes, its one line of error, its speed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from secure_net import __version__
from secure_net.cli import main
from secure_net.errors import (
    AuthenticationError,
    AuthorityError,
    ConfigurationError,
    ExistsError,
    FaultError,
    NotPermittedError,
    OutcomeUnknownError,
    Refusal,
    RefusedError,
    SecureNetError,
    StateLockedError,
    TransportError,
)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_can_be_had_and_says_what_the_list_says(name: str) -> None:
    context = click.Context(main.command_line)
    command = main.command_line.get_command(context, name)
    assert isinstance(command, click.Command)
    assert command.name == name
    shown, listed = command.get_short_help_str(limit=200), main.COMMANDS[name][1]
    assert shown.split(maxsplit=1)[0].strip(".;:,").lower()
    assert listed.endswith(".")


def test_the_list_is_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in main.COMMANDS)


def test_help_imports_no_command_and_nothing_that_is_slow() -> None:
    code = "import sys; from secure_net.cli.main import run; run(['--help']); print(*sys.modules)"
    # Measuring coverage would import half of the standard library.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    )
    loaded = set(done.stdout.split())
    slow = {"asyncio", "ssl", "cryptography", "msgspec", "structlog", "prometheus_client", "sqlite3"}
    assert not loaded & slow
    assert not {name for name in loaded if name.startswith("secure_net.cli.")} - {
        "secure_net.cli.main",
        "secure_net.cli.context",
    }


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.split()[-1] == __version__


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SecureNetError("x"), 1),
        (TransportError("x"), 1),
        (OutcomeUnknownError("x"), 1),
        (StateLockedError("x"), 1),
        (FaultError(-32601, "x"), 1),
        (OSError("x"), 1),
        (AuthenticationError("x"), 77),
        (NotPermittedError("x"), 77),
        (RefusedError(Refusal.REVOKED), 77),
        (RefusedError(Refusal.DRAINING), 1),
        (RefusedError(Refusal.OVERLOAD), 1),
        (ExistsError("certs/x.key", "choose another"), 1),
        (AuthorityError("ff", "no such serial", "look"), 1),
        (ConfigurationError("rpc.listen", "wrong"), 78),
    ],
)
def test_each_error_has_its_code_and_one_line(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_it(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main.command_line, "main", raise_it)
    assert main.run([]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"secure-net: {error}\n"


def test_what_a_stranger_chose_is_escaped_in_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_it(*_: object, **__: object) -> None:
        raise FaultError(1, "\x1b[31mred\nsecond line [brackets]")

    monkeypatch.setattr(main.command_line, "main", raise_it)
    main.run([])
    assert capsys.readouterr().err == "secure-net: 1: \\x1b[31mred\\x0asecond line [brackets]\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["no-such"], "secure-net: No such command 'no-such'; see `secure-net --help`"),
        (["serve", "--x"], "secure-net serve: No such option '--x'; see `secure-net serve --help`"),
        (["call"], "secure-net call: Missing argument 'METHOD'; see `secure-net call --help`"),
        (["--config"], "secure-net: Option '--config' requires an argument; see `secure-net --help`"),
    ],
)
def test_wrong_usage_is_2_in_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 2
    assert capsys.readouterr().err == line + "\n"


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_a_failure_of_click_s_own_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_it(*_: object, **__: object) -> None:
        raise click.FileError("f", "cannot be opened")

    monkeypatch.setattr(main.command_line, "main", raise_it)
    assert main.run([]) == 1
    assert capsys.readouterr().err == "secure-net: Could not open file 'f': cannot be opened\n"


def test_what_nobody_expected_is_one_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_it(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr(main.command_line, "main", raise_it)
    monkeypatch.delenv(main.TRACEBACK, raising=False)
    assert main.run([]) == 1
    assert capsys.readouterr().err == (
        "secure-net: ZeroDivisionError: by\\x0anothing; this is a fault of ours: "
        "SECURE_NET_TRACEBACK=1 shows where\n"
    )
    monkeypatch.setenv(main.TRACEBACK, "1")
    assert main.run([]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupted_is_130(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main.command_line, "main", raise_it)
    assert main.run([]) == 130


def test_a_configuration_that_is_not_there_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--config", str(tmp_path / "absent.toml"), "check"]) == 78
    assert "absent.toml: no such file; run `secure-net init`" in capsys.readouterr().err


def test_a_reader_that_has_gone_makes_no_noise() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = [sys.executable, "-m", "secure_net.cli", "--help"]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


def test_main_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "run", lambda _: 77)
    with pytest.raises(SystemExit) as caught:
        main.main([])
    assert caught.value.code == 77
