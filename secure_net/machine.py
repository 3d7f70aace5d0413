"""What the shell and every protocol agree on: the sans-IO state machine.

Theory of operation. A machine is fed bytes by `receive_data` and the end by `receive_eof`; the shell
then takes events from `next_event` until it gives None, hands each to the protocol's session, and
sends whatever `data_to_send` returns. A machine never sees a socket, a clock or a thread. It says what
it wants by plain attributes, which the shell reads after every feed:

* `phase`, `allowance`, `allowance_reason`: how long the peer may take for what it is doing now. Each
  call of `_enter` begins a new phase and so restarts the count; changing `allowance` alone moves the
  deadline of the phase under way (a body that must keep a pace). When it passes, the shell calls
  `deadline_passed`.
* `wants_tls`: the plaintext queued by now is the last; TLS begins behind it.
* `finished`: nothing more is wanted from the peer; close once everything is sent.
* `buffered`: bytes received and kept, not yet given out in an event. The shell holds it against the
  daemon's budget, and refuses an upgrade behind which it is not zero.

`next_event` raises `RemoteProtocolError` when the peer broke the protocol. The shell counts its reason,
calls `farewell` for the protocol's last words, sends them and closes.
"""

from __future__ import annotations

from typing import Any

from secure_net.errors import Refusal, RemoteProtocolError


class Machine:
    """The base of every protocol's machine. Subclasses add `__slots__` of their own."""

    __slots__ = ("allowance", "allowance_reason", "buffered", "finished", "outgoing", "phase", "wants_tls")

    def __init__(self) -> None:
        self.phase = 0
        self.allowance: float | None = None
        self.allowance_reason = Refusal.IDLE
        self.wants_tls = False
        self.finished = False
        self.buffered = 0
        self.outgoing: list[bytes] = []

    def _enter(self, allowance: float | None, reason: Refusal) -> None:
        """Begin a phase that may take `allowance` seconds (None: as long as the shell lets peers idle)."""
        self.phase += 1
        self.allowance = allowance
        self.allowance_reason = reason

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer, in order. Parses nothing that `next_event` was not asked for."""
        raise NotImplementedError

    def receive_eof(self, *, clean: bool) -> None:
        """The peer sends no more. `clean` is False where the end came without close_notify."""
        raise NotImplementedError

    def next_event(self) -> Any:
        """The next event, or None when more bytes (or an answer to the last event) are needed."""
        raise NotImplementedError

    def deadline_passed(self) -> None:
        """The phase took longer than its allowance: raises the error that says so."""
        raise RemoteProtocolError(self.allowance_reason)

    def farewell(self, error: RemoteProtocolError) -> bytes:
        """The protocol's last words for this error; empty where it has none."""
        return b""

    def drain(self) -> None:
        """The daemon is stopping: finish the exchange under way, then set `finished`."""
        self.finished = True

    def data_to_send(self) -> bytes:
        """Everything queued for the peer, and forget it."""
        outgoing = self.outgoing
        if not outgoing:
            return b""
        data = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
        outgoing.clear()
        return data
