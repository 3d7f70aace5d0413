from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from secure_net.cli import places
from secure_net.cli.context import CommandContext
from secure_net.clock import SystemClock
from secure_net.control.socket import SOCKET_FILE, ControlServer
from secure_net.identity.policy import Grant


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45", 45), ("45s", 45), ("30m", 1800), ("12h", 43200), ("90d", 7776000), ("1w", 604800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert places.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5h", "1y", "1 d", "d", "1_0s", "\u0661s", "1h\n", "9" * 11]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="90d"):
        places.duration(text)


def test_names_and_scopes() -> None:
    assert places.name("reports") == "reports"
    assert places.scope("rpc:call:math.*") == "rpc:call:math.*"
    for convert, text in ((places.name, "Re ports"), (places.scope, "rpc")):
        with pytest.raises(click.BadParameter):
            convert(text)


def test_dates_are_utc() -> None:
    assert places.date(1_800_000_000) == "2027-01-15T08:00:00Z"


@contextlib.contextmanager
def daemon(state: Path, answers: Mapping[str, dict[str, Any]]) -> Iterator[list[str]]:
    """A daemon as far as its control socket goes; gives the acts it was asked for."""
    asked: list[str] = []
    started, loop = threading.Event(), asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def perform(act: str, _arguments: Mapping[str, Any], _who: str) -> dict[str, Any]:
        asked.append(act)
        return answers[act]

    async def live() -> None:
        server = ControlServer(state / SOCKET_FILE, perform, SystemClock(), lambda *_a, **_k: None)
        await server.start()
        started.set()
        await stopping.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    started.wait()
    try:
        yield asked
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


@pytest.fixture
def context(tmp_path: Path) -> CommandContext:
    (tmp_path / "state").mkdir()
    (tmp_path / "secure-net.toml").write_text('[identities.reports]\nscopes = ["echo:use"]\n')
    return CommandContext(tmp_path / "secure-net.toml")


def test_a_running_daemon_is_told_and_reloaded(context: CommandContext) -> None:
    assert not places.reload_daemon(context)
    with daemon(context.state_directory, {"reload": {}, "revoke_token": {}}) as asked:
        assert places.reload_daemon(context)
        assert places.tell(context, "revoke_token", jti="x")
    assert asked == ["reload", "revoke_token"]


def test_a_running_daemon_is_asked_for_the_state_s_entries(context: CommandContext) -> None:
    listed = [
        {"name": "reports", "scopes": ["echo:use"]},
        {"name": "nightly", "scopes": ["mail:relay"]},
        {"name": "locked", "scopes": []},
    ]
    (context.state_directory / "store.db").touch()
    with daemon(context.state_directory, {"list": {"names": listed}}):
        policy = places.load_policy(context)
    assert policy.source("reports") == "identities.reports"
    assert (policy.entry("nightly"), policy.source("nightly")) == (Grant.parse(["mail:relay"]), "the store")
    assert policy.entry("locked") is None
