"""Chat's JSON objects: what clients may say, and what they are answered. Pure.

Each frame, or WebSocket text message, holds one object with a ``type``. Requests are read strictly: a type or
field that is unknown, missing or of the wrong type is an error. The body of a `say` is any JSON value; it is
passed on as the very bytes that came, once it is certain that every strict reader can read it: valid UTF-8,
no lone surrogate, no number beyond 64 bits or a double, nested no deeper than the limit. msgspec checks the
syntax of a body without building it; what is plain ASCII text needs no more than that.

Answers that are sent a million times are filled into templates; the others are encoded from the structs here,
which clients decode with.
"""

from __future__ import annotations

import enum
import functools
import re
import struct
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from secure_net.limits import ChatLimits

ID_DIGITS = 32  # 128 random bits in lower-case hexadecimal

_HEXADECIMAL = b"0123456789abcdef"
_LONGEST_NAME = 64
_ROOM = re.compile(rf"[a-z0-9._-]{{1,{_LONGEST_NAME}}}")
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_LEAST_INTEGER, _GREATEST_INTEGER = -(1 << 63), (1 << 64) - 1
_GREATEST_SEQ = (1 << 63) - 1
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_OPENING = re.compile(rb"[\[{]")

Position = Annotated[int, Meta(ge=0, le=_GREATEST_SEQ)]
Count = Annotated[int, Meta(ge=1, le=_GREATEST_SEQ)]


class Code(enum.StrEnum):
    """Why something is refused: the `code` of an `error`, a closed set."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNAUTHENTICATED = "unauthenticated"
    NOT_PERMITTED = "not_permitted"
    ROOMS = "rooms"
    ID_REUSED = "id_reused"
    HISTORY_GAP = "history_gap"
    NO_HISTORY = "no_history"
    NOT_JOINED = "not_joined"
    UNAVAILABLE = "unavailable"
    DRAINING = "draining"
    SLOW_CONSUMER = "slow_consumer"
    EXPIRED = "expired"
    REVOKED = "revoked"
    INTERNAL = "internal"


REASONS = {
    Code.MALFORMED: "not an object that this protocol knows",
    Code.TOO_LARGE: "larger than is allowed",
    Code.UNAUTHENTICATED: "who you are was not shown, or is not believed",
    Code.NOT_PERMITTED: "not permitted",
    Code.ROOMS: "too many rooms",
    Code.ID_REUSED: "this id was said before with another body",
    Code.HISTORY_GAP: "messages since then are not kept, or there are none such yet",
    Code.NO_HISTORY: "this room keeps no history",
    Code.NOT_JOINED: "not in this room",
    Code.UNAVAILABLE: "not possible now; try again later, with the same id",
    Code.DRAINING: "the server stops; connect again",
    Code.SLOW_CONSUMER: "you read too slowly",
    Code.EXPIRED: "the credential has ended",
    Code.REVOKED: "the credential was revoked",
    Code.INTERNAL: "a fault of the server",
}


# ---------------------------------------------------------------------------- what clients say


class Request(Struct, tag_field="type", forbid_unknown_fields=True, gc=False):
    """The base of what a client may say."""


class Hello(Request, tag="hello"):
    """Who I am: an access token, or nothing but the connection's certificate. First, and once."""

    token: str | UnsetType = UNSET


class Join(Request, tag="join"):
    """Send me what is said in `room`; with `after`, also all that was said since that number."""

    room: str
    after: Position | UnsetType = UNSET


class Leave(Request, tag="leave"):
    room: str


class HistoryRequest(Request, tag="history"):
    """At most `limit` messages of `room` with a number less than `before`; the newest without it."""

    room: str
    limit: Count
    before: Position | UnsetType = UNSET


class WhoRequest(Request, tag="who"):
    """The names of those in `room` that come behind `after`."""

    room: str
    after: str | UnsetType = UNSET


class Ping(Request, tag="ping"):
    """I am here."""


class _Say(Request, tag="say"):
    room: str
    id: Annotated[str, Meta(min_length=ID_DIGITS, max_length=ID_DIGITS)]
    body: Raw


class Say(Struct, frozen=True, gc=False):
    """A message for `room`, checked: `id` is 32 lower-case hexadecimal digits, `body` JSON as it came."""

    room: str
    id: bytes
    body: bytes


class Says(Struct, frozen=True, gc=False):
    """Many a `Say` for one room, as a publisher that has much to say sends them."""

    room: str
    ids: list[bytes]
    bodies: list[bytes]


AnyRequest = Hello | Join | Leave | Say | Says | HistoryRequest | WhoRequest | Ping


_decode = msgspec.json.Decoder(Hello | Join | Leave | _Say | HistoryRequest | WhoRequest | Ping).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

# Text of the peer's that is not JSON, or not the JSON that is asked for.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def is_room_name(name: str) -> bool:
    """``[a-z0-9._-]{1,64}``."""
    return len(name) <= _LONGEST_NAME and _is_room_name(name)


# The rooms of a daemon are named again and again. Behind the length: what a stranger calls a room may be as
# long as a frame, and four thousand of those are not to be remembered.
@functools.lru_cache(maxsize=4096)
def _is_room_name(name: str) -> bool:
    return _ROOM.fullmatch(name) is not None


def read_requests(payloads: Sequence[bytes], limits: ChatLimits) -> list[AnyRequest | bytes]:
    """The request that each payload holds, or where it holds none the encoded `error` that says so.

    A `say` of plain text comes by the million: for it there is nothing here that it could do without. Of
    many that differ in nothing but id and text, one `Says` is made.
    """
    requests: list[AnyRequest | bytes] = []
    together = b"".join(payloads)
    if len(payloads) > 1:
        says = _read_alike(payloads[0], len(payloads), together, limits)
        if says is not None:
            return [says]
    # The syntax of a body is certain once it is here: a short text in plain ASCII is sound as it is.
    plain = len(together) <= limits.chat_body_bytes and together.isascii() and _BACKSLASH not in together
    checked: str | None = None  # the last room's name that was: most are alike
    for payload in payloads:
        try:
            request = _decode(payload)
        except _UNREADABLE:
            requests.append(error(Code.MALFORMED))
            continue
        if type(request) is not _Say:
            requests.append(_checked(request))
            continue
        room, number, body = request.room, request.id.encode(), _encode(request.body)
        if number.translate(None, _HEXADECIMAL) or (room != checked and not is_room_name(room)):
            requests.append(error(Code.MALFORMED))
            continue
        checked = room
        wrong = None if plain and body[0] == _QUOTE else _fault_of(body, limits)
        requests.append(Say(room, number, body) if wrong is None else error(wrong, room, number))
    return requests


_BEGIN, _MIDDLE, _BEHIND_ROOM = b'{"type":"say","room":"', b'","body":', b'","id":"'
_BARE = bytes(character for character in range(0x20, 0x7F) if character not in b'"\\')


@functools.lru_cache(maxsize=1024)
def _columns(lead: int, body: int) -> struct.Struct:
    """A `say` as most programs write it: a lead with the room, the id, what is between, the body, the end."""
    return struct.Struct(f"{lead}s{ID_DIGITS}s{len(_MIDDLE)}s{body}s1s")


def _read_alike(first: bytes, count: int, together: bytes, limits: ChatLimits) -> Says | None:
    """Payloads of one length that hold the `say`s of one room, each in this very form and with a body of
    plain text; None for any others. What is one `say` here is one by the decoder, and the same.

    A column is compared as a whole, which costs less than to look at each: `struct` parts them in one go.
    """
    if len(first) * count != len(together) or not first.startswith(_BEGIN):
        return None
    name = first[len(_BEGIN) : first.find(b'"', len(_BEGIN))]
    lead = _BEGIN + name + _BEHIND_ROOM
    size = len(first) - len(lead) - ID_DIGITS - len(_MIDDLE) - 1
    if not 2 <= size <= limits.chat_body_bytes or not name.isascii() or not is_room_name(name.decode()):
        return None
    leads, ids, middles, bodies, ends = zip(*_columns(len(lead), size).iter_unpack(together), strict=True)
    texts = b"".join(bodies)
    if (
        leads.count(lead) != count
        or middles.count(_MIDDLE) != count
        or ends.count(b"}") != count
        or b"".join(ids).translate(None, _HEXADECIMAL)
        or not texts[::size] == texts[size - 1 :: size] == b'"' * count
        or texts.translate(None, _BARE) != b'"' * (2 * count)
    ):
        return None
    return Says(name.decode(), list(ids), list(bodies))


def _checked(request: Any) -> AnyRequest | bytes:
    """Any request but a `say`."""
    if type(request) not in _WITHOUT_ROOM and not is_room_name(request.room):
        return error(Code.MALFORMED)
    return request  # type: ignore[no-any-return]  # a union of structs, which the decoder has no type for


_WITHOUT_ROOM = frozenset({Hello, Ping})


def _fault_of(body: bytes, limits: ChatLimits) -> Code | None:
    """Why not every strict reader could read this JSON value, or would have to."""
    if len(body) > limits.chat_body_bytes:
        return Code.TOO_LARGE
    if body[0] == _QUOTE and _BACKSLASH not in body and body.isascii():
        return None
    try:
        value = _decode_any(body)
    except _UNREADABLE:
        return Code.MALFORMED
    deepest = limits.chat_json_depth_count
    if len(_OPENING.findall(body)) <= deepest and _LONG_NUMBER.search(body) is None:
        return None
    return None if _is_within(value, deepest) else Code.MALFORMED


def _is_within(value: Any, deepest: int) -> bool:
    """Level by level: no integer beyond 64 bits, and no more than `deepest` levels of arrays and objects."""
    level = [value]
    for _ in range(deepest + 1):
        numbers = [item for item in level if type(item) is int]
        if numbers and not (min(numbers) >= _LEAST_INTEGER and max(numbers) <= _GREATEST_INTEGER):
            return False
        containers = [item for item in level if isinstance(item, list | dict)]
        if not containers:
            return True
        level = [
            child for item in containers for child in (item.values() if isinstance(item, dict) else item)
        ]
    return False


# ---------------------------------------------------------------------------- what they are answered


class Answer(Struct, tag_field="type", omit_defaults=True, gc=False):
    """The base of what the server says."""


class Bounds(Struct, frozen=True, gc=False):
    """What a client has to keep to."""

    frame_bytes: int
    body_bytes: int
    unacknowledged_count: int
    unacknowledged_bytes: int
    page_count: int
    idle_seconds: float


class Welcome(Answer, tag="welcome"):
    principal: str
    limits: Bounds


class Joined(Answer, tag="joined"):
    """`seq` is the newest number, `first` the oldest kept (seq + 1: none), `members` are principals."""

    room: str
    seq: int
    first: int
    members: int
    incarnation: str | None = None  # of a live room: its numbers begin anew with each


class Left(Answer, tag="left"):
    room: str


class Message(Answer, tag="message"):
    """`at` is in Unix seconds."""

    room: str
    seq: int
    sender: str = msgspec.field(name="from")
    at: float
    body: Raw


class Ack(Answer, tag="ack"):
    id: str
    seq: int


class Presence(Answer, tag="presence"):
    room: str
    member: str
    online: bool


class Past(Struct, frozen=True, gc=False):
    """A message in a `History`."""

    seq: int
    sender: str = msgspec.field(name="from")
    at: float
    body: Raw


class History(Answer, tag="history"):
    """Oldest first. `more`: there are older ones."""

    room: str
    messages: list[Past]
    more: bool


class Who(Answer, tag="who"):
    """Sorted. `more`: there are others behind the last."""

    room: str
    members: list[str]
    more: bool


class Pong(Answer, tag="pong"):
    pass


class Error(Answer, tag="error"):
    """`first` and `seq` come with `history_gap`, and say what is kept."""

    code: str
    reason: str
    id: str | None = None
    room: str | None = None
    first: int | None = None
    seq: int | None = None


AnyAnswer = Welcome | Joined | Left | Message | Ack | Presence | History | Who | Pong | Error


def encode(answer: Answer) -> bytes:
    return _encode(answer)


PONG = encode(Pong())


def error(
    code: Code,
    room: str | None = None,
    id: bytes | None = None,  # noqa: A002 - the protocol's word
    first: int | None = None,
    seq: int | None = None,
) -> bytes:
    """An `error` with the reason that stands for its code."""
    return encode(Error(code.value, REASONS[code], id.decode() if id is not None else None, room, first, seq))


ACK = b'{"type":"ack","id":"%b","seq":%d}'
"""To be filled with the id's digits and the number."""


@functools.lru_cache(maxsize=4096)
def message_template(room: str, sender: str) -> bytes:
    """A `message`, to be filled with number, `stamp` and body.

    Neither name can hold what JSON or the template would have to escape.
    """
    return b'{"type":"message","room":"%b","seq":%%d,"from":"%b","at":%%b,"body":%%b}' % (
        room.encode(),
        sender.encode(),
    )


def stamp(at: float) -> bytes:
    """A time in Unix seconds, to the millisecond."""
    return b"%.3f" % at


def history(room: str, past: list[tuple[int, str, float, bytes]], *, more: bool, largest: int) -> bytes:
    """A `history` of as many of the newest `past` (oldest first) as fit `largest` bytes."""
    head = b'{"type":"history","room":"%b","messages":[' % room.encode()
    room_left = largest - len(head) - len(b'],"more":false}') + len(b",")  # behind all but the last
    kept: list[bytes] = []
    for seq, sender, at, body in reversed(past):
        item = b'{"seq":%d,"from":"%b","at":%b,"body":%b}' % (seq, sender.encode(), stamp(at), body)
        room_left -= len(item) + 1
        if room_left < 0:
            more = True
            break
        kept.append(item)
    return head + b",".join(reversed(kept)) + (b'],"more":true}' if more else b'],"more":false}')
