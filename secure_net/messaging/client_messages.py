"""What a chat server says, read strictly, and bodies as JSON. Pure.

An unknown type, an unknown field, a name that cannot be one or a number out of range makes the whole object
one that no server of ours sends. Bodies are Python values here: who reads them wants to use them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Annotated, Any

import msgspec

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.messaging.messages import Code

# `\Z`, as `$` would match before a newline at the end.
_ROOM = r"^[a-z0-9._-]{1,64}\Z"
_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}\Z"
_ID = r"^[0-9a-f]{32}\Z"
is_room = re.compile(_ROOM).match
is_id = re.compile(_ID).match
LARGEST = 2**63 - 1

Room = Annotated[str, msgspec.Meta(pattern=_ROOM)]
Name = Annotated[str, msgspec.Meta(pattern=_NAME)]
Id = Annotated[str, msgspec.Meta(pattern=_ID)]
Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What a server says: an unknown field or type is an error."""


class ServerLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the server takes from us: bytes and counts; it closes after `idle_seconds` of our silence."""

    frame_bytes: Positive
    body_bytes: Positive
    unacknowledged_count: Positive
    unacknowledged_bytes: Positive
    page_count: Positive
    idle_seconds: Annotated[float, msgspec.Meta(gt=0)]


class Welcome(_Object, frozen=True, tag="welcome"):
    """Who we are to the server."""

    principal: Name
    limits: ServerLimits


class Joined(_Object, frozen=True, tag="joined"):
    """We are in `room`. Its newest message is `seq` (0: none), the oldest kept `first`; `members` are there.

    A live room keeps no messages, and its numbers begin anew with each `incarnation`.
    """

    room: Room
    seq: Count
    first: Positive
    members: Count
    incarnation: Id | None = None


class Left(_Object, frozen=True, tag="left"):
    room: Room


class Message(_Object, frozen=True, tag="message"):
    """Said in `room` by `sender` at `at` (Unix time), as its `seq`-th. `body` is any JSON value."""

    room: Room
    seq: Positive
    sender: Name = msgspec.field(name="from")
    at: Seconds
    body: Any


class Ack(_Object, frozen=True, tag="ack"):
    id: Id
    seq: Positive


class Presence(_Object, frozen=True, tag="presence"):
    """`member` came to `room`, or left it."""

    room: Room
    member: Name
    online: bool


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message within a page of history."""

    seq: Positive
    sender: Name = msgspec.field(name="from")
    at: Seconds
    body: Any


class History(_Object, frozen=True, tag="history"):
    """A page, oldest first; `more` are kept before it."""

    room: Room
    messages: tuple[Kept, ...]
    more: bool


class Who(_Object, frozen=True, tag="who"):
    """A page of names in alphabetical order; `more` follow."""

    room: Room
    members: tuple[Name, ...]
    more: bool


class Pong(_Object, frozen=True, tag="pong"):
    pass


class Refused(_Object, frozen=True, tag="error"):
    """The server's `code`, and its constant text."""

    code: Code
    reason: str
    id: Id | None = None
    room: Room | None = None
    first: Positive | None = None
    seq: Count | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PutOut:
    """We are in the room no longer, though we did not leave it: our scopes changed, or the store fails."""

    error: Refused


Said = Welcome | Joined | Left | Message | Ack | Presence | History | Who | Pong | Refused
Event = Said | PutOut

_DECODER = msgspec.json.Decoder(Said)
_ENCODER = msgspec.json.Encoder()


def decode(payload: bytes) -> Said:
    """What a server says. Raises `RemoteProtocolError` where it is none of these objects."""
    try:
        event: Said = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(Refusal.MALFORMED, f"not what a chat server says: {error}") from error
    return event


def encode(request: dict[str, Any]) -> bytes:
    """What we say; a `msgspec.Raw` in it stands as it is."""
    return _ENCODER.encode(request)


def encode_body(value: Any) -> bytes:
    """A message's body as JSON. Raises `LocalProtocolError` for what JSON has no form for."""
    try:
        if type(value) is str:
            return _ENCODER.encode(value)
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(f"the body is not JSON: {error}") from error
