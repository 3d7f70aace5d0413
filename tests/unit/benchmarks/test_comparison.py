"""What the table of a comparison says, and when a goal is met."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import comparison
from benchmarks.comparison import Comparison, Goal, judge
from benchmarks.harness import Sample, Samples
from benchmarks.ours import NAME
from benchmarks.subjects import Kind, Subject


def subject(name: str, kind: Kind = "broker") -> Subject:
    return Subject(name, kind, "set up", lambda _site: [])


def sample(cpu_us: float, per_second: float = 1000.0, busy: float | None = 0.5) -> Sample:
    return Sample(cpu_us, per_second, 100.0, 200.0, 2048, 1000, busy)


SUBJECTS = [subject(NAME, "ours"), subject("fast"), subject("slow")]
SAMPLES: Samples = {
    NAME: [sample(1.0, 500.0), sample(3.0, 500.0)],
    "fast": [sample(2.0), sample(2.0)],
    "slow": [sample(9.0), sample(1.0)],
}


def test_a_goal_is_against_the_best_peer_of_each_round() -> None:
    ((word, text, ratio),) = judge(SAMPLES, SUBJECTS, [Goal("ahead", "broker", 1.0)])
    assert word == "MISSED"  # 1/2 and 3/1
    assert ratio == {"median": 1.75, "low": 0.5, "high": 3.0}
    assert text == "ahead: 1.75 (0.50-3.00), goal 1"


def test_a_goal_may_name_its_peers() -> None:
    ((word, _, ratio),) = judge(SAMPLES, SUBJECTS, [Goal("ahead", "broker", 1.0, names=("fast",))])
    assert (word, ratio["median"]) == ("met", 1.0)


def test_a_goal_by_rate_takes_time_for_cost() -> None:
    ((word, _, ratio),) = judge(SAMPLES, SUBJECTS, [Goal("ahead", "broker", 1.0, by="rate")])
    assert (word, ratio["median"]) == ("MISSED", 2.0)


@pytest.mark.parametrize("goal", [Goal("x", "python", 1.0), Goal("x", "broker", 1.0, ours="other")])
def test_a_goal_without_its_subjects_is_not_judged(goal: Goal) -> None:
    assert judge(SAMPLES, SUBJECTS, [goal]) == []


def test_a_load_without_reserve_is_named() -> None:
    busy = dataclasses.replace(SAMPLES["slow"][0], load_busy=1.0)
    text = Comparison("title", "delivery", SUBJECTS, {**SAMPLES, "slow": [busy, busy]}, []).text()
    assert "rate is its own: slow." in text
    assert "deliveries/s" in text


def test_the_load_has_no_column_where_it_is_not_ours() -> None:
    assert "load busy" not in comparison.columns("call", [sample(1.0, busy=None)])
    assert len(comparison.columns("call", [sample(1.0)])) == len(comparison.row("fast", SAMPLES))
