"""secure_net: XML-RPC, messages, files, mail and FTP for private networks, with no insecure mode at all.

The map of the package
----------------------

===================== ================================================================================
`errors`              one tree; whose fault it is decides what follows
`limits`              every size, count and deadline, with its unit and reason
`config`, `tables`    ``secure-net.toml``: one struct per table; errors name the key's path
`discovery`           whom a client calls, and as whom
`machine`             what the shell and every protocol agree on: the sans-IO state machine
`wire`                the hardened shell: TLS, connections, listeners; it knows no protocol
`identity`            who is it, and what may they do: CA, tokens, scopes, revocation
`store`, `audit`      what rests on disk: the state, and the hash-chained trail
`http`, `rpc`,        protocol by protocol: the pure machine, the server that binds it, the client
`messaging`
`control`             the acts on a running daemon, and the socket they arrive by
`daemon`              builds the services from the configuration; signals, reload, drain
`metrics`, `log`      what it tells operators
`cli`                 the command line; it alone turns errors into exit codes
===================== ================================================================================

An arrow never runs from `wire` or a machine to a protocol's server, nor from anything to `cli`.

What a program uses is importable from here, and is loaded when it is asked for::

    from secure_net import RPCClient, Registry, inline
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secure_net.daemon.echo_servers import AsyncEchoServer, EchoServer
    from secure_net.daemon.xmlrpc_services import XMLRPCServices
    from secure_net.errors import (
        AuthenticationError,
        ChatError,
        ConfigurationError,
        DeadlineExceededError,
        FaultError,
        HistoryGapError,
        NotPermittedError,
        OutcomeUnknownError,
        RefusedError,
        SecureNetError,
        TransportError,
        UnavailableError,
        VerificationError,
    )
    from secure_net.messaging.client import ChatClient
    from secure_net.messaging.echo_client import EchoClient, send_message_to_server
    from secure_net.messaging.sync_client import SyncChatClient
    from secure_net.rpc import AsyncRPCClient, Call, Registry, RPCClient, exposed, inline

__version__ = "0.1.0"

_ERRORS = (
    "AuthenticationError",
    "ChatError",
    "ConfigurationError",
    "DeadlineExceededError",
    "FaultError",
    "HistoryGapError",
    "NotPermittedError",
    "OutcomeUnknownError",
    "RefusedError",
    "SecureNetError",
    "TransportError",
    "UnavailableError",
    "VerificationError",
)
_RPC = ("AsyncRPCClient", "Call", "RPCClient", "Registry", "exposed", "inline")
_HOMES = {
    **dict.fromkeys(_ERRORS, "secure_net.errors"),
    **dict.fromkeys(_RPC, "secure_net.rpc"),
    "XMLRPCServices": "secure_net.daemon.xmlrpc_services",
    **dict.fromkeys(("AsyncEchoServer", "EchoServer"), "secure_net.daemon.echo_servers"),
    **dict.fromkeys(("EchoClient", "send_message_to_server"), "secure_net.messaging.echo_client"),
    "ChatClient": "secure_net.messaging.client",
    "SyncChatClient": "secure_net.messaging.sync_client",
}

__all__ = [
    "AsyncEchoServer",
    "AsyncRPCClient",
    "AuthenticationError",
    "Call",
    "ChatClient",
    "ChatError",
    "ConfigurationError",
    "DeadlineExceededError",
    "EchoClient",
    "EchoServer",
    "FaultError",
    "HistoryGapError",
    "NotPermittedError",
    "OutcomeUnknownError",
    "RPCClient",
    "RefusedError",
    "Registry",
    "SecureNetError",
    "SyncChatClient",
    "TransportError",
    "UnavailableError",
    "VerificationError",
    "XMLRPCServices",
    "__version__",
    "exposed",
    "inline",
    "send_message_to_server",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: `import secure_net` alone costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
