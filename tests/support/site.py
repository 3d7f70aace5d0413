"""A folder as ``secure-net init`` leaves it, and the command line run in it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from secure_net.cli.main import run
from tests.support.pki import PKI, make_pki

CONFIGURATION = """
[server]
names = ["localhost"]
[rpc]
listen = "127.0.0.1:0"
[identities.reports]
scopes = ["rpc:call:reports.*"]
"""


@dataclasses.dataclass
class Site:
    """`run` gives the exit code; what was printed is in `out` and `err`."""

    pki: PKI
    capsys: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    @property
    def directory(self) -> Path:
        return self.pki.directory

    def run(self, *arguments: str | Path) -> int:
        configuration = self.directory / "secure-net.toml"
        code = run(["--config", str(configuration), *map(str, arguments)])
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def make_site(
    directory: Path, capsys: pytest.CaptureFixture[str], configuration: str = CONFIGURATION
) -> Site:
    (directory / "secure-net.toml").write_text(configuration)
    (directory / "state").mkdir(mode=0o700)
    return Site(make_pki(directory), capsys)
