"""The status on a terminal, live: what the status page shows, in the same words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from secure_net.control.drawing import ceiling, sparkline, window
from secure_net.control.status import Status
from secure_net.control.view import view_of

if TYPE_CHECKING:
    from secure_net.control import view

_STYLES = {"": "", "good": "green", "warn": "yellow", "bad": "bold red"}
_LINE_COLUMNS = 60  # of a drawing, where the terminal is wide enough
_ASIDE_COLUMNS = 60  # what stands beside a drawing
_SIDE_BY_SIDE = ("refusals", "principals", "certificates")
_AUDIT_COUNT = 10  # lines: a terminal is not high


def watch(ask: Callable[[], dict[str, Any]], console: Console, seconds: float) -> None:
    """Show what `ask` answers (as the act `status` does) every so many seconds, until interrupted."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            found = msgspec.convert(ask(), Status)
            live.update(shown(found, console.width), refresh=True)
            time.sleep(seconds)


def shown(status: Status, columns: int) -> RenderableType:
    """All of it, for a terminal with so many columns. Every text is escaped by the view."""
    said = view_of(status)
    tables = {table.name: table for table in said.tables}
    head = Text.assemble(
        (said.title, "bold"), "  ", _cell(said.state), (f"  {said.at} UTC, Ctrl-C ends", "dim")
    )
    facts = Text("   ").join(Text.assemble((f"{name} ", "dim"), _cell(cell)) for name, cell in said.facts)
    beside = [_table(tables[name]) for name in _SIDE_BY_SIDE]
    audit = msgspec.structs.replace(tables["audit"], rows=tables["audit"].rows[:_AUDIT_COUNT])
    return Group(
        head,
        Padding(facts, (1, 0)),
        _charts(said, status, columns),
        _table(tables["services"]),
        Columns(beside, padding=(0, 4)),
        _table(audit),
    )


def _charts(said: view.View, status: Status, columns: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column()
    grid.add_column(justify="right")
    grid.add_column()
    width = max(10, min(_LINE_COLUMNS, columns - _ASIDE_COLUMNS))
    series = status.activity.series if status.activity else {}
    for chart in said.charts:
        values = series[chart.name]
        shares = [0.0] * (window(len(values)) - len(values)) + list(values)
        grid.add_row(
            Text.assemble((chart.title, "bold"), (f" {chart.unit}", "dim")),
            Text(sparkline(shares, ceiling(max(values, default=0.0)), width), "cyan"),
            Text(chart.now, "bold"),
            Text(f"mean {chart.mean}, peak {chart.peak} in {chart.span}", "dim"),
        )
    return grid


def _table(table: view.Table) -> RenderableType:
    if not table.rows:
        return Padding(Text.assemble((table.title, "bold"), f"\n{table.empty}"), (1, 0, 0, 0))
    made = Table(
        title=Text(table.title, "bold"), title_justify="left", box=None, pad_edge=False, padding=(0, 3, 0, 0)
    )
    for column, title in enumerate(table.columns):
        made.add_column(
            Text(title, "dim"), justify="right" if column in table.numbers else "left", overflow="fold"
        )
    for row in table.rows:
        made.add_row(*map(_cell, row))
    return Padding(made, (1, 0, 0, 0))


def _cell(cell: view.Cell) -> Text:
    return Text(cell.text, _STYLES[cell.tone])
