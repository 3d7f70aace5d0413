"""What a chat server may say, and bodies. What is expected when: `test_client_protocol.py`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.messaging.client_messages import Message, Refused, decode, encode, encode_body, is_id, is_room
from secure_net.messaging.messages import Code


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", b'"text"'),
        ("gr\u00fc\u00df\u0007", '"gr\u00fc\u00df\\u0007"'.encode()),
        (None, b"null"),
        ({"a": [1, 2.5, True]}, b'{"a":[1,2.5,true]}'),
        ((1, 2), b"[1,2]"),
    ],
)
def test_bodies(value: object, text: bytes) -> None:
    assert encode_body(value) == text


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", {1, 2}, "\ud800", ["\ud800"], deep()])
def test_what_is_no_json_is_no_body(value: object) -> None:
    with pytest.raises(LocalProtocolError, match="not JSON"):
        encode_body(value)


def test_what_we_say() -> None:
    assert encode({"type": "say", "body": msgspec.Raw(b"[1, 2]")}) == b'{"type":"say","body":[1, 2]}'


def test_what_is_said() -> None:
    said = b'{"type":"message","room":"ops","seq":1,"from":"ann","at":1.5,"body":{"a":[null]}}'
    assert decode(said) == Message("ops", 1, "ann", 1.5, {"a": [None]})
    assert decode(b'{"type":"error","code":"rooms","reason":""}') == Refused(Code.ROOMS, "")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"type":"pong"} x',
        b"[" * 60_000,
        b'{"type":"message","room":"ops","seq":1,"from":"ann","at":1,"body":'
        + b"[" * 30_000
        + b"]" * 30_000
        + b"}",
        b'{"type":"message","room":"ops","seq":1,"from":"ann","at":1,"body":NaN}',
        b'{"type":"message","room":"ops","seq":1,"from":"ann","at":1e999,"body":1}',
        b'{"type":"left","room":"ops\\n"}',
        b'{"type":"left","room":"OPS"}',
        b'{"type":"left","room":"ops","x":1}',
        b'{"type":"left"}',
        b'{"type":"error","code":"x","reason":""}',
        b'{"type":"ack","id":"0","seq":1}',
    ],
)
def test_what_no_server_of_ours_says(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(payload)
    assert caught.value.reason is Refusal.MALFORMED


def test_names() -> None:
    assert is_room("a.b_c-9")
    assert not is_room("a\n")
    assert is_id("0123456789abcdef" * 2)
    assert not is_id("0123456789ABCDEF" * 2)
