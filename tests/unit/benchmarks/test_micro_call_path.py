"""What takes a call apart gets answers to what it asks. Its figures are for a quiet machine, not for this."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import micro_call_path


def test_it_measures_calls_that_are_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(micro_call_path, "CALLS", 3)
    monkeypatch.setattr(micro_call_path, "ROUNDS", 1)
    asyncio.run(micro_call_path.main())
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 7
    assert all(line.endswith(" µs") for line in printed)
