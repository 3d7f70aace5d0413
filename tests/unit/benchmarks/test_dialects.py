"""What the loads say to each server: the bytes, the window, and a mark that nothing else contains."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.loads import dialects
from benchmarks.loads.dialects import DIALECTS, MARK, OUR_BYTES, OUR_COUNT
from benchmarks.loads.result import Plan

PLAN = Plan(size=128, connections=1, token="t.o.k", room="bench.0")
SIZES = (1, 128, 4096, 48 * 1024)


def frames(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = int(data[:5])
        found.append(data[5 : 5 + size])
        data = data[5 + size :]
    return found


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("size", SIZES)
def test_a_publish_holds_the_mark_once(name: str, size: int) -> None:
    dialect = DIALECTS[name](Plan(size=size, connections=1, token="t.o.k"))
    assert dialect.publishing(dialect.unit).count(MARK) == dialect.unit
    assert MARK not in b"".join(step.send for step in (*dialect.opening, dialect.subscribing))


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("members", [1, 100, 1000])
def test_a_window_holds_whole_units(name: str, size: int, members: int) -> None:
    dialect = DIALECTS[name](Plan(size=size, connections=members))
    assert dialect.window >= dialect.unit
    assert dialect.window % dialect.unit == 0


def test_ours_stays_below_what_makes_reading_pause() -> None:
    for size in SIZES:
        window = dialects.chat(Plan(size=size, connections=1)).window
        assert window <= OUR_COUNT
        assert window * size <= OUR_BYTES


def test_each_say_has_an_id_of_its_own() -> None:
    dialect = dialects.chat(PLAN)
    says = [json.loads(frame) for frame in frames(dialect.publishing(300) + dialect.publishing(3))]
    assert len(says) == 303
    assert len({say["id"] for say in says}) == 303
    for say in says:
        assert re.fullmatch("[0-9a-f]{32}", say["id"])
        assert say == {"type": "say", "room": "bench.0", "id": say["id"], "body": "!" + "x" * 127}


def test_chat_opens_with_hello_and_join() -> None:
    dialect = dialects.chat(PLAN)
    sent = b"".join(step.send for step in (*dialect.opening, dialect.subscribing))
    assert [json.loads(frame) for frame in frames(sent)] == [
        {"type": "hello", "token": "t.o.k"},
        {"type": "join", "room": "bench.0"},
    ]


def test_echo_wants_the_answer_to_what_it_sends() -> None:
    dialect = dialects.echo(Plan(size=3, connections=1))
    assert dialect.publishing(2) == b"00003!xx00003!xx"
    assert dialect.tally.count(b"00009ECHO: !xx00009ECHO: !xx") == 2


def test_a_question_follows_every_unit_of_publishes_that_nobody_answers() -> None:
    dialect = dialects.nats(PLAN)
    said = dialect.publishing(2 * dialect.unit)
    assert said.count(b"PUB bench.0 128\r\n") == 2 * dialect.unit
    assert said.count(b"PING\r\n") == 2


def test_redis_commands_are_arrays_of_bulk_strings() -> None:
    assert dialects.resp(b"PUBLISH", b"a", b"\r\n") == b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$2\r\n\r\n\r\n"


@pytest.mark.parametrize(
    ("size", "length"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (16384, b"\x80\x80\x01")]
)
def test_mqtt_remaining_length(size: int, length: bytes) -> None:
    assert dialects.packet(0x30, bytes(size)) == b"\x30" + length + bytes(size)
