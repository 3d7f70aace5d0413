"""The chat client: it stays connected, every message arrives once and in order, and is said once."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from secure_net.errors import (
    AuthenticationError,
    ChatError,
    ConfigurationError,
    DeadlineExceededError,
    HistoryGapError,
    LocalProtocolError,
    NotPermittedError,
    OutcomeUnknownError,
    Refusal,
    RemoteProtocolError,
    SecureNetError,
    TransportError,
    UnavailableError,
    VerificationError,
)
from secure_net.messaging.client import ChatClient, new_id
from secure_net.messaging.client_inbox import Interrupted, Resumed
from secure_net.messaging.client_messages import Joined, Message, Presence
from secure_net.wire.tls import TLSPolicy, client_context
from tests.support.chat_server import (
    SECONDS,
    ChatPeer,
    ChatScript,
    ack,
    error,
    joined,
    message,
    scripted_chat,
    welcome,
    who,
)
from tests.support.clock import FakeClock
from tests.support.loops import in_loop
from tests.support.pki import PKI, make_pki
from tests.support.rpc import until

INCARNATION, OTHER = "a" * 32, "b" * 32


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


class Bench:
    """A server in the hand, a client, and its clock, which moves only when the test moves it."""

    def __init__(self, server: ChatScript, client: ChatClient, clock: FakeClock) -> None:
        self.server, self.client, self.clock = server, client, clock
        self.peer: ChatPeer

    async def until_timer(self, pending: int) -> None:
        """Until the client waits for so many points in time."""
        await until(lambda: self.clock.pending >= pending)

    async def again(self, **limits: object) -> ChatPeer:
        """Welcome the client on its next connection."""
        return await self.pauses_for(self.server.accept(**limits))

    async def pauses_for(self, waiting: Coroutine[Any, Any, ChatPeer]) -> ChatPeer:
        """Let the client's pauses pass, which are as short as can be, until this is done."""
        task = asyncio.create_task(waiting)
        while not task.done():
            self.clock.advance(0)
            await asyncio.sleep(0)
        return await task


@contextlib.asynccontextmanager
async def bench(pki: PKI, server: ChatScript, **options: Any) -> AsyncIterator[Bench]:
    clock = FakeClock()
    mine: dict[str, Any] = {"ca": pki.ca, "certificate": pki.client("demo"), "clock": clock}
    mine["random"] = lambda: 0.0
    client = ChatClient(*server.address, **(mine | options))
    try:
        yield Bench(server, client, clock)
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def connected(pki: PKI, **options: Any) -> AsyncIterator[Bench]:
    limits = options.pop("server_limits", {})
    async with scripted_chat(pki) as server, bench(pki, server, **options) as made:
        connecting = asyncio.create_task(made.client.connect())
        made.peer = await server.accept(**limits)
        await connecting
        yield made


async def in_room(
    client: ChatClient, peer: ChatPeer, after: int | None = None, seq: int = 0, **others: Any
) -> Joined:
    joining = asyncio.create_task(client.join("ops", after))
    await peer.reads(type="join", room="ops")
    peer.send(joined("ops", seq, **others))
    return await joining


async def fails(error_: type[SecureNetError], waiting: Awaitable[Any]) -> Any:
    with pytest.raises(error_) as caught:
        async with asyncio.timeout(SECONDS):
            await waiting
    return caught.value


# --- connecting -------------------------------------------------------------------------------------------


@in_loop
async def test_who_we_are(pki: PKI) -> None:
    async with scripted_chat(pki) as server:
        client = ChatClient(*server.address, ca=pki.ca, token="abc")
        assert client.principal == ""
        entering = asyncio.create_task(client.__aenter__())
        peer = await server.meet()
        assert await peer.read() == {"type": "hello", "token": "abc"}
        peer.send(welcome())
        assert await entering is client
        assert client.principal == "demo"
        await fails(LocalProtocolError, client.connect())
        await client.__aexit__(None, None, None)
        assert await peer.read() is None
        await client.close()


def test_what_is_missing_is_said_at_once(pki: PKI) -> None:
    with pytest.raises(ConfigurationError, match="go together"):
        ChatClient("localhost")
    with pytest.raises(ConfigurationError):
        ChatClient("localhost", 1, ca=pki.directory / "none.pem")


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.join("ops"),
        lambda client: client.who("ops"),
        lambda client: client.say("ops", 1),
        lambda client: client.say_soon("ops", 1),
        lambda client: client.leave("ops"),
        lambda client: client.receive("ops"),
    ],
)
def test_before_it_is_connected_nothing_goes(pki: PKI, act: Any) -> None:
    @in_loop
    async def run() -> None:
        client = ChatClient("localhost", 1, ca=pki.ca)
        await fails(LocalProtocolError, act(client))
        await client.close()

    run()


@pytest.mark.parametrize(
    ("last", "kind", "reason"),
    [
        ("unauthenticated", AuthenticationError, Refusal.CREDENTIAL),
        ("revoked", AuthenticationError, Refusal.REVOKED),
        ("expired", AuthenticationError, Refusal.EXPIRED),
        ("not_permitted", NotPermittedError, Refusal.NOT_PERMITTED),
        ("draining", UnavailableError, None),
        ("internal", UnavailableError, None),
        ("malformed", ChatError, None),
    ],
)
def test_the_first_connection_is_tried_once(
    pki: PKI, last: str, kind: type[SecureNetError], reason: Refusal | None
) -> None:
    @in_loop
    async def run() -> None:
        async with scripted_chat(pki) as server, bench(pki, server) as made:
            connecting = asyncio.create_task(made.client.connect())
            peer = await server.meet()
            await peer.read()
            peer.close(error(last))
            with pytest.raises(kind) as caught:
                await connecting
            assert reason is None or caught.value.reason is reason  # type: ignore[attr-defined]

    run()


@in_loop
async def test_a_server_that_says_nothing_is_late(pki: PKI) -> None:
    async with scripted_chat(pki) as server, bench(pki, server) as made:
        connecting = asyncio.create_task(made.client.connect())
        await (await server.meet()).read()
        await made.until_timer(1)
        made.clock.advance(11)
        await fails(TransportError, asyncio.wait_for(connecting, SECONDS))


@in_loop
async def test_a_server_that_talks_nonsense(pki: PKI) -> None:
    async with scripted_chat(pki) as server, bench(pki, server) as made:
        connecting = asyncio.create_task(made.client.connect())
        peer = await server.meet()
        peer.send_raw(b'{"type":"welcome"}')
        caught = await fails(RemoteProtocolError, asyncio.wait_for(connecting, SECONDS))
        assert caught.reason is Refusal.MALFORMED


@in_loop
async def test_whoever_gives_up_connecting_leaves_nothing_behind(pki: PKI) -> None:
    async with scripted_chat(pki) as server, bench(pki, server) as made:
        connecting = asyncio.create_task(made.client.connect())
        peer = await server.meet()
        await peer.read()
        connecting.cancel()
        await asyncio.wait([connecting])
        assert await peer.read() is None


@in_loop
async def test_a_certificate_that_is_not_believed(pki: PKI, tmp_path: Path) -> None:
    other = make_pki(tmp_path)
    async with (
        scripted_chat(pki, TLSPolicy(client_certificates="required")) as server,
        bench(pki, server, certificate=other.client("demo")) as made,
    ):
        caught = await fails(AuthenticationError, made.client.connect())
        assert "certificate" in str(caught)
    async with (
        scripted_chat(pki, TLSPolicy(client_certificates="required")) as server,
        bench(pki, server, certificate=None, token="abc") as made,
    ):
        await fails(AuthenticationError, made.client.connect())


@in_loop
async def test_a_certificate_that_is_refused_within_the_handshake(pki: PKI, tmp_path: Path) -> None:
    context = client_context(pki.ca, make_pki(tmp_path).client("demo")[0], minimum="1.2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    policy = TLSPolicy(minimum="1.2", client_certificates="required")
    async with scripted_chat(pki, policy) as server, bench(pki, server, context=context) as made:
        await fails(AuthenticationError, made.client.connect())


@in_loop
async def test_a_server_that_is_somebody_else(pki: PKI, tmp_path: Path) -> None:
    async with scripted_chat(make_pki(tmp_path)) as server, bench(pki, server) as made:
        await fails(VerificationError, made.client.connect())


# --- speaking ---------------------------------------------------------------------------------------------


@in_loop
async def test_say_returns_with_the_acknowledgement(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        saying = asyncio.create_task(made.client.say("ops", {"a": 1}))
        said = await peer.reads(type="say", room="ops", body={"a": 1})
        peer.send(ack(said, 7))
        assert await saying == 7
        mine = new_id()
        saying = asyncio.create_task(made.client.say("ops", 1, id=mine))
        said = await peer.reads(id=mine)
        peer.send(ack(said, 8))
        assert await saying == 8


@pytest.mark.parametrize(
    ("code", "kind"),
    [("not_permitted", NotPermittedError), ("unavailable", UnavailableError), ("id_reused", ChatError)],
)
def test_what_is_refused_is_raised(pki: PKI, code: str, kind: type[SecureNetError]) -> None:
    @in_loop
    async def run() -> None:
        async with connected(pki) as made:
            peer = made.peer
            saying = asyncio.create_task(made.client.say("ops", 1))
            said = await peer.reads(type="say")
            peer.send(error(code, id=said["id"], room="ops"))
            await fails(kind, asyncio.wait_for(saying, SECONDS))

    run()


@in_loop
async def test_what_would_break_the_protocol_is_not_said(pki: PKI) -> None:
    async with connected(pki) as made:
        for room, body in (("OPS", 1), ("ops", "x" * 50_000), ("ops", float("nan"))):
            await fails(LocalProtocolError, made.client.say(room, body))


@in_loop
async def test_as_many_are_under_way_as_the_server_takes(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        futures = [await made.client.say_soon("ops", n) for n in range(3)]
        waiting = asyncio.create_task(made.client.say_soon("ops", 3))
        last = asyncio.create_task(made.client.say_soon("ops", 4))
        said = [await peer.reads(body=n) for n in range(3)]
        assert not waiting.done()
        last.cancel()  # who waits may give up: it is never said
        await asyncio.wait([last])
        peer.send(ack(said[0], 1))
        futures.append(await waiting)
        peer.send(ack(said[1], 2), ack(said[2], 3), ack(await peer.reads(body=3), 4))
        assert await asyncio.gather(*futures) == [1, 2, 3, 4]
        last_one = await made.client.say_soon("ops", 5)
        peer.send(ack(await peer.reads(body=5), 5))
        assert await last_one == 5


@in_loop
async def test_what_was_not_acknowledged_is_said_again_first_and_in_order(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        futures = [await made.client.say_soon("ops", n) for n in range(3)]
        said = [await peer.reads(body=n) for n in range(3)]
        peer.send(ack(said[0], 1))
        await futures[0]
        futures[1].cancel()  # nobody wants this one any more
        peer.cut()
        late = asyncio.create_task(made.client.say("ops", "late"))
        peer = await made.again()
        assert await peer.reads() == said[2]
        peer.send(ack(said[2], 2))
        assert await futures[2] == 2
        peer.send(ack(await peer.reads(body="late"), 3))
        assert await late == 3


@in_loop
async def test_what_was_said_in_a_live_room_is_not_said_again(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        await in_room(made.client, peer, incarnation=INCARNATION)
        saying = asyncio.create_task(made.client.say("ops", 1))
        await peer.reads(type="say")
        peer.cut()
        await fails(OutcomeUnknownError, asyncio.wait_for(saying, SECONDS))


@in_loop
async def test_a_deadline_says_what_is_known(pki: PKI) -> None:
    async with connected(pki, deadline_seconds=5) as made:
        peer = made.peer
        saying = asyncio.create_task(made.client.say("ops", 1))
        said = await peer.reads(type="say")
        made.clock.advance(6)
        await fails(OutcomeUnknownError, asyncio.wait_for(saying, SECONDS))
        peer.send(ack(said, 1))  # it comes too late, and does no harm
        await made.server.listener.drain(0)
        await until(lambda: made.client._session is None)
        saying = asyncio.create_task(made.client.say("ops", 2, deadline_seconds=2))
        asking = asyncio.create_task(made.client.who("ops"))
        await made.until_timer(3)  # these two, and the pause
        made.clock.advance(6)
        await fails(DeadlineExceededError, asyncio.wait_for(saying, SECONDS))
        await fails(DeadlineExceededError, asyncio.wait_for(asking, SECONDS))


# --- rooms ------------------------------------------------------------------------------------------------


@in_loop
async def test_messages_arrive(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        answer = await in_room(made.client, peer, seq=4)
        assert answer == Joined("ops", 4, 1, 1)
        peer.send(message("ops", 5, {"a": 1}), message("ops", 6))
        assert await made.client.receive("ops") == Message("ops", 5, "ann", 1.5, {"a": 1})
        assert (await made.client.receive()).seq == 6
        await fails(LocalProtocolError, made.client.join("ops"))


@in_loop
async def test_all_rooms_in_order_of_arrival_and_each_by_itself(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        client = made.client
        await in_room(client, peer)
        joining = asyncio.create_task(client.join("dev", 0))
        await peer.reads(type="join", room="dev", after=0)
        peer.send(
            joined("dev", 1), message("dev", 1), message("ops", 1), message("ops", 2), message("dev", 2)
        )
        await joining
        peer.send({"type": "presence", "room": "dev", "member": "bob", "online": True}, message("dev", 3))
        assert (await client.receive("ops")).seq == 1
        found = [await anext(client) for _ in range(4)]
        assert [(one.room, one.seq) for one in found] == [("dev", 1), ("ops", 2), ("dev", 2), ("dev", 3)]
        peer.send(message("ops", 3), {"type": "presence", "room": "ops", "member": "bob", "online": False})
        peer.send(message("ops", 4))
        events = client.events()
        assert [await anext(events) for _ in range(2)] == [
            Message("ops", 3, "ann", 1.5, "x"),
            Presence("ops", "bob", False),
        ]
        async for one in client.messages("ops"):
            assert one.seq == 4
            break
        peer.send(message("ops", 5))
        async for one in client:
            assert one.seq == 5
            break


@in_loop
async def test_reading_ends_when_a_room_is_left(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        client = made.client
        await in_room(client, peer)
        peer.send(message("ops", 1))
        assert (await client.receive("ops")).seq == 1
        receiving = asyncio.create_task(client.receive("ops"))
        await asyncio.sleep(0)
        reading = asyncio.create_task(anext(client.messages("ops"), None))
        leaving = asyncio.create_task(client.leave("ops"))
        await peer.reads(type="leave")
        await fails(LocalProtocolError, asyncio.wait_for(receiving, SECONDS))
        assert await reading is None
        peer.send(message("ops", 2), {"type": "left", "room": "ops"})
        await leaving
        await fails(LocalProtocolError, client.leave("ops"))
        await fails(LocalProtocolError, client.receive("ops"))
        await in_room(client, peer, seq=2)


@in_loop
async def test_leaving_while_there_is_no_connection(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        await in_room(made.client, peer)
        peer.cut()
        assert isinstance(await anext(made.client.events()), Interrupted)
        await made.client.leave("ops")
        peer = await made.again()
        asking = asyncio.create_task(made.client.who("dev"))
        assert await peer.reads() == {"type": "who", "room": "dev"}  # and nothing was joined again
        peer.send(who("dev"))
        assert await asking == []


@in_loop
async def test_pages_are_put_together(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        asking = asyncio.create_task(made.client.who("ops"))
        await peer.read()
        peer.send(who("ops", "ann", "bob", more=True))
        assert await peer.read() == {"type": "who", "room": "ops", "after": "bob"}
        peer.send(who("ops", "cid"))
        assert await asking == ["ann", "bob", "cid"]

        def page(*numbers: int, more: bool) -> dict[str, object]:
            kept = [{"seq": seq, "from": "ann", "at": 1, "body": seq} for seq in numbers]
            return {"type": "history", "room": "ops", "messages": kept, "more": more}

        telling = asyncio.create_task(made.client.history("ops", limit=3))
        assert await peer.read() == {"type": "history", "room": "ops", "limit": 2}
        peer.send(page(8, 9, more=True))
        assert await peer.read() == {"type": "history", "room": "ops", "limit": 1, "before": 8}
        peer.send(page(7, more=True))
        assert [one.seq for one in await telling] == [7, 8, 9]
        telling = asyncio.create_task(made.client.history("ops", before=3))
        await peer.reads(before=3)
        peer.send(page(1, 2, more=False))
        assert await telling == [Message("ops", 1, "ann", 1.0, 1), Message("ops", 2, "ann", 1.0, 2)]
        assert await made.client.history("ops", limit=0) == []


@in_loop
async def test_a_question_is_asked_again_where_the_connection_is_lost(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        asking = asyncio.create_task(made.client.who("ops"))
        joining = asyncio.create_task(made.client.join("dev", 3))
        await peer.reads(type="who")
        await peer.reads(type="join")
        peer.cut()
        peer = await made.again()
        peer_said = [await peer.reads(), await peer.reads()]
        assert {said["type"] for said in peer_said} == {"who", "join"}
        peer.send(who("ops", "ann"), joined("dev", 5))
        assert await asking == ["ann"]
        assert (await joining).seq == 5


@in_loop
async def test_a_join_that_is_refused(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        joining = asyncio.create_task(made.client.join("ops", 2))
        await peer.reads(type="join", after=2)
        peer.send(error("history_gap", room="ops", first=5, seq=9))
        gap = await fails(HistoryGapError, asyncio.wait_for(joining, SECONDS))
        assert (gap.room, gap.after, gap.first, gap.seq) == ("ops", 2, 5, 9)
        await in_room(made.client, peer, after=4, seq=9)


@in_loop
async def test_a_join_that_is_given_up_is_taken_back(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        joining = asyncio.create_task(made.client.join("ops"))
        await peer.reads(type="join")
        joining.cancel()
        await asyncio.wait([joining])
        asking = asyncio.create_task(made.client.join("ops"))  # waits until that is settled
        peer.send(joined("ops"), message("ops", 1))
        await peer.reads(type="leave", room="ops")
        peer.send({"type": "left", "room": "ops"})
        await peer.reads(type="join", room="ops")
        peer.send(joined("ops", 1))
        assert (await asking).seq == 1


# --- going on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [None, "draining", "slow_consumer", "expired", "internal", "unavailable"])
def test_every_message_arrives_once_and_in_order(pki: PKI, last: str | None) -> None:
    @in_loop
    async def run() -> None:
        async with connected(pki) as made:
            peer = made.peer
            client = made.client
            await in_room(client, peer, after=0, seq=2)
            peer.send(message("ops", 1), message("ops", 2))
            assert (await client.receive()).seq == 1
            if last is None:
                peer.cut()
            else:
                peer.close(error(last))
            peer = await made.again()
            # 2 was received, though not taken yet.
            assert await peer.reads() == {"type": "join", "room": "ops", "after": 2}
            peer.send(joined("ops", 4), message("ops", 3), message("ops", 4))
            assert [(await client.receive("ops")).seq for _ in range(3)] == [2, 3, 4]
            first, second = [await anext(client.events()) for _ in range(2)]
            assert isinstance(first, Interrupted)
            assert isinstance(second, Resumed)

    run()


@in_loop
async def test_a_connection_that_is_lost_while_it_is_gone_on_with(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        await in_room(made.client, peer)
        peer.cut()
        peer = await made.again()
        await peer.reads(type="join")
        peer.cut()
        peer = await made.again()
        await peer.reads(type="join", after=0)
        peer.send(joined("ops", 1), message("ops", 1))
        assert (await made.client.receive()).seq == 1


@in_loop
async def test_while_the_server_drains_nothing_new_is_asked_and_acknowledgements_come(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        first = asyncio.create_task(made.client.say("ops", 1))
        said = await peer.reads(body=1)
        peer.send(error("draining"))
        await until(lambda: made.client._session is not None and not made.client._session.takes_requests)
        second = asyncio.create_task(made.client.say("ops", 2))
        asking = asyncio.create_task(made.client.who("ops"))
        peer.close(ack(said, 1))
        assert await first == 1
        assert await peer.read() is None
        peer = await made.again()
        await peer.reads(type="say", body=2)
        await peer.reads(type="who")
        second.cancel()
        asking.cancel()


@in_loop
async def test_what_is_not_kept_any_more_is_said_in_its_place(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        client = made.client
        await in_room(client, peer)
        peer.send(message("ops", 1))
        assert (await client.receive()).seq == 1
        peer.cut()
        peer = await made.again()
        await peer.reads(type="join", after=1)
        peer.send(error("history_gap", room="ops", first=5, seq=6))
        await peer.reads(type="join", after=4)
        peer.send(joined("ops", 6, first=5), message("ops", 5), message("ops", 6))
        messages = client.messages("ops")
        gap = await fails(HistoryGapError, anext(messages))
        assert (gap.after, gap.first, gap.seq) == (1, 5, 6)
        assert [(await client.receive("ops")).seq for _ in range(2)] == [5, 6]


@in_loop
async def test_a_room_that_we_may_hear_no_longer_ends(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        client = made.client
        await in_room(client, peer)
        peer.send(message("ops", 1))
        reading = client.messages("ops")
        assert (await anext(reading)).seq == 1
        peer.send(message("ops", 2), error("not_permitted", room="ops"))
        assert (await anext(reading)).seq == 2
        await fails(NotPermittedError, anext(reading))
        await fails(LocalProtocolError, client.receive("ops"))
        # The same, while there was no connection.
        await in_room(client, peer, seq=2)
        reading = client.messages("ops")
        waiting = asyncio.ensure_future(anext(reading))
        peer.cut()
        peer = await made.again()
        await peer.reads(type="join", after=2)
        peer.send(error("not_permitted", room="ops"))
        await fails(NotPermittedError, asyncio.wait_for(waiting, SECONDS))


@pytest.mark.parametrize(("code", "more"), [("unavailable", {}), ("history_gap", {"first": 1, "seq": 0})])
def test_put_out_by_a_store_that_fails_we_come_again(pki: PKI, code: str, more: dict[str, int]) -> None:
    @in_loop
    async def run() -> None:
        async with connected(pki) as made:
            peer = made.peer
            await in_room(made.client, peer)
            peer.send(error(code, room="ops", **more))
            peer = await made.again()
            await peer.reads(type="join", after=0)
            peer.send(error("unavailable", room="ops"))
            peer = await made.again()
            await peer.reads(type="join", after=0)
            peer.send(joined("ops", 1), message("ops", 1))
            assert (await made.client.receive("ops")).seq == 1

    run()


@in_loop
async def test_a_store_that_fails_under_a_question(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        await in_room(made.client, peer)
        telling = asyncio.create_task(made.client.history("ops"))
        await peer.reads(type="history")
        peer.send(error("unavailable", room="ops"))
        await fails(UnavailableError, asyncio.wait_for(telling, SECONDS))
        peer = await made.again()
        await peer.reads(type="join", after=0)


@pytest.mark.parametrize(
    ("incarnation", "seq", "is_gap"), [(INCARNATION, 5, False), (INCARNATION, 6, True), (OTHER, 5, True)]
)
def test_a_live_room_that_began_anew_is_reported(pki: PKI, incarnation: str, seq: int, is_gap: bool) -> None:
    @in_loop
    async def run() -> None:
        async with connected(pki) as made:
            peer = made.peer
            client = made.client
            await in_room(client, peer, seq=4, first=5, incarnation=INCARNATION)
            peer.send(message("ops", 5))
            assert (await client.receive()).seq == 5
            peer.cut()
            peer = await made.again()
            assert await peer.reads() == {"type": "join", "room": "ops"}
            peer.send(joined("ops", seq, seq + 1, incarnation=incarnation), message("ops", seq + 1))
            if is_gap:
                gap = await fails(HistoryGapError, client.receive("ops"))
                assert (gap.after, gap.first, gap.seq) == (5, seq + 1, seq)
            assert (await client.receive("ops")).seq == seq + 1

    run()


@in_loop
async def test_a_room_that_became_live_is_gone_on_with_behind_a_gap(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        await in_room(made.client, peer, seq=3)
        peer.cut()
        peer = await made.again()
        await peer.reads(after=3)
        peer.send(error("no_history", room="ops"))
        assert await peer.reads() == {"type": "join", "room": "ops"}
        peer.send(joined("ops", 0, incarnation=INCARNATION))
        await fails(HistoryGapError, made.client.receive("ops"))
        peer.cut()
        peer = await made.again()
        await peer.reads(type="join")
        peer.send(error("no_history", room="ops"))  # nonsense, and no reason to ask for ever
        await fails(ChatError, made.client.receive("ops"))


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("revoked", AuthenticationError),
        ("unauthenticated", AuthenticationError),
        ("not_permitted", NotPermittedError),
        ("malformed", ChatError),
    ],
)
def test_what_time_does_not_heal_is_raised_everywhere(
    pki: PKI, last: str, kind: type[SecureNetError]
) -> None:
    @in_loop
    async def run() -> None:
        async with connected(pki) as made:
            peer = made.peer
            client = made.client
            await in_room(client, peer)
            reading = asyncio.create_task(client.receive("ops"))
            saying = asyncio.create_task(client.say("ops", 1))
            asking = asyncio.create_task(client.who("ops"))
            await peer.reads(body=1)
            await peer.reads(type="who")
            soon = await client.say_soon("ops", 2)
            await peer.reads(body=2)
            peer.close(message("ops", 1), error(last))
            assert (await reading).seq == 1
            await fails(kind, client.receive("ops"))
            await fails(OutcomeUnknownError, asyncio.wait_for(saying, SECONDS))
            await fails(OutcomeUnknownError, asyncio.wait_for(soon, SECONDS))
            await fails(kind, asyncio.wait_for(asking, SECONDS))
            await fails(kind, client.say("ops", 1))
            await fails(kind, client.join("dev"))
            await fails(kind, anext(client))
            assert made.server.peers.empty()

    run()


@in_loop
async def test_nonsense_ends_it(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        await in_room(made.client, peer)
        peer.send(message("ops", 2))
        caught = await fails(RemoteProtocolError, made.client.receive("ops"))
        assert "message 2 of ops where 1 was next" in str(caught)


@in_loop
async def test_a_renewed_token_is_taken_up(pki: PKI, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    async with scripted_chat(pki) as server, bench(pki, server, certificate=None, token_file=file) as made:
        connecting = asyncio.create_task(made.client.connect())
        peer = await server.meet()
        await peer.reads(type="hello", token="first")
        peer.send(welcome())
        await connecting
        file.write_text("second")
        peer.close(error("expired"))
        peer = await made.pauses_for(server.meet())
        await peer.reads(type="hello", token="second")
        peer.close(error("expired"))  # and that was all there is
        await fails(AuthenticationError, made.client.receive())


@in_loop
async def test_pauses_grow_and_are_random(pki: PKI) -> None:
    numbers = iter([0.5, 1.0, 0.25, 1.0])
    async with connected(pki, random=lambda: next(numbers)) as made:
        await made.server.listener.drain(0)
        waited = []
        for longest in (0.25, 1.0, 0.5):
            await made.until_timer(1)
            before = made.clock.monotonic()
            (when,) = [when for when, _, timer in made.clock._alarms if timer.callback]
            waited.append(when - before)
            made.clock.advance(when - before)
            await asyncio.sleep(0)
            assert waited[-1] == pytest.approx(longest)


@in_loop
async def test_patience_ends(pki: PKI) -> None:
    async with connected(pki, patience_seconds=50, random=lambda: 1.0) as made:
        receiving = asyncio.create_task(made.client.receive())
        await made.server.listener.drain(0)
        await until(lambda: made.client._session is None)
        await made.until_timer(1)
        made.clock.advance(60)
        await fails(TransportError, asyncio.wait_for(receiving, SECONDS))


@in_loop
async def test_whoever_is_silent_pings(pki: PKI) -> None:
    async with connected(pki) as made:
        peer = made.peer
        made.clock.advance(101)
        await peer.reads(type="ping")
        peer.send({"type": "pong"})
        asking = asyncio.create_task(made.client.who("ops"))
        await peer.reads(type="who")
        peer.send(who("ops"))
        await asking
        made.clock.advance(101)
        await peer.reads(type="ping")
        made.clock.advance(21)  # no answer: the server is gone
        assert await peer.read() is None
        await made.again()


@in_loop
async def test_a_program_that_does_not_read_stops_the_client_and_loses_nothing(pki: PKI) -> None:
    async with connected(pki, received_bytes=2000) as made:
        peer = made.peer
        client = made.client
        await in_room(client, peer)
        total = 500
        peer.send(*(message("ops", seq, "x" * 1000) for seq in range(1, total + 1)))
        saying = asyncio.create_task(client.say("ops", 1))
        peer.send(ack(await peer.reads(type="say"), total))
        for seq in range(1, total + 1):
            assert client._inbox._held < 100_000
            assert not saying.done() or seq > total - 64
            assert (await client.receive("ops")).seq == seq
        assert await saying == total


@in_loop
async def test_who_closes_is_done(pki: PKI) -> None:
    async with connected(pki, received_bytes=100) as made:
        peer = made.peer
        client = made.client
        await in_room(client, peer)
        reading = asyncio.create_task(anext(client.messages("ops"), "ended"))
        listening = asyncio.create_task(anext(client.events(), "ended"))
        soon = await client.say_soon("ops", 1)
        await peer.reads(type="say")
        await client.close()
        await fails(OutcomeUnknownError, asyncio.wait_for(soon, SECONDS))
        assert await reading == "ended"
        assert await listening == "ended"
        assert await anext(client, "ended") == "ended"
        assert await peer.read() is None
        await fails(LocalProtocolError, client.say("ops", 1))
        await fails(LocalProtocolError, client.who("ops"))
        await client.close()


@in_loop
async def test_closing_while_much_waits_and_while_there_is_no_connection(pki: PKI) -> None:
    async with connected(pki, received_bytes=100) as made:
        peer = made.peer
        await in_room(made.client, peer)
        peer.send(*(message("ops", seq) for seq in range(1, 300)))
        await made.client.receive()
        await made.client.close()
        assert await peer.read() is None
    async with connected(pki) as made:
        peer = made.peer
        saying = asyncio.create_task(made.client.say("ops", 1))
        await peer.reads(type="say")
        peer.cut()
        await anext(made.client.events())
        await made.client.close()
        await fails(OutcomeUnknownError, asyncio.wait_for(saying, SECONDS))
