"""One connection, on the bench: questions, answers, and why it ends. On a real one: `test_client.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from secure_net.errors import (
    AuthenticationError,
    ChatError,
    HistoryGapError,
    RemoteProtocolError,
    SecureNetError,
    TransportError,
    UnavailableError,
)
from secure_net.limits import FrameLimits
from secure_net.messaging.client_inbox import Inbox
from secure_net.messaging.client_messages import Joined, Who
from secure_net.messaging.client_outbox import Outbox
from secure_net.messaging.client_protocol import ChatClientMachine
from secure_net.messaging.client_session import ChatSession, Notes, SessionEndedError
from secure_net.messaging.frames import FrameReader, encode
from tests.support.chat_server import error, joined, message, welcome, who
from tests.support.loops import in_loop
from tests.support.rpc import settle


class FakeConnection:
    """Feeds the session as the shell does, and keeps what leaves."""

    def __init__(self) -> None:
        self.inbox, self.outbox, self.notes = Inbox(100_000), Outbox(), Notes()
        self.machine = ChatClientMachine(FrameLimits())
        self.session = ChatSession(self, self.machine, self.inbox, self.outbox, self.notes)  # type: ignore[arg-type]
        self.reader = FrameReader(65536)
        self.is_gone = False

    def wake(self) -> None:
        self.reader.receive(self.machine.data_to_send())
        if self.machine.finished:
            self.abort()

    def abort(self) -> None:
        if not self.is_gone:
            self.is_gone = True
            asyncio.get_running_loop().call_soon(self.session.closed)

    async def wait_closed(self) -> None:
        await settle()

    def said(self) -> list[Any]:
        self.wake()
        return [json.loads(payload) for payload in self.reader.next_batch()]

    def tell(self, *objects: object) -> None:
        for item in objects:
            self.machine.receive_data(encode(json.dumps(item).encode()))
        try:
            while (events := self.machine.next_event()) is not None and not self.is_gone:
                self.session.handle(events)
        except RemoteProtocolError as wrong:
            self.notes.log("connection_refused", reason=wrong.reason, detail=wrong.detail)
            self.abort()


def welcomed() -> FakeConnection:
    connection = FakeConnection()
    connection.tell(welcome())
    connection.said()
    return connection


def join(chat: ChatClientMachine) -> None:
    chat.join("ops")


def ask_who(chat: ChatClientMachine) -> None:
    chat.who("ops")


def asking(
    connection: FakeConnection, request: Callable[[ChatClientMachine], None], after: int = 0
) -> asyncio.Task[Any]:
    return asyncio.create_task(connection.session.ask("ops", request, after))


@in_loop
async def test_questions_about_a_room_wait_for_each_other() -> None:
    connection = welcomed()
    first, second = asking(connection, join), asking(connection, ask_who)
    await settle()
    assert connection.said() == [{"type": "join", "room": "ops"}]
    connection.tell(joined("ops"))
    assert await first == Joined("ops", 0, 1, 1)
    await settle()
    assert connection.said() == [{"type": "who", "room": "ops"}]
    connection.tell(who("ops", "ann"))
    assert await second == Who("ops", ("ann",), False)


@in_loop
async def test_whoever_waits_for_a_connection_that_ends_is_told() -> None:
    connection = welcomed()
    first, second = asking(connection, join), asking(connection, ask_who)
    await settle()
    connection.abort()
    for waiting in (first, second):
        with pytest.raises(SessionEndedError):
            await waiting
    assert isinstance(await connection.session.ended, TransportError)
    assert not connection.session.takes_requests


@in_loop
async def test_given_up_while_it_is_open() -> None:
    connection = welcomed()
    waiting = asking(connection, join)
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    connection.said()
    connection.tell(joined("ops"), message("ops", 1))
    assert connection.said() == [{"type": "leave", "room": "ops"}]
    connection.tell({"type": "left", "room": "ops"})
    # No trace of it is left.
    again = asking(connection, join)
    await settle()
    connection.said()
    connection.tell(joined("ops", 1))
    assert (await again).seq == 1
    assert connection.said() == []


@pytest.mark.parametrize(
    ("request_", "answer", "then"),
    [
        (join, joined("ops"), [{"type": "leave", "room": "ops"}]),
        (join, error("rooms", room="ops"), []),
        (ask_who, who("ops"), []),
    ],
)
def test_given_up_when_it_was_just_answered(
    request_: Callable[[ChatClientMachine], None], answer: object, then: list[object]
) -> None:
    @in_loop
    async def run() -> None:
        connection = welcomed()
        waiting = asking(connection, request_)
        await settle()
        connection.said()
        connection.tell(answer)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert connection.said() == then

    run()


@in_loop
async def test_a_server_that_drains_need_not_be_told_that_we_leave() -> None:
    connection = welcomed()
    waiting = asking(connection, join)
    await settle()
    connection.said()
    connection.tell(joined("ops"), error("draining"))
    waiting.cancel()
    await asyncio.wait([waiting])
    assert connection.said() == []
    with pytest.raises(SessionEndedError):
        await asking(connection, ask_who)


@in_loop
async def test_a_gap_names_the_place() -> None:
    connection = welcomed()
    waiting = asking(connection, lambda chat: chat.join("ops", 3), 3)
    await settle()
    connection.tell(error("history_gap", room="ops", first=5, seq=9))
    with pytest.raises(HistoryGapError) as caught:
        await waiting
    assert (caught.value.after, caught.value.first) == (3, 5)


ENDS: list[tuple[list[object], type[SecureNetError], str]] = [
    ([error("revoked")], AuthenticationError, "why"),
    ([error("slow_consumer")], UnavailableError, "why"),
    ([error("internal")], UnavailableError, "why"),
    ([error("too_large")], ChatError, "why"),
    ([{"type": "pong"}], RemoteProtocolError, "pong"),
]


@pytest.mark.parametrize(("objects", "kind", "text"), ENDS)
def test_why_it_ends(objects: list[object], kind: type[SecureNetError], text: str) -> None:
    @in_loop
    async def run() -> None:
        connection = welcomed()
        connection.tell(*objects)
        reason = await connection.session.ended
        assert isinstance(reason, kind)
        assert text in str(reason)

    run()


@in_loop
async def test_the_server_s_word_goes_before_what_the_shell_saw() -> None:
    connection = welcomed()
    connection.tell(error("draining"))
    connection.notes.log("connection_refused", reason="record", detail="x")
    connection.abort()
    assert isinstance(await connection.session.ended, UnavailableError)


@pytest.mark.parametrize(
    ("detail", "kind"),
    [
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", AuthenticationError),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", AuthenticationError),
        ("TLSV1_ALERT_UNKNOWN_CA", AuthenticationError),
        ("TLSV1_ALERT_INTERNAL_ERROR", TransportError),
        ("self-signed CERTIFICATE", TransportError),
        ("", TransportError),
    ],
)
def test_what_an_alert_says_of_our_certificate(detail: str, kind: type[SecureNetError]) -> None:
    notes = Notes()
    notes.log("something else", detail="CERTIFICATE ALERT")
    notes.log("connection_refused", reason="record", detail=detail)
    notes.log("connection_refused", reason="later", detail="")
    assert type(notes.reason) is kind
    assert "later" not in str(notes.reason)


@in_loop
async def test_close() -> None:
    connection = welcomed()
    await connection.session.close()
    assert isinstance(await connection.session.ended, TransportError)
    with pytest.raises(SessionEndedError):
        await asking(connection, join)


@in_loop
async def test_no_welcome() -> None:
    connection = FakeConnection()
    connection.tell(error("unauthenticated"))
    with pytest.raises(AuthenticationError):
        await connection.session.welcome()
