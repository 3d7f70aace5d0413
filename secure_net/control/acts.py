"""The acts on the state: one table, each with its arguments, what it does, and whether it is recorded.

Theory of operation. `perform` finds the act in `ACTS`, checks its arguments by their struct, and where the
act changes something writes a line to the audit trail first (``begun``), so that nothing is done that
cannot be recorded; ``done`` or ``failed`` follows. An act changes the store, then, once that is on the
disk, what the running daemon holds in memory, and then has it cut the connections that may not go on.

A daemon offers the acts at its control socket. Without one, a command that gets the lock on the state
performs them itself: the same table, with no `Running` behind it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from secure_net.audit.trail import AuditTrail
from secure_net.clock import Clock
from secure_net.control.status import Status
from secure_net.errors import LocalProtocolError, StateError
from secure_net.identity.certificates import serial_text
from secure_net.identity.policy import Grant, Policy
from secure_net.identity.revocation import Revocations
from secure_net.store import CertificateRecord, NameRecord, Snapshot, Store, TokenKeyRecord

Answer = dict[str, Any]

# No token lives longer than a day; the rest is for clocks that are set.
FORGET_TOKENS_SECONDS: Final = 7 * 86_400.0

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
Serial = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,40}\Z")]
TokenID = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,256}\Z")]
Moment = Annotated[float, msgspec.Meta(ge=0)]


class _Arguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Nothing is taken that has no name here."""


class Nothing(_Arguments):
    pass


class OfName(_Arguments):
    name: Name


class OfToken(_Arguments):
    jti: TokenID


class OfCertificate(_Arguments):
    serial: Serial
    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


class OfFile(_Arguments):
    path: Annotated[str, msgspec.Meta(pattern=r"^/[^\x00]*\Z")]  # absolute: the daemon stands elsewhere


class OfIdentity(_Arguments):
    name: Name
    scopes: Annotated[tuple[str, ...], msgspec.Meta(max_length=1000)]


class NewCertificate(_Arguments):
    serial: Serial
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    kind: Literal["server", "client"]
    not_before: Moment
    not_after: Moment


class TokenKey(_Arguments):
    kid: TokenID
    created_at: Moment
    retired_at: Moment | None = None


AuthorityAct = Literal["ca.issue", "ca.renew", "ca.revoke", "ca.crl", "token.issue"]


class Begun(_Arguments):
    """What a command is about to do with the CA's keys, of which the daemon has none."""

    what: AuthorityAct
    name: Annotated[str, msgspec.Meta(max_length=253)] = ""
    kind: Literal["server", "client", ""] = ""
    serial: Annotated[str, msgspec.Meta(max_length=80)] = ""
    scopes: Annotated[tuple[str, ...], msgspec.Meta(max_length=1000)] = ()


class Ended(_Arguments):
    """How it went; `begun` is what `begin` answered."""

    what: AuthorityAct
    begun: int
    outcome: Literal["done", "failed"]
    serial: Annotated[str, msgspec.Meta(max_length=80)] = ""
    jti: Annotated[str, msgspec.Meta(max_length=256)] = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """What only a running daemon has.

    `cut` closes every live connection whose principal may not go on, and returns how many. `reload` reads
    everything anew and returns what it has to say; it raises `ConfigurationError` and the old stays.
    `revoked` counts an act that took something away.
    """

    revocations: Revocations
    policy: Policy
    cut: Callable[[], int]
    status: Callable[[], Status]
    reload: Callable[[], Awaitable[Answer]]
    revoked: Callable[[], None] = lambda: None


class Administration:
    """The acts, as methods from checked arguments to plain JSON."""

    def __init__(self, store: Store, audit: AuditTrail, clock: Clock, running: Running | None = None) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._running = running

    async def perform(self, act: str, arguments: Mapping[str, Any], who: str) -> Answer:
        """Do `act` for `who` (``uid:1000``).

        Raises `LocalProtocolError` when there is no such act or its arguments do not fit, `StateFullError`
        when it cannot be recorded or kept, and what the act itself raises.
        """
        found = ACTS.get(act)
        if found is None:
            raise LocalProtocolError(f"no such act: {act}")
        try:
            checked = msgspec.convert(arguments, found.arguments)
        except msgspec.ValidationError as error:
            raise LocalProtocolError(f"{act}: {error}") from error
        if found.attributed:
            return await found.run(self, checked, who)
        if not found.recorded:
            return await found.run(self, checked)
        return await self._recorded(act, found, checked, who)

    async def _recorded(self, act: str, found: Act, arguments: _Arguments, who: str) -> Answer:
        said = _said(arguments)
        begun = await self._audit.require(act, who=who, service="control", outcome="begun", **said)
        outcome = "failed"
        try:
            answer = await found.run(self, arguments)
            outcome = "done"
        finally:
            self._audit.record(act, who=who, service="control", outcome=outcome, begun=begun)
        return answer

    # --- what a command does itself, with the CA's keys ---------------------------------------------

    async def begin(self, arguments: Begun, who: str) -> Answer:
        """Record that it begins; unless this returns, it must not."""
        said = _said(arguments)
        return {"begun": await self._audit.require(who=who, service="control", outcome="begun", **said)}

    async def end(self, arguments: Ended, who: str) -> Answer:
        await self._audit.require(who=who, service="control", **_said(arguments))
        return {}

    # --- taking away -------------------------------------------------------------------------------

    async def revoke(self, arguments: OfName) -> Answer:
        """Refuse all that was issued to a name, block it, and cut its connections."""
        at = self._clock.wall()
        epoch = await self._store.revoke_name(arguments.name, at=at)
        return self._taken_away(epoch, lambda revocations: revocations.revoke_name(arguments.name, at))

    async def lock(self, arguments: OfName) -> Answer:
        """Block a name, and cut its connections. What it holds works again once it is unlocked."""
        at = self._clock.wall()
        epoch = await self._store.lock_name(arguments.name, at=at)
        return self._taken_away(epoch, lambda revocations: revocations.lock_name(arguments.name, at))

    async def unlock(self, arguments: OfName) -> Answer:
        """Accept a name again. What was revoked stays so."""
        epoch = await self._store.unlock_name(arguments.name)
        return self._felt(epoch, lambda revocations: revocations.unlock_name(arguments.name))

    async def revoke_token(self, arguments: OfToken) -> Answer:
        at = self._clock.wall()
        epoch = await self._store.revoke_token(arguments.jti, at=at, forget_at=at + FORGET_TOKENS_SECONDS)
        return self._taken_away(epoch, lambda revocations: revocations.revoke_token(arguments.jti))

    async def revoke_certificate(self, arguments: OfCertificate) -> Answer:
        serial = _normal(arguments.serial)
        epoch = await self._store.revoke_certificate(serial, at=self._clock.wall(), reason=arguments.reason)
        return self._taken_away(epoch, lambda revocations: revocations.revoke_certificate(serial))

    def _taken_away(self, epoch: int, change: Callable[[Revocations], None]) -> Answer:
        if self._running is not None:
            self._running.revoked()
        return self._felt(epoch, change)

    def _felt(self, epoch: int, change: Callable[[Revocations], None]) -> Answer:
        """It is in the store. Now the daemon's memory, and those who are connected."""
        if self._running is None:
            return {"epoch": epoch, "connections_cut": 0}
        change(self._running.revocations)
        return {"epoch": epoch, "connections_cut": self._running.cut()}

    # --- giving ------------------------------------------------------------------------------------

    async def put_identity(self, arguments: OfIdentity) -> Answer:
        """Set the scopes of a name; open sessions feel it at their next act."""
        try:
            grant = Grant.parse(arguments.scopes)
        except ValueError as error:
            raise LocalProtocolError(f"put_identity: {error}") from error
        scopes = tuple(map(str, grant.scopes))
        epoch = await self._store.put_identity(arguments.name, scopes, at=self._clock.wall())
        if self._running is not None:
            self._running.policy.put(arguments.name, grant)
        return {"epoch": epoch, "name": arguments.name, "scopes": list(scopes)}

    async def record_certificate(self, arguments: NewCertificate) -> Answer:
        fields = msgspec.structs.asdict(arguments) | {"serial": _normal(arguments.serial)}
        await self._store.record_certificate(CertificateRecord(**fields))
        return {}

    async def record_token_key(self, arguments: TokenKey) -> Answer:
        await self._store.record_token_key(TokenKeyRecord(**msgspec.structs.asdict(arguments)))
        return {}

    # --- looking -----------------------------------------------------------------------------------

    async def list_names(self, _: Nothing) -> Answer:
        """Every name that the state, or the daemon's configuration, says something about."""
        snapshot = await self._store.read_snapshot()
        configured: Mapping[str, Grant] = self._running.policy.identities if self._running else {}
        scopes = {name: tuple(map(str, grant.scopes)) for name, grant in configured.items()}
        scopes |= snapshot.identities
        issued = {record.name for record in snapshot.certificates.values() if record.kind == "client"}
        names = sorted({*scopes, *snapshot.names, *issued})
        return {"names": [_of_name(name, scopes.get(name, ()), snapshot) for name in names]}

    async def status(self, _: Nothing) -> Answer:
        answer: Answer = msgspec.to_builtins(self._needed().status())
        return answer

    async def reload(self, _: Nothing) -> Answer:
        return await self._needed().reload()

    async def backup(self, arguments: OfFile) -> Answer:
        await self._store.backup(Path(arguments.path))
        return {"path": arguments.path}

    def _needed(self) -> Running:
        if self._running is None:
            raise StateError("no daemon is running here")
        return self._running


def _said(arguments: _Arguments) -> dict[str, Any]:
    """What a line of the trail says of them; what was left out is left out there too."""
    return {key: value for key, value in msgspec.structs.asdict(arguments).items() if value not in ("", ())}


def _normal(serial: str) -> str:
    return serial_text(int(serial, 16))


def _of_name(name: str, scopes: tuple[str, ...], snapshot: Snapshot) -> Answer:
    record = snapshot.names.get(name, NameRecord())
    return {
        "name": name,
        "scopes": list(scopes),
        "locked": record.blocked_since is not None,
        "blocked_since": record.blocked_since,
        "revoked_before": record.revoked_before,
        "certificates": sum(held.name == name for held in snapshot.certificates.values()),
    }


class Act(NamedTuple):
    """An act: the shape of its arguments, what does it, and whether the trail must hold it.

    One that is `attributed` writes its own line, and is told who asks.
    """

    arguments: type[_Arguments]
    run: Callable[..., Awaitable[Answer]]
    recorded: bool = True
    attributed: bool = False


ACTS: Final[Mapping[str, Act]] = {
    "revoke": Act(OfName, Administration.revoke),
    "lock": Act(OfName, Administration.lock),
    "unlock": Act(OfName, Administration.unlock),
    "revoke_token": Act(OfToken, Administration.revoke_token),
    "revoke_certificate": Act(OfCertificate, Administration.revoke_certificate),
    "put_identity": Act(OfIdentity, Administration.put_identity),
    "record_certificate": Act(NewCertificate, Administration.record_certificate),
    "record_token_key": Act(TokenKey, Administration.record_token_key),
    "begin": Act(Begun, Administration.begin, attributed=True),
    "end": Act(Ended, Administration.end, attributed=True),
    "backup": Act(OfFile, Administration.backup),
    "reload": Act(Nothing, Administration.reload),
    "list": Act(Nothing, Administration.list_names, recorded=False),
    "status": Act(Nothing, Administration.status, recorded=False),
}
