"""Values as a line: for SVG on the page, and in block characters on a terminal. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from secure_net.control.history import SAMPLES_COUNT

# The drawing's own units; whoever shows it stretches it. A unit across is a second.
WIDTH, HEIGHT = SAMPLES_COUNT, 100

_WINDOWS = (60, 120, 300, WIDTH)
_STEPS = (1, 2, 5, 10)
_BLOCKS = "▁▂▃▄▅▆▇█"


def ceiling(value: float) -> float:
    """The least of 1, 2, 5, 10, 20, 50 … that is not below `value`: the top of a drawing."""
    if value <= 1:
        return 1.0
    power: float = 10 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if step * power >= value * (1 - 1e-9))


def window(count: int) -> int:
    """How much of the width is shown while there are `count` values: the least that holds them all."""
    return next((width for width in _WINDOWS if width >= count), WIDTH)


def trace(values: Sequence[float], top: float) -> str:
    """The ``d`` of a path over `WIDTH` by `HEIGHT`, the newest value at the right edge.

    Between two corners there is nothing to say: a flat line is two points, however long.
    """
    shown = list(values[-WIDTH:])
    if not shown:
        return ""
    heights = [round(HEIGHT - HEIGHT * value / top, 1) for value in shown]
    first = WIDTH - len(heights) + 1
    points = [
        f"{first + index} {height:g}"
        for index, height in enumerate(heights)
        if not (0 < index < len(heights) - 1 and heights[index - 1] == height == heights[index + 1])
    ]
    return "M" + "L".join(points)


def sparkline(values: Sequence[float], top: float, columns: int) -> str:
    """`columns` block characters, the newest at the right; each the greatest of its share of `values`."""
    share = max(1, -(-len(values) // columns))
    shares = [values[max(0, end - share) : end] for end in range(len(values), 0, -share)][::-1]
    highest = len(_BLOCKS) - 1
    line = "".join(_BLOCKS[min(highest, math.ceil(max(one) / top * highest))] for one in shares)
    return line.rjust(columns)
