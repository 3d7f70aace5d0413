"""Waiting for another process: until something is so, and never longer than a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_SECONDS = 0.01


def until(condition: Callable[[], T], seconds: float = 10.0) -> T:
    """Ask `condition` until what it gives is true, and return that. Raises `TimeoutError` after `seconds`.

    For what no line, socket or exit code announces: a counter of another process, its log, its memory.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {seconds:g} s; last {value!r}")
        time.sleep(PAUSE_SECONDS)
    return value
