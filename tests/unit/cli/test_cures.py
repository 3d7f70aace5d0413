"""What an error tells people to run can be run: each command in its text is one that click takes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import secure_net
from secure_net.cli.main import command_line
from secure_net.clock import SystemWall
from secure_net.config import load
from secure_net.daemon.posture import examine
from tests.support.site import Site, make_site

PACKAGE = Path(secure_net.__file__).parent
COMMAND = re.compile(r"(?<!`)`secure-net ([^`]+)`(?!`)")
MENTIONED = frozenset({"revoke", "token issue"})  # spoken of, and not what somebody is to type
ANYTHING = "x"  # stands for what is put in at run time, and for a placeholder such as NAME


def text_of(node: ast.AST) -> str:
    """A string constant, or an f-string with something in each of its gaps."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.FormattedValue):
        return ANYTHING
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def commands_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        for match in COMMAND.finditer(text_of(node)):
            yield " ".join(match[1].split())


SAID = sorted({(path.stem, command) for path in PACKAGE.rglob("*.py") for command in commands_of(path)})
TO_RUN = [(file, command) for file, command in SAID if command not in MENTIONED]


def parse(command: click.Command, words: list[str]) -> None:
    """Resolve `words` and convert every argument; nothing is run."""
    if not isinstance(command, click.Group):
        command.make_context(command.name, words)
        return
    with click.Context(command) as context:
        names = command.list_commands(context) if words[0] == ANYTHING else words[:1]
        for name in names:
            found = command.get_command(context, name)
            assert found is not None, f"no such command: {name}"
            parse(found, words[1:])


@pytest.mark.parametrize(("file", "command"), TO_RUN)
def test_a_command_in_a_text_is_one_that_there_is(file: str, command: str) -> None:
    parse(command_line, re.sub(r"\b[A-Z]+\b", ANYTHING, command).split())


def test_the_texts_were_found() -> None:
    assert {"ca crl", "ca renew server", "ca renew x --kind client", "ca issue x x", "token rotate"} <= {
        command for _, command in SAID
    }


@pytest.mark.parametrize("command", ["ca renew", "ca renew client x", "ca reissue x", "ca renew x --names y"])
def test_a_command_that_there_is_not_would_be_found(command: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        parse(command_line, command.split())


def test_the_cure_of_a_name_that_the_certificate_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site(tmp_path, capsys)
    assert site.run("ca", "renew", "server", "--dns", "127.0.0.1") == 0
    (cure,) = _cures(site)
    match = COMMAND.search(cure)
    assert match is not None
    assert site.run(*match[1].split()) == 0
    assert site.pki.authority.records()[-1].names == ("localhost", "127.0.0.1")
    assert _cures(site) == []


def _cures(site: Site) -> list[str]:
    configuration = load(site.directory / "secure-net.toml", {})
    found = examine(configuration, SystemWall().wall())
    return [finding.cure for finding in found if "of server.names" in finding.problem]
