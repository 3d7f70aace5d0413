"""What a load says to each kind of server, and how it knows the answers. Pure.

Every payload begins with `MARK`, which nothing else on these wires contains: deliveries are counted by it.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Mapping

from benchmarks.loads.result import Plan
from benchmarks.loads.tallies import Exactly, Marks, Tally

MARK = b"!"
KIB = 1024
# Unacknowledged at most, for a connection that publishes: the contract of ours.
OUR_COUNT, OUR_BYTES = 256, 1024 * KIB
# And what peers get, which limit nothing: of 512 to 16,384 messages this suits them best on the whole.
PEER_COUNT, PEER_BYTES = 8192, 4096 * KIB
PEER_DELIVERIES = 256 * KIB  # and what waits for all members together, or the slowest broker takes 10 s
UNIT_BYTES = 256 * KIB  # published between two questions for a sign of life
UNIT_COUNT = 512

Publishing = Callable[[int], bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """Bytes to send, and what must have come back before the next step."""

    send: bytes
    until: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Dialect:
    """One connection's side of a protocol.

    `publishing(n)`: n publishes, where n is a multiple of `unit`, the publishes that one answer stands for.
    `window`: publishes that may be unanswered. `preparing`: said once, by one connection, before all else.
    `greeting`: how a line in plaintext begins that the server sends before TLS.
    """

    publishing: Publishing
    tally: Tally
    opening: tuple[Step, ...] = ()
    preparing: tuple[Step, ...] = ()
    subscribing: Step = Step(b"", b"")
    unit: int = 1
    window: int = OUR_COUNT
    greeting: bytes = b""


def payload(size: int) -> bytes:
    return MARK + b"x" * (size - 1)


def frame(content: bytes) -> bytes:
    """Five digits and the content (contracts, section 6)."""
    return b"%05d%b" % (len(content), content)


def message(**fields: object) -> bytes:
    """One JSON object of chat, framed."""
    return frame(json.dumps(fields, separators=(",", ":")).encode())


def repeated(once: bytes) -> Publishing:
    """The same publish over and over."""
    return lambda count: once * count


def echo(plan: Plan) -> Dialect:
    text = payload(plan.size)
    return Dialect(repeated(frame(text)), Exactly(frame(b"ECHO: " + text)))


def says(room: str, body: str) -> Publishing:
    """`say`s, each with an id of its own."""
    begin, _, end = message(type="say", room=room, id="0" * 32, body=body).partition(b"0" * 32)
    begin += secrets.token_hex(10).encode()
    between = end + begin
    numbers = iter(range(1 << 48))

    def publishing(count: int) -> bytes:
        ids = [b"%012x" % number for number, _ in zip(numbers, range(count), strict=False)]
        return b"%b%b%b" % (begin, between.join(ids), end)

    return publishing


def chat(plan: Plan) -> Dialect:
    hello = message(type="hello", token=plan.token)
    join = message(type="join", room=plan.room)
    return Dialect(
        says(plan.room, payload(plan.size).decode()),
        Marks(b'"ack"', [b'"error"']),
        opening=(Step(hello, b'"welcome"'),),
        subscribing=Step(join, b'"joined"'),
        window=min(OUR_COUNT, OUR_BYTES // plan.size),
    )


def peer_window(plan: Plan) -> int:
    return min(PEER_COUNT, PEER_BYTES // plan.size, PEER_DELIVERIES // max(1, plan.connections))


def _windowed(publish: bytes, question: bytes, plan: Plan) -> tuple[Publishing, int, int]:
    """Publishes that nothing answers, with a question behind each `unit` of them; the unit; the window."""
    window = peer_window(plan)
    unit = max(1, min(UNIT_COUNT, UNIT_BYTES // plan.size, window // 4))
    once = publish * unit + question
    window = window // unit * unit
    return lambda count: once * (count // unit), unit, window


CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"tls_required":true,"lang":"bench","version":"1"}\r\n'
NATS_GREETING = b"INFO "
NATS_OPENING = Step(CONNECT + b"PING\r\n", b"PONG\r\n")


def nats(plan: Plan) -> Dialect:
    """Core NATS: a publish is not answered, a PING behind it is."""
    room, text = plan.room.encode(), payload(plan.size)
    publish = b"PUB %b %d\r\n%b\r\n" % (room, len(text), text)
    publishing, unit, window = _windowed(publish, b"PING\r\n", plan)
    return Dialect(
        publishing,
        Marks(b"PONG\r\n", [b"-ERR"]),
        opening=(NATS_OPENING,),
        subscribing=Step(b"SUB %b 1\r\nPING\r\n" % room, b"PONG\r\n"),
        unit=unit,
        window=window,
        greeting=NATS_GREETING,
    )


def jetstream(plan: Plan) -> Dialect:
    """A publish to a stream on disk, answered in this connection's inbox once the stream has it."""
    room, text = plan.room.encode(), payload(plan.size)
    inbox = b"_INBOX." + secrets.token_hex(8).encode()
    stream = {"name": "BENCH", "subjects": [plan.room], "storage": "file", "retention": "limits"}
    create = json.dumps({**stream, "num_replicas": 1, "discard": "old"}).encode()
    creating = b"PUB $JS.API.STREAM.CREATE.BENCH %b %d\r\n%b\r\n" % (inbox, len(create), create)
    return Dialect(
        repeated(b"PUB %b %b %d\r\n%b\r\n" % (room, inbox, len(text), text)),
        Marks(b'"seq":', [b'"error"', b"-ERR"]),
        opening=(NATS_OPENING, Step(b"SUB %b 1\r\nPING\r\n" % inbox, b"PONG\r\n")),
        preparing=(Step(creating, b'"config"'),),
        greeting=NATS_GREETING,
    )


def resp(*words: bytes) -> bytes:
    """A Redis command."""
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


REDIS_OPENING = Step(resp(b"PING"), b"+PONG\r\n")


def redis(plan: Plan) -> Dialect:
    """PUBLISH, pipelined; each is answered with an integer."""
    room = plan.room.encode()
    return Dialect(
        repeated(resp(b"PUBLISH", room, payload(plan.size))),
        Marks(b":", [b"-"]),
        opening=(REDIS_OPENING,),
        subscribing=Step(resp(b"SUBSCRIBE", room), b":1\r\n"),
        window=peer_window(plan),
    )


def redis_stream(plan: Plan) -> Dialect:
    """XADD to one stream; each is answered with an entry's id."""
    room = plan.room.encode()
    return Dialect(
        repeated(resp(b"XADD", room, b"*", b"d", payload(plan.size))),
        Marks(b"$", [b"-ERR", b"-MISCONF", b"-OOM"]),
        opening=(REDIS_OPENING,),
    )


def packet(kind: int, content: bytes) -> bytes:
    """An MQTT control packet: its first byte, Remaining Length, the rest (MQTT 3.1.1, 2.2)."""
    digits, rest = bytearray(), len(content)
    while True:
        rest, digit = rest >> 7, rest & 0x7F
        digits.append(digit | 0x80 if rest else digit)
        if not rest:
            return bytes((kind, *digits)) + content


def mqtt_text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


MQTT_CONNECT = packet(0x10, mqtt_text(b"MQTT") + bytes((4, 2, 0, 0)) + mqtt_text(b""))  # clean, no keep-alive


def mqtt(plan: Plan) -> Dialect:
    """MQTT 3.1.1 at QoS 0: a publish is not answered, a PINGREQ behind it is."""
    topic = mqtt_text(plan.room.encode())
    publish = packet(0x30, topic + payload(plan.size))
    publishing, unit, window = _windowed(publish, packet(0xC0, b""), plan)
    return Dialect(
        publishing,
        Marks(b"\xd0\x00"),
        opening=(Step(MQTT_CONNECT, b"\x20\x02\x00\x00"),),
        subscribing=Step(packet(0x82, b"\x00\x01" + topic + b"\x00"), b"\x90\x03\x00\x01\x00"),
        unit=unit,
        window=window,
    )


DIALECTS: Mapping[str, Callable[[Plan], Dialect]] = {
    "echo": echo,
    "chat": chat,
    "nats": nats,
    "jetstream": jetstream,
    "redis": redis,
    "redis-stream": redis_stream,
    "mqtt": mqtt,
}
