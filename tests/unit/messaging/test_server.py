from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from secure_net.errors import AuthenticationError, Refusal, RefusedError, RemoteProtocolError
from secure_net.identity.policy import Credential, Grant, Principal
from secure_net.limits import ChatLimits, FrameLimits, Limits
from secure_net.messaging import server as module
from secure_net.messaging.server import Chat, ChatService, ChatSession, named_by
from secure_net.metrics import AuthMethod, AuthOutcome, ChatCounters, ServiceCounters
from secure_net.wire.tls import TLSPolicy
from tests.support.chat import FakeBroker, codes, frames, objects, say_id
from tests.support.clock import FakeClock
from tests.support.loops import in_loop
from tests.support.transport import turns

HELLO = {"type": "hello", "token": "ann"}
EVERYTHING = ("chat:publish:**", "chat:subscribe:**")


class FakeAuthenticator:
    """A token is a name that is in `scopes`."""

    def __init__(self, clock: FakeClock) -> None:
        self.epoch = 1
        self.scopes: dict[str, tuple[str, ...]] = dict.fromkeys(("ann", "bob", "eve"), EVERYTHING)
        self._clock = clock

    def change(self, name: str, *scopes: str) -> None:
        """No scopes: revoked."""
        self.scopes[name] = scopes
        self.epoch += 1

    def principal(self, name: str) -> Principal:
        grants = (Grant.parse(self.scopes[name]),)
        return Principal(name, grants, (Credential("token", "1", 0.0, 1e12),), 1e12, self.epoch)

    def bearer(self, token: bytes, certificate: bytes | None) -> Principal:
        name = token.decode()
        if name not in self.scopes:
            raise AuthenticationError("token: unknown")
        return self.principal(name)

    def current(self, principal: Principal) -> Principal:
        if principal.epoch == self.epoch:
            return principal
        if not self.scopes[principal.name]:
            raise AuthenticationError("revoked", Refusal.REVOKED)
        return self.principal(principal.name)


class FakeConnection:
    """As much of a connection as a session sees; pumps its machine as the shell does."""

    def __init__(self, world: ServerWorld, by_certificate: Principal | None = None) -> None:
        self.certificate = b"DER" if by_certificate else None
        self.certificate_principal: Principal | None = by_certificate
        self.principal: Principal | None = by_certificate
        self.counters = world.counters
        self.waiting = 0
        self.sent = bytearray()
        self.refused: list[Refusal] = []
        self.closed = self.full = False
        self.flush_error: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self.session: ChatSession = world.service.session(self)  # type: ignore[arg-type]

    # -- what a session calls

    def authenticated(self, principal: Principal) -> None:
        if self.full:
            raise RefusedError(Refusal.CONNECTIONS_PER_PRINCIPAL, principal.name)
        self.principal = principal

    def flush(self) -> None:
        if self.flush_error is not None:
            raise self.flush_error
        if not self.closed:
            self.sent += self.session.machine.data_to_send()

    def wake(self) -> None:
        self.flush()
        self.closed = self.closed or self.session.machine.finished

    def refuse(self, reason: Refusal, detail: str = "") -> None:
        self._end(RemoteProtocolError(reason, detail))

    give_up = drop = refuse

    # -- what the test does

    def _end(self, error: RemoteProtocolError | RefusedError) -> None:
        self.refused.append(error.reason)
        self.sent += self.session.machine.data_to_send()
        self.sent += self.session.machine.farewell(RemoteProtocolError(error.reason))
        self.closed = True

    def feed(self, *said: dict[str, Any] | bytes) -> None:
        self.session.machine.receive_data(frames(*said))
        self.pump()

    def pump(self) -> None:
        try:
            while not self.closed and self.task is None:
                event = self.session.machine.next_event()
                if event is None:
                    break
                waiting = self.session.handle(event)
                if waiting is not None:
                    self.task = asyncio.get_running_loop().create_task(self._wait(waiting))
        except (RemoteProtocolError, RefusedError) as error:
            self._end(error)
        if not self.closed:
            self.sent += self.session.machine.data_to_send()

    async def _wait(self, waiting: Coroutine[Any, Any, None]) -> None:
        try:
            await waiting
        except (RemoteProtocolError, RefusedError) as error:
            self._end(error)
        self.task = None
        self.pump()

    def lose(self) -> None:
        self.closed = True
        if self.task is not None:
            self.task.cancel()
        self.session.closed()

    def take(self, *types: str) -> list[Any]:
        got = objects(bytes(self.sent))
        self.sent.clear()
        return [item for item in got if not types or item["type"] in types]

    async def ask(self, *said: dict[str, Any] | bytes) -> list[Any]:
        self.take()
        self.feed(*said)
        await turns(20)
        return self.take()


class ServerWorld:
    def __init__(self, **limits: Any) -> None:
        self.clock = FakeClock()
        self.broker = FakeBroker()
        self.authenticator = FakeAuthenticator(self.clock)
        self.counters = ServiceCounters("chat")
        self.limits = Limits(chat=ChatLimits(**limits))
        self.metrics = ChatCounters()
        self.chat = Chat(
            self.authenticator,  # type: ignore[arg-type]
            self.broker,
            self.metrics,
            clock=self.clock,
            limits=self.limits,
            is_live=named_by(["live.*"]),
        )
        self.service = ChatService("chat", self.chat, self.counters, TLSPolicy())

    def connect(self, name: str | None = None) -> FakeConnection:
        """Somebody who has said hello, or nothing yet."""
        connection = FakeConnection(self)
        if name is not None:
            connection.feed({"type": "hello", "token": name})
            assert [item["type"] for item in connection.take()] == ["welcome"]
        return connection

    def auth(self, method: AuthMethod, outcome: AuthOutcome) -> int:
        return self.counters.auth[method, outcome]


def say(room: str, body: Any, number: int = 1) -> dict[str, Any]:
    return {"type": "say", "room": room, "id": say_id(number).decode(), "body": body}


def join(room: str, **more: Any) -> dict[str, Any]:
    return {"type": "join", "room": room, **more}


# ---------------------------------------------------------------------------- who is it?


def test_what_a_listener_wants_to_know() -> None:
    service = ServerWorld().service
    assert (service.name, service.authentication) == ("chat", True)


@in_loop
async def test_a_hello_with_a_token_is_welcomed_with_what_one_has_to_keep_to() -> None:
    world = ServerWorld(chat_page_count=7)
    connection = world.connect()
    assert await connection.ask(HELLO) == [
        {
            "type": "welcome",
            "principal": "ann",
            "limits": {
                "frame_bytes": 65_536,
                "body_bytes": 48 * 1024,
                "unacknowledged_count": 256,
                "unacknowledged_bytes": 1 << 20,
                "page_count": 7,
                "idle_seconds": 300.0,
            },
        }
    ]
    assert connection.principal is not None
    assert connection.principal.name == "ann"
    assert world.auth(AuthMethod.TOKEN, AuthOutcome.ACCEPTED) == 1
    assert codes(await connection.ask(HELLO)) == [("malformed", None)], "once is enough"
    assert (await connection.ask({"type": "ping"})) == [{"type": "pong"}]
    assert (world.counters.frames_received, world.counters.frames_sent) == (3, 3)


@in_loop
async def test_a_certificate_alone_is_enough_and_a_token_beside_it_decides() -> None:
    world = ServerWorld()
    for hello, name in (({"type": "hello"}, "bob"), (HELLO, "ann")):
        connection = FakeConnection(world, world.authenticator.principal("bob"))
        assert (await connection.ask(hello))[0]["principal"] == name
        assert connection.principal is not None
        assert connection.principal.name == name


@in_loop
async def test_a_credential_that_is_absent_wrong_or_revoked_looks_alike() -> None:
    world = ServerWorld()
    revoked = world.authenticator.principal("eve")
    world.authenticator.change("eve")
    last = []
    for hello, certificate in (
        ({"type": "hello"}, None),
        ({"type": "hello", "token": "nobody"}, None),
        ({"type": "hello", "token": "é"}, None),
        ({"type": "hello"}, revoked),
        (HELLO, revoked),
        ({"type": "ping"}, None),
    ):
        connection = FakeConnection(world, certificate)
        last.append(await connection.ask(hello, {"type": "ping"}))
        assert connection.closed
    assert codes(last[0]) == [("unauthenticated", None)]
    assert last == [last[0]] * 6
    assert world.auth(AuthMethod.NONE, AuthOutcome.REFUSED) == 1
    assert world.auth(AuthMethod.TOKEN, AuthOutcome.REFUSED) == 2


@in_loop
async def test_too_many_connections_of_one_principal() -> None:
    connection = ServerWorld().connect()
    connection.full = True
    assert codes(await connection.ask(HELLO)) == [("unavailable", None)]
    assert connection.refused == [Refusal.CONNECTIONS_PER_PRINCIPAL]


# ---------------------------------------------------------------------------- scopes


@in_loop
async def test_every_act_needs_its_scope_and_the_answer_says_nothing_of_the_room() -> None:
    world = ServerWorld()
    ann = world.connect("ann")
    await ann.ask(join("secret"), join("live.secret"), say("secret", 1))
    world.authenticator.change("eve", "chat:publish:out", "chat:subscribe:in")
    eve = world.connect("eve")
    answers = {}
    for room in ("secret", "nothing", "live.secret", "live.nothing", "out"):
        answers[room] = await eve.ask(
            join(room),
            join(room, after=0),
            {"type": "history", "room": room, "limit": 1},
            {"type": "who", "room": room},
        )
        assert codes(answers[room]) == [("not_permitted", room)] * 4
        assert [set(item) for item in answers[room]] == [{"type", "code", "reason", "room"}] * 4
    assert world.broker.pages == []
    (refused,) = await eve.ask(say("in", 1, 7))
    assert (refused["code"], refused["room"], refused["id"]) == ("not_permitted", "in", say_id(7).decode())
    assert [item["type"] for item in await eve.ask(say("out", 1))] == ["ack"]
    assert [item["type"] for item in await eve.ask(join("in"))] == ["joined"]


@in_loop
async def test_a_change_of_policy_is_felt_at_the_next_act() -> None:
    world = ServerWorld()
    ann = world.connect("ann")
    assert [item["type"] for item in await ann.ask(say("live.a", 1))] == ["ack"]
    world.authenticator.change("ann", "chat:subscribe:**")
    assert codes(await ann.ask(say("live.a", 2))) == [("not_permitted", "live.a")]
    assert ann.principal is not None
    assert ann.principal.epoch == world.authenticator.epoch
    world.authenticator.change("ann", *EVERYTHING)
    assert [item["type"] for item in await ann.ask(say("live.a", 3))] == ["ack"]
    world.authenticator.change("ann")
    assert codes(await ann.ask(say("live.a", 4))) == [("revoked", None)]
    assert ann.closed


@in_loop
async def test_and_in_a_room_with_the_next_message() -> None:
    world = ServerWorld()
    ann, bob, eve = (world.connect(name) for name in ("ann", "bob", "eve"))
    for connection in (ann, bob, eve):
        await connection.ask(join("live.a"))
    world.authenticator.change("bob", "chat:publish:**")
    world.authenticator.change("eve")
    bob.take()
    eve.take()
    await ann.ask(say("live.a", "secret"))
    assert codes(bob.take()) == [("not_permitted", "live.a")]
    assert not bob.closed
    assert codes(eve.take()) == [("revoked", None)]
    assert eve.closed


@in_loop
async def test_the_certificate_beside_a_token_may_end_the_session() -> None:
    world = ServerWorld()
    ann = FakeConnection(world, world.authenticator.principal("bob"))
    await ann.ask(HELLO)
    world.authenticator.change("ann", *EVERYTHING)
    assert [item["type"] for item in await ann.ask({"type": "ping"})] == ["pong"]
    world.authenticator.change("bob")
    assert codes(await ann.ask({"type": "ping"})) == [("revoked", None)]


@in_loop
async def test_where_one_may_speak_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VOICES_COUNT", 2)
    ann = ServerWorld().connect("ann")
    for n in range(5):
        assert [item["type"] for item in await ann.ask(say(f"live.{n}", n))] == ["ack"]
        assert len(ann.session.voices) <= 2
    assert [item["type"] for item in await ann.ask(say("live.4", 1))] == ["ack"], "forgotten, and begun again"


# ---------------------------------------------------------------------------- acts


@in_loop
async def test_a_conversation() -> None:
    world = ServerWorld()
    ann, bob = world.connect("ann"), world.connect("bob")
    (joined,) = await ann.ask(join("ops"))
    assert (joined["type"], joined["seq"]) == ("joined", 0)
    await bob.ask(join("ops"))
    assert [item["type"] for item in ann.take()] == ["presence"]
    acked = await bob.ask(say("ops", {"text": "hi"}))
    assert sorted(item["type"] for item in acked) == ["ack", "message"]
    (message,) = ann.take()
    assert (message["from"], message["seq"], message["body"]) == ("bob", 1, {"text": "hi"})
    (who,) = await ann.ask({"type": "who", "room": "ops"})
    assert who["members"] == ["ann", "bob"]
    (page,) = await ann.ask({"type": "history", "room": "ops", "limit": 10})
    assert page["messages"] == [{key: message[key] for key in ("seq", "from", "at", "body")}]
    assert await ann.ask({"type": "leave", "room": "ops"}) == [{"type": "left", "room": "ops"}]
    assert codes(await ann.ask({"type": "leave", "room": "ops"})) == [("not_joined", "ops")]


@in_loop
async def test_answers_come_in_the_order_of_their_questions_also_behind_what_takes_its_time() -> None:
    world = ServerWorld()
    ann = world.connect("ann")
    world.broker.held = True
    ann.feed(
        {"type": "ping"},
        join("ops"),
        {"type": "who", "room": "ops"},
        {"type": "history", "room": "ops", "limit": 1},
        b"?",
        join("live.a"),
        {"type": "leave", "room": "ops"},
        {"type": "ping"},
    )
    await turns()
    assert [item["type"] for item in ann.take()] == ["pong"], "it does not wait for the store"
    world.broker.commit()
    await turns()
    assert [item["type"] for item in ann.take()] == ["joined", "who"]
    world.broker.commit()
    await turns()
    assert [item["type"] for item in ann.take()] == ["history", "error", "joined", "left", "pong"]
    assert ann.task is None


@in_loop
async def test_a_live_room_has_no_history() -> None:
    ann = ServerWorld().connect("ann")
    asked = await ann.ask(join("live.a", after=0), {"type": "history", "room": "live.a", "limit": 1})
    assert codes(asked) == [("no_history", "live.a")] * 2


@in_loop
async def test_more_rooms_than_there_may_be() -> None:
    ann = ServerWorld(chat_rooms_count=0).connect("ann")
    (error,) = await ann.ask(say("live.a", 1, 5))
    assert (error["code"], error["id"]) == ("rooms", say_id(5).decode())
    assert codes(await ann.ask(join("live.a"), join("ops"))) == [("rooms", "live.a"), ("rooms", "ops")]


@in_loop
async def test_the_past_is_pulled() -> None:
    world = ServerWorld()
    ann, bob = world.connect("ann"), world.connect("bob")
    await ann.ask(*(say("ops", n, n) for n in range(5)))
    got = await bob.ask(join("ops", after=2))
    assert [item.get("seq") for item in got] == [5, 3, 4, 5]
    await ann.ask(say("ops", 5, 5))
    assert [item["seq"] for item in bob.take("message")] == [6]


# ---------------------------------------------------------------------------- pressure


@in_loop
async def test_who_comes_and_goes_in_a_crowd_lets_the_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CROWD_COUNT", 1)
    world = ServerWorld()
    ann, bob, eve = (world.connect(name) for name in ("ann", "bob", "eve"))
    await ann.ask(join("live.a"))
    bob.feed(join("live.a"))
    await turns(3)
    ann.take()
    leave = {"type": "leave", "room": "live.a"}
    eve.feed(*[join("live.a"), leave] * 20, {"type": "ping"})
    for n in range(10):
        await turns(1)
        assert len(ann.take("presence")) <= 2, "so many requests in a turn, not forty"
        bob.feed(say("live.a", n, n))
    assert len([item for item in bob.take() if item["type"] == "ack"]) >= 8, "served meanwhile"
    assert "pong" not in [item["type"] for item in objects(bytes(eve.sent))]
    await turns(60)
    got = [item["type"] for item in eve.take()]
    assert [kind for kind in got if kind in ("joined", "left", "pong")] == ["joined", "left"] * 20 + ["pong"]


@in_loop
async def test_a_few_are_told_at_once() -> None:
    world = ServerWorld()
    ann = world.connect("ann")
    ann.feed(join("live.a"), {"type": "leave", "room": "live.a"}, {"type": "ping"})
    assert [item["type"] for item in ann.take()] == ["joined", "left", "pong"]


@in_loop
async def test_reading_pauses_while_too_much_is_not_acknowledged() -> None:
    world = ServerWorld(chat_unacknowledged_count=2)
    ann = world.connect("ann")
    world.broker.held = True
    ann.feed(*(say("ops", n, n) for n in range(3)))
    assert ann.task is not None
    ann.feed({"type": "ping"})
    await turns()
    assert ann.take() == []
    world.broker.commit()
    await turns(20)
    assert ann.task is None
    assert [item["type"] for item in ann.take()] == ["ack", "ack", "ack", "pong"]


@in_loop
async def test_acknowledgements_reach_who_waits_for_them_behind_another_answer() -> None:
    world = ServerWorld(chat_unacknowledged_count=1)
    ann = world.connect("ann")
    world.broker.held = True
    ann.feed(
        say("ops", 1, 1),
        join("ops"),
        *(say("ops", n, n) for n in range(2, 6)),
        {"type": "who", "room": "ops"},
    )
    await turns()
    for _ in range(4):
        world.broker.commit()
        await turns()
    assert ann.task is None
    assert len(ann.take("ack")) == 5


@in_loop
async def test_what_was_said_is_acknowledged_after_the_peer_s_end() -> None:
    world = ServerWorld()
    ann = world.connect("ann")
    world.broker.held = True
    ann.feed(say("ops", 1))
    ann.session.machine.receive_eof(clean=True)
    ann.pump()
    await turns()
    assert ann.task is not None
    world.broker.commit()
    await turns(20)
    assert ann.task is None
    assert [item["type"] for item in ann.take()] == ["ack"]


@in_loop
async def test_a_member_that_reads_too_slowly_goes_and_the_rest_go_on() -> None:
    world = ServerWorld(chat_outbox_bytes=1000)
    ann, bob, eve = (world.connect(name) for name in ("ann", "bob", "eve"))
    for connection in (ann, bob, eve):
        await connection.ask(join("live.a"))
    bob.waiting = 1000
    await ann.ask(say("live.a", 1))
    assert bob.refused == []
    bob.waiting = 1001
    await ann.ask(say("live.a", 2))
    assert bob.refused == [Refusal.OUTBOX]
    assert codes(bob.take()) == [("slow_consumer", None)]
    assert world.metrics.slow_consumers == 1
    assert [item["type"] for item in eve.take() if item.get("member") != "eve"] == [
        "message",
        "message",
        "presence",
    ]
    assert world.metrics.members() == 2


@in_loop
async def test_a_connection_that_fails_while_it_is_written_to_takes_nobody_with_it() -> None:
    world = ServerWorld()
    ann, bob, eve = (world.connect(name) for name in ("ann", "bob", "eve"))
    for connection in (bob, ann, eve):
        await connection.ask(join("live.a"))
    eve.take()
    bob.flush_error = RuntimeError("a fault of ours")
    await ann.ask(say("live.a", 1))
    assert bob.refused == [Refusal.INTERNAL]
    assert [item["type"] for item in eve.take()] == ["message", "presence"]


# ---------------------------------------------------------------------------- ends


@in_loop
async def test_whoever_is_lost_is_out_of_every_room() -> None:
    world = ServerWorld()
    ann, bob = world.connect("ann"), world.connect("bob")
    await ann.ask(join("live.a"), join("ops"))
    await bob.ask(join("ops"))
    ann.take()
    ann.lose()
    await turns()
    assert world.metrics.members() == 1
    assert bob.take() == [{"type": "presence", "room": "ops", "member": "ann", "online": False}]
    bob.lose()
    assert (world.metrics.members(), world.metrics.rooms()) == (0, 0)


@in_loop
async def test_whoever_is_lost_while_it_waits_leaves_nothing_behind() -> None:
    world = ServerWorld()
    ann = world.connect("ann")
    world.broker.held = True
    ann.feed(join("ops"), join("ops2"))
    await turns()
    ann.lose()
    await turns()
    world.broker.commit()
    await turns()
    assert (world.metrics.members(), world.metrics.rooms()) == (0, 0)


@in_loop
async def test_a_drain_tells_members_and_ends_behind_the_last_acknowledgement() -> None:
    world = ServerWorld()
    ann, bob = world.connect("ann"), world.connect("bob")
    world.broker.held = True
    ann.feed(say("ops", 1), say("live.a", 1))
    for connection in (ann, bob):
        connection.session.machine.drain()
        connection.wake()
    assert codes(bob.take()) == [("draining", None)]
    assert (bob.closed, ann.closed) == (True, False)
    ann.feed({"type": "ping"})
    await turns()
    world.broker.commit()
    await turns()
    assert [item["type"] for item in ann.take()] == ["error", "ack", "ack"]
    assert ann.closed


@in_loop
async def test_a_drain_drops_what_stands_behind_an_act_that_is_under_way() -> None:
    world = ServerWorld()
    ann = world.connect("ann")
    world.broker.held = True
    ann.feed(join("ops"), say("ops", 1))
    await turns()
    ann.session.machine.drain()
    ann.wake()
    world.broker.commit()
    await turns()
    assert world.broker.published == []


def test_new_limits_hold_for_rooms_at_once() -> None:
    world = ServerWorld()
    limits = Limits(chat=ChatLimits(chat_rooms_count=1), frame=FrameLimits(frame_bytes=100_000))
    world.chat.apply(limits)
    assert (world.chat.rooms.limits, world.chat.rooms.largest) == (limits.chat, 100_000)
    assert world.chat.limits is limits


def test_globs_name_rooms_by_the_rules_of_scopes() -> None:
    is_live = named_by(["alerts", "ops.*", "wild.**"])
    assert [name for name in ("alerts", "ops.a", "ops.a.b", "wild.a.b", "alert") if is_live(name)] == [
        "alerts",
        "ops.a",
        "wild.a.b",
    ]
    assert not named_by([])("alerts")
    with pytest.raises(ValueError, match="a scope"):
        named_by(["a b"])
