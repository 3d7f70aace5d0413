"""``secure-net chat`` in a pipe. On a terminal: `test_chat_view.py`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.chat_server import ChatPeer, ack, error, joined, message, scripted_chat
from tests.support.loops import in_loop
from tests.support.site import Site, make_site

Script = Callable[[ChatPeer], Awaitable[None]]


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return make_site(tmp_path, capsys)


def chat(site: Site, monkeypatch: pytest.MonkeyPatch, script: Script, stdin: str, *arguments: str) -> int:
    """The exit code of the command, against a server that follows the script."""
    codes: list[int] = []

    @in_loop
    async def run() -> None:
        async with scripted_chat(site.pki) as server:
            url = f"chat://localhost:{server.address[1]}"
            command = asyncio.create_task(
                asyncio.to_thread(site.run, "chat", "--url", url, "ops", *arguments)
            )
            await script(await server.accept(unacknowledged_count=100))
            codes.append(await command)

    (site.directory / "stdin").write_text(stdin)
    with (site.directory / "stdin").open() as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", file)
        run()
    return codes[0]


async def enter(peer: ChatPeer, seq: int = 0, **expected: object) -> None:
    await peer.reads(type="join", room="ops", **expected)
    peer.send(joined("ops", seq))


def test_lines_are_said_and_messages_printed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: ChatPeer) -> None:
        await enter(peer)
        one, two = await peer.reads(body="one"), await peer.reads(body="\u001btwo")
        peer.send(message("ops", 1, {"a": 1}), message("ops", 2, "one", "demo"), ack(one, 2))
        peer.send(ack(two, 3), message("ops", 3, "\u001btwo", "demo"))
        assert await peer.read() is None

    assert chat(site, monkeypatch, script, "one\n\u001btwo\n") == 0
    assert [line.partition("Z ")[2] for line in site.out.splitlines()] == [
        'ann: {"a":1}',
        "demo: one",
        "demo: \\x1btwo",
    ]
    assert site.err == ""


def test_what_was_said_before(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def history(peer: ChatPeer) -> None:
        await enter(peer, seq=4)
        assert await peer.read() == {"type": "history", "room": "ops", "limit": 2, "before": 5}
        kept = [{"seq": seq, "from": "ann", "at": 1, "body": seq} for seq in (3, 4)]
        peer.send({"type": "history", "room": "ops", "messages": kept, "more": True})
        assert await peer.read() is None

    assert chat(site, monkeypatch, history, "", "--history", "2", "--json") == 0
    assert [json.loads(line)["seq"] for line in site.out.splitlines()] == [3, 4]

    async def replay(peer: ChatPeer) -> None:
        await enter(peer, seq=4, after=2)
        peer.send(message("ops", 3), message("ops", 4))
        assert await peer.read() is None

    assert chat(site, monkeypatch, replay, "", "--after", "2") == 0
    assert len(site.out.splitlines()) == 2


def test_only_speaking(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: ChatPeer) -> None:
        peer.send(ack(await peer.reads(type="say", body="one"), 1))
        assert await peer.read() is None

    assert chat(site, monkeypatch, script, "one", "--no-join") == 0
    assert site.out == ""


@pytest.mark.parametrize(("code", "exit_code"), [("not_permitted", 77), ("unavailable", 1), ("rooms", 1)])
def test_what_is_not_acknowledged_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch, code: str, exit_code: int
) -> None:
    async def script(peer: ChatPeer) -> None:
        await enter(peer)
        one, two = await peer.reads(body="one"), await peer.reads(body="two")
        peer.send(ack(one, 1), message("ops", 1), error(code, id=two["id"]))
        assert await peer.read() is None

    assert chat(site, monkeypatch, script, "one\ntwo\n", "--follow") == exit_code
    assert site.err.count("\n") == 1


def test_a_room_that_may_not_be_heard(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: ChatPeer) -> None:
        await peer.reads(type="join")
        peer.send(error("not_permitted", room="ops"))
        assert await peer.read() is None

    assert chat(site, monkeypatch, script, "one\n") == 77
    assert site.err == "secure-net: not_permitted: why\n"


def test_revoked_while_it_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: ChatPeer) -> None:
        await enter(peer)
        peer.close(message("ops", 1), error("revoked"))

    assert chat(site, monkeypatch, script, "", "--follow") == 77
    assert site.err == "secure-net: revoked: why\n"


def test_missing_messages_are_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live room that began anew: what was due comes no more, and nobody waits for it."""

    async def script(peer: ChatPeer) -> None:
        await peer.reads(type="join")
        peer.send(joined("ops", 9, 10, incarnation="a" * 32))
        peer.send(ack(await peer.reads(body="one"), 10))
        peer.cut()

    codes: list[int] = []

    @in_loop
    async def run() -> None:
        async with scripted_chat(site.pki) as server:
            url = f"chat://localhost:{server.address[1]}"
            command = asyncio.create_task(asyncio.to_thread(site.run, "chat", "--url", url, "ops"))
            await script(await server.accept())
            peer = await server.accept()
            await peer.reads(type="join")
            peer.send(joined("ops", 0, 1, incarnation="b" * 32))
            codes.append(await command)

    (site.directory / "stdin").write_text("one\n")
    with (site.directory / "stdin").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        run()
    assert codes == [0]
    assert site.err == "secure-net: history_gap: ops: message 9 cannot be gone on from; kept: 1 to 0\n"


@pytest.mark.parametrize(
    "arguments",
    [["chat", "OPS"], ["chat"], ["chat", "ops", "--after", "-1"], ["chat", "a", "--url", "https://h"]],
)
def test_wrong_usage(site: Site, arguments: list[str]) -> None:
    assert site.run(*arguments) == 2
    assert site.err.count("\n") == 1
    assert site.out == ""
