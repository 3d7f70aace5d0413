"""Every error that secure_net raises, in one tree.

::

    SecureNetError
    ├── ConfigurationError        what is configured cannot work; names the key's path and the cure
    ├── ExistsError               what would be written is there already, and is not overwritten
    ├── AuthorityError            the CA may not, or cannot, sign or take back what was asked of it
    ├── LocalProtocolError        we, or the program that called us, would break the protocol
    ├── RemoteProtocolError       the peer broke the protocol; carries a `Refusal`
    ├── RefusedError              well-formed, and still refused; carries a `Refusal`
    │   ├── AuthenticationError   who it is was not shown, or not believed
    │   └── NotPermittedError     who it is is known; no scope allows the act
    ├── TransportError            the connection could not be made, or was lost
    │   ├── VerificationError     the peer's certificate does not verify
    │   ├── DeadlineExceededError our own deadline passed while we waited
    │   ├── UnavailableError      the server is draining or overloaded, and ran nothing
    │   └── OutcomeUnknownError   the connection was lost after a call was sent: it may have run
    ├── StateError                the store, the trail or the spool cannot do what was asked
    │   ├── StateLockedError      another process holds the state
    │   ├── StateDamagedError     what rests on disk fails its integrity check
    │   └── StateFullError        the disk is full, or gives an I/O error
    ├── FaultError                an RPC was answered with a fault (see `secure_net.rpc.client`)
    └── ChatError                 what was asked of a room cannot be done; carries the server's code
        └── HistoryGapError       messages of a room that came after ours are kept no longer

Whose fault it is decides what follows: a `RemoteProtocolError` or `RefusedError` is turned into a
refusal by the shell and by nothing else, and the command line alone turns errors into exit codes.
Text of an error never travels to a peer: only the `Refusal` does, as constant text.
"""

from __future__ import annotations

import enum


class Refusal(enum.StrEnum):
    """The closed set of reasons for which a peer is refused. The value is the metric's label."""

    # Before and during the TLS handshake.
    PLAINTEXT = "plaintext"  # the first byte was not a TLS record
    CLIENT_HELLO = "client_hello"  # not a ClientHello, or larger than 16 KiB
    HANDSHAKE = "handshake"  # OpenSSL refused: version, cipher, key share
    HANDSHAKE_DEADLINE = "handshake_deadline"
    SERVER_NAME = "server_name"  # SNI names somebody else
    ALPN = "alpn"  # only protocols that this service does not speak
    CERTIFICATE_REQUIRED = "certificate_required"
    CERTIFICATE_INVALID = "certificate_invalid"  # the chain does not verify: other CA, expired, wrong use
    CERTIFICATE_PROFILE = "certificate_profile"  # valid chain, but not one of our client certificates
    CERTIFICATE_REVOKED = "certificate_revoked"
    RECORD = "record"  # a TLS record that does not decrypt
    UPGRADE = "upgrade"  # plaintext stood behind the upgrade command
    # Bounds of the shell.
    CONNECTIONS = "connections"
    CONNECTIONS_PER_SOURCE = "connections_per_source"
    CONNECTIONS_PER_PRINCIPAL = "connections_per_principal"
    HANDSHAKES = "handshakes"  # too many under way
    DESCRIPTORS = "descriptors"  # out of file descriptors
    MEMORY = "memory"  # the daemon's budget of buffered bytes is spent
    OUTBOX = "outbox"  # the peer reads too slowly: its outbox is full
    # Deadlines.
    AUTHENTICATION_DEADLINE = "authentication_deadline"
    IDLE = "idle"
    WRITE_STALLED = "write_stalled"
    READ_DEADLINE = "read_deadline"  # a head, body or frame that does not become whole in time
    # What the peer sent.
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"  # the end came without close_notify where that decides
    UNSUPPORTED = "unsupported"  # sound, but a thing we do not speak
    # Who the peer is.
    CREDENTIAL = "credential"  # absent, wrong, expired or bound to another certificate
    REVOKED = "revoked"
    EXPIRED = "expired"  # the session's token or certificate ended
    NOT_PERMITTED = "not_permitted"
    PENALTY = "penalty"  # too many wrong logins
    # Us.
    OVERLOAD = "overload"  # too many calls wait for a thread
    DRAINING = "draining"
    INTERNAL = "internal"  # a fault of ours; the log has its reference


class SecureNetError(Exception):
    """The root of every error raised by this package."""


class ConfigurationError(SecureNetError):
    """What is configured cannot work.

    `path` is where: a key's path such as ``rpc.listen``, or a file. `problem` says what is wrong
    there, `cure` what to do, each without a full stop.
    """

    def __init__(self, path: str, problem: str, cure: str = "") -> None:
        self.path, self.problem, self.cure = path, problem, cure
        super().__init__(f"{path}: {problem}" + (f"; {cure}" if cure else ""))


class ExistsError(SecureNetError):
    """What would be written is there already, and is not overwritten. `cure` without a full stop."""

    def __init__(self, path: str, cure: str = "") -> None:
        self.path, self.cure = path, cure
        super().__init__(f"{path}: exists already, and is not overwritten" + (f"; {cure}" if cure else ""))


class AuthorityError(SecureNetError):
    """The CA may not, or cannot, sign or take back what was asked of it: `what`, why, and the cure."""

    def __init__(self, what: str, problem: str, cure: str) -> None:
        self.what, self.problem, self.cure = what, problem, cure
        super().__init__(f"{what}: {problem}; {cure}")


class LocalProtocolError(SecureNetError):
    """Doing this would break the protocol; nothing was sent."""


class RemoteProtocolError(SecureNetError):
    """The peer broke the protocol. `reason` is counted; `detail` goes to the log, never to the peer.

    `status` is the protocol's own code for it where the protocol has one (an HTTP status, an SMTP or
    FTP reply code), else 0.
    """

    def __init__(self, reason: Refusal, detail: str = "", status: int = 0) -> None:
        self.reason, self.detail, self.status = reason, detail, status
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class RefusedError(SecureNetError):
    """Well formed and still refused. `reason` is counted; `detail` goes to the log, never to the peer."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class AuthenticationError(RefusedError):
    """Who the peer is was not shown, or is not believed. Every cause looks the same to the peer."""

    def __init__(self, detail: str = "", reason: Refusal = Refusal.CREDENTIAL) -> None:
        super().__init__(reason, detail)


class NotPermittedError(RefusedError):
    """The principal is known, and no scope of its own allows the act."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Refusal.NOT_PERMITTED, detail)


class TransportError(SecureNetError):
    """A connection could not be made, or was lost before anything was asked of the peer."""


class VerificationError(TransportError):
    """The peer's certificate does not verify: wrong CA, wrong name, expired, or of the wrong kind."""


class DeadlineExceededError(TransportError):
    """Our own deadline passed while we waited for the peer."""


class UnavailableError(TransportError):
    """The server is draining, overloaded, or has enough of us: nothing ran, and later it may.

    `retry_after` is how many seconds the server asks us to wait, None where it does not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class OutcomeUnknownError(TransportError):
    """The connection was lost, or the deadline passed, after a call was sent: it may have run."""


class StateError(SecureNetError):
    """The store, the trail or the spool cannot do what was asked of it."""


class StateLockedError(StateError):
    """Another process holds the state."""


class StateDamagedError(StateError):
    """What rests on disk fails its integrity check, or was written by a newer program."""


class StateFullError(StateError):
    """The disk is full, or gives an I/O error: nothing was kept."""


class FaultError(SecureNetError):
    """A remote procedure call was answered with a fault: `code` and `message`, as the peer sent them."""

    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(f"{code}: {message}")


class ChatError(SecureNetError):
    """A chat server answered with an error that no other class says better: its `code` and `reason`."""

    def __init__(self, code: str, reason: str = "") -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}" if reason else code)


class HistoryGapError(ChatError):
    """What followed message `after` of `room` is not kept any more, or the room began anew.

    `first` is the sequence number from which on messages can still be had, `seq` the newest. Both are below
    `after` where the room began anew.
    """

    def __init__(self, room: str, after: int, first: int, seq: int) -> None:
        self.room, self.after, self.first, self.seq = room, after, first, seq
        super().__init__(
            "history_gap", f"{room}: message {after} cannot be gone on from; kept: {first} to {seq}"
        )
