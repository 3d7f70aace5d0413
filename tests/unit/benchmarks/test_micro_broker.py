"""Every load publishes and gets its verdicts. Its figures are for a quiet machine, not for this."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import micro_broker


def test_each_load_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(micro_broker, "SECONDS", 0.01)
    monkeypatch.setattr(micro_broker, "LOADS", (micro_broker.Load(3, 2), micro_broker.Load(3, 2, 4)))
    micro_broker.main(tmp_path)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("publishers")
    assert [line.split()[:3] for line in lines] == [["3", "2", "0"], ["3", "2", "4"]]
    assert not list(tmp_path.iterdir())
