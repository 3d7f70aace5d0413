"""Our grammar beside llhttp: what both accept they read alike, and we accept nothing that it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_net.errors import RemoteProtocolError
from secure_net.http.head import Head, parse_head
from secure_net.limits import HTTPLimits
from tests.support.http_attacks import FRAMING, SYNTAX, Attack
from tests.support.http_heads import REAL

httptools = pytest.importorskip("httptools")


def _read(raw: bytes) -> Head:
    return parse_head(raw, HTTPLimits())


class _Collector:
    """What httptools makes of a head."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True
        self.keep_alive = self.parser.should_keep_alive()


@pytest.mark.parametrize("raw", REAL)
def test_httptools_reads_the_same(raw: bytes) -> None:
    collector = _Collector()
    parser = collector.parser
    parser.feed_data(raw)
    head = _read(raw)
    assert collector.complete
    assert parser.get_method().decode() == head.method
    assert parser.get_http_version() == f"1.{head.minor}"
    assert collector.keep_alive is head.keep_alive
    assert collector.url.decode() == head.target
    assert tuple(collector.fields) == head.headers


def _httptools_refuses(raw: bytes) -> bool:
    try:
        _Collector().parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return True
    return False


@pytest.mark.parametrize("attack", FRAMING + SYNTAX, ids=str)
def test_nothing_that_httptools_refuses_is_accepted(attack: Attack) -> None:
    """The table is refused by us whole; that the other refuses much of it keeps this test honest."""
    head, _, _ = attack.raw.partition(b"\r\n\r\n")
    if _httptools_refuses(head + b"\r\n\r\n"):
        with pytest.raises(RemoteProtocolError):
            _read(head + b"\r\n\r\n")


def test_httptools_refuses_much_of_the_table() -> None:
    assert sum(_httptools_refuses(attack.raw) for attack in FRAMING + SYNTAX) > 50


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(REAL), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=3))
def test_a_damaged_head_is_refused_or_read_alike(raw: bytes, damage: list[tuple[int, bytes]]) -> None:
    for position, octets in damage:
        raw = raw[:position] + octets + raw[position + len(octets) :]
    raw = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    try:
        head = _read(raw)
    except RemoteProtocolError:
        return
    collector = _Collector()
    try:
        collector.parser.feed_data(raw)
    except httptools.HttpParserInvalidMethodError:
        return  # llhttp has a list of methods; to us a method is a token, and the application says 405
    assert collector.complete
    assert collector.url.decode() == head.target
    assert {name for name, _ in collector.fields} == set(head.fields)
