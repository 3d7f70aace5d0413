"""What a reload may change, and what has to wait for a restart. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from secure_net.config import Configuration
from secure_net.tables import ServiceTable

# The keys of each service's table that a running daemon keeps: its sockets, and what it was built from.
_KEPT: dict[str, tuple[str, ...]] = {
    "rpc": ("listen", "services"),
    "files": ("listen",),
    "echo": ("listen", "engine"),
    "chat": ("listen", "web", "live"),
    "admin": ("listen",),
}

# The same of the limits, by their group; of tokens and echo all are kept.
_KEPT_LIMITS: dict[str, tuple[str, ...]] = {
    "rpc": ("rpc_threads_count", "rpc_waiting_count"),
    "files": ("files_threads_count", "files_waiting_count"),
    "frame": ("frame_bytes",),
    "chat": ("chat_body_bytes", "chat_page_count"),
}


def effective(old: Configuration, new: Configuration) -> Configuration:
    """`new`, but with what only a restart can change as it is in `old`: names, state, sockets, Python
    code, pools, what the token verifier and the log were made with, and the sizes that members were welcomed
    with: in a room, what one says every other has to be able to read."""
    groups = {
        group: dataclasses.replace(
            getattr(new.limits, group), **{key: getattr(getattr(old.limits, group), key) for key in kept}
        )
        for group, kept in _KEPT_LIMITS.items()
    }
    limits = dataclasses.replace(new.limits, token=old.limits.token, echo=old.limits.echo, **groups)
    server = msgspec.structs.replace(new.server, names=old.server.names, state=old.server.state)
    tables = {name: _table(getattr(old, name), getattr(new, name), kept) for name, kept in _KEPT.items()}
    return msgspec.structs.replace(new, server=server, limits=limits, log=old.log, **tables)


def _table(old: ServiceTable | None, new: ServiceTable | None, kept: tuple[str, ...]) -> ServiceTable | None:
    """A service neither comes nor goes, and stays where it listens."""
    if old is None or new is None:
        return old
    return msgspec.structs.replace(new, **{key: getattr(old, key) for key in kept})


def changed_keys(one: Configuration, other: Configuration) -> tuple[str, ...]:
    """The paths of the keys in which the two differ; a table that only one of them has by its name alone."""
    flat, other_flat = _flat(one), _flat(other)
    changed = {key for key in flat.keys() | other_flat.keys() if flat.get(key) != other_flat.get(key)}
    tables = changed & _KEPT.keys()
    return tuple(sorted(key for key in changed if key in tables or key.partition(".")[0] not in tables))


def _flat(configuration: Configuration) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name in ("server", "tls", *_KEPT, "log"):
        table = getattr(configuration, name)
        flat[name] = table is not None
        if table is not None:
            flat |= {f"{name}.{key}": value for key, value in msgspec.structs.asdict(table).items()}
    for group in dataclasses.asdict(configuration.limits).values():
        flat |= {f"limits.{key}": value for key, value in group.items()}
    return flat | {f"identities.{name}": entry.scopes for name, entry in configuration.identities.items()}
