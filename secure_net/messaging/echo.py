"""Echo: every message comes back behind ``ECHO: ``, in order. The chapter's protocol, as a pure machine."""

from __future__ import annotations

from collections.abc import Sequence

from secure_net.limits import FrameLimits
from secure_net.messaging.frames import FramedMachine, encode_many, width_for

PREFIX = b"ECHO: "


class EchoMachine(FramedMachine):
    """Events are lists of messages; `answer` echoes one of them.

    A message whose answer would not fit a frame is refused by its header.
    """

    __slots__ = ("_width",)

    def __init__(self, limits: FrameLimits) -> None:
        super().__init__(limits, limits.frame_bytes - len(PREFIX))
        self._width = width_for(limits.frame_bytes)

    def answer(self, messages: Sequence[bytes]) -> None:
        self.outgoing.append(encode_many(messages, PREFIX, self._width))
