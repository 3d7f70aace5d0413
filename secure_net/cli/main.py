"""``secure-net``: finds the command, runs it, and turns what it raises into one line and an exit code.

The commands stand in a table and are imported when they are called: ``--help`` costs the interpreter,
click, and nothing else.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import click

from secure_net import __version__
from secure_net.cli.context import CommandContext
from secure_net.errors import ConfigurationError, Refusal, RefusedError, SecureNetError

DONE, FAILED, WRONG_USAGE, REFUSED, MISCONFIGURED, INTERRUPTED = 0, 1, 2, 77, 78, 130

TRACEBACK = "SECURE_NET_TRACEBACK"  # set, an unexpected error shows where it was raised

# Name: module and attribute (the same word as the name), and the line `--help` shows.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("secure_net.cli.init:init", "Write a configuration and a private CA."),
    "serve": ("secure_net.cli.serve:serve", "Run the daemon in the foreground."),
    "check": ("secure_net.cli.check:check", "Find what is wrong or unsafe; start nothing."),
    "reload": ("secure_net.cli.reload:reload", "Make the running daemon read everything anew."),
    "status": ("secure_net.cli.status:status", "Show the running daemon."),
    "call": ("secure_net.cli.call:call", "Call a method; print its result as JSON."),
    "echo": ("secure_net.cli.echo:echo", "Send a message to the echo service; print the answer."),
    "chat": ("secure_net.cli.chat:chat", "Say and read what is said in a room."),
    "ca": ("secure_net.cli.ca:ca", "The private CA: issue, renew, revoke, list."),
    "token": ("secure_net.cli.token:token", "Access tokens: issue, inspect, revoke, rotate."),
    "user": ("secure_net.cli.user:user", "Identities: list, lock, unlock."),
    "revoke": ("secure_net.cli.revoke:revoke", "Cut an identity off everywhere, at once."),
    "policy": ("secure_net.cli.policy:policy", "Explain who may do what, and by which rule."),
    "audit": ("secure_net.cli.audit:audit", "Show or verify the audit trail."),
    "backup": ("secure_net.cli.backup:backup", "Write a consistent copy of the state."),
}


# The refusals that say "not you", as against "not now".
_WHO_YOU_ARE = frozenset(
    {
        Refusal.CERTIFICATE_REQUIRED,
        Refusal.CERTIFICATE_PROFILE,
        Refusal.CERTIFICATE_REVOKED,
        Refusal.CREDENTIAL,
        Refusal.REVOKED,
        Refusal.EXPIRED,
        Refusal.NOT_PERMITTED,
        Refusal.PENALTY,
    }
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return cast(click.Command, getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration (default: $SECURE_NET_CONFIG, ./secure-net.toml, /etc/secure-net/secure-net.toml).",
)
@click.version_option(__version__, prog_name="secure-net")
@click.pass_context
def command_line(context: click.Context, config: Path | None) -> None:
    """XML-RPC, messages, files, mail and FTP for private networks, with no insecure mode at all."""
    context.obj = CommandContext(config)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exits with the code of what happened."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code: 0, 1, 2, 77, 78 or 130."""
    try:
        result = command_line.main(arguments, prog_name="secure-net", standalone_mode=False)
        sys.stdout.flush()
    except (SecureNetError, OSError, click.ClickException, click.Abort, KeyboardInterrupt) as error:
        _say(error)
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - a fault of ours, which people are told like any other
        _say_fault(error)
        return FAILED
    return result if isinstance(result, int) else DONE


# The first that fits.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (click.UsageError, WRONG_USAGE),
    (click.Abort, INTERRUPTED),
    (KeyboardInterrupt, INTERRUPTED),
    (ConfigurationError, MISCONFIGURED),
)


def exit_code(error: BaseException) -> int:
    """What an error means to a script."""
    if isinstance(error, RefusedError) and error.reason in _WHO_YOU_ARE:
        return REFUSED
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def _say(error: BaseException) -> None:
    """One line on stderr that names what is wrong."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    elif isinstance(error, click.UsageError):
        who = error.ctx.command_path if error.ctx else "secure-net"
        _complain(f"{error.format_message().rstrip('.')}; see `{who} --help`", who)
    elif isinstance(error, click.ClickException):
        _complain(error.format_message())
    elif isinstance(error, BrokenPipeError):
        # The reader of our output has gone (`| head`): say nothing, and keep the interpreter quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif not isinstance(error, click.Abort | KeyboardInterrupt):
        _complain(str(error))


def _say_fault(error: Exception) -> None:
    """Something that should not have been raised: one line, and the whole of it for who asks."""
    if os.environ.get(TRACEBACK):
        import traceback

        traceback.print_exception(error)
        return
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    _complain(f"{text}; this is a fault of ours: {TRACEBACK}=1 shows where")


def _complain(text: str, who: str = "secure-net") -> None:
    from secure_net.text import escape

    click.echo(f"{who}: {escape(text, markup=False)}", err=True)
