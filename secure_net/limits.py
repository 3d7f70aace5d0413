"""Every size, count and deadline, with its unit in its name and its reason beside it.

Each field is a key of ``[limits]`` in the configuration, under the same name. Sizes are in bytes,
deadlines in seconds. `docs/server-behaviour.md` says what a peer gets when one is passed.
"""

from __future__ import annotations

import dataclasses

KIB = 1024
MIB = 1024 * KIB


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What the shell holds every connection to, whatever its protocol."""

    connections_count: int = 10_000  # in all; about 20 KiB each while idle
    connections_per_source_count: int = 256  # one address (IPv6: one /64) cannot take them all
    connections_per_principal_count: int = 128
    handshakes_count: int = 256  # a handshake costs a core about a millisecond: bound those under way
    handshakes_random_count: int = 100  # from here on new ones are refused with growing probability
    handshake_seconds: float = 5.0
    authentication_seconds: float = 10.0
    idle_seconds: float = 300.0
    write_stall_seconds: float = 30.0  # a peer that takes nothing for this long has gone
    outbox_bytes: int = 16 * MIB  # waiting for one peer; must hold one whole RPC answer
    buffered_bytes: int = 512 * MIB  # the daemon's budget, over all connections
    overload_percent: float = 80.0  # above this share of connections_count ...
    overload_divisor_ratio: float = 5.0  # ... idle, handshake and authentication deadlines shrink by this


@dataclasses.dataclass(frozen=True, slots=True)
class HTTPLimits:
    """What the HTTP/1.1 machine accepts (RFC 9112)."""

    http_request_line_bytes: int = 8 * KIB
    http_headers_bytes: int = 32 * KIB
    http_headers_count: int = 100
    http_trailers_bytes: int = 4 * KIB  # behind a chunked body; checked and dropped
    http_headers_seconds: float = 10.0  # from the first byte of a head to its last
    http_keep_alive_seconds: float = 75.0


@dataclasses.dataclass(frozen=True, slots=True)
class RPCLimits:
    """What a call may cost."""

    rpc_body_bytes: int = 1 * MIB
    rpc_body_seconds: float = 5.0  # a body may be this slow ...
    rpc_body_bytes_per_second: int = 1 * KIB  # ... and from then on must keep this pace
    rpc_answer_bytes: int = 8 * MIB
    rpc_call_seconds: float = 30.0
    rpc_multicall_count: int = 100
    rpc_threads_count: int = 16  # the pool on which plain functions run
    rpc_waiting_count: int = 256  # calls that wait for a thread before new ones get 503
    xml_depth_count: int = 32
    xml_nodes_count: int = 50_000  # elements in a call: some 0.1 s of work at most
    xml_answer_nodes_count: int = 400_000  # elements in an answer that our clients take: 8 MiB of them
    xml_method_name_bytes: int = 255


@dataclasses.dataclass(frozen=True, slots=True)
class FrameLimits:
    """What one frame may be."""

    frame_bytes: int = 64 * KIB  # payload; the header has as many digits as this number
    frame_seconds: float = 10.0  # from the first byte of a header to the last of its payload


@dataclasses.dataclass(frozen=True, slots=True)
class EchoLimits:
    """What the echo service may cost."""

    echo_threads_count: int = 256  # connections of the threaded engine; each has a thread while it is open


@dataclasses.dataclass(frozen=True, slots=True)
class ChatLimits:
    """What rooms, their history and their members may cost."""

    chat_body_bytes: int = 48 * KIB  # encoded, so that every answer that bears one fits a frame
    chat_json_depth_count: int = 32  # of a body; readers recurse
    chat_rooms_count: int = 10_000
    chat_rooms_per_principal_count: int = 100  # joined at a time, and durable ones begun
    chat_outbox_bytes: int = 4 * MIB  # waiting for one member: beyond, it is too slow and has to go
    chat_history_count: int = 10_000  # messages kept in a room ...
    chat_history_bytes: int = 16 * MIB  # ... and their bodies together
    chat_unacknowledged_count: int = 256  # said and not yet on disk: beyond, reading pauses
    chat_unacknowledged_bytes: int = 1 * MIB
    chat_page_count: int = 100  # messages or names in one answer
    chat_presence_count: int = 500  # members; a larger room announces no presence: that costs members squared


@dataclasses.dataclass(frozen=True, slots=True)
class FilesLimits:
    """What the file server may cost."""

    files_open_count: int = 256  # files kept open for two seconds; with twins up to three descriptors each
    files_ranges_count: int = 16  # ranges in one request; readers of archives and PDFs ask for a handful
    files_listing_count: int = 1_000  # entries on one page of a listing
    files_folder_count: int = 200_000  # entries of a folder that can be listed: they are sorted in memory
    files_threads_count: int = 16  # the pool on which files are opened, and read where they are not in memory
    files_waiting_count: int = 10_000  # requests that wait for a thread before new ones get 503


@dataclasses.dataclass(frozen=True, slots=True)
class AdminLimits:
    """What the status page may cost."""

    admin_sessions_count: int = 256  # logged in to the status page by a token
    admin_sessions_per_principal_count: int = 16  # so that nobody's log-ins end everybody else's


@dataclasses.dataclass(frozen=True, slots=True)
class TokenLimits:
    """What an access token may be (RFC 9068, RFC 8725)."""

    token_bytes: int = 8 * KIB
    token_lifetime_seconds: float = 24 * 3600.0
    token_skew_seconds: float = 30.0  # for `nbf` and `iat`; `exp` has none
    token_cache_count: int = 10_000  # verified tokens remembered


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """All limits of a daemon."""

    connection: ConnectionLimits = ConnectionLimits()
    http: HTTPLimits = HTTPLimits()
    rpc: RPCLimits = RPCLimits()
    frame: FrameLimits = FrameLimits()
    echo: EchoLimits = EchoLimits()
    chat: ChatLimits = ChatLimits()
    files: FilesLimits = FilesLimits()
    admin: AdminLimits = AdminLimits()
    token: TokenLimits = TokenLimits()
