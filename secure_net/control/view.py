"""The status as people are shown it: words, drawings and tables. Pure.

Made once, and shown three times: as HTML (`status_html`), by the page's script from ``/status.json``, and by
``secure-net status --watch`` on a terminal. Whoever shows it knows nothing of what it says. Every text is
escaped for terminals and against look-alikes here, as names may be strangers' choices; HTML has rules of its
own, and they are kept where the HTML is made.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from secure_net.control.drawing import HEIGHT, WIDTH, ceiling, trace, window
from secure_net.control.status import Activity, CertificateStatus, ServiceStatus, Status
from secure_net.text import escape

Tone = Literal["", "good", "warn", "bad"]

SOON_DAYS = 21.0  # from here on an end draws attention
DAY_SECONDS = 86_400.0
NOW_COUNT = 5  # values whose mean is what happens "now"
MINUTES_COUNT = 10
PRINCIPALS_COUNT = 100  # named; the others are a number
VALUE_CHARACTERS = 300  # of an audit line's details

NONE = "-"  # where there is nothing to say

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))

# Series to title and unit; in this order, those that there are.
_CHARTS: Mapping[str, tuple[str, str]] = {
    "calls": ("Calls", "per second"),
    "messages": ("Messages", "per second"),
    "requests": ("Files", "per second"),
    "connections": ("Connections", "open"),
    "refused": ("Refusals", "per second"),
}


class Cell(msgspec.Struct, frozen=True):
    """One thing that is said. `tone` says no more than the text does."""

    text: str
    tone: Tone = ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """`empty` is said in place of rows; a `folded` one is for who asks. `numbers` are columns of numbers."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = ""
    numbers: tuple[int, ...] = ()
    folded: bool = False


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A drawing: `line` is the ``d`` of an SVG path, `box` the part of it to look at, `top` the value at its
    upper edge, `span` how long ago its left edge was; and all in words."""

    name: str
    title: str
    unit: str
    now: str
    peak: str
    mean: str
    top: str
    span: str
    box: str
    line: str
    label: str


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that is shown. `at` is the time of day of the daemon's clock, in UTC."""

    title: str
    at: str
    state: Cell
    facts: tuple[tuple[str, Cell], ...]
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]


def view_of(status: Status) -> View:
    """What `status` says, in words."""
    now = status.started_at + status.uptime_seconds
    series = status.activity.series if status.activity else {}
    return View(
        title=f"secure-net {escape(status.version, markup=False)}",
        at=_moment(now)[11:],
        state=_state(status),
        facts=tuple(_facts(status)),
        charts=tuple(_charts(series, status.activity)),
        tables=(
            *_minutes(series),
            _services(status),
            _refusals(status.services),
            _principals(status.principals),
            _certificates(status, now),
            _audit(status.audit),
        ),
    )


# --- in a few words ---------------------------------------------------------------------------------------


def _state(status: Status) -> Cell:
    if status.draining:
        return Cell("Draining", "warn")
    problems = ", ".join(f"{name}: {problem}" for name, problem in status.problems.items())
    return _cell(f"Not ready: {problems}", "bad") if problems else Cell("Serving", "good")


def _facts(status: Status) -> Iterator[tuple[str, Cell]]:
    yield "Up", Cell(span(status.uptime_seconds))
    yield "Process", Cell(str(status.process))
    yield "Connections open", Cell(number(sum(service.connections_open for service in status.services)))
    yield "Waiting for peers", Cell(size(status.buffered_bytes))
    chat = status.chat
    if chat is not None:
        yield "Rooms", Cell(f"{number(chat.rooms)} in memory, {_counted(chat.members, 'member')}")
        yield "Messages in rooms", Cell(f"{number(chat.messages)} since the start")
    gone = status.revocations
    revoked = (
        _counted(gone.certificates, "certificate"),
        _counted(gone.tokens, "token"),
        _counted(gone.names_blocked, "name"),
    )
    yield "Revoked", Cell(", ".join(revoked))
    records = status.records
    if records.audit_dropped or records.log_dropped:
        dropped = f"{records.audit_dropped} audit records, {records.log_dropped} log lines"
        yield "Dropped", Cell(dropped, "bad")


# --- the last minutes -------------------------------------------------------------------------------------


def _charts(series: Mapping[str, Sequence[float]], activity: Activity | None) -> Iterator[Chart]:
    for name, (title, unit) in _CHARTS.items():
        values = series.get(name)
        if values is None or activity is None:
            continue
        top = ceiling(max(values, default=0.0))
        now = _mean(values[-NOW_COUNT:]) if unit != "open" else (values or (0.0,))[-1]
        peak, mean = max(values, default=0.0), _mean(values)
        shown = window(len(values))
        span_text = span(shown * activity.seconds)
        yield Chart(
            name=name,
            title=title,
            unit=unit,
            now=number(now),
            peak=number(peak),
            mean=number(mean),
            top=number(top),
            span=span_text,
            box=f"{WIDTH - shown} 0 {shown} {HEIGHT}",
            line=trace(values, top),
            label=f"{title} {unit}, the last {span_text}: now {number(now)}, mean {number(mean)}, "
            f"peak {number(peak)}",
        )


def _minutes(series: Mapping[str, Sequence[float]]) -> Iterator[Table]:
    """The same by the minute, for who reads rather than looks."""
    shown = {name: series[name] for name in _CHARTS if name in series}
    if not shown:
        return
    count = min(MINUTES_COUNT, -(-min(map(len, shown.values())) // 60))
    rows = []
    for minute in range(count):
        end = -60 * minute or None
        means = [Cell(number(_mean(values[-60 * (minute + 1) : end]))) for values in shown.values()]
        rows.append((Cell(f"{minute} to {minute + 1} min ago"), *means))
    yield Table(
        name="minutes",
        title="The last minutes in figures",
        columns=("When", *(f"{title} {unit}" for title, unit in map(_CHARTS.__getitem__, shown))),
        rows=tuple(rows),
        empty="Nothing yet: the daemon has just begun.",
        numbers=tuple(range(1, len(shown) + 1)),
        folded=True,
    )


# --- tables -----------------------------------------------------------------------------------------------


def _services(status: Status) -> Table:
    return Table(
        name="services",
        title="Services",
        columns=("Service", "Address", "Health", "Open now", "In all", "Refused"),
        rows=tuple(
            (
                _cell(service.name),
                _cell(", ".join(service.addresses) or "not listening"),
                _health(service, draining=status.draining),
                Cell(number(service.connections_open)),
                Cell(number(service.connections_total)),
                Cell(number(service.refused_total)),
            )
            for service in status.services
        ),
        empty="No service is configured.",
        numbers=(3, 4, 5),
    )


def _health(service: ServiceStatus, *, draining: bool) -> Cell:
    if service.error:
        return _cell(f"Last trouble: {service.error}", "warn")
    if not service.addresses:
        return Cell("Closed", "warn" if draining else "bad")
    return Cell("Draining", "warn") if draining else Cell("Serving", "good")


def _refusals(services: Iterable[ServiceStatus]) -> Table:
    counted = [
        (count, service.name, reason) for service in services for reason, count in service.refused.items()
    ]
    return Table(
        name="refusals",
        title="Refused, by reason",
        columns=("Service", "Reason", "How often"),
        rows=tuple(
            (_cell(name), _cell(reason.replace("_", " ")), Cell(number(count)))
            for count, name, reason in sorted(counted, key=lambda one: (-one[0], one[1:]))
        ),
        empty="Nobody was refused since the start.",
        numbers=(2,),
    )


def _principals(principals: Mapping[str, int]) -> Table:
    most = sorted(principals.items(), key=lambda one: (-one[1], one[0]))
    rows = [(_cell(name), Cell(number(count))) for name, count in most[:PRINCIPALS_COUNT]]
    others = most[PRINCIPALS_COUNT:]
    if others:
        total = sum(count for _, count in others)
        rows.append((Cell(f"and {len(others)} others"), Cell(number(total))))
    return Table(
        name="principals",
        title="Who is connected",
        columns=("Who", "Connections"),
        rows=tuple(rows),
        empty="Nobody is logged in.",
        numbers=(1,),
    )


def _certificates(status: Status, now: float) -> Table:
    rows = [_certificate(certificate) for certificate in status.certificates]
    crl = status.revocations.crl_expires_at
    if crl:
        left = (crl - now) / DAY_SECONDS
        rows.append((Cell("crl.pem"), Cell("revocation list"), Cell(_moment(crl)[:10]), _days(left)))
    else:
        rows.append((Cell("crl.pem"), Cell("none imported"), Cell(NONE), Cell(NONE)))
    return Table(
        name="certificates",
        title="Certificates",
        columns=("File", "For", "Ends", "Days left"),
        rows=tuple(rows),
        numbers=(3,),
    )


def _certificate(found: CertificateStatus) -> tuple[Cell, ...]:
    ends = Cell(_moment(found.not_after)[:10])
    return (_cell(found.file), _cell(", ".join(found.names) or NONE), ends, _days(found.days_left))


def _days(left: float) -> Cell:
    if left < 0:
        return Cell(f"ended {-left:.0f} days ago", "bad")
    return Cell(f"{left:.0f}", "warn" if left < SOON_DAYS else "")


_OUTCOMES: Mapping[str, Tone] = {"refused": "warn", "failed": "bad", "error": "bad"}


def _audit(lines: Iterable[Mapping[str, Any]]) -> Table:
    return Table(
        name="audit",
        title="Last audit lines",
        columns=("Time", "What", "Who", "Service", "From", "Outcome", "Details"),
        rows=tuple(
            (
                _cell(_shortened(line.get("time", ""))),
                *(_cell(line.get(key) or NONE) for key in ("what", "who", "service", "where")),
                _cell(line.get("outcome") or NONE, _OUTCOMES.get(str(line.get("outcome")), "")),
                _cell(_details(line.get("details")) or NONE),
            )
            for line in lines
        ),
        empty="The trail is empty.",
    )


def _shortened(time: Any) -> str:
    """2026-01-02T03:04:05.678901Z as 2026-01-02 03:04:05."""
    return str(time)[:19].replace("T", " ")


def _details(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    text = ", ".join(f"{key} {_plain(value)}" for key, value in found.items())
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} ({_plain(count)})" for key, count in value.items())
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    return value if isinstance(value, str) else json.dumps(value)


# --- words ------------------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """A duration in its largest whole unit: 3 d, 2 h, 10 min, 5 s."""
    for unit_seconds, unit in _UNITS:
        if seconds >= unit_seconds:
            return f"{int(seconds // unit_seconds)} {unit}"
    return f"{int(seconds)} s"


def size(count: int) -> str:
    """Bytes, in the largest unit of which there is one."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count} bytes"


def number(value: float) -> str:
    """With thousands apart; one decimal below ten where it says something."""
    if value >= 10 or value == int(value):
        return f"{round(value):,}"
    return f"{value:.1f}" if value >= 0.05 else f"{value:.2f}"


def _counted(count: int, noun: str) -> str:
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _moment(seconds: float) -> str:
    """2026-01-02 03:04:05, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _cell(text: Any, tone: Tone = "") -> Cell:
    return Cell(escape(str(text), markup=False), tone)
