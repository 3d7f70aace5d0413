"""The tree of errors: one root, drawn as it is, and texts that say where and what."""

from __future__ import annotations

import inspect
import re

import pytest

from secure_net import errors
from secure_net.errors import (
    AuthenticationError,
    ChatError,
    ConfigurationError,
    FaultError,
    HistoryGapError,
    NotPermittedError,
    Refusal,
    RefusedError,
    RemoteProtocolError,
    SecureNetError,
    UnavailableError,
)

TREE = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
}


def test_one_root() -> None:
    assert [name for name, kind in TREE.items() if not issubclass(kind, SecureNetError)] == []


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else ""
    parents = {name: kind.__mro__[1].__name__ for name, kind in TREE.items()}
    parents["SecureNetError"] = ""
    assert drawn == parents


def test_every_refusal_is_a_label() -> None:
    assert all(re.fullmatch(r"[a-z_]+", refusal.value) for refusal in Refusal)
    assert all(refusal.value == refusal.name.lower() for refusal in Refusal)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigurationError("rpc.listen", "is taken"), "rpc.listen: is taken"),
        (
            ConfigurationError("rpc.listen", "is taken", "choose another"),
            "rpc.listen: is taken; choose another",
        ),
        (RemoteProtocolError(Refusal.MALFORMED), "malformed"),
        (RemoteProtocolError(Refusal.MALFORMED, "bare LF", 400), "malformed: bare LF"),
        (RefusedError(Refusal.REVOKED), "revoked"),
        (RefusedError(Refusal.REVOKED, "serial"), "revoked: serial"),
        (AuthenticationError("no such key"), "credential: no such key"),
        (AuthenticationError("over", Refusal.EXPIRED), "expired: over"),
        (NotPermittedError("rpc:call:x"), "not_permitted: rpc:call:x"),
        (FaultError(-32601, "no such method"), "-32601: no such method"),
        (ChatError("internal"), "internal"),
        (ChatError("rooms", "too many"), "rooms: too many"),
        (
            HistoryGapError("ops", 3, 7, 9),
            "history_gap: ops: message 3 cannot be gone on from; kept: 7 to 9",
        ),
    ],
)
def test_texts(error: SecureNetError, text: str) -> None:
    assert str(error) == text


def test_what_errors_carry() -> None:
    assert ConfigurationError("a", "b", "c").cure == "c"
    assert RemoteProtocolError(Refusal.MALFORMED, "x", 400).status == 400
    assert RemoteProtocolError(Refusal.MALFORMED).status == 0
    assert UnavailableError("draining", 2.5).retry_after == 2.5
    assert NotPermittedError().reason is Refusal.NOT_PERMITTED
    assert (FaultError(1, "m").code, FaultError(1, "m").message) == (1, "m")
