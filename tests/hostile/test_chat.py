"""The rows of "Frames and chat" of the threat list that concern chat, at a real connection's door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from secure_net.errors import Refusal
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.policy import Policy
from secure_net.identity.revocation import Revocations
from secure_net.limits import ChatLimits, ConnectionLimits, Limits
from secure_net.messaging.server import Chat, ChatService, named_by
from secure_net.metrics import ChatCounters
from secure_net.wire.tls import TLSPolicy
from tests.support.chat import FakeBroker, World, codes, frames, objects, say_id
from tests.support.loops import in_loop
from tests.support.pki import PKI, make_pki
from tests.support.rig import Bench, Rig
from tests.support.transport import turns

EVERYTHING = ("chat:publish:**", "chat:subscribe:**")
KIB = 1024


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PKI]:
    yield make_pki(tmp_path_factory.mktemp("pki"))


class Site:
    """A chat service behind the shell, and clients that know no manners."""

    def __init__(self, pki: PKI, connection: ConnectionLimits | None = None, **limits: Any) -> None:
        self.pki = pki
        self.broker = FakeBroker()
        self.metrics = ChatCounters()
        all_limits = Limits(chat=ChatLimits(**limits), connection=connection or ConnectionLimits())
        self.rig = Rig(pki, limits=all_limits.connection)
        clock = self.rig.clock
        clock.jump_wall(pki.clock.wall() - clock.wall())  # the tokens are of today
        authenticator = Authenticator(
            clock=clock,
            trust_domain=pki.trust_domain,
            policy=Policy(),
            revocations=Revocations(),
            keys=pki.keys,
        )
        self.chat = Chat(
            authenticator,
            self.broker,
            self.metrics,
            clock=clock,
            limits=all_limits,
            is_live=named_by(["live.**"]),
        )
        self.rig.service = ChatService("chat", self.chat, self.rig.counters, TLSPolicy())  # type: ignore[assignment]

    def stranger(self) -> Client:
        return Client(self.rig.open())

    async def client(self, name: str, *scopes: str) -> Client:
        client = self.stranger()
        hello = {"type": "hello", "token": self.pki.token(name, *(scopes or EVERYTHING))}
        assert [item["type"] for item in await client.ask(hello)] == ["welcome"]
        return client


class Client:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._rest = b""

    def send(self, *said: dict[str, Any] | bytes) -> None:
        self.bench.peer.send(frames(*said))

    def read(self) -> list[Any]:
        self._rest += self.bench.peer.read()
        end = 0
        while len(self._rest) >= end + 5 and len(self._rest) >= end + 5 + int(self._rest[end : end + 5]):
            end += 5 + int(self._rest[end : end + 5])
        whole, self._rest = self._rest[:end], self._rest[end:]
        return objects(whole)

    async def ask(self, *said: dict[str, Any] | bytes) -> list[Any]:
        self.send(*said)
        await turns(20)
        return self.read()

    async def is_alive(self) -> bool:
        """Whether it is still answered."""
        return [item["type"] for item in await self.ask({"type": "ping"})] == ["pong"]


def say(room: str, body: Any, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"type": "say", "room": room, "id": say_id(number).decode(), "body": body, **more}


def raw_say(body: bytes) -> bytes:
    return b'{"type":"say","room":"live.a","id":"%b","body":%b}' % (say_id(1), body)


BAD = {
    "no JSON": b"\xff\xfe",
    "empty": b"",
    "deep array": b"[" * 30_000,
    "deep object": b'{"type":' * 8_000,
    "deep body": raw_say(b"[" * 20_000 + b"]" * 20_000),
    "33 levels": raw_say(b"[" * 33 + b"]" * 33),
    "huge number": raw_say(b"1e999999"),
    "long number": raw_say(b"9" * 4_000),
    "huge body": raw_say(b'"%b"' % (b"x" * 50 * KIB)),
    "lone surrogate": raw_say(b'"\\ud800"'),
    "not UTF-8": raw_say(b'"\xc0\xaf"'),
    "control character": raw_say(b'"\0"'),
    "array": b"[1]",
    "string": b'"ping"',
    "no type": b'{"room":"a"}',
    "wrong type of type": b'{"type":["ping"]}',
    "unknown type": b'{"type":"kick","room":"a"}',
    "unknown field": b'{"type":"ping","x":1}',
    "wrong type of a field": b'{"type":"join","room":1}',
    "null": b'{"type":"join","room":"a","after":null}',
    "missing field": b'{"type":"say","room":"a"}',
    "negative": b'{"type":"join","room":"a","after":-1}',
    "beyond 64 bits": b'{"type":"history","room":"a","limit":1,"before":99999999999999999999}',
    "no page": b'{"type":"history","room":"a","limit":0}',
    "room": json.dumps({"type": "join", "room": "../etc"}).encode(),
    "long room": json.dumps({"type": "join", "room": "a" * 65}).encode(),
    "id in capitals": json.dumps(say("a", 1) | {"id": "A" * 32}).encode(),
    "id too short": json.dumps(say("a", 1) | {"id": "1"}).encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_json_that_is_deep_huge_of_the_wrong_type_or_with_unknown_fields_gets_error_and_lives(
    name: str, pki: PKI
) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki)
        client = await site.client("ann")
        (error,) = await client.ask(BAD[name])
        assert error["type"] == "error"
        assert error["code"] == ("too_large" if name == "huge body" else "malformed")
        assert await client.is_alive()
        assert site.rig.refused() == {}
        assert site.metrics.rooms() == 0

    body()


def test_before_the_hello_it_is_the_same_and_the_deadline_stands(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki)
        client = site.stranger()
        for _ in range(5):
            assert codes(await client.ask(BAD["deep body"])) == [("malformed", None)]
            site.rig.clock.advance(1.9)
        site.rig.clock.advance(1.9)
        assert codes(client.read()) == [("unauthenticated", None)]
        assert site.rig.refused() == {"authentication_deadline": 1}

    body()


def test_whatever_is_asked_before_the_hello_is_refused_and_closed(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        for asked in (say("live.a", 1), {"type": "join", "room": "live.a"}, {"type": "ping"}):
            site = Site(pki)
            client = site.stranger()
            assert codes(await client.ask(asked)) == [("unauthenticated", None)]
            assert site.rig.refused() == {"credential": 1}
            assert client.bench.peer.closed
            assert site.metrics.rooms() == 0

    body()


def test_a_room_outside_the_scopes_is_refused_alike_whether_it_exists_or_not(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki)
        ann = await site.client("ann")
        await ann.ask({"type": "join", "room": "secret"}, {"type": "join", "room": "live.secret"})
        await ann.ask(say("secret", 1), say("live.secret", 1))
        eve = await site.client("eve", "chat:subscribe:public", "chat:publish:public")
        answers = []
        for room in ("secret", "absent", "live.secret", "live.absent"):
            got = await eve.ask(
                {"type": "join", "room": room},
                {"type": "join", "room": room, "after": 0},
                {"type": "join", "room": room, "after": 10**6},
                {"type": "history", "room": room, "limit": 5},
                {"type": "history", "room": room, "limit": 5, "before": 2},
                {"type": "who", "room": room},
                {"type": "who", "room": room, "after": "ann"},
                say(room, 1),
            )
            answers.append([{**item, "room": "?"} for item in got])
        assert answers == [answers[0]] * 4
        assert {item["code"] for item in answers[0]} == {"not_permitted"}
        assert len(answers[0]) == 8
        assert site.broker.pages == [], "nobody looked"
        assert ann.read() == []

    body()


def test_a_forged_from_is_impossible(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki)
        ann = await site.client("ann")
        await ann.ask({"type": "join", "room": "live.a"})
        for forged in ({"from": "root"}, {"sender": "root"}, {"seq": 9}, {"at": 0.0}):
            assert codes(await ann.ask(say("live.a", 1, **forged))) == [("malformed", None)]
        body = '","from":"root","body":"'
        got = await ann.ask(say("live.a", body), raw_say(b'{"from":"root"}'))
        assert [(m["from"], m["seq"], m["body"]) for m in got if m["type"] == "message"] == [
            ("ann", 1, body),
            ("ann", 2, {"from": "root"}),
        ]

    body()


def test_an_id_used_again_with_another_body_gets_error(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki)
        ann, bob = await site.client("ann"), await site.client("bob")
        await bob.ask({"type": "join", "room": "ops"})
        assert [item["seq"] for item in await ann.ask(say("ops", "pay 1"))] == [1]
        assert [item["seq"] for item in await ann.ask(say("ops", "pay 1"))] == [1]
        (error,) = await ann.ask(say("ops", "pay 1000"))
        assert (error["code"], error["id"]) == ("id_reused", say_id(1).decode())
        assert (await bob.ask(say("ops", "mine")))[0]["type"] in {"ack", "message"}, "an id is one's own"
        assert [message.body for message in site.broker.kept["ops"]] == [b'"pay 1"', b'"mine"']

    body()


def test_100_000_rooms_are_bounded(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        world = World(ChatLimits(chat_rooms_count=300, chat_rooms_per_principal_count=100))
        members = [world.member(f"m{n}") for n in range(10)]
        for n in range(100_000):
            world.rooms.join_live(members[n % 10], f"live.{n}")
            if n % 1000 == 0:
                for member in members:
                    member.take()
        assert (world.counters.rooms(), world.counters.members()) == (300, 300)
        assert world.rooms.voice("live.one.more", "m0") is None

    body()


def test_rooms_are_bounded_at_the_door_too(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki, chat_rooms_count=300)
        site.broker.rooms_count = 300
        ann, bob = await site.client("ann"), await site.client("bob")
        names = [f"live.{n}" for n in range(1000)]
        refused = codes(await ann.ask(*({"type": "join", "room": name} for name in names)))
        assert refused == [("rooms", name) for name in names[100:]]
        assert (site.metrics.rooms(), site.metrics.members()) == (100, 100)
        said = await bob.ask(*(say(name, 1, n) for n, name in enumerate(names)))
        assert {item["type"] for item in said} == {"ack", "error"}, "200 at a time, and none of them is kept"
        assert site.metrics.rooms() == 100
        got = []
        for begin in range(0, 1000, 100):
            got += await bob.ask(*(say(f"durable-{n}", 1, n) for n in range(begin, begin + 100)))
        assert [item["type"] for item in got].count("ack") == 300
        assert {code for code, _ in codes(got)} == {"rooms"}
        assert site.metrics.rooms() == 100
        assert len(session_of(site, "bob").voices) <= 256

    body()


def session_of(site: Site, name: str) -> Any:
    (session,) = (
        connection._session  # type: ignore[attr-defined]
        for connection in site.rig.shell.live
        if connection.principal is not None and connection.principal.name == name
    )
    return session


def test_a_member_who_stops_reading_while_messages_flow_goes_alone_and_memory_is_bounded(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki, chat_outbox_bytes=256 * KIB)
        ann, bob, eve = [await site.client(name) for name in ("ann", "bob", "eve")]
        for client in (bob, eve):
            await client.ask({"type": "join", "room": "live.a"})
        bob.read()
        eve.bench.transport.room = 0  # nothing is taken any more
        most, got = 0, 0
        for n in range(200):
            said = await ann.ask(*(say("live.a", "x" * 1000, 10 * n + k) for k in range(10)))
            assert [item["type"] for item in said] == ["ack"] * 10
            got += len([item for item in bob.read() if item["type"] == "message"])
            most = max(most, site.rig.shell.buffered_bytes)
        assert got == 2000, "the rest go on"
        assert site.rig.refused() == {"outbox": 1}
        assert site.metrics.slow_consumers == 1
        assert site.metrics.members() == 1
        assert most <= 256 * KIB + 2 * 64 * KIB + 20 * KIB
        assert site.rig.shell.buffered_bytes <= 2 * 64 * KIB + KIB, "what waited is let go"
        eve.bench.transport.take()
        await turns(20)
        assert codes(eve.read()[-1:]) == [("slow_consumer", None)]
        eve.bench.transport.feed_eof()
        site.rig.clock.advance(1)
        await turns()
        assert len(site.rig.lost) == 1

    body()


def test_many_who_stop_reading_are_bounded_by_the_budget_of_the_whole_daemon(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        budget = ConnectionLimits(buffered_bytes=1024 * KIB)
        site = Site(pki, budget, chat_outbox_bytes=512 * KIB)
        ann = await site.client("ann")
        slow = [await site.client(f"slow{n}") for n in range(8)]
        for client in slow:
            await client.ask({"type": "join", "room": "live.a"})
            client.bench.transport.room = 0
        for n in range(100):
            said = await ann.ask(*(say("live.a", "x" * 1000, 10 * n + k) for k in range(10)))
            assert len(said) == 10
            assert site.rig.shell.buffered_bytes <= budget.buffered_bytes
        assert set(site.rig.refused()) <= {"memory", "outbox"}
        assert sum(site.rig.refused().values()) == 8
        assert await ann.is_alive()

    body()


def test_a_follower_who_stops_reading_pulls_no_more_of_the_past(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki)
        ann = await site.client("ann")
        for n in range(100):
            await ann.ask(*(say("ops", "x" * 1000, 100 * n + k) for k in range(100)))
        eve = await site.client("eve")
        eve.bench.transport.room = 100 * KIB
        eve.send({"type": "join", "room": "ops", "after": 0})
        await turns(50)
        asked = len(site.broker.pages)
        assert asked <= 2
        await turns(50)
        assert len(site.broker.pages) == asked, "the store is not read for who does not read"
        got = eve.read()
        eve.bench.transport.take()
        for _ in range(200):
            await turns(20)
            got += eve.read()
        assert [m["seq"] for m in got if m["type"] == "message"] == list(range(1, 10_001))
        assert site.rig.refused() == {}

    body()


def test_says_that_outrun_their_acknowledgements_pause_the_reading(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki, chat_unacknowledged_count=10)
        ann = await site.client("ann")
        site.broker.held = True
        for n in range(100):
            if not ann.bench.transport.reading:
                break
            ann.send(*(say("ops", 1, 10 * n + k) for k in range(10)))
        await turns()
        assert not ann.bench.transport.reading
        assert sum(site.broker.published) <= 10 + 64
        site.broker.held = False
        site.broker.commit()
        await turns(50)
        assert ann.bench.transport.reading
        assert ann.read()[-1]["type"] == "ack"

    body()


def test_says_that_wait_for_a_slow_disk_are_bounded_by_the_budget_of_the_whole_daemon(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        budget = ConnectionLimits(buffered_bytes=512 * KIB)
        site = Site(pki, budget, chat_outbox_bytes=256 * KIB)
        ann = await site.client("ann")
        many = [await site.client(f"m{n}") for n in range(8)]
        site.broker.held = True
        await ann.ask(say("ops", "x" * 1000))
        for n in range(10):
            for number, client in enumerate(many):
                client.send(say("ops", "x" * 10_000, 100 * n + number))
            await turns()
            assert site.rig.shell.buffered_bytes <= budget.buffered_bytes
            assert site.rig.refused() or site.rig.shell.buffered_bytes >= 8 * (n + 1) * 10_000
        refused = site.rig.refused()
        assert set(refused) == {"memory"}
        assert refused["memory"] < len(many), "there is room for the rest"
        site.broker.held = False
        site.broker.commit()
        await turns(20)
        site.rig.clock.advance(1.0)  # whoever was refused lingers for a moment, and is counted until then
        await turns(20)
        assert site.rig.shell.buffered_bytes == 0
        assert [item["type"] for item in ann.read()] == ["ack"]

    body()


def test_half_a_frame_and_then_fin_rst_or_silence(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        for end, reason in (("fin", "truncated"), ("rst", "truncated"), ("silence", "read_deadline")):
            site = Site(pki)
            ann, bob = await site.client("ann"), await site.client("bob")
            await bob.ask({"type": "join", "room": "live.a"})
            await ann.ask({"type": "join", "room": "live.a"})
            bob.read()
            ann.bench.peer.send(frames(say("live.a", "never said"))[:-1])
            if end == "fin":
                ann.bench.transport.feed_eof()
            elif end == "rst":
                ann.bench.transport.reset()
            else:
                site.rig.clock.advance(site.chat.limits.frame.frame_seconds)
            await turns()
            assert site.rig.refused() == {reason: 1}
            site.rig.clock.advance(1)
            await turns()
            site.rig.clock.advance(1)
            await turns()
            assert [(item["type"], item.get("online")) for item in bob.read()] == [("presence", False)]

    body()


def test_one_byte_a_second_is_dropped_at_the_frame_s_deadline(pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki)
        ann = await site.client("ann")
        for byte in frames({"type": "ping"})[:12]:
            if site.rig.refused():
                break
            ann.bench.peer.send(bytes([byte]))
            site.rig.clock.advance(1)
        assert site.rig.refused() == {Refusal.READ_DEADLINE.value: 1}

    body()


@pytest.mark.parametrize(
    "header",
    [b"99999", b"-0001", b"+0012", b"1_000", b"0x010", b" 0012", "\uff10\uff10\uff10\uff11".encode()],
)
def test_a_header_that_is_none_is_refused_before_one_byte_is_kept(header: bytes, pki: PKI) -> None:
    @in_loop
    async def body() -> None:
        site = Site(pki)
        ann = await site.client("ann")
        ann.bench.peer.send(frames({"type": "ping"}) + header + b"x" * 10_000)
        await turns()
        got = ann.read()
        assert got[0]["type"] == "pong", "what was good is answered"
        reason = "too_large" if header == b"99999" else "malformed"
        assert codes(got[1:]) == [(reason, None)]
        assert site.rig.refused() == {reason: 1}

    body()
