"""One room, its members, and a member's way through the past: the state that `Rooms` works on. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import cast

from secure_net.messaging.messages import message_template
from secure_net.messaging.protocol import ChatMachine, Framing


class Member:
    """One connection's place in the rooms. A session fills in the three methods."""

    __slots__ = ("acks", "gone", "joined", "machine", "name", "voices")

    def __init__(self, machine: ChatMachine) -> None:
        self.machine = machine
        self.name = ""  # of the principal
        self.gone = False
        self.joined: dict[str, Room] = {}
        self.voices: dict[str, Voice] = {}  # where it may speak; whoever decides that clears it
        self.acks: list[bytes] = []  # of this turn

    def may_subscribe(self, room: str) -> bool:
        """Whether the scopes, as they are now, let it hear `room`."""
        raise NotImplementedError

    def flush(self) -> bool:
        """Send what is in the machine's `outgoing`. False: the connection has ended."""
        raise NotImplementedError


class Replay:
    """A member on its way through the past: it has everything up to `at`.

    `tail` is what was delivered, in so many messages, since the page under way was asked for; None when it
    grew too large, or no page is under way.
    """

    __slots__ = ("at", "count", "size", "tail")

    def __init__(self, at: int) -> None:
        self.at = at
        self.tail: list[bytes] | None = None
        self.count = self.size = 0

    def keep(self, data: bytes, count: int, most: int) -> None:
        """So many messages were delivered meanwhile; beyond `most` bytes they are left to the store."""
        cast(list[bytes], self.tail).append(data)  # a page is under way: else nobody keeps anything for it
        self.count += count
        self.size += len(data)
        if self.size > most:
            self.tail = None


class Room:
    """One room, as long as somebody is in it or waits for something.

    `seq` is the newest number delivered here; of a durable room it is meaningless until `is_known`.
    `audience` has the members of each framing, each with the list that its machine sends from.
    """

    __slots__ = (
        "_incarnation",
        "audience",
        "epoch",
        "is_forgotten",
        "is_known",
        "is_live",
        "name",
        "pending",
        "pins",
        "principals",
        "replays",
        "roster",
        "seq",
    )

    def __init__(self, name: str, epoch: int, *, is_live: bool) -> None:
        self.name = name
        self.epoch = epoch  # at which it was last looked who may still be here
        self.is_live = self.is_known = is_live
        self._incarnation = ""
        self.is_forgotten = False
        self.seq = 0
        self.pins = 0  # what is under way for it at the broker
        self.pending: list[bytes] = []  # payloads for the audience, not sent yet
        self.audience: dict[Framing, dict[Member, list[bytes]]] = {}
        self.replays: dict[Member, Replay] = {}
        self.principals: dict[str, int] = {}  # name: connections
        self.roster: list[str] | None = None  # the names, sorted; None when they have changed

    @property
    def incarnation(self) -> str | None:
        """Of a live room: its numbers begin anew with each. Made when it is first asked for."""
        if self.is_live and not self._incarnation:
            self._incarnation = secrets.token_hex(16)
        return self._incarnation or None

    @property
    def is_idle(self) -> bool:
        return not (self.audience or self.replays or self.pins or self.pending)

    def everybody(self) -> Iterator[Member]:
        for members in self.audience.values():
            yield from members
        yield from self.replays

    def listen(self, member: Member) -> None:
        """From the next message on."""
        machine = member.machine
        self.audience.setdefault(machine.framing, {})[member] = machine.outgoing

    def stop(self, member: Member) -> None:
        """Neither in the audience nor on the way there."""
        framing = member.machine.framing
        members = self.audience.get(framing)
        if members is not None and members.pop(member, None) is not None and not members:
            del self.audience[framing]
        if self.replays.pop(member, None) is not None and self.name in member.machine.pulling:
            member.machine.pulling.remove(self.name)

    def names(self) -> list[str]:
        if self.roster is None:
            self.roster = sorted(self.principals)
        return self.roster


class Voice:
    """What a principal needs to speak in a room: the room, and its messages but for number, time and body."""

    __slots__ = ("room", "template")

    def __init__(self, room: Room, sender: str) -> None:
        self.room = room
        self.template = message_template(room.name, sender)
