"""Logs: one line each, nothing secret in them, nothing that acts, and never in the way."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net import log
from secure_net.log import REDACTED, VALUE_CHARACTERS, clean, configure, get_logger


class Kept(io.StringIO):
    """A stream that can be read after the log closed it, and may claim to be a terminal."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def stream() -> Iterator[Kept]:
    yield Kept()
    if log._Current.writer is not None:
        log._Current.writer.close()
        log._Current.writer = None


def fail(error: Exception) -> None:
    raise error


def written(stream: Kept, **options: Any) -> log.LogWriter:
    return configure(stream, wall=lambda: 1_800_000_000.25, **options)


def test_one_json_object_a_line_with_the_address_before_any_name(stream: Kept) -> None:
    writer = written(stream)
    get_logger("rpc").bind(connection="c1").info("login_refused", principal="bob", peer="10.0.0.1:5", tries=3)
    writer.close()
    assert stream.getvalue() == (
        '{"time":"2027-01-15T08:00:00.250Z","level":"info","event":"login_refused","service":"rpc",'
        '"connection":"c1","peer":"10.0.0.1:5","principal":"bob","tries":3}\n'
    )


def test_nothing_is_written_before_configure_and_after_close(stream: Kept) -> None:
    logger = get_logger("rpc")
    logger.error("too_early")
    writer = written(stream)
    writer.close()
    logger.error("too_late")
    assert stream.getvalue() == ""
    assert writer.dropped == 1


def test_levels(stream: Kept) -> None:
    writer = written(stream, level="warning")
    logger = get_logger("rpc")
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    writer.close()
    assert [(line["event"], line["level"]) for line in stream.lines()] == [("c", "warning"), ("d", "error")]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_is_always_written(stream: Kept, level: log.Level) -> None:
    writer = written(stream, level=level)
    get_logger("daemon").bind(connection="c1").always("audit_head", head="1:ab")
    writer.close()
    (line,) = stream.lines()
    assert (line["event"], line["level"], line["head"]) == ("audit_head", "info", "1:ab")
    assert (line["service"], line["connection"]) == ("daemon", "c1")


def test_configuring_again_moves_the_log(stream: Kept) -> None:
    written(stream)
    second = Kept()
    writer = written(second)
    get_logger("rpc").info("there")
    writer.close()
    assert stream.getvalue() == ""
    assert [line["event"] for line in second.lines()] == ["there"]


def test_a_traceback_is_lines_of_one_line(stream: Kept) -> None:
    writer = written(stream)
    try:
        fail(ValueError("bearer abc\nforged"))
    except ValueError:
        get_logger("rpc").exception("failed", reference="r1")
    writer.close()
    (line,) = stream.lines()
    assert (line["level"], line["reference"]) == ("error", "r1")
    assert line["exception"][0].startswith("Traceback")
    assert line["exception"][-2:] == ["ValueError: bearer ***", "forged"]


def test_what_others_say_through_logging_joins(stream: Kept) -> None:
    writer = written(stream)
    logging.getLogger("asyncio").info("not this")
    logging.getLogger("asyncio").warning("slow %s", "callback")
    try:
        fail(KeyError("k"))
    except KeyError:
        logging.getLogger("asyncio").exception("in a callback")
    logging.getLogger("x").log(35, "odd level")
    writer.close()
    one, two, three = stream.lines()
    assert (one["event"], one["logger"], one["detail"]) == ("python_log", "asyncio", "slow callback")
    assert two["exception"][-1] == "KeyError: 'k'"
    assert three["level"] == "error"


def test_text_on_a_terminal(stream: Kept) -> None:
    stream.terminal = True
    writer = written(stream)
    get_logger("rpc").warning("login_refused", peer="10.0.0.1:5", principal='b "peer=1.2.3.4', n=[1])
    try:
        fail(KeyError("k"))
    except KeyError:
        get_logger("rpc").exception("failed")
    writer.close()
    first, second, *traceback = stream.getvalue().splitlines()
    assert first == (
        "08:00:00.250 \x1b[33mwarning \x1b[0m login_refused service=rpc peer=10.0.0.1:5 "
        'principal="b \\"peer=1.2.3.4" n=[1]'
    )
    assert second == "08:00:00.250 \x1b[31merror   \x1b[0m failed service=rpc"
    assert traceback[-1] == "    KeyError: 'k'"


def test_text_without_colour_where_it_is_asked_for(stream: Kept) -> None:
    writer = written(stream, form="text")
    get_logger("rpc").info("started")
    writer.close()
    assert stream.getvalue() == "08:00:00.250 info     started service=rpc\n"


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    writer = configure()
    get_logger("rpc").info("started")
    writer.close()
    log._Current.writer = None
    assert json.loads(capsys.readouterr().err)["event"] == "started"


class Stalled(Kept):
    """A stderr whose reader has stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.gate = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.gate.wait(10)
        return super().write(text)


def test_a_stalled_stream_drops_and_counts_and_stops_nobody() -> None:
    stream = Stalled()
    writer = log.LogWriter(stream, "info", log._as_json, lambda: 0.0, capacity=5)
    writer.put("info", {"event": "first"})
    assert stream.reached.wait(10)
    for _ in range(12):
        writer.put("info", {"event": "more"})
    assert writer.dropped == 7
    stream.gate.set()
    writer.close()
    lines = stream.lines()
    assert [line["event"] for line in lines].count("more") == 5
    assert [line["count"] for line in lines if line["event"] == "log_dropped"] == [7]


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("closed")])
def test_a_stream_that_is_gone_is_counted(error: Exception) -> None:
    class Gone(Kept):
        def write(self, text: str) -> int:
            raise error

    writer = log.LogWriter(Gone(), "info", log._as_json, lambda: 0.0)
    writer.put("info", {"event": "lost"})
    writer.close()
    assert writer.dropped == 1


def test_a_value_that_cannot_be_shown_costs_its_line_only(stream: Kept) -> None:
    class Odd:
        def __str__(self) -> str:
            raise ZeroDivisionError

    writer = written(stream)
    get_logger("rpc").info("odd", value=Odd())
    get_logger("rpc").info("next")
    writer.close()
    first, second = stream.lines()
    assert (first["event"], first["kind"]) == ("log_unrenderable", "ZeroDivisionError")
    assert second["event"] == "next"


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("token", "abc", REDACTED),
        ("Authorization", "Bearer abc", REDACTED),
        ("new_password", ["a"], REDACTED),
        ("client_secret", b"x", REDACTED),
        ("tokens_count", 3, 3),
        ("detail", "got Bearer abc.def and eyJhbGciOi.eyJz.c2ln", "got Bearer *** and ***"),
        ("headers", {"Cookie": "a=b", "Host": "h"}, {"Cookie": REDACTED, "Host": "h"}),
        ("data", b"\xff\x00a", "\\xff\\x00a"),
        ("room", "[bold]\n\x1b[2J", "\\[bold]\\x0a\\x1b[2J"),
        ("peer", "[fe80::1]:1\n", "[fe80::1]:1\\x0a"),
        ("items", ("a", None, True, 1.5), ["a", None, True, 1.5]),
        ("deep", [[[["x"]]]], [[["['x']"]]]),
        ("many", list(range(99)), list(range(50))),
        ("number", float("inf"), "inf"),
        ("number", float("nan"), "nan"),
        ("long", "x" * 10**6, "x" * VALUE_CHARACTERS + "..."),
    ],
)
def test_values(key: str, value: object, shown: object) -> None:
    assert clean({"event": "e", key: value})[key] == shown


@pytest.mark.parametrize("event", ["Some text", "a\nb", "", 5, None])
def test_an_event_that_is_no_constant_is_a_detail(event: object) -> None:
    cleaned = clean({"event": event})
    assert cleaned["event"] == "unnamed"
    assert list(cleaned) == ["event", "detail"]


@given(st.dictionaries(st.text(), st.text() | st.binary() | st.lists(st.text())))
def test_every_line_is_one_printable_line(fields: dict[str, Any]) -> None:
    line = log._as_json(clean({**fields, "event": "e"}))
    assert line.isascii()
    assert line.isprintable()
    assert isinstance(json.loads(line), dict)
    text = log._text_renderer(coloured=False)({"level": "info", **clean({**fields, "event": "e"})})
    assert all(part.isprintable() for part in text.split("\n    "))


def test_structlog_is_not_needed_to_import_it() -> None:
    code = "import sys, secure_net.log; sys.exit('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
