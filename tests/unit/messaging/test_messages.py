from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.limits import ChatLimits
from secure_net.messaging import messages
from secure_net.messaging.messages import Code, HistoryRequest, Join, Leave, Ping, Say, WhoRequest
from tests.support.chat import say_id

LIMITS = ChatLimits()
ID = say_id(7)


def read(*payloads: bytes, limits: ChatLimits = LIMITS) -> list[Any]:
    """The requests; errors as the objects that they are encoded from."""
    return [
        json.loads(item) if isinstance(item, bytes) else item
        for item in messages.read_requests(payloads, limits)
    ]


def say(body: bytes, room: bytes = b'"ops"', id_: bytes = b'"%b"' % ID) -> bytes:
    return b'{"type":"say","room":%b,"id":%b,"body":%b}' % (room, id_, body)


def code_of(payload: bytes, limits: ChatLimits = LIMITS) -> str | None:
    (item,) = read(payload, limits=limits)
    return item["code"] if isinstance(item, dict) else None


# ---------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("payload", "request_"),
    [
        (b'{"type":"hello"}', messages.Hello()),
        (b'{"type":"hello","token":"t"}', messages.Hello("t")),
        (b'{"type":"join","room":"ops"}', Join("ops")),
        (b' { "after" : 3 , "room":"ops", "type":"join" } ', Join("ops", 3)),
        (b'{"type":"leave","room":"ops"}', Leave("ops")),
        (b'{"type":"history","room":"ops","limit":5}', HistoryRequest("ops", 5)),
        (b'{"type":"history","room":"ops","limit":5,"before":9}', HistoryRequest("ops", 5, 9)),
        (b'{"type":"who","room":"ops"}', WhoRequest("ops")),
        (b'{"type":"who","room":"ops","after":"ann"}', WhoRequest("ops", "ann")),
        (b'{"type":"ping"}', Ping()),
        (say(b'"hi"'), Say("ops", ID, b'"hi"')),
    ],
)
def test_what_a_client_may_say(payload: bytes, request_: object) -> None:
    assert read(payload) == [request_]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b'"ping"',
        b"{}",
        b'{"type":"pong"}',
        b'{"type":1}',
        b'{"type":"ping","x":1}',
        b'{"type":"ping"} {"type":"ping"}',
        b'\xef\xbb\xbf{"type":"ping"}',
        b'{"type":"ping"}\0',
        b'{"type":"hello","token":null}',
        b'{"type":"hello","token":"\\ud800"}',
        b'{"type":"hello","token":"\xff"}',
        b'{"type":"join"}',
        b'{"type":"join","room":"ops","after":null}',
        b'{"type":"join","room":"ops","after":1.0}',
        b'{"type":"join","room":"ops","after":true}',
        b'{"type":"join","room":"ops","after":-1}',
        b'{"type":"join","room":"ops","after":9223372036854775808}',
        b'{"type":"history","room":"ops"}',
        b'{"type":"history","room":"ops","limit":0}',
        b'{"type":"history","room":"ops","limit":99999999999999999999}',
        b'{"type":"say","room":"ops","id":"0"}',
        b'{"type":"say","room":"ops","id":"%b","body":"x","from":"root"}' % ID,
        say(b'"x"', id_=b'"%b"' % ID[:-1]),
        say(b'"x"', id_=b'"%b0"' % ID),
        say(b'"x"', id_=b'"%bA"' % ID[:-1]),
        say(b'"x"', id_=b'"%b "' % ID[:-1]),
        say(b'"x"', id_=f'"{ID[:-1].decode()}é"'.encode()),
        say(b'"x"', id_=b"7"),
        b"[" * 20_000,
        b'{"type":' * 20_000,
        b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b',"type":"ping"}',
    ],
)
def test_anything_else_is_malformed(payload: bytes) -> None:
    assert read(payload) == [
        {"type": "error", "code": "malformed", "reason": "not an object that this protocol knows"}
    ]


@pytest.mark.parametrize("name", ["", "a" * 65, "A", "a b", "a/b", "ä", "a\n", "%", "__proto__\0", "a:b"])
def test_a_name_that_is_no_room_s_is_malformed_wherever_it_stands(name: str) -> None:
    quoted = json.dumps(name).encode()
    assert not messages.is_room_name(name)
    for request in (
        b'{"type":"join","room":%b}',
        b'{"type":"leave","room":%b}',
        b'{"type":"history","limit":1,"room":%b}',
        b'{"type":"who","room":%b}',
    ):
        assert code_of(request % quoted) == "malformed"
    assert code_of(say(b'"x"', room=quoted)) == "malformed"


@pytest.mark.parametrize("name", ["a", "ops.db", "0-_.", "." * 64])
def test_a_room_s_name(name: str) -> None:
    assert messages.is_room_name(name)


def test_a_name_as_long_as_a_frame_is_not_remembered() -> None:
    before = messages._is_room_name.cache_info().currsize
    for n in range(10):
        payload = b'{"type":"who","room":"%d%b"}' % (n, b"x" * 60_000)
        assert code_of(payload) == "malformed"
    assert messages._is_room_name.cache_info().currsize == before


def test_bad_objects_stand_where_they_came_and_hold_up_nobody() -> None:
    found = read(b'{"type":"ping"}', b"?", say(b'"x"'), say(b'"x"', room=b'"?"'), b'{"type":"ping"}')
    assert [item["code"] if isinstance(item, dict) else type(item) for item in found] == [
        Ping,
        "malformed",
        Say,
        "malformed",
        Ping,
    ]


# ---------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "body",
    [
        b'"plain"',
        b'""',
        b"1",
        b"-0",
        b"true",
        b"null",
        b"[]",
        b"{}",
        b'{"a":[1,2.5e10,{"b":null}]}',
        b'"\\n\\u00e9\\ud83d\\ude00"',
        '"é😀"'.encode(),
        b'"\\\\"',
        b"18446744073709551615",
        b"-9223372036854775808",
        b"1e308",
        b"[1, 2]",
        b'"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["',
        b'"99999999999999999999999999"',
        b'["\xc3\xa9", 1234567890123456789012e2]',
        b"[" * 32 + b"]" * 32,
        b"[" * 32 + b"1" + b"]" * 32,
        b'{"a":' * 32 + b"{}"[:0] + b"1" + b"}" * 32,
        b"[" + b"[]," * 100 + b"[]]",
    ],
)
def test_a_body_is_any_json_and_passed_on_as_it_came(body: bytes) -> None:
    assert read(say(body)) == [Say("ops", ID, body)]
    assert read(b'{"type":"ping"}', say(body), "é".encode())[1] == Say("ops", ID, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nan",
        b"NaN",
        b"Infinity",
        b"01",
        b"1.",
        b"[1,]",
        b'"a\x01b"',
        b'"a\tb"',
        b"'a'",
        b'"\\ud800"',
        b'"\\ude00\\ud83d"',
        b'{"\\ud800":1}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\xaf"',
        b'{"\xff":1}',
        b"1e400",
        b"[-1e400]",
        b"18446744073709551616",
        b"-9223372036854775809",
        b'{"a":[0,18446744073709551616]}',
        b"9" * 400,
        b"[" * 33 + b"]" * 33,
        b"[" * 33 + b"1" + b"]" * 33,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"[" * 500 + b"]" * 500,
        b"[" * 20_000 + b"]" * 20_000,
    ],
)
def test_a_body_that_some_strict_reader_cannot_read_is_malformed(body: bytes) -> None:
    assert code_of(say(body)) == "malformed"


def test_what_is_wrong_with_a_body_alone_names_the_say() -> None:
    wrong = {"type": "error", "reason": "not an object that this protocol knows", "code": "malformed"}
    assert read(say(b"1e400")) == [wrong | {"id": ID.decode(), "room": "ops"}]


def test_the_size_of_a_body() -> None:
    limits = ChatLimits(chat_body_bytes=10)
    assert code_of(say(b'"%b"' % (b"x" * 8)), limits) is None
    assert code_of(say(b'"%b"' % (b"x" * 9)), limits) == "too_large"
    assert code_of(say('"éééé"'.encode()), limits) is None
    assert read(say(b"[1,2,3,4,5,6]"), limits=limits) == [
        {
            "type": "error",
            "code": "too_large",
            "reason": "larger than is allowed",
            "id": ID.decode(),
            "room": "ops",
        }
    ]
    most = b'"%b"' % (b"x" * (LIMITS.chat_body_bytes - 2))
    assert code_of(say(most)) is None
    assert code_of(say(most + b" ")) is None, "white space around it is not part of it"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


def _is_utf_8(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(JSON.filter(_is_utf_8), st.booleans())
def test_whatever_is_json_is_a_body(value: Any, ascii_: bool) -> None:
    if isinstance(value, float) and math.isinf(value):
        return
    body = json.dumps(value, ensure_ascii=ascii_).encode()
    if b"Infinity" not in body:
        assert read(say(body)) == [Say("ops", ID, body)]


@given(st.binary(max_size=60))
def test_whatever_comes_is_a_request_or_an_error(body: bytes) -> None:
    for payload in (body, say(body)):
        (item,) = read(payload)
        if isinstance(item, Say):
            msgspec.json.decode(item.body)  # and then it can be read
        else:
            assert isinstance(item, (dict, messages.Request))


# ---------------------------------------------------------------------------- answers

ANSWER = msgspec.json.Decoder(messages.AnyAnswer)


def test_every_code_has_its_reason() -> None:
    assert set(messages.REASONS) == set(Code)


def test_an_error_says_what_belongs_to_it_and_nothing_else() -> None:
    plain = json.loads(messages.error(Code.INTERNAL))
    assert plain == {"type": "error", "code": "internal", "reason": "a fault of the server"}
    gap = json.loads(messages.error(Code.HISTORY_GAP, "ops", first=0, seq=3))
    assert (gap["room"], gap["first"], gap["seq"], "id" in gap) == ("ops", 0, 3, False)
    assert json.loads(messages.error(Code.ID_REUSED, "ops", ID))["id"] == ID.decode()


def test_answers_are_read_as_they_were_written() -> None:
    for answer in (
        messages.Welcome("ann", messages.Bounds(1, 2, 3, 4, 5, 6.5)),
        messages.Joined("ops", 0, 1, 1),
        messages.Joined("live.a", 0, 1, 1, "f" * 32),
        messages.Left("ops"),
        messages.Presence("ops", "ann", online=False),
        messages.Who("ops", [], more=False),
    ):
        assert ANSWER.decode(messages.encode(answer)) == answer
    assert ANSWER.decode(messages.PONG) == messages.Pong()
    assert b"incarnation" not in messages.encode(messages.Joined("ops", 0, 1, 1))


def test_the_templates_make_what_the_structs_read() -> None:
    message = ANSWER.decode(
        messages.message_template("ops", "ann") % (7, messages.stamp(1_800_000_000.1236), b'{"a":1}')
    )
    assert isinstance(message, messages.Message)
    assert (message.room, message.seq, message.sender, message.at, bytes(message.body)) == (
        "ops",
        7,
        "ann",
        1_800_000_000.124,
        b'{"a":1}',
    )
    assert ANSWER.decode(messages.ACK % (ID, 9)) == messages.Ack(ID.decode(), 9)


def test_a_page_of_history() -> None:
    past = [(seq, "ann", 1.5, b'"%d"' % seq) for seq in (1, 2, 3)]
    whole = messages.history("ops", past, more=False, largest=65_536)
    page = ANSWER.decode(whole)
    assert isinstance(page, messages.History)
    assert [(m.seq, m.sender, m.at, bytes(m.body)) for m in page.messages] == past
    assert not page.more
    assert ANSWER.decode(messages.history("ops", [], more=True, largest=65_536)) == messages.History(
        "ops", [], more=True
    )


def test_a_page_of_history_keeps_the_newest_that_fit_the_frame() -> None:
    past = [(seq, "ann", 1.5, b'"%b"' % (b"x" * 100)) for seq in range(1, 50)]
    whole = len(messages.history("ops", past, more=False, largest=65_536))
    for largest in (whole, whole - 1, 2000, 250):
        data = messages.history("ops", past, more=False, largest=largest)
        page = ANSWER.decode(data)
        assert isinstance(page, messages.History)
        assert len(data) <= largest
        assert page.more == (largest < whole)
        assert [message.seq for message in page.messages] == list(range(50 - len(page.messages), 50))


def test_the_largest_message_fits_a_frame() -> None:
    room, body = "r" * 64, b"x" * LIMITS.chat_body_bytes
    template = messages.message_template(room, "s" * 64)
    assert len(template % ((1 << 63) - 1, messages.stamp(99_999_999_999.0), body)) <= 65_536
    past = [((1 << 63) - 1, "s" * 64, 99_999_999_999.0, body)]
    page = messages.history(room, past, more=False, largest=65_536)
    assert body in page
    assert len(page) <= 65_536
