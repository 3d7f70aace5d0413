"""Tables for people: plain text, columns aligned. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def render(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of text: the first column to the left, all others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(cells, widths) for cells in (columns, rule, *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.rjust(width) if index else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((first, *rest)).rstrip()


def notes(entries: Sequence[tuple[str, str]]) -> str:
    """`name: text` lines under a table, the texts aligned."""
    width = max((len(name) for name, _ in entries), default=0)
    return "\n".join(f"  {name.ljust(width)}  {text}" for name, text in entries)
