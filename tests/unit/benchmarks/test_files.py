"""What the benchmark of files says of its rounds, and when its goals are met."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks import files_listing, files_many
from benchmarks.files import LARGE_GOALS, Content, large_row
from benchmarks.files_listing import Walk
from benchmarks.files_many import COUNT, Crowd
from benchmarks.harness import Sample
from benchmarks.loads.listing import Page
from benchmarks.ours import NAME

CROWD = Crowd(
    before=50_000,
    waiting=90_000,
    half=100_000,
    end=101_000,
    peak=50_000 + COUNT * 400,
    after=60_000,
    left_open=0,
    cpu_us=500.0,
    least=0.9,
    most=1.1,
    busy=0.5,
)


def large(cpu_us: float) -> Sample:
    return Sample(cpu_us, 1000.0, 1.0, 1.0, 20 * 1024, 512, 0.7)


def walk(entries: int, cpu_seconds: float, on_a_page: int = 1000) -> Walk:
    pages = tuple(Page(0.01, 100_000, on_a_page) for _ in range(entries // on_a_page))
    return Walk(entries, pages, cpu_seconds, 1024)


def test_a_large_file_is_told_in_bytes_per_cpu_second_and_its_ratio_is_of_the_cost() -> None:
    row = large_row("nginx", {NAME: [large(1000.0)], "nginx": [large(2000.0)]})
    assert row == ["nginx", "500", "2,000", "0.50", "1.05", "20", "70%"]


def test_nine_tenths_of_the_bytes_are_a_ninth_more_of_the_cost() -> None:
    (goal,) = LARGE_GOALS
    assert goal.share == pytest.approx(1 / 0.9, abs=0.001)


def test_memory_is_flat() -> None:
    assert [word for word, _ in files_many.judge([CROWD])] == ["met", "met"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peak": 50_000 + COUNT * 513}, ["MISSED", "met"]),
        ({"end": 106_000}, ["met", "MISSED"]),
    ],
)
def test_memory_that_is_not_flat(change: dict[str, int], words: list[str]) -> None:
    worse = dataclasses.replace(CROWD, **change)
    assert [word for word, _ in files_many.judge([worse, worse])] == words


def test_a_crowd_is_a_line_of_the_table() -> None:
    title, _, ours, nginx = files_many.render({NAME: [CROWD], "nginx": [CROWD]}).splitlines()
    assert title.split()[0] == "RSS"
    assert " 400 " in ours
    assert "1.00" in nginx


@pytest.mark.parametrize(
    ("walks", "words"),
    [
        ([walk(10_000, 0.1), walk(100_000, 1.0)], ["met", "met"]),
        ([walk(10_000, 0.1), walk(100_000, 10.0)], ["met", "MISSED"]),
        ([walk(10_000, 0.1, 10_000), walk(100_000, 1.0)], ["MISSED", "met"]),
    ],
)
def test_a_listing_has_pages_and_a_straight_line(walks: list[Walk], words: list[str]) -> None:
    assert [word for word, _ in files_listing.judge([walks])] == words


def test_a_folder_without_pages_has_no_next_one() -> None:
    table = files_listing.render({"nginx": [[walk(1000, 0.01)]]}, [1000])
    assert table.splitlines()[-1].split()[:3] == ["nginx", "1,000", "1"]
    assert "-" in table.splitlines()[-1].split()


def test_nothing_is_judged_that_was_not_measured() -> None:
    assert files_many.judge([]) == files_listing.judge([]) == []


def test_what_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.files.LARGE_BYTES", 2 * 1024 * 1024)
    content = Content.made(tmp_path, (3,))
    assert (tmp_path / "small").read_bytes() == content.small
    assert (tmp_path / "large").stat().st_size == 2 * 1024 * 1024
    assert len(list((tmp_path / "folder-3").iterdir())) == 3
