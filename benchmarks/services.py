"""The method that `rpc-large` calls on ours. `math.double` is the one that `secure-net init` writes."""

from __future__ import annotations

from typing import Any

from secure_net import Registry, inline

registry = Registry()


@registry.method("bench.same")
@inline
def same(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that came in."""
    return rows
