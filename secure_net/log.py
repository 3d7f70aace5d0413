"""Structured logs: one JSON object a line on stderr, or readable text on a terminal.

Theory of operation. A log call copies its fields into a bounded queue and returns; a thread redacts,
escapes, renders and writes. A stalled stderr so stops that thread and never the event loop; what does not
fit is dropped and counted. Event names are constants of the code, values come from anywhere: whatever a
stranger chose arrives escaped, on one line, cut to a bounded length, behind the peer's address.

Until `configure` is called nothing is written at all: a program that uses our clients is not ours to
write into. structlog is imported by the first `get_logger`, not by this module.
"""

from __future__ import annotations

import datetime
import itertools
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NoReturn, Protocol, TextIO, cast

from secure_net.errors import StateError
from secure_net.store.batches import BatchThread
from secure_net.text import escape

__all__ = ["LogWriter", "Logger", "configure", "escape", "get_logger"]

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "text"]
Entry = dict[str, Any]

CAPACITY: Final = 10_000  # entries that may wait for a stalled stderr; some 10 MiB at worst
VALUE_CHARACTERS: Final = 2048
TRACEBACK_LINES: Final = 200
ITEMS: Final = 50  # of a list or table in one field
DEPTH: Final = 3  # of lists and tables in each other

REDACTED: Final = "***"
_SECRET_KEYS = re.compile(r"token|passw|authorization|secret|cookie|private", re.IGNORECASE)
# A JWT, and whatever follows an authentication scheme, wherever it stands.
_SECRET_VALUES = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*|(?<=bearer )\S+|(?<=basic )\S+", re.IGNORECASE)

_LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_ALWAYS: Final = "always"
_OTHER_METHODS: Mapping[str, str] = {"exception": "error", _ALWAYS: "info"}  # those that are no level
_COLOURS: Mapping[str, str] = {"debug": "2", "info": "36", "warning": "33", "error": "31", "critical": "31"}
_EVENT = re.compile(r"[a-z][a-z0-9_.]*")
# What stands first in every line, in this order: the address before any name.
_FIRST = ("time", "level", "event", "service", "connection", "peer", "principal")
_BARE = re.compile(r"[\w.:/@+*,-]+", re.ASCII)  # text values that need no quotes


class Logger(Protocol):
    """What `get_logger` gives (structlog's bound logger). `event` is a constant of the code."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...
    def exception(self, event: str, **fields: Any) -> Any:
        """As `error`, with the traceback of the exception being handled."""
        ...

    def always(self, event: str, **fields: Any) -> Any:
        """As `info`, and written whatever level was configured: what a record must not lack."""
        ...

    def bind(self, **fields: Any) -> Logger:
        """The same, with these fields on every line."""
        ...


class LogWriter:
    """The queue, the thread behind it, and the stream it writes to. `dropped` counts what did not fit."""

    def __init__(
        self,
        stream: TextIO,
        level: Level,
        render: Callable[[Entry], str],
        wall: Callable[[], float],
        capacity: int = CAPACITY,
    ) -> None:
        self.dropped = 0
        self._told = 0  # of those dropped, how many the log itself speaks of
        self._stream = stream
        self._level = _LEVELS[level]
        self._render = render
        self._wall = wall
        self._capacity = capacity
        self._bridge = _Bridge(self)
        logging.getLogger().addHandler(self._bridge)
        self._thread: BatchThread[Entry] = BatchThread("log", self._write)

    def put(self, level: str, fields: Entry, *, always: bool = False) -> None:
        """Queue one entry, unless its level is below ours and it is not to be written `always`.

        Never blocks, never raises.
        """
        if _LEVELS[level] < self._level and not always:
            return
        if self._thread.waiting >= self._capacity:
            self.dropped += 1
            return
        try:
            self._thread.put({"time": self._wall(), "level": level, **fields})
        except StateError:  # closed: the daemon is all but gone
            self.dropped += 1

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, for at most so long."""
        logging.getLogger().removeHandler(self._bridge)
        self._thread.stop(seconds)

    def _write(self, entries: list[Entry]) -> None:
        try:
            for entry in entries:
                self._stream.write(self._line(entry))
            missed = self.dropped - self._told
            if missed:
                fields = {"time": self._wall(), "level": "warning", "event": "log_dropped", "count": missed}
                self._stream.write(self._line(fields))
                self._told += missed
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads, or the stream was closed
            self.dropped += len(entries)

    def _line(self, entry: Entry) -> str:
        try:
            return self._render(clean(entry)) + "\n"
        except Exception as error:  # noqa: BLE001 - a value that cannot even be shown; the log goes on
            kind = type(error).__name__
            return self._render({"level": "error", "event": "log_unrenderable", "kind": kind}) + "\n"


class _Bridge(logging.Handler):
    """What others say through `logging` (asyncio, of a callback that raised) joins our lines."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__(logging.WARNING)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        fields: Entry = {"event": "python_log", "logger": record.name, "detail": record.getMessage()}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        level = record.levelname.lower()
        self._writer.put(level if level in _LEVELS else "error", fields)


class _Current:
    """Where the loggers of this process write."""

    writer: LogWriter | None = None


def configure(
    stream: TextIO | None = None,
    level: Level = "info",
    form: Form = "auto",
    wall: Callable[[], float] = time.time,
) -> LogWriter:
    """Begin to write logs to `stream` (stderr), in place of where they went before.

    `form` auto is text on a terminal, else JSON. Close the writer at the end.
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    as_text = terminal if form == "auto" else form == "text"
    if _Current.writer is not None:
        _Current.writer.close()
    render = _text_renderer(coloured=terminal) if as_text else _as_json
    _Current.writer = LogWriter(stream, level, render, wall)
    return _Current.writer


def get_logger(service: str) -> Logger:
    """A logger whose lines bear this service. May be called before `configure`."""
    import structlog  # noqa: PLC0415 - 40 ms that `--help` need not wait for

    logger = structlog.wrap_logger(
        None,
        processors=[structlog.processors.format_exc_info, _enqueue],
        wrapper_class=type("BoundLogger", (structlog.make_filtering_bound_logger(0),), {_ALWAYS: _always}),
        cache_logger_on_first_use=True,
        service=service,
    )
    return cast(Logger, logger)


def _always(logger: Any, event: str, **fields: Any) -> Any:
    return logger._proxy_to_logger(_ALWAYS, event, **fields)  # how structlog is extended


def _enqueue(_: Any, method: str, fields: Any) -> NoReturn:
    from structlog import DropEvent  # noqa: PLC0415

    if _Current.writer is not None:
        level = _OTHER_METHODS.get(method, method)
        _Current.writer.put(level if level in _LEVELS else "error", dict(fields), always=method == _ALWAYS)
    raise DropEvent  # structlog's own way to say that it is done with


# --- what a line may hold (pure) ---------------------------------------------------------------------


def clean(entry: Entry) -> Entry:
    """The entry as it may be shown: known fields first, secrets redacted, text escaped and bounded."""
    entry = dict(entry)
    event = entry.get("event")
    if not (isinstance(event, str) and _EVENT.fullmatch(event)):
        entry.update(event="unnamed", detail=event)
    ordered = [key for key in _FIRST if key in entry] + [key for key in entry if key not in _FIRST]
    cleaned = {_shown(key): clean_value(key, entry[key]) for key in ordered}
    if isinstance(entry.get("time"), float):
        moment = datetime.datetime.fromtimestamp(entry["time"], datetime.UTC)
        cleaned["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return cleaned


def clean_value(key: str, value: Any, depth: int = 0) -> Any:
    """One field's value as it may be shown: JSON of bounded size, redacted and escaped."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON knows no infinity
    if _SECRET_KEYS.search(key):
        return REDACTED
    if isinstance(value, Mapping | list | tuple | set | frozenset) and depth < DEPTH:
        return _clean_items(value, depth + 1)
    if key == "exception":
        return [_shown(line) for line in str(value).splitlines()[-TRACEBACK_LINES:]]
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    # The kernel wrote the peer's address: "[fe80::1]:443" is no markup.
    return _shown(text, markup=key != "peer")


def _clean_items(value: Iterable[Any], depth: int) -> Any:
    first = itertools.islice(value.items() if isinstance(value, Mapping) else value, ITEMS)
    if isinstance(value, Mapping):
        return {_shown(str(key)): clean_value(str(key), item, depth) for key, item in first}
    return [clean_value("", item, depth) for item in first]


def _shown(text: str, *, markup: bool = True) -> str:
    if len(text) > 2 * VALUE_CHARACTERS:
        text = text[: 2 * VALUE_CHARACTERS]  # so that a huge value costs no more than a large one
    text = escape(_SECRET_VALUES.sub(REDACTED, text), markup=markup)
    return text if len(text) <= VALUE_CHARACTERS else text[:VALUE_CHARACTERS] + "..."


def _as_json(entry: Entry) -> str:
    return json.dumps(entry, ensure_ascii=True, separators=(",", ":"))


def _text_renderer(*, coloured: bool) -> Callable[[Entry], str]:
    def render(entry: Entry) -> str:
        entry = dict(entry)
        moment, level, event = (str(entry.pop(key, "")) for key in _FIRST[:3])
        traceback = entry.pop("exception", [])
        word = f"\x1b[{_COLOURS[level]}m{level:<8}\x1b[0m" if coloured else f"{level:<8}"
        fields = [f"{key}={_as_word(value)}" for key, value in entry.items()]
        line = " ".join([moment[11:23], word, event, *fields])
        return "\n    ".join([line, *traceback])

    return render


def _as_word(value: Any) -> str:
    """A value that cannot be taken for another field."""
    if not isinstance(value, str):
        return json.dumps(value)
    quoted = value.replace('"', '\\"')
    return value if _BARE.fullmatch(value) else f'"{quoted}"'
