"""``secure-net chat`` on a terminal: a pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import termios
from collections.abc import AsyncIterator
from typing import Any

import pytest

from secure_net.cli.chat_lines import Wish
from secure_net.cli.chat_view import Screen, View
from secure_net.errors import AuthenticationError, NotPermittedError
from secure_net.messaging.client import ChatClient
from tests.support.chat_server import ChatPeer, ChatScript, ack, error, joined, message, scripted_chat, who
from tests.support.loops import in_loop
from tests.support.pki import PKI, make_pki
from tests.support.terminal import Rendered, Terminal

INCARNATION, OTHER = "a" * 32, "b" * 32


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


class Sight:
    """A view at work: its terminal, the server's side, and the task that runs it."""

    def __init__(
        self, terminal: Terminal, server: ChatScript, peer: ChatPeer, task: asyncio.Task[None]
    ) -> None:
        self.terminal, self.server, self.peer, self.task = terminal, server, peer, task

    async def shows(self, *last: str, prompt: str = "ops>") -> None:
        """Until the last lines above the prompt are these, whatever the clock says."""

        def is_so(lines: list[str]) -> bool:
            *above, bottom = [re.sub(r"^(\d{4}-\d\d-\d\d )?\d\d:\d\d ", "", line) for line in lines]
            return bottom.rstrip() == prompt and above[-len(last) :] == list(last)

        try:
            await self.terminal.until(is_so)
        except TimeoutError:
            raise AssertionError(self.terminal.screen.lines) from None


@contextlib.asynccontextmanager
async def looking(
    pki: PKI,
    *,
    after: int | None = None,
    history: int = 0,
    coloured: bool = False,
    members: tuple[str, ...] = ("ann", "demo"),
    more: dict[str, object] | None = None,
) -> AsyncIterator[Sight]:
    terminal = Terminal()
    modes = termios.tcgetattr(terminal.slave)
    async with scripted_chat(pki) as server:
        client = ChatClient(*server.address, ca=pki.ca, certificate=pki.client("demo"), random=lambda: 0.0)
        stream = os.fdopen(os.dup(terminal.slave), "w")
        view = View(
            client, Wish("ops", after, history, False, True), stream, terminal.slave, coloured=coloured
        )
        task = asyncio.create_task(view.run())
        peer = await server.accept(page_count=100)
        await peer.reads(type="join", room="ops")
        peer.send(joined("ops", **(more or {})))  # type: ignore[arg-type]
        await peer.reads(type="who")
        peer.send(who("ops", *members))
        try:
            yield Sight(terminal, server, peer, task)
        finally:
            task.cancel()
            await asyncio.wait([task])
            after_all = termios.tcgetattr(terminal.slave)
            stream.close()
            terminal.close()
    assert after_all == modes


@in_loop
async def test_who_is_there_and_what_is_said_while_one_types(pki: PKI) -> None:
    async with looking(pki) as sight:
        terminal, peer = sight.terminal, sight.peer
        greeting = "- demo in ops; here: ann, demo; /help"
        await sight.shows(greeting)
        terminal.type("half a li")
        await sight.shows(greeting, prompt="ops> half a li")
        peer.send(
            message("ops", 1, "hello"), {"type": "presence", "room": "ops", "member": "bob", "online": True}
        )
        await sight.shows("ann: hello", "- bob is here", prompt="ops> half a li")
        assert terminal.screen.column == len("ops> half a li")
        terminal.type("ne\r")
        said = await peer.reads(type="say", body="half a line")
        await sight.shows("ann: hello", "- bob is here")
        peer.send(ack(said, 2), message("ops", 2, "half a line", "demo"))
        peer.send({"type": "presence", "room": "ops", "member": "bob", "online": False})
        await sight.shows("demo: half a line", "- bob has left")
        terminal.type("\r/who\r")
        await peer.reads(type="who")
        peer.send(who("ops", "demo"))
        await sight.shows("- here: demo")
        terminal.type("//shrug\r")
        peer.send(ack(await peer.reads(body="/shrug"), 3))
        terminal.type("/x\r")
        await sight.shows("- /who: who is here   /quit, Ctrl-D: leave   //text: say /text")
        terminal.type("/quit\r")
        await sight.task
        assert await peer.read() is None
        terminal.look()
        assert terminal.screen.lines[-1] == ""
        assert terminal.screen.styles == set()


@in_loop
async def test_what_was_said_before(pki: PKI) -> None:
    async with looking(pki, history=2, more={"seq": 3}) as sight:
        await sight.peer.reads(type="history", before=4, limit=2)
        kept = [{"seq": seq, "from": "ann", "at": 1, "body": [seq]} for seq in (2, 3)]
        sight.peer.send({"type": "history", "room": "ops", "messages": kept, "more": True}, message("ops", 4))
        await sight.shows("ann: [2]", "ann: [3]", "ann: x")
        assert any(line.startswith("1970-01-01 ") or "19" in line[:2] for line in sight.terminal.screen.lines)
    async with looking(pki, history=2, after=1, more={"seq": 2}) as sight:
        sight.peer.send(message("ops", 2))
        await sight.shows("ann: x")


@in_loop
async def test_nothing_of_a_stranger_acts_on_the_terminal(pki: PKI) -> None:
    async with looking(pki, coloured=True) as sight:
        await sight.shows("- demo in ops; here: ann, demo; /help")
        sight.peer.send(message("ops", 1, "\u001b[31mred\u202e\n[bold]second\u0007"))
        lines = await sight.terminal.until(lambda lines: "second" in "".join(lines))
        assert lines[-3].endswith("ann: \\x1b[31mred\\u202e")
        assert lines[-2].strip() == "[bold]second\\x07"
        assert lines[-2].index("[bold]") == lines[-3].index("\\x1b")
        assert "31" not in sight.terminal.screen.styles
        assert len(sight.terminal.screen.styles) > 2


@in_loop
async def test_a_room_with_many_and_one_that_keeps_nothing(pki: PKI) -> None:
    names = tuple(f"n{number:02}" for number in range(25))
    async with looking(pki, members=names, history=9, more={"incarnation": INCARNATION}) as sight:
        await sight.terminal.until(lambda lines: "/help" in "".join(lines))
        text = "".join(sight.terminal.screen.lines)
        assert "n19, ...; nothing is kept in this room" in text
        assert "n20" not in text


@in_loop
async def test_a_lost_connection_is_said_and_lines_wait_for_the_next(pki: PKI) -> None:
    async with looking(pki, more={"seq": 4, "incarnation": INCARNATION}) as sight:
        await sight.terminal.until(lambda lines: lines[-1] == "ops>" or lines[-1] == "ops> ")
        sight.peer.cut()
        await sight.terminal.until(lambda lines: any("the connection is lost" in line for line in lines))
        sight.terminal.type("later\r")
        peer = await sight.server.accept()
        await peer.reads(type="say", body="later")
        await peer.reads(type="join")
        peer.send(joined("ops", 0, incarnation=OTHER), message("ops", 1))
        lines = await sight.terminal.until(lambda lines: any(line.endswith("ann: x") for line in lines))
        text = "".join(lines)
        assert "- connected again" in text
        assert "messages are missing here" in text


@in_loop
async def test_what_is_refused_is_said_and_the_view_goes_on(pki: PKI) -> None:
    async with looking(pki) as sight:
        peer, terminal = sight.peer, sight.terminal
        await sight.shows("- demo in ops; here: ann, demo; /help")
        terminal.type("x\r/who\r")
        said = await peer.reads(type="say")
        await peer.reads(type="who")
        peer.send(error("not_permitted", id=said["id"]), error("not_permitted", room="ops"))
        await sight.shows("- not said: x: not_permitted: why", "- not_permitted: why")
        terminal.type("\x0c")
        await terminal.until(lambda lines: lines == ["ops> "])
        terminal.type("\x04")
        await sight.task


@pytest.mark.parametrize(
    ("last", "kind"),
    [(error("revoked"), AuthenticationError), (error("not_permitted", room="ops"), NotPermittedError)],
)
def test_whoever_may_be_here_no_longer_is_told(
    pki: PKI, last: dict[str, object], kind: type[Exception]
) -> None:
    @in_loop
    async def run() -> None:
        async with looking(pki) as sight:
            await sight.shows("- demo in ops; here: ann, demo; /help")
            sight.terminal.type("half")
            sight.peer.send(last)
            with pytest.raises(kind):
                await sight.task
            sight.terminal.look()
            assert sight.terminal.screen.lines[-1] == ""

    run()


@in_loop
async def test_a_window_that_changes_and_a_return_from_the_background(pki: PKI) -> None:
    async with looking(pki) as sight:
        terminal = sight.terminal
        await sight.shows("- demo in ops; here: ann, demo; /help")
        terminal.type("x" * 70)
        await terminal.until(lambda lines: "x" * 54 in lines[-1])
        termios.tcsetattr(terminal.slave, termios.TCSANOW, _cooked(terminal.slave))
        for number in (signal.SIGWINCH, signal.SIGCONT):
            terminal.type("\x7f")
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)
        await terminal.until(lambda lines: not termios.tcgetattr(terminal.slave)[3] & termios.ICANON)


def _cooked(file: int) -> list[Any]:
    modes = termios.tcgetattr(file)
    modes[3] |= termios.ICANON | termios.ECHO
    return modes


@in_loop
async def test_a_terminal_that_is_gone_is_the_end(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(file: int, count: int) -> bytes:
        raise OSError("gone")

    async with looking(pki) as sight:
        await sight.shows("- demo in ops; here: ann, demo; /help")
        with monkeypatch.context() as patch:
            patch.setattr("secure_net.cli.chat_view.os.read", gone)
            sight.terminal.type("x")
            await sight.task


def test_a_narrow_window_has_no_prompt() -> None:
    stream = io.StringIO()
    screen = Screen(stream, "a-long-room> ", lambda: 20, coloured=False)
    screen.editor.feed(b"x" * 30)
    screen.draw()
    rendered = Rendered(20)
    rendered.feed(stream.getvalue())
    assert rendered.lines == ["x" * 19]
    assert rendered.column == 19
