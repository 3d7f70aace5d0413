"""The machine on the stream: events in order, handlers that wait, back-pressure, principals, deadlines."""

from __future__ import annotations

from tests.support.loops import in_loop
from tests.support.pki import PKI
from tests.support.rig import Rig


@in_loop
async def test_an_event_is_answered_at_once(pki: PKI) -> None:
    bench = Rig(pki).open()
    assert bench.ask(b"echo one", b"echo two") == b"one\ntwo\n"
