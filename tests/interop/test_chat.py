"""Our chat clients against the real daemon: as a program, as a script, and as a person at a terminal."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_net.errors import (
    AuthenticationError,
    ChatError,
    HistoryGapError,
    NotPermittedError,
    OutcomeUnknownError,
    TransportError,
)
from secure_net.messaging.client import ChatClient, new_id
from secure_net.messaging.client_inbox import Interrupted
from secure_net.messaging.client_messages import Message
from secure_net.messaging.sync_client import SyncChatClient
from tests.support.command_line import DONE, FAILED, INTERRUPTED, REFUSED
from tests.support.daemon import CLI, RunningDaemon, init, start_daemon
from tests.support.loops import in_loop
from tests.support.terminal import Rendered, Terminal

SECONDS = 60.0


def client(daemon: RunningDaemon, name: str = "demo", **options: Any) -> ChatClient:
    host, port = daemon.addresses["chat"]
    return ChatClient(host, port, ca=daemon.ca, certificate=daemon.certificate(name), **options)


# --- programs ---------------------------------------------------------------------------------------------


@in_loop
async def test_two_in_a_room(daemon: RunningDaemon) -> None:
    async with client(daemon, "admin") as ann, client(daemon, "demo") as bob:
        assert (await ann.join("two", after=0)).seq == 0
        assert (await bob.join("two")).members == 2
        assert await ann.who("two") == ["admin", "demo"]
        body = {"text": "gr\u00fc\u00df\u0000", "list": [1, 2.5, None, True]}
        assert await bob.say("two", body) == 1
        for member in (ann, bob):
            message = await member.receive("two")
            assert (message.seq, message.sender, message.body) == (1, "demo", body)
        assert [message.body for message in await ann.history("two")] == [body]
        mine = new_id()
        assert await bob.say("two", "once", id=mine) == 2
        assert await bob.say("two", "once", id=mine) == 2
        with pytest.raises(ChatError, match="id_reused"):
            await bob.say("two", "twice", id=mine)
        with pytest.raises(HistoryGapError):
            await bob.join("three", after=5)
        await bob.leave("two")
        assert await ann.who("two") == ["admin"]


@in_loop
async def test_what_the_server_calls_malformed_is_an_error_and_the_connection_goes_on(
    daemon: RunningDaemon,
) -> None:
    async with client(daemon) as chat:
        deep: Any = []
        for _ in range(40):
            deep = [deep]
        for body in (deep, 2**70):
            with pytest.raises(ChatError, match="malformed"):
                await chat.say("odd", body)
        assert await chat.say("odd", "x" * 48_000) == 1


@in_loop
async def test_scopes(daemon: RunningDaemon) -> None:
    token = daemon.token("demo", "chat:publish:said", "chat:subscribe:heard")
    host, port = daemon.addresses["chat"]
    async with ChatClient(host, port, ca=daemon.ca, token=token) as chat:
        assert await chat.say("said", 1) == 1
        await chat.join("heard")
        for act in (chat.say("heard", 1), chat.join("said"), chat.history("said"), chat.who("said")):
            with pytest.raises(NotPermittedError):
                await act
    with pytest.raises(AuthenticationError):
        await ChatClient(host, port, ca=daemon.ca, token="nonsense").connect()
    with pytest.raises(AuthenticationError):
        await ChatClient(host, port, ca=daemon.ca).connect()


def test_without_an_event_loop(daemon: RunningDaemon) -> None:
    host, port = daemon.addresses["chat"]
    with SyncChatClient(host, port, ca=daemon.ca, certificate=daemon.certificate("demo")) as chat:
        chat.join("sync", after=0)
        assert [chat.say("sync", number) for number in range(3)] == [1, 2, 3]
        assert [message.body for message in itertools.islice(chat, 3)] == [0, 1, 2]
        assert chat.receive(0.05) is None
        assert chat.who("sync") == ["demo"]
        assert len(chat.history("sync")) == 3


class House:
    """A daemon that goes and comes again at the same address."""

    def __init__(self, directory: Path) -> None:
        self._directory = init(directory)
        self.daemon = start_daemon(self._directory)

    async def again(self, end: signal.Signals) -> None:
        await asyncio.to_thread(self._again, end)

    def _again(self, end: signal.Signals) -> None:
        self.daemon.signal(end)
        self.daemon.wait()
        port = self.daemon.addresses["chat"][1]
        self.daemon = start_daemon(self._directory, environ={"SECURE_NET_CHAT__LISTEN": f"127.0.0.1:{port}"})


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "house")
    yield made
    made.daemon.stop()


@in_loop
async def test_nothing_is_lost_or_doubled_when_the_daemon_goes_and_comes(house: House) -> None:
    total = 3000
    half_way, all_said = asyncio.Event(), asyncio.Event()

    async def speak(chat: ChatClient) -> dict[int, int]:
        answers = {}
        for number in range(total):
            answers[number] = await chat.say_soon("ops", number)
            if number == total // 3:
                half_way.set()
        all_said.set()
        return {number: await answer for number, answer in answers.items()}

    async def listen(chat: ChatClient) -> list[tuple[int, int]]:
        return [(message.seq, message.body) for _ in range(total) if (message := await chat.receive("ops"))]

    async with (
        asyncio.timeout(SECONDS),
        client(house.daemon, "demo") as speaker,
        client(house.daemon, "admin") as listener,
    ):
        await listener.join("ops", after=0)
        speaking, listening = asyncio.create_task(speak(speaker)), asyncio.create_task(listen(listener))
        await half_way.wait()
        await house.again(signal.SIGKILL)
        await house.again(signal.SIGTERM)
        told, heard = await speaking, await listening
    assert heard == [(number + 1, number) for number in range(total)]
    assert told == {number: number + 1 for number in range(total)}


@in_loop
async def test_a_program_that_reads_slowly_is_cut_off_and_misses_nothing(daemon: RunningDaemon) -> None:
    total, size = 400, 40_000  # 16 MB: more than outbox, sockets and client hold together
    async with (
        asyncio.timeout(SECONDS),
        client(daemon, "demo") as speaker,
        client(daemon, "admin", received_bytes=100_000, random=lambda: 0.0) as listener,
    ):
        await listener.join("slow")
        events = listener.events()
        for answer in [await speaker.say_soon("slow", f"{number:0{size}}") for number in range(total)]:
            await answer
        received: list[int] = []
        interruptions = 0
        while len(received) < total:
            event = await anext(events)
            if isinstance(event, Message):
                received.append(int(event.body[-9:]))
            interruptions += isinstance(event, Interrupted)
        assert received == list(range(total))
        assert interruptions


@in_loop
async def test_whoever_is_revoked_is_told_and_does_not_come_again(house: House) -> None:
    async with asyncio.timeout(SECONDS), client(house.daemon, "demo") as chat:
        await chat.join("ops")
        receiving = asyncio.create_task(chat.receive())
        await asyncio.to_thread(house.daemon.cli, "revoke", "demo")
        with pytest.raises(AuthenticationError):
            await receiving
        with pytest.raises((AuthenticationError, OutcomeUnknownError)):
            await chat.say("ops", 1)
        with pytest.raises((AuthenticationError, TransportError)):
            await client(house.daemon, "demo").connect()


# --- scripts ----------------------------------------------------------------------------------------------


def test_lines_in_and_lines_out(daemon: RunningDaemon) -> None:
    done = daemon.cli("chat", "lines", stdin="one\ntwo \u001b[31m\n", check=False)
    assert (done.returncode, done.stderr) == (DONE, "")
    assert [line.partition("Z ")[2] for line in done.stdout.splitlines()] == [
        "admin: one",
        "admin: two \\x1b[31m",
    ]
    done = daemon.cli("chat", "lines", "--after", "1", "--json")
    (record,) = map(json.loads, done.stdout.splitlines())
    assert (record["seq"], record["from"], record["body"]) == (2, "admin", "two \u001b[31m")
    assert daemon.cli("chat", "lines", "--history", "1").stdout.count("\n") == 1
    assert daemon.cli("chat", "lines", "--after", "2").stdout == "", (
        "nothing came since: it ends all the same"
    )


def test_exit_codes(daemon: RunningDaemon) -> None:
    (daemon.directory / "token").write_text(daemon.token("demo", "chat:publish:codes"))
    token = ("--token-file", "token")
    assert daemon.cli("chat", "codes", *token, "--no-join", stdin="x\n", check=False).returncode == DONE
    for refused in (
        daemon.cli("chat", "codes", *token, stdin="x\n", check=False),
        daemon.cli("chat", "other", *token, "--no-join", stdin="x\n", check=False),
    ):
        assert (refused.returncode, refused.stderr.count("\n")) == (REFUSED, 1)
    for failed in (
        daemon.cli("chat", "codes", "--url", "chat://127.0.0.1:1", check=False),
        daemon.cli("chat", "codes", "--after", "99", check=False),
    ):
        assert (failed.returncode, failed.stderr.count("\n")) == (FAILED, 1)


def arguments(daemon: RunningDaemon, *more: str) -> dict[str, Any]:
    host, port = daemon.addresses["chat"]
    return {
        "args": [*CLI, "chat", *more, "--url", f"chat://{host}:{port}"],
        "cwd": daemon.directory,
        "env": daemon.environ,
    }


def test_a_script_that_follows_until_it_is_interrupted(daemon: RunningDaemon) -> None:
    follower = subprocess.Popen(
        **arguments(daemon, "follow", "--follow", "--after", "0"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    daemon.cli("chat", "follow", "--no-join", stdin="hello\n")
    assert follower.stdout.readline().endswith("admin: hello\n")
    follower.send_signal(signal.SIGINT)
    assert "".join(follower.communicate(timeout=SECONDS)).strip() == ""
    assert follower.returncode == INTERRUPTED


# --- people -----------------------------------------------------------------------------------------------


class Person:
    """Somebody at a terminal of 60 columns, in front of `secure-net chat`."""

    def __init__(self, daemon: RunningDaemon, room: str, **environ: str) -> None:
        self.terminal = Terminal(60)
        how = arguments(daemon, room)
        how["env"] = {name: value for name, value in how["env"].items() if name != "NO_COLOR"} | environ
        slave = self.terminal.slave
        self.process = subprocess.Popen(
            **how, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )

    @property
    def screen(self) -> Rendered:
        return self.terminal.screen

    async def sees(self, *texts: str) -> list[str]:
        return await self.terminal.until(lambda lines: all(text in "\n".join(lines) for text in texts))

    async def leaves(self) -> int:
        code = await asyncio.to_thread(self.process.wait, SECONDS)
        self.terminal.look()
        self.terminal.close()
        return code


@in_loop
async def test_two_people_at_their_terminals(daemon: RunningDaemon) -> None:
    async with client(daemon, "demo") as chat:
        await chat.say("people", "before")
        person = Person(daemon, "people")
        await person.sees("- admin in people; here: admin; /help", "demo: before", "people> ")
        await chat.join("people")
        await person.sees("- demo is here")
        person.terminal.type("half a li")
        await person.sees("people> half a li")
        await chat.say("people", "while you type \u001b]0;x\u0007")
        lines = await person.sees("demo: while you type \\x1b]0;x\\x07")
        assert lines[-1] == "people> half a li"
        assert person.screen.column == len("people> half a li")
        person.terminal.type("ne\r")
        assert (await chat.receive("people")).body.startswith("while")
        assert (await chat.receive("people")).body == "half a line"
        await person.sees("admin: half a line")
        assert any(style not in ("0", "1", "2") for style in person.screen.styles)
        person.terminal.type(b"\x04")
        assert await person.leaves() == DONE


@in_loop
async def test_ctrl_c_leaves_the_terminal_as_it_was(daemon: RunningDaemon) -> None:
    person = Person(daemon, "interrupted", NO_COLOR="1")
    await person.sees("interrupted> ")
    person.terminal.type("half")
    await person.sees("interrupted> half")
    os.killpg(person.process.pid, signal.SIGINT)
    assert await person.leaves() == INTERRUPTED
    assert person.screen.styles == set()
    assert "Traceback" not in "\n".join(person.screen.lines)
