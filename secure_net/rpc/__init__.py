"""XML-RPC: a strict codec, a whitelist of methods, their dispatcher, and both sides of the wire.

=================  ======================================================================================
`faults`           fault codes, their constant texts, and the errors a caller gets for them
`decode`           bytes to a call or an answer: defusedxml's parser drives a strict target of ours (pure)
`plain`            plain calls, which a tokenizer reads without expat (pure)
`encode`           values to bytes (pure)
`signature`        what a method takes, read from its type hints and held to (pure)
`registry`         the whitelist: `Registry`, `inline`, `exposed`, and the `Call` a method may ask for
`results`          what comes of a call, before a document is made of it
`dispatcher`       from a body to an answer: may they, does it fit, run it, until its deadline
`system`           system.listMethods, methodHelp, methodSignature, multicall
`pool`             the bounded threads on which plain functions run
`server`           the HTTP application at /RPC2
`client`           `RPCClient`, for programs without an event loop
`async_client`     `AsyncRPCClient`, for those with one
`exchange`         what the two have in common: one HTTP exchange, what it asks and what it may answer
=================  ======================================================================================

A call: `http` hands `server` a request; `dispatcher.handle` decodes, finds the method in a table, asks the
principal's scopes, fits the parameters and runs the method; its value is encoded, and `http` sends it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secure_net.rpc.async_client import AsyncRPCClient
    from secure_net.rpc.client import RPCClient
    from secure_net.rpc.faults import Fault
    from secure_net.rpc.registry import Call, Registry, exposed, inline

__all__ = ["AsyncRPCClient", "Call", "Fault", "RPCClient", "Registry", "exposed", "inline"]

_HOMES = {
    "AsyncRPCClient": "async_client",
    "Call": "registry",
    "Fault": "faults",
    "RPCClient": "client",
    "Registry": "registry",
    "exposed": "registry",
    "inline": "registry",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: a client needs none of the server."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
