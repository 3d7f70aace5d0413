"""What the benchmarks read from /proc."""

from __future__ import annotations

import os

import pytest

from benchmarks import processes

# proc(5): pid (comm) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt
# utime stime cutime cstime ...
STAT = "4242 (ngi) nx (x) S 17 4242 4242 0 -1 4194304 99 0 1 0 70 20 6 4 20 0 1 0 119074 3133440 390"


def test_cpu_time_is_that_of_the_process_and_of_the_children_it_waited_for() -> None:
    assert processes.cpu_ticks(STAT) == 100


def test_a_name_may_hold_brackets_and_spaces() -> None:
    assert processes.parent_of(STAT) == 17


@pytest.mark.parametrize(
    ("status", "kib"), [("Name:\tx\nVmRSS:\t   18044 kB\nThreads:\t1\n", 18044), ("Name:\tx\nState:\tZ\n", 0)]
)
def test_resident_memory(status: str, kib: int) -> None:
    assert processes.resident_kib(status) == kib


def test_descendants_are_all_below() -> None:
    parents = {2: 1, 3: 2, 4: 2, 5: 4, 6: 1, 7: 6}
    assert sorted(processes.descendants(2, parents)) == [2, 3, 4, 5]


def test_this_process_is_in_its_own_tree() -> None:
    assert os.getpid() in processes.tree(os.getpid())


def test_what_starts_pinned_has_one_core_and_we_get_ours_back() -> None:
    before = os.sched_getaffinity(0)
    core, _ = processes.cores()
    with processes.pinned(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before
