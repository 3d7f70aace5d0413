"""The status in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from secure_net.control.status import Activity, ChatStatus, ServiceStatus, Status
from secure_net.control.view import NONE, Cell, Table, View, number, size, span, view_of
from tests.unit.control.test_status import STATUS

NOW = STATUS.started_at + STATUS.uptime_seconds


def status(**changes: Any) -> Status:
    return msgspec.structs.replace(STATUS, **changes)


def table(view: View, name: str) -> Table:
    return next(table for table in view.tables if table.name == name)


def texts(view: View, name: str) -> list[tuple[str, ...]]:
    return [tuple(cell.text for cell in row) for row in table(view, name).rows]


def service(**changes: Any) -> ServiceStatus:
    return msgspec.structs.replace(STATUS.services[0], **changes)


def test_the_state_in_a_word() -> None:
    assert view_of(status()).state == Cell("Serving", "good")
    assert view_of(status(draining=True)).state == Cell("Draining", "warn")
    failing = view_of(status(problems={"state": "store cannot be written"})).state
    assert failing == Cell("Not ready: state: store cannot be written", "bad")


def test_facts() -> None:
    facts = dict(view_of(status()).facts)
    assert facts["Up"].text == "2 s"
    assert facts["Process"].text == "7"
    assert facts["Connections open"].text == "1"
    assert facts["Revoked"].text == "0 certificates, 0 tokens, 1 name"
    assert "Rooms" not in facts
    assert "Dropped" not in facts
    records = msgspec.structs.replace(STATUS.records, log_dropped=3)
    facts = dict(view_of(status(chat=ChatStatus(rooms=2, members=1, messages=1234), records=records)).facts)
    assert facts["Rooms"].text == "2 in memory, 1 member"
    assert facts["Messages in rooms"].text == "1,234 since the start"
    assert facts["Dropped"] == Cell("0 audit records, 3 log lines", "bad")


def test_services_and_their_health() -> None:
    view = view_of(status(services=(service(), service(name="echo", error="[Errno 24] Too many"))))
    assert texts(view, "services") == [
        ("rpc", "127.0.0.1:8443", "Serving", "1", "2", "3"),
        ("echo", "127.0.0.1:8443", "Last trouble: [Errno 24] Too many", "1", "2", "3"),
    ]
    closed = service(addresses=())
    assert table(view_of(status(services=(closed,))), "services").rows[0][2] == Cell("Closed", "bad")
    draining = view_of(status(services=(closed, service()), draining=True))
    assert [row[2] for row in table(draining, "services").rows] == [
        Cell("Closed", "warn"),
        Cell("Draining", "warn"),
    ]


def test_refusals_the_most_frequent_first() -> None:
    refused = service(refused={"idle": 2, "per_source": 7}), service(name="a", refused={"idle": 2})
    assert texts(view_of(status(services=refused)), "refusals") == [
        ("rpc", "per source", "7"),
        ("a", "idle", "2"),
        ("rpc", "idle", "2"),
    ]
    nothing = table(view_of(status()), "refusals")
    assert (nothing.rows, nothing.empty) == ((), "Nobody was refused since the start.")


def test_who_is_connected_is_bounded() -> None:
    many = {f"p{number:03}": 1 for number in range(150)} | {"most": 9}
    rows = texts(view_of(status(principals=many)), "principals")
    assert rows[0] == ("most", "9")
    assert rows[-1] == ("and 51 others", "51")
    assert len(rows) == 101


def test_certificates_and_the_crl() -> None:
    ended = msgspec.structs.replace(STATUS.certificates[0], days_left=-2.0, names=())
    fine = msgspec.structs.replace(STATUS.certificates[0], days_left=90.4)
    view = view_of(status(certificates=(*STATUS.certificates, ended, fine)))
    assert texts(view, "certificates") == [
        ("server.pem", "localhost", "1970-01-01", "0"),
        ("server.pem", NONE, "1970-01-01", "ended 2 days ago"),
        ("server.pem", "localhost", "1970-01-01", "90"),
        ("crl.pem", "none imported", NONE, NONE),
    ]
    assert [row[3].tone for row in table(view, "certificates").rows] == ["warn", "bad", "", ""]
    revocations = msgspec.structs.replace(STATUS.revocations, crl_expires_at=NOW + 86_400 * 7)
    assert texts(view_of(status(revocations=revocations)), "certificates")[-1] == (
        "crl.pem",
        "revocation list",
        "1970-01-08",
        "7",
    )


def test_audit_lines() -> None:
    lines = (
        {
            "time": "2026-01-02T03:04:05.678901Z",
            "what": "refusals",
            "service": "rpc",
            "outcome": "refused",
            "details": {"reasons": {"idle": 2}, "scopes": ["a:b", "c:d"], "count": 3, "name": "x y"},
        },
        {"what": "audit.torn", "details": 7},
        {"details": {"name": "n" * 400}},
    )
    rows = texts(view_of(status(audit=lines)), "audit")
    assert rows[0] == (
        "2026-01-02 03:04:05",
        "refusals",
        NONE,
        "rpc",
        NONE,
        "refused",
        "reasons idle (2), scopes a:b c:d, count 3, name x y",
    )
    assert rows[1] == ("", "audit.torn", NONE, NONE, NONE, NONE, NONE)
    assert len(rows[2][-1]) == 300


def test_charts_are_of_the_series_there_are() -> None:
    series = {"connections": (1.0, 4.0), "calls": (0.0, 30.0), "refused": ()}
    view = view_of(status(activity=Activity(series=series)))
    assert [chart.name for chart in view.charts] == ["calls", "connections", "refused"]
    calls, connections, refused = view.charts
    assert (calls.now, calls.mean, calls.peak, calls.top) == ("15", "15", "30", "50")
    assert (connections.now, connections.mean) == ("4", "2.5")
    assert (refused.line, refused.now, refused.top) == ("", "0", "1")
    assert (calls.span, calls.box) == ("1 min", "540 0 60 100")
    assert calls.label == "Calls per second, the last 1 min: now 15, mean 15, peak 30"
    assert view_of(status()).charts == ()


def test_the_minutes_in_figures() -> None:
    series = {"connections": (*[1.0] * 60, *[3.0] * 60), "calls": (*[0.0] * 61, *[2.0] * 59)}
    view = view_of(status(activity=Activity(series=series)))
    assert table(view, "minutes").columns == ("When", "Calls per second", "Connections open")
    assert texts(view, "minutes") == [("0 to 1 min ago", "2.0", "3"), ("1 to 2 min ago", "0", "1")]
    assert table(view, "minutes").folded
    assert not [table for table in view_of(status()).tables if table.name == "minutes"]


def test_strangers_texts_do_not_act() -> None:
    """Escapes, and characters that turn the text around, are shown; HTML is the renderer's business."""
    view = view_of(status(principals={"a\x1b[31m\u202eb": 1}, services=(service(error="<b>\n"),)))
    assert texts(view, "principals") == [("a\\x1b[31m\\u202eb", "1")]
    assert texts(view, "services")[0][2] == "Last trouble: <b>\\x0a"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.04, "0.04"), (0.05, "0.1"), (1, "1"), (2.55, "2.5"), (12.4, "12"), (4e6, "4,000,000")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (1 << 30, "1.0 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
