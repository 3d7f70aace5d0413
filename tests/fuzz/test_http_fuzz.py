"""Any bytes at all, in any split: requests and answers, or `RemoteProtocolError`, and never anything else."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from secure_net.errors import RemoteProtocolError
from secure_net.http.head import parse_head
from secure_net.limits import HTTPLimits
from tests.support.http import run
from tests.support.http_attacks import FRAMING, SYNTAX, chunked, good_request, request
from tests.support.http_heads import REAL

# Small bounds, so that they are reached.
LIMITS = HTTPLimits(
    http_request_line_bytes=60, http_headers_bytes=200, http_headers_count=6, http_trailers_bytes=30
)
BODY_BYTES = 40

_WORDS = (
    b"GET POST / /RPC2 %41 % ? HTTP/1.1 HTTP/1.0 : Host:a Content-Length: Transfer-Encoding:chunked 0 5 a "
    b"hello Connection:close Expect:100-continue X:y"
).split(b" ")
_MARKS = [b" ", b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"\t", b"\0", b"\xff", b"a" * 50]
_CHUNKS = [b"0\r\n\r\n", b"5\r\nhello\r\n", b"0\r\nX: y\r\n\r\n"]
_BAD = [attack.raw for attack in FRAMING + SYNTAX]
_GOOD = [
    good_request(body=b"x"),
    request(line=b"GET / HTTP/1.1"),
    request(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
    chunked(b"1\r\nx\r\n0\r\n\r\n"),
]

_PIECE = st.one_of(*(st.sampled_from(table) for table in (_WORDS, _MARKS, _CHUNKS, _BAD, _GOOD, _GOOD)))
_NEARLY_HTTP = st.lists(_PIECE | st.binary(max_size=4), max_size=12).map(b"".join)
_INPUTS = st.binary(max_size=300) | _NEARLY_HTTP


@settings(max_examples=300, deadline=None)
@given(_INPUTS, st.lists(st.integers(0, 400), max_size=6))
def test_any_split_of_any_bytes_gives_the_same(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole = run([data], LIMITS, body_bytes=BODY_BYTES)
    split = run((data[a:b] for a, b in itertools.pairwise(edges)), LIMITS, body_bytes=BODY_BYTES)
    assert split.requests == whole.requests
    # A client that waits for it is told to continue, one that has sent all is not.
    assert [s for s in split.statuses if s != 100] == [s for s in whole.statuses if s != 100]
    assert (split.error is None) is (whole.error is None)
    assert split.server.finished is whole.server.finished
    if split.error is not None and whole.error is not None:
        assert split.error.reason is whole.error.reason


@settings(max_examples=150, deadline=None)
@given(_NEARLY_HTTP)
def test_byte_by_byte_gives_the_same(data: bytes) -> None:
    whole = run([data], LIMITS, body_bytes=BODY_BYTES)
    split = run((data[i : i + 1] for i in range(len(data))), LIMITS, body_bytes=BODY_BYTES)
    assert split.requests == whole.requests
    assert [s for s in split.statuses if s != 100] == [s for s in whole.statuses if s != 100]


@settings(max_examples=150, deadline=None)
@given(_INPUTS)
def test_after_the_end_every_machine_is_finished(data: bytes) -> None:
    exchange = run([data], LIMITS, body_bytes=BODY_BYTES)
    if exchange.error is None:
        exchange.end()
    assert exchange.server.finished
    assert exchange.server.buffered == 0


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*REAL, *(attack.raw for attack in SYNTAX)]),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4),
)
def test_a_head_parses_or_is_the_peers_fault(raw: bytes, damage: list[tuple[int, bytes]]) -> None:
    for position, octets in damage:
        raw = raw[:position] + octets + raw[position + len(octets) :]
    try:
        head = parse_head(raw, HTTPLimits())
    except RemoteProtocolError as error:
        assert error.status in {400, 414, 417, 431}
    else:
        assert head.path.startswith("/")
        assert raw.endswith(b"\r\n\r\n")
