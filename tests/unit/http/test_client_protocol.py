from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.http.client_protocol import Answer, HTTPClientMachine
from secure_net.limits import HTTPLimits
from tests.support.http import octets

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


def _client(method: str = "POST", *, sent: bool = True) -> HTTPClientMachine:
    client = HTTPClientMachine(HTTPLimits(), host=b"localhost:8443", body_bytes=100)
    if sent:
        client.send_request(method, "/RPC2", [(b"content-type", b"text/xml")], b"call")
    return client


def _answer(client: HTTPClientMachine, *pieces: bytes) -> Answer | None:
    answer = None
    for piece in pieces:
        client.receive_data(piece)
        answer = client.next_event() or answer
    return answer


def test_the_request() -> None:
    client = _client()
    assert client.data_to_send() == (
        b"POST /RPC2 HTTP/1.1\r\nhost: localhost:8443\r\ncontent-type: text/xml\r\n"
        b"content-length: 4\r\n\r\ncall"
    )
    assert client.allowance is None
    client = _client(sent=False)
    client.send_request("GET", "/a?b")
    assert client.data_to_send() == b"GET /a?b HTTP/1.1\r\nhost: localhost:8443\r\n\r\n"


@pytest.mark.parametrize("raw", [OK, CHUNKED, INTERIM + OK])
def test_an_answer_whole_and_byte_by_byte_and_then_another(raw: bytes) -> None:
    for split in ([raw], octets(raw)):
        client = _client()
        for _ in range(2):
            assert not client.reusable
            answer = _answer(client, *split)
            assert answer is not None
            assert (answer.status, answer.body) == (200, b"hello")
            assert client.reusable
            assert client.buffered == 0
            client.send_request("POST", "/RPC2", (), b"again")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([OK, CHUNKED, INTERIM + CHUNKED]), st.lists(st.integers(0, 120), max_size=6))
def test_any_split_gives_the_same_answer(raw: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    answer = _answer(_client(), *(raw[begin:end] for begin, end in itertools.pairwise(edges)))
    assert answer is not None
    assert answer.body == b"hello"


def test_fields() -> None:
    answer = _answer(_client(), OK)
    assert answer is not None
    assert answer.get(b"content-type") == b"text/xml"
    assert answer.get(b"date") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_is_the_last(raw: bytes) -> None:
    client = _client()
    assert _answer(client, raw) is not None
    assert client.finished
    assert not client.reusable
    with pytest.raises(LocalProtocolError):
        client.send_request("GET", "/")
    client.receive_data(OK)
    assert client.next_event() is None


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_answers_without_a_body(method: str, raw: bytes) -> None:
    client = _client(method)
    answer = _answer(client, raw)
    assert answer is not None
    assert answer.body == b""
    assert client.reusable


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
        INTERIM * 2 + OK,
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 600 Odd\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 caf\xe9\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40000 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * 9000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101,
        OK + b"HTTP/1.1 200 OK\r\n",
        OK + b"\n",
    ],
)
def test_what_is_refused(raw: bytes) -> None:
    for split in ([raw], [raw[:1], raw[1:]]):
        client = _client()
        with pytest.raises(RemoteProtocolError):
            _answer(client, *split)
        assert client.finished
        assert not client.reusable
        assert client.buffered == 0
        assert client.next_event() is None


def test_a_head_at_its_bound_in_a_small_budget() -> None:
    limits = HTTPLimits(http_request_line_bytes=200, http_headers_bytes=20)
    client = HTTPClientMachine(limits, host=b"a", body_bytes=100)
    client.send_request("GET", "/")
    with pytest.raises(RemoteProtocolError):
        _answer(client, b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40 + b"\r\n\r\n")


def test_a_head_larger_than_its_line_is_still_found() -> None:
    limits = HTTPLimits(http_request_line_bytes=200, http_headers_bytes=60)
    client = HTTPClientMachine(limits, host=b"a", body_bytes=100)
    client.send_request("GET", "/")
    with pytest.raises(RemoteProtocolError) as raised:
        _answer(client, b"HTTP/1.1 999 O\r\nX: y\r\n\r\n")
    assert raised.value.reason is Refusal.MALFORMED


def test_an_answer_that_nobody_asked_for() -> None:
    client = _client(sent=False)
    with pytest.raises(RemoteProtocolError):
        _answer(client, OK)
    client = _client()
    assert _answer(client, OK) is not None
    client.receive_data(OK)
    assert not client.reusable
    with pytest.raises(LocalProtocolError):
        client.send_request("GET", "/")


def test_a_body_until_the_end_is_whole_only_where_the_end_is_clean() -> None:
    raw = b"HTTP/1.1 200 OK\r\n\r\nhello"
    client = _client()
    assert _answer(client, *octets(raw)) is None
    client.receive_eof(clean=True)
    answer = client.next_event()
    assert answer is not None
    assert answer.body == b"hello"
    assert client.finished
    client = _client()
    assert _answer(client, raw) is None
    with pytest.raises(RemoteProtocolError) as raised:
        client.receive_eof(clean=False)
    assert raised.value.reason is Refusal.TRUNCATED


@pytest.mark.parametrize("raw", [b"", OK[:10], OK[:-1], CHUNKED[:-1]])
@pytest.mark.parametrize("clean", [True, False])
def test_the_end_before_the_whole_answer(raw: bytes, clean: bool) -> None:
    client = _client()
    assert _answer(client, raw) is None
    with pytest.raises(RemoteProtocolError) as raised:
        client.receive_eof(clean=clean)
        client.next_event()
    assert raised.value.reason is Refusal.TRUNCATED
    assert client.finished


def test_the_end_between_requests() -> None:
    for clean in (True, False):
        client = _client(sent=False)
        client.receive_eof(clean=clean)
        assert not client.reusable
        assert client.next_event() is None
        assert client.finished


def test_a_whole_answer_and_the_end_with_it() -> None:
    client = _client()
    client.receive_data(OK)
    client.receive_eof(clean=True)
    assert client.next_event() is not None
    assert client.finished


def test_drain() -> None:
    client = _client(sent=False)
    client.drain()
    assert client.finished
    client = _client()
    client.drain()
    assert not client.finished
    assert _answer(client, OK) is not None
    assert client.finished


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET /", "/", ()),
        ("GET", "/a b", ()),
        ("GET", "http://a/", ()),
        ("GET", "/\r\nX: y", ()),
        ("GÉT", "/", ()),
        ("GET", "/", ((b"X", b"y\r\nZ: z"),)),
        ("GET", "/", ((b"X", b""),)),
        ("GET", "/", ((b"X:", b"y"),)),
        ("GET", "/", ((b"Host", b"y"),)),
        ("GET", "/", ((b"content-length", b"1"),)),
        ("GET", "/", ((b"Transfer-Encoding", b"chunked"),)),
    ],
)
def test_what_would_not_be_one_sound_request_is_our_own_fault(
    method: str, target: str, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    client = _client(sent=False)
    with pytest.raises(LocalProtocolError):
        client.send_request(method, target, headers)
    assert client.data_to_send() == b""
    assert client.reusable


def test_one_request_at_a_time() -> None:
    client = _client()
    with pytest.raises(LocalProtocolError):
        client.send_request("GET", "/")


def test_a_host_is_one_line() -> None:
    with pytest.raises(LocalProtocolError):
        HTTPClientMachine(HTTPLimits(), host=b"a\r\nX: y", body_bytes=1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: OK[:40] + tail))
def test_whatever_arrives_it_is_an_answer_or_a_remote_protocol_error(data: bytes) -> None:
    client = _client()
    try:
        _answer(client, data, data)
    except RemoteProtocolError:
        assert client.finished
