"""The status page as HTML: whole without script, kept fresh with it. Pure.

Every text goes through `_text`, and nothing else makes HTML of a text. What the script refreshes it finds by
``data-…``, under the names that `View` has; it is not told anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from secure_net.control.drawing import HEIGHT, WIDTH
from secure_net.control.view import NONE, Cell, Chart, Table, View

LOG_IN, LOG_OUT = "/status/login", "/status/logout"
REFRESH_SECONDS = 10  # for who has no script
WIDE_COUNT = 3  # columns; a table with more shows its rows as cards on a narrow screen

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="/status.svg" type="image/svg+xml">
<link rel="stylesheet" href="/status.css">
{more}</head>
"""

_LIVE = f"""<script src="/status.js" defer></script>
<noscript><meta http-equiv="refresh" content="{REFRESH_SECONDS}"></noscript>
"""

_LOG_OUT = f"""<form method="post" action="{LOG_OUT}">
<button class="button" type="submit">Log out</button></form>"""

_LOG_IN = """<body class="welcome">
<main class="card">
<h1>Status</h1>
<p class="quiet">This page shows how the daemon is. It needs the scope <code>admin:read:status</code>.</p>
{problem}<form method="post" action="{action}">
<label for="token">Access token</label>
<textarea id="token" name="token" class="secret" rows="4" required autofocus spellcheck="false"
 autocapitalize="off" autocomplete="off" aria-describedby="hint{described}"></textarea>
<button class="button primary" type="submit">Log in</button>
</form>
<p id="hint" class="quiet">Whoever runs this server makes one by
<code>secure-net token issue NAME --scope admin:read:status</code>.
A browser that shows a client certificate with that scope needs none.</p>
</main>
</body>
</html>
"""


def status_page(view: View, viewer: str, *, by_cookie: bool) -> str:
    """The page for `viewer`; who came `by_cookie` may log out."""
    charts = "".join(map(_chart, view.charts))
    tables = "".join(map(_table, view.tables))
    return (
        _HEAD.format(title=f"Status of {_text(view.title)}", more=_LIVE)
        + f"""<body>
<a class="skip" href="#services">Skip to the services</a>
<header class="bar">
<h1>{_text(view.title)}</h1>
<p class="state {view.state.tone}" role="status" data-state>{_text(view.state.text)}</p>
<p class="fresh"><span id="fresh" role="status">As of</span> <span data-at>{_text(view.at)}</span>
<button id="pause" class="button" type="button" aria-pressed="false" hidden>Pause</button></p>
<div class="me"><span class="hidden">You are </span><strong>{_text(viewer)}</strong>
{_LOG_OUT if by_cookie else ""}</div>
</header>
<main>
<h2 class="hidden">At a glance</h2>
<dl class="facts" data-facts>{"".join(_facts(view.facts))}</dl>
<h2 class="hidden">The last minutes</h2>
<div class="charts">{charts}</div>
{tables}</main>
<footer class="quiet">It only shows: acts belong to the command line. Times are UTC. The same as JSON:
<a href="/status.json">status.json</a></footer>
</body>
</html>
"""
    )


def login_page(problem: str = "") -> str:
    """For who is not known, or may not; `problem` says what was wrong with the last try."""
    said = f'<p id="problem" class="problem" role="alert">{_text(problem)}</p>\n' if problem else ""
    return _HEAD.format(title="Status", more="") + _LOG_IN.format(
        problem=said, action=LOG_IN, described=" problem" if problem else ""
    )


def _facts(facts: Iterable[tuple[str, Cell]]) -> Iterator[str]:
    for name, cell in facts:
        yield f'<div><dt>{_text(name)}</dt><dd class="{cell.tone}">{_text(cell.text)}</dd></div>'


def _chart(chart: Chart) -> str:
    return f"""<figure class="chart" data-chart="{_text(chart.name)}">
<figcaption><span class="title">{_text(chart.title)} <span class="quiet">{_text(chart.unit)}</span></span>
<strong data-now>{_text(chart.now)}</strong></figcaption>
<div class="plot">
<svg viewBox="{chart.box}" preserveAspectRatio="none" role="img" aria-label="{_text(chart.label)}">
<path class="grid" d="M0 {HEIGHT // 2}H{WIDTH}"/><path class="area" d="{_area(chart.line)}"/>\
<path class="line" d="{chart.line}"/></svg>
<span class="top quiet" aria-hidden="true" data-top>{_text(chart.top)}</span></div>
<p class="quiet scale"><span><span data-span>{_text(chart.span)}</span> ago</span>
<span>mean <span data-mean>{_text(chart.mean)}</span>, peak <span data-peak>{_text(chart.peak)}</span></span>
</p>
</figure>
"""


def _area(line: str) -> str:
    """The line, closed along the lower edge; both ends of it are corners."""
    if not line:
        return ""
    left = line[1:].partition(" ")[0]
    return f"{line}V{HEIGHT}H{left}Z"


def _table(table: Table) -> str:
    name = _text(table.name)
    # The roles are said, for a narrow screen shows rows as cards, and then tables have none of their own.
    heads = "".join(
        f'<th role="columnheader" scope="col" class="{_class(table, column)}">{_text(title)}</th>'
        for column, title in enumerate(table.columns)
    )
    body = "".join(_row(table, row) for row in table.rows)
    wide = ' class="wide"' if len(table.columns) > WIDE_COUNT else ""
    text = f"""<table role="table"{wide} aria-labelledby="{name}-title"{" hidden" if not table.rows else ""}>
<thead role="rowgroup"><tr role="row">{heads}</tr></thead>
<tbody role="rowgroup">{body}</tbody></table>
<p class="quiet empty"{" hidden" if table.rows else ""}>{_text(table.empty)}</p>
"""
    if table.folded:
        return f"""<details id="{name}" class="panel" data-table="{name}">
<summary><h2 id="{name}-title">{_text(table.title)}</h2></summary>
{text}</details>
"""
    return f"""<section id="{name}" class="panel" data-table="{name}" aria-labelledby="{name}-title">
<h2 id="{name}-title">{_text(table.title)}</h2>
{text}</section>
"""


def _row(table: Table, row: Iterable[Cell]) -> str:
    cells = "".join(
        f'<td role="cell" data-label="{_text(table.columns[column])}" '
        f'class="{_class(table, column, cell.text)}">'
        f'<span class="{cell.tone}">{_text(cell.text)}</span></td>'
        for column, cell in enumerate(row)
    )
    return f'<tr role="row">{cells}</tr>'


def _class(table: Table, column: int, text: str = "") -> str:
    return ("number" if column in table.numbers else "") + (" none" if text == NONE else "")


def _text(text: str) -> str:
    """As HTML, within an element or a quoted attribute."""
    return escape(text, quote=True)
