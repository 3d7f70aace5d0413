"""Echo's frames as the peers read them: bare, with no bound and no check of the digits."""

from __future__ import annotations

WIDTH = 5
LABEL = b"ECHO: "


def answer(payload: bytes) -> bytes:
    """The framed answer to a message."""
    return b"%05d%b%b" % (len(LABEL) + len(payload), LABEL, payload)
