"""What the harness takes for a right measurement."""

from __future__ import annotations

import pytest

from benchmarks.harness import CONNECTIONS, right_size
from benchmarks.loads.result import LoadResult


@pytest.mark.parametrize(
    ("operations", "answer_bytes", "right"),
    [
        (10_000, 200.0, True),
        (10_000, 203.0, True),
        (10_000, 320.0, False),  # faults are larger than answers
        (10_000, 0.0, False),  # a gRPC call that failed has no DATA
        (100, 200.0 * (100 + CONNECTIONS) / 100, True),  # nearly whole answers that were under way
        (100, 200.0 * (110 + CONNECTIONS) / 100, False),
    ],
)
def test_answers_must_have_the_size_of_the_right_one(
    operations: int, answer_bytes: float, right: bool
) -> None:
    assert right_size(LoadResult(operations, 1.0, 1.0, 1.0, answer_bytes), 200) is right
