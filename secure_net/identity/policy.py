"""Scopes, grants and principals: who may do what. Pure.

A scope is ``service:verb:resource``, split at the first two colons. Service and verb may be ``*``. In the
resource ``*`` stands for any run of characters between two separators, the empty one too, and ``**`` for any
run at all; nothing else is special. Some acts have no resource (``mail:relay``, ``echo:use``): their scope
ends after the verb, and among the scopes with a resource only one that matches the empty one names them.

============== ========= ==================================================================
service        separator resources, and how they are normalised before they are compared
============== ========= ==================================================================
rpc            ``.``     method names, as they are
chat           ``.``     room names, as they are: ``chat:publish:ops.*`` is ``ops.db``, not ``ops.db.eu``
files, ftp     ``/``     absolute paths; ``//``, ``.`` and ``..`` are resolved, and what climbs out
                         of the root, or holds NUL, is nobody's. A final ``/`` is kept: ``/in/**``
                         names ``/in/`` and what is below, and not ``/in``
mail           ``@``     addresses: ``*@example.org`` is no ``a@b@example.org``; the domain is
                         compared in lower case (RFC 5321 section 2.4)
admin, echo    ``.``     as they are
============== ========= ==================================================================

Nothing is allowed that no scope names.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}|\*")
# What a `scope` claim may hold (RFC 6749 section 3.3): printable ASCII without space, quote, backslash.
_RESOURCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_STARS = re.compile(r"(\*+)")
_WILDCARDS_COUNT = 8  # the work of a comparison grows with them
_DECISIONS_COUNT = 256  # remembered per principal
_DECISION_RESOURCE_BYTES = 255  # longer ones are decided anew: the memory must stay bounded


# ---------------------------------------------------------------------------- resources


def normalise_path(path: str) -> str | None:
    """An absolute path without ``//``, ``.`` and ``..``, a final ``/`` kept; None when there is none such."""
    if not path.startswith("/") or "\0" in path:
        return None
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not kept:
                return None
            kept.pop()
        elif part not in {"", "."}:
            kept.append(part)
    final = "/" if kept and path.endswith(("/", "/.", "/..")) else ""
    return "/" + "/".join(kept) + final


def _lower_domain(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}" if at else address


def _unchanged(resource: str) -> str:
    return resource


_SEPARATORS: Mapping[str, str] = {"files": "/", "ftp": "/", "mail": "@"}  # "." for all others
_NORMALISE: Mapping[str, Callable[[str], str | None]] = {
    "files": normalise_path,
    "ftp": normalise_path,
    "mail": _lower_domain,
}


def normalise(service: str, resource: str) -> str | None:
    """The form of `resource` that scopes are compared with; None when it cannot be anybody's."""
    return _NORMALISE.get(service, _unchanged)(resource) if resource else resource


@functools.lru_cache(maxsize=4096)
def _expression(pattern: str, separator: str) -> re.Pattern[str]:
    """A scope's resource as a regular expression that takes no exponential time, whatever a peer asks for.

    The text between two wildcards is matched at the first place where it fits, and that choice is kept
    (``(?>...)``): the wildcard behind it can make good for whatever an earlier place leaves over, so that
    the first place is as good as any.
    """
    between = f"[^{re.escape(separator)}]*?"
    first, *others = (_lower_domain(pattern) if separator == "@" else pattern).split("**")
    expression = _piece(first, between, last=not others)
    for number, piece in enumerate(others, 1):
        last = number == len(others)
        expression += (
            ".*?" + _piece(piece, between, last=True) if last else f"(?>.*?{_piece(piece, between)})"
        )
    return re.compile(expression, re.DOTALL)


def _piece(piece: str, between: str, *, last: bool = False) -> str:
    """What stands between two ``**``; the `last` one must reach the end, so its final ``*`` may give way."""
    head, *texts = map(re.escape, piece.split("*"))
    if not texts:
        return head
    *inner, final = texts
    kept = "".join(f"(?>{between}{text})" for text in inner)
    return f"{head}{kept}" + (f"{between}{final}" if last else f"(?>{between}{final})")


# ---------------------------------------------------------------------------- scopes and grants


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """One line of what somebody may do. `str()` gives it back as it was written."""

    service: str
    verb: str
    resource: str = ""

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Raises `ValueError`, with a text that says what is wrong, when `text` is no scope."""
        service, _, rest = text.partition(":")
        verb, colon, resource = rest.partition(":")
        if _WORD.fullmatch(service) is None or _WORD.fullmatch(verb) is None:
            raise ValueError("a scope is service:verb or service:verb:resource")
        if colon and _RESOURCE.fullmatch(resource) is None:
            raise ValueError("a scope's resource is printable ASCII, with no space, quote or backslash")
        stars = _STARS.findall(resource)
        if len(stars) > _WILDCARDS_COUNT or any(len(run) > 2 for run in stars):
            raise ValueError(f"a scope has up to {_WILDCARDS_COUNT} wildcards, each * or **")
        return cls(service, verb, resource)

    def covers(self, service: str, verb: str) -> bool:
        """Whether it says anything at all on `verb` of `service`."""
        return self.service in {service, "*"} and self.verb in {verb, "*"}

    def matches(self, service: str, verb: str, resource: str) -> bool:
        """Whether it names this act; `resource` normalised, and empty where the act has none."""
        if not self.covers(service, verb):
            return False
        separator = _SEPARATORS.get(service, ".")
        return _expression(self.resource, separator).fullmatch(resource) is not None

    def __str__(self) -> str:
        return ":".join(filter(None, (self.service, self.verb, self.resource)))


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """A set of scopes from one source: a token, or an identity's entry."""

    scopes: tuple[Scope, ...] = ()

    @classmethod
    def parse(cls, scopes: Iterable[str]) -> Grant:
        """Raises `ValueError` when one is no scope. Order is kept, doubles are dropped."""
        return cls(tuple(dict.fromkeys(map(Scope.parse, scopes))))

    def rule_for(self, service: str, verb: str, resource: str) -> Scope | None:
        """The first scope that allows the act, or None."""
        normal = normalise(service, resource)
        if normal is None:
            return None
        return next((scope for scope in self.scopes if scope.matches(service, verb, normal)), None)

    def allows(self, service: str, verb: str, resource: str) -> bool:
        return self.rule_for(service, verb, resource) is not None

    def covers(self, service: str, verb: str) -> bool:
        """Whether some scope says anything at all on `verb` of `service`."""
        return any(scope.covers(service, verb) for scope in self.scopes)


NOTHING = Grant()


# ---------------------------------------------------------------------------- principals


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """By what somebody showed who they are. Times in unix seconds."""

    kind: Literal["certificate", "token", "password"]
    id: str  # a certificate's serial, a token's jti; empty for a password
    issued_at: float
    expires_at: float
    key_id: str = ""  # the key that signed a token


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """Somebody, as of one epoch. Immutable; `Authenticator.current` gives its successor.

    All `grants` must allow an act: a token's own, and its subject's entry where there is one.
    """

    name: str
    grants: tuple[Grant, ...]
    credentials: tuple[Credential, ...]
    expires_at: float  # unix seconds; the session ends then
    epoch: int
    _decisions: dict[tuple[str, ...], bool] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def permits(self, service: str, verb: str, resource: str = "") -> bool:
        """Whether the act is allowed. Remembered: asked again, it costs one dict lookup."""
        act = (service, verb, resource)
        decision = self._decisions.get(act)
        if decision is None:
            decision = all(grant.allows(service, verb, resource) for grant in self.grants)
            if len(resource) <= _DECISION_RESOURCE_BYTES:
                self._remember(act, decision)
        return decision

    def permits_any(self, service: str, verb: str) -> bool:
        """Whether any scope speaks of `verb` of `service` at all (HTTP's 403 against a fault)."""
        act = (service, verb)
        decision = self._decisions.get(act)
        if decision is None:
            decision = all(grant.covers(service, verb) for grant in self.grants)
            self._remember(act, decision)
        return decision

    def _remember(self, act: tuple[str, ...], decision: bool) -> None:
        if len(self._decisions) >= _DECISIONS_COUNT:
            self._decisions.clear()
        self._decisions[act] = decision


# ---------------------------------------------------------------------------- the policy


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """Why somebody may, or may not. `rule` and `source` are empty where no rule allows."""

    name: str
    action: str
    permitted: bool
    rule: str
    source: str
    reason: str


class Policy:
    """Every identity's entry: those of the configuration, overlaid by those of the store.

    An entry of the store takes the place of the configuration's as a whole, as it was made later, by a
    command. `on_change` is called after every change.
    """

    def __init__(
        self, configured: Mapping[str, Grant] | None = None, stored: Mapping[str, Grant] | None = None
    ) -> None:
        self._configured = dict(configured or {})
        self._stored = dict(stored or {})
        self.on_change: list[Callable[[], None]] = []

    def entry(self, name: str) -> Grant | None:
        """What `name` may do, or None when nothing says so."""
        return self._stored.get(name, self._configured.get(name))

    @property
    def identities(self) -> Mapping[str, Grant]:
        """All entries as they are now."""
        return {**self._configured, **self._stored}

    def source(self, name: str) -> str:
        """Where the entry of `name` stands; empty when there is none."""
        if name in self._stored:
            return "the store"
        return f"identities.{name}" if name in self._configured else ""

    def configure(self, configured: Mapping[str, Grant]) -> None:
        """Take the configuration's entries anew (reload)."""
        self._configured = dict(configured)
        self._changed()

    def put(self, name: str, grant: Grant) -> None:
        """Set the store's entry of `name`."""
        self._stored[name] = grant
        self._changed()

    def remove(self, name: str) -> None:
        """Drop the store's entry of `name`; the configuration's, if any, counts again."""
        if self._stored.pop(name, None) is not None:
            self._changed()

    def explain(self, name: str, action: str) -> Explanation:
        """May `name`, shown by certificate or password, do `action`, and which rule says so.

        Raises `ValueError` when `action` is not service:verb or service:verb:resource.
        """
        return explain(name, action, self.entry(name), self.source(name))

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()


def explain(name: str, action: str, grant: Grant | None, source: str) -> Explanation:
    """The decision on `action` under `grant`, with the rule that makes it. See `Policy.explain`."""
    service, verb, resource = parse_action(action)
    if grant is None:
        return Explanation(
            name, action, False, "", "", f"{name} has no entry, and nothing is allowed without one"
        )
    rule = grant.rule_for(service, verb, resource)
    if rule is not None:
        return Explanation(name, action, True, str(rule), source, f"{rule} in {source} allows it")
    if normalise(service, resource) is None:
        return Explanation(
            name, action, False, "", source, "the resource is not an absolute path inside the root"
        )
    near = [str(scope) for scope in grant.scopes if scope.covers(service, verb)]
    reason = f"no scope in {source} matches " + (
        f"({', '.join(near)})" if near else f"{service}:{verb} at all"
    )
    return Explanation(name, action, False, "", source, reason)


def parse_action(text: str) -> tuple[str, str, str]:
    """Service, verb and resource of an act such as ``rpc:call:math.double``; no wildcards are meant."""
    service, _, rest = text.partition(":")
    verb, _, resource = rest.partition(":")
    if any(word == "*" or _WORD.fullmatch(word) is None for word in (service, verb)):
        raise ValueError("an action is service:verb or service:verb:resource, such as rpc:call:math.double")
    return service, verb, resource
