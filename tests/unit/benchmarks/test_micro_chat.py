"""What takes a message apart has its messages delivered. Its figures are for a quiet machine."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import micro_chat
from secure_net.messaging import server


def test_it_measures_messages_that_are_delivered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(micro_chat, "ROUNDS", 2)
    monkeypatch.setattr(micro_chat, "MEMBERS", (1, 3))
    monkeypatch.setattr(server, "_soon", server._soon)  # which it takes the place of
    asyncio.run(micro_chat.main())
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5
    assert all("µs" in line for line in printed)
