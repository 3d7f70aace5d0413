"""Rooms: who is in them, what is said there, and how it reaches everybody. Knows no socket, loop or clock.

Theory of operation. All that happens within one turn of the event loop is sent at its end, by the one call of
`_turn` that the first thing to be sent has put on the schedule:

* what was said in durable rooms goes to the broker in one call. Its verdicts come back in order, each with
  the number that the message has from now on; only then is it delivered, and acknowledged;
* what was said in live rooms was numbered at once, in memory;
* each message is encoded once; those of one room are joined once per framing, and every member gets the same
  bytes; what one member gets from all its rooms, and its acknowledgements, is written in one go.

Whoever enters or leaves does so between two messages: what waits in the room is sent to those who are in it
first. So the number in `joined` is exact.

A member that asks for the past is not among the room's `audience` but among its `replays`. Page by page it
gets what the store has, up to what the room has delivered; meanwhile the `tail` keeps what is delivered. A
page that reaches the end is followed by the tail, and the member is in the audience: no gap, no double, and
no race that a busy room could win for ever.
"""

from __future__ import annotations

import bisect
import functools
from binascii import unhexlify
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from secure_net.errors import StateError
from secure_net.limits import ChatLimits
from secure_net.messaging import messages
from secure_net.messaging.messages import ACK, Code, message_template, stamp
from secure_net.messaging.protocol import Framing
from secure_net.messaging.room import Member, Replay, Room, Voice
from secure_net.store.broker import Broker, Message, Publication, Standing, Verdict

if TYPE_CHECKING:
    from secure_net.metrics import ChatCounters

# One page of the past, on its way to a member that follows.
REPLAY_COUNT = 1000
REPLAY_BYTES = 256 * 1024

NAME_BYTES = 64 + len('"",')  # what a name takes in a list, at most

_REFUSALS = {"conflict": Code.ID_REUSED, "rooms": Code.ROOMS}


class Verdicts(Protocol):
    """A future of the broker's."""

    def result(self) -> list[Verdict]: ...

    def exception(self) -> BaseException | None: ...


class Rooms:
    """All rooms of a daemon, and all who are in them, whatever the transport."""

    def __init__(
        self,
        limits: ChatLimits,
        broker: Broker,
        counters: ChatCounters,
        *,
        largest: int,
        wall: Callable[[], float],
        schedule: Callable[[Callable[[], None]], object],
        epoch: Callable[[], int],
        is_live: Callable[[str], bool],
    ) -> None:
        """`largest` payload in bytes. `wall` reads Unix time; `schedule` calls back at the end of the loop's
        turn; `epoch` is the authenticator's, and moves when scopes may have changed; `is_live` says of a name
        whether the room has no history."""
        self.limits = limits
        self._broker = broker
        self._counters = counters
        self.largest = largest
        self._wall, self._schedule, self._epoch = wall, schedule, epoch
        self.is_live = functools.lru_cache(maxsize=4096)(is_live)
        self._rooms: dict[str, Room] = {}
        self._joined: dict[str, int] = {}  # principal: rooms
        self._memberships = 0
        # Of this turn. `_at` is its time as messages bear it, and empty while nothing is on the schedule.
        self._at, self._now = b"", 0.0
        self._publications: list[Publication] = []
        self._acking: list[Member] = []
        self._dirty: list[Room] = []
        self._touched: list[Member] = []
        counters.rooms = lambda: len(self._rooms)
        counters.members = lambda: self._memberships

    # -- speaking -------------------------------------------------------------------------------------

    def voice(self, room: str, sender: str) -> Voice | None:
        """For `sender`, who may publish there; good until the room is forgotten. None: too many rooms."""
        found = self._rooms.get(room) or self._make(room, bounded=self.is_live(room))
        return None if found is None else Voice(found, sender)

    def say(self, member: Member, voice: Voice, id_: bytes, body: bytes) -> None:
        """Deliver a message, once it may be. `id_` in digits. Its acknowledgement, or an error, will come."""
        room = voice.room
        at = self._at or self._begin_turn()
        if not room.is_live:
            self._publish(member, voice, id_, body)
            return
        room.seq = seq = room.seq + 1
        if not room.pending:
            self._dirty.append(room)
        room.pending.append(voice.template % (seq, at, body))
        acks = member.acks
        if not acks:
            self._owe(member)
        acks.append(ACK % (id_, seq))

    def say_many(self, member: Member, voice: Voice, ids: list[bytes], bodies: list[bytes]) -> None:
        """As `say` for each, in order."""
        room = voice.room
        if not room.is_live:
            for id_, body in zip(ids, bodies, strict=True):
                self.say(member, voice, id_, body)
            return
        at, template = self._at or self._begin_turn(), voice.template
        numbers = range(room.seq + 1, room.seq + 1 + len(ids))
        room.seq += len(ids)
        if not room.pending:
            self._dirty.append(room)
        room.pending += [template % (seq, at, body) for seq, body in zip(numbers, bodies, strict=True)]
        if not member.acks:
            self._owe(member)
        member.acks += [ACK % both for both in zip(ids, numbers, strict=True)]

    def _owe(self, member: Member) -> None:
        """The acknowledgements of a turn: outstanding, as a whole, until they are sent at its end."""
        self._acking.append(member)
        member.machine.said(0)

    def _publish(self, member: Member, voice: Voice, id_: bytes, body: bytes) -> None:
        member.machine.said(len(body))
        voice.room.pins += 1
        self._publications.append(
            Publication(voice.room.name, member.name, unhexlify(id_), self._now, body, (member, voice, id_))
        )

    def _decided(self, publications: list[Publication], future: Verdicts) -> None:
        """The broker has kept these, or could not."""
        error = future.exception()
        if error is None:
            self._judge(future.result())
            return
        code = Code.UNAVAILABLE if isinstance(error, StateError) else Code.INTERNAL
        for publication in publications:
            self._refuse(publication, code)
        if code is Code.INTERNAL:
            raise error  # a fault of ours: the loop logs it

    def _judge(self, verdicts: Iterable[Verdict]) -> None:
        self._at or self._begin_turn()
        now, at = -1.0, b""
        for publication, seq, outcome in verdicts:
            if outcome in _REFUSALS:
                self._refuse(publication, _REFUSALS[outcome])
                continue
            member, voice, id_ = publication.token
            room: Room = voice.room
            if outcome == "new":
                self._counters.messages += 1
                if seq > room.seq:  # else whoever is here has joined behind it
                    room.seq, room.is_known = seq, True
                    if room.audience or room.replays:
                        if publication.at != now:
                            now, at = publication.at, stamp(publication.at)
                        if not room.pending:
                            self._dirty.append(room)
                        room.pending.append(voice.template % (seq, at, publication.body))
            if not member.acks:
                self._owe(member)
            member.acks.append(ACK % (id_, seq))
            member.machine.answered(1, len(publication.body))
            self._unpin(room)

    def _refuse(self, publication: Publication, code: Code) -> None:
        member, voice, id_ = publication.token
        self._unpin(voice.room)
        member.machine.answered(1, len(publication.body))
        self._put(member, messages.error(code, publication.room, id_))

    # -- the end of a turn ----------------------------------------------------------------------------

    def _begin_turn(self) -> bytes:
        self._now = round(self._wall(), 3)
        self._at = stamp(self._now)
        self._schedule(self._turn)
        return self._at

    def _turn(self) -> None:
        self._at = b""
        if self._publications:
            publications, self._publications = self._publications, []
            self._broker.publish(publications).add_done_callback(
                functools.partial(self._decided, publications)
            )
        acking, self._acking = self._acking, []
        dirty, self._dirty = self._dirty, []
        try:
            while acking:
                self._acknowledge(acking.pop())
            while dirty:
                room = dirty.pop()
                self._send(room)
                self._forget_if_idle(room)
        finally:  # a fault of ours in one must not cost the others theirs: they have the next turn
            if acking or dirty:
                self._acking, self._dirty = acking + self._acking, dirty + self._dirty
                self._at or self._begin_turn()
            touched, self._touched = self._touched, []
            for member in touched:
                if not member.flush():
                    self.forget(member)

    def _acknowledge(self, member: Member) -> None:
        acks, machine = member.acks, member.machine
        if not member.gone:
            if not machine.outgoing:
                self._touched.append(member)
            machine.outgoing.append(machine.framing.encode_many(acks))
            machine.framing.counters.frames_sent += len(acks)
            machine.answered(1, 0)
        acks.clear()

    def _send(self, room: Room) -> None:
        """Hand what waits in `room` to everybody's machine; who may no longer be here is put out first."""
        if room.epoch != self._epoch():
            self._review(room)
        payloads = room.pending
        if not payloads:
            return
        room.pending = []
        count, touch = len(payloads), self._touched.append
        if room.is_live:
            self._counters.messages += count
        for framing, members in room.audience.items():
            data = framing.encode_many(payloads)
            for member, outgoing in members.items():
                if not outgoing:
                    touch(member)
                outgoing.append(data)
            self._count(framing, count * len(members))
        for member, replay in room.replays.items():
            if replay.tail is not None:
                framed = member.machine.framing.encode_many(payloads)
                replay.keep(framed, count, self.limits.chat_outbox_bytes)

    def _count(self, framing: Framing, deliveries: int) -> None:
        framing.counters.frames_sent += deliveries
        self._counters.deliveries += deliveries

    def _put(self, member: Member, payload: bytes, framed: bytes | None = None) -> None:
        """Queue one object for a member that did not ask just now."""
        machine = member.machine
        if member.gone:
            return
        self._at or self._begin_turn()
        if not machine.outgoing:
            self._touched.append(member)
        machine.outgoing.append(framed or machine.framing.encode(payload))
        machine.framing.counters.frames_sent += 1

    # -- coming and going -----------------------------------------------------------------------------

    def join_live(self, member: Member, name: str) -> None:
        """Let `member`, who may hear it, into a room without history; answers."""
        room = self._rooms.get(name)
        if room is None and not self._is_in_too_many(member):
            room = self._make(name)
        if room is not None and self._enter(member, room):
            self._answer_joined(member, room, room.seq + 1)
        else:
            member.machine.answer(messages.error(Code.ROOMS, name))

    async def join(self, member: Member, name: str, after: int | None) -> None:
        """Let `member`, who may hear it, into a durable room, and send what came after `after`; answers."""
        room = self._rooms.get(name) or self._make(name)
        if room is None:
            member.machine.answer(messages.error(Code.ROOMS, name))
            return
        room.pins += 1
        try:
            standing = await self._broker.standing(name)
        except StateError:
            member.machine.answer(messages.error(Code.UNAVAILABLE, name))
        else:
            self._admit(member, room, after, standing)
        finally:
            self._unpin(room)

    def _admit(self, member: Member, room: Room, after: int | None, standing: Standing) -> None:
        if not room.is_known:
            room.seq, room.is_known = standing.seq, True
        if member.gone:
            return
        if not member.may_subscribe(room.name):
            self._put_out(member, room, messages.error(Code.NOT_PERMITTED, room.name))
        elif after is not None and not standing.first - 1 <= after <= room.seq:
            gap = messages.error(Code.HISTORY_GAP, room.name, first=standing.first, seq=room.seq)
            self._put_out(member, room, gap)
        elif not self._enter(member, room):
            member.machine.answer(messages.error(Code.ROOMS, room.name))
        else:
            self._answer_joined(member, room, standing.first)
            room.stop(member)
            if after is None or after == room.seq:
                room.listen(member)
            else:
                room.replays[member] = Replay(after)
                member.machine.pulling.append(room.name)

    def _answer_joined(self, member: Member, room: Room, first: int) -> None:
        members = len(room.principals)
        member.machine.answer(
            messages.encode(messages.Joined(room.name, room.seq, first, members, room.incarnation))
        )

    def leave(self, member: Member, name: str) -> None:
        """Answers."""
        room = member.joined.get(name)
        if room is not None:
            self._send(room)  # said before it left; this may also put it out
        if room is None or name not in member.joined:
            member.machine.answer(messages.error(Code.NOT_JOINED, name))
            return
        member.machine.answer(messages.encode(messages.Left(name)))
        self._remove(member, room)

    def forget(self, member: Member) -> None:
        """Its connection is gone."""
        member.gone = True
        member.acks.clear()
        for room in list(member.joined.values()):
            self._remove(member, room)

    def _make(self, name: str, *, bounded: bool = True) -> Room | None:
        if bounded and len(self._rooms) >= self.limits.chat_rooms_count:
            return None
        room = self._rooms[name] = Room(name, self._epoch(), is_live=self.is_live(name))
        return room

    def _unpin(self, room: Room) -> None:
        room.pins -= 1
        if not room.pins:
            self._forget_if_idle(room)

    def _forget_if_idle(self, room: Room) -> None:
        if room.is_idle and not room.is_forgotten:
            room.is_forgotten = True
            del self._rooms[room.name]

    def _enter(self, member: Member, room: Room) -> bool:
        """Put `member` in the audience, unless it is in the room. False: it is in as many as it may be."""
        self._send(room)
        if room.name in member.joined:
            return True
        name = member.name
        count = room.principals.get(name, 0)
        if not count:
            if self._is_in_too_many(member):
                return False
            self._joined[name] = self._joined.get(name, 0) + 1
            room.roster = None
        room.principals[name] = count + 1
        member.joined[room.name] = room
        self._memberships += 1
        if not count:
            self._announce(room, name, online=True)
        room.listen(member)
        return True

    def _is_in_too_many(self, member: Member) -> bool:
        return self._joined.get(member.name, 0) >= self.limits.chat_rooms_per_principal_count

    def _remove(self, member: Member, room: Room) -> None:
        """Take `member` out, and tell the others when it was the last connection of its principal."""
        if self._take_out(member, room):
            self._announce(room, member.name, online=False)
        self._forget_if_idle(room)

    def _put_out(self, member: Member, room: Room, error: bytes) -> None:
        """It is not in the room from here on, if it was."""
        self._put(member, error)
        if room.name in member.joined:
            self._remove(member, room)

    def _take_out(self, member: Member, room: Room) -> bool:
        """True: its principal has no other connection here."""
        name = member.name
        del member.joined[room.name]
        self._memberships -= 1
        room.stop(member)
        count = room.principals[name] - 1
        if count:
            room.principals[name] = count
            return False
        del room.principals[name]
        room.roster = None
        rooms = self._joined[name] - 1
        if rooms:
            self._joined[name] = rooms
        else:
            del self._joined[name]
        return True

    def _review(self, room: Room) -> None:
        """Scopes may have changed: put out who may not hear this room any more, before it gets what waits."""
        room.epoch = self._epoch()
        unwelcome = [member for member in room.everybody() if not member.may_subscribe(room.name)]
        left = [member.name for member in unwelcome if self._take_out(member, room)]
        for member in unwelcome:
            self._put(member, messages.error(Code.NOT_PERMITTED, room.name))
        for name in left:
            self._announce(room, name, online=False)

    def _announce(self, room: Room, name: str, *, online: bool) -> None:
        if len(room.principals) > self.limits.chat_presence_count:
            return
        self._send(room)
        payload = messages.encode(messages.Presence(room.name, name, online))
        framed: dict[Framing, bytes] = {}
        for member in room.everybody():
            framing = member.machine.framing
            if framing not in framed:
                framed[framing] = framing.encode(payload)
            self._put(member, payload, framed[framing])

    # -- the past, and who is here --------------------------------------------------------------------

    async def pull(self, member: Member, name: str) -> None:
        """Send one more page of the past to a member that follows. What is there last is live."""
        room = member.joined.get(name)
        if room is not None:
            self._send(room)
        if room is None or name not in member.joined:
            return  # it may not hear it any more: put out by this, or since the machine gave out its `Pull`
        replay = room.replays[member]
        upto = room.seq
        replay.tail, replay.count, replay.size = [], 0, 0
        try:
            standing, page = await self._broker.page(
                name, after=replay.at, upto=upto, count=REPLAY_COUNT, size=REPLAY_BYTES
            )
        except StateError:
            if room.replays.get(member) is replay:  # else it is out by now, and was told why
                self._put_out(member, room, messages.error(Code.UNAVAILABLE, name))
            return
        if room.replays.get(member) is not replay:
            return  # put out meanwhile
        if not page or page[0].seq != replay.at + 1:
            gap = messages.error(Code.HISTORY_GAP, name, first=standing.first, seq=room.seq)
            self._put_out(member, room, gap)
            return
        self._replay(member, page)
        replay.at = page[-1].seq
        if replay.at < upto or replay.tail is None:
            replay.tail = None
            member.machine.pulling.append(name)
            return
        member.machine.outgoing.extend(replay.tail)
        self._count(member.machine.framing, replay.count)
        del room.replays[member]
        room.listen(member)

    def _replay(self, member: Member, page: list[Message]) -> None:
        framing = member.machine.framing
        payloads = [
            message_template(message.room, message.sender) % (message.seq, stamp(message.at), message.body)
            for message in page
        ]
        member.machine.outgoing.append(framing.encode_many(payloads))
        self._count(framing, len(payloads))

    async def history(self, member: Member, name: str, before: int | None, limit: int) -> None:
        """Answer with a page of a durable room, for a member who may hear it."""
        count = min(limit, self.limits.chat_page_count)
        try:
            standing, page = await self._broker.page(name, before=before, count=count, size=self.largest)
        except StateError:
            member.machine.answer(messages.error(Code.UNAVAILABLE, name))
            return
        past = [(message.seq, message.sender, message.at, message.body) for message in page]
        more = bool(page) and page[0].seq > standing.first
        member.machine.answer(messages.history(name, past, more=more, largest=self.largest))

    def who(self, member: Member, name: str, after: str | None) -> None:
        """Answer with the names of those who are there and come behind `after`."""
        room = self._rooms.get(name)
        names = [] if room is None else room.names()
        begin = 0 if after is None else bisect.bisect_right(names, after)
        end = begin + min(self.limits.chat_page_count, self.largest // NAME_BYTES - 2)
        member.machine.answer(messages.encode(messages.Who(name, names[begin:end], more=end < len(names))))
