from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.errors import LocalProtocolError, Refusal, RemoteProtocolError
from secure_net.limits import FrameLimits
from secure_net.messaging.frames import FramedMachine, FrameReader, encode, encode_many, width_for

LARGEST = 65_536
PAYLOADS = st.lists(st.binary(max_size=40), max_size=10)


def read_all(reader: FrameReader, most: int = 64) -> list[bytes]:
    payloads: list[bytes] = []
    while batch := reader.next_batch(most):
        assert len(batch) <= most
        payloads += batch
    return payloads


def outcome(pieces: list[bytes], most: int = 64) -> tuple[list[bytes], Refusal | None, int]:
    """What is read before the first wrong header, what that is refused as, and what is left."""
    reader, payloads = FrameReader(LARGEST), []
    for piece in pieces:
        reader.receive(piece)
        try:
            while batch := reader.next_batch(most):
                payloads += batch
        except RemoteProtocolError as error:
            return payloads, error.reason, 0
    return payloads, None, reader.buffered


def split(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


def test_the_frames_of_the_chapter() -> None:
    assert encode(b"hello") == b"00005hello"
    assert encode(b"") == b"00000"
    assert encode_many([b"a", b"bc"]) == b"00001a00002bc"
    assert encode_many([b"a", b"b"], b"ECHO: ") == b"00007ECHO: a00007ECHO: b"
    assert encode_many([b"a", b"bc"], b"> ") == b"00003> a00004> bc"
    assert encode_many([]) == b""


def test_the_width_follows_from_the_largest_payload_and_is_never_less_than_five() -> None:
    assert [width_for(largest) for largest in (1, 65_536, 99_999, 100_000, 1_000_000)] == [5, 5, 5, 6, 7]
    assert encode(b"ab", 7) == b"0000002ab"
    reader = FrameReader(1_000_000)
    reader.receive(b"0000002ab")
    assert reader.next_batch() == [b"ab"]


def test_what_does_not_fit_the_header_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        encode(bytes(100_000))
    with pytest.raises(LocalProtocolError):
        encode_many([bytes(99_995), bytes(99_995)], b"ECHO: ")


@given(PAYLOADS, st.sampled_from([b"", b"ECHO: "]))
def test_whatever_is_encoded_is_read(payloads: list[bytes], prefix: bytes) -> None:
    data = encode_many(payloads, prefix)
    assert data == b"".join(encode(prefix + payload) for payload in payloads)
    assert outcome([data]) == ([prefix + payload for payload in payloads], None, 0)


HEADERS = st.one_of(
    st.sampled_from(
        [b"99999", b"-0001", b"+0012", b"1_000", b"0x010", b" 0012", b"65537", b"65536", b"0000"]
    ),
    st.binary(max_size=6),
)


@given(PAYLOADS, HEADERS, st.lists(st.integers(0, 9), max_size=30), st.integers(1, 3))
def test_any_split_reads_the_same(payloads: list[bytes], behind: bytes, sizes: list[int], most: int) -> None:
    data = encode_many(payloads) + behind
    assert outcome(split(data, sizes), most) == outcome([data])
    assert outcome([data[i : i + 1] for i in range(len(data))], most) == outcome([data])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    payloads, reason, left = outcome([data])
    assert reason in (None, Refusal.MALFORMED, Refusal.TOO_LARGE)
    if reason is None:
        assert sum(map(len, payloads)) + 5 * len(payloads) + left == len(data)


@pytest.mark.parametrize(
    "header", [b"-", b"+", b" ", b"x", b"1_", b"0x", b"1234a", b"\xef\xbc\x90", b"\x00", b"00 12"]
)
def test_a_header_is_refused_at_its_first_wrong_byte(header: bytes) -> None:
    reader = FrameReader(LARGEST)
    good = re.match(rb"[0-9]*", header)
    assert good is not None
    for byte in good[0]:
        reader.receive(bytes([byte]))
        assert reader.next_batch() == []
    reader.receive(header[good.end() : good.end() + 1])
    with pytest.raises(RemoteProtocolError) as caught:
        reader.next_batch()
    assert caught.value.reason is Refusal.MALFORMED


def test_a_length_that_is_too_large_is_refused_before_any_payload() -> None:
    reader = FrameReader(10)
    reader.receive(b"00010" + bytes(10) + b"00011")
    assert reader.next_batch() == [bytes(10)]
    for _ in range(2):  # and stays refused
        with pytest.raises(RemoteProtocolError) as caught:
            reader.next_batch()
        assert caught.value.reason is Refusal.TOO_LARGE


def test_a_frame_in_many_pieces_is_joined_once() -> None:
    reader = FrameReader(LARGEST)
    data = encode(bytes(60_000))
    for begin in range(0, len(data), 7):
        assert reader.next_batch() == []
        reader.receive(data[begin : begin + 7])
        assert len(reader._pieces) == begin // 7 + 1 or begin < 7
    assert reader.next_batch() == [bytes(60_000)]
    assert reader.buffered == 0
    reader.receive(b"")
    assert reader.next_batch() == []


@pytest.mark.parametrize("rest", [b"", b"0", b"00009abc"])
def test_nothing_is_kept_but_what_is_buffered(rest: bytes) -> None:
    """What was read with it is given back, or who falls silent behind a burst would cost a burst for ever."""
    reader = FrameReader(LARGEST)
    reader.receive(encode_many([b"x" * 100] * 200) + rest)
    assert len(read_all(reader)) == 200
    assert (sum(map(len, reader._pieces)), reader.buffered) == (len(rest), len(rest))
    reader.receive((b"00009abcdefghi" + encode(b"next"))[len(rest) :])
    assert read_all(reader) == [b"abcdefghi", b"next"]


def test_a_batch_is_bounded_and_the_rest_comes_next() -> None:
    reader = FrameReader(LARGEST)
    reader.receive(encode(b"x") * 150)
    assert [len(reader.next_batch()) for _ in range(4)] == [64, 64, 22, 0]


# -- the machine ----------------------------------------------------------------------------------------


def machine() -> FramedMachine:
    return FramedMachine(FrameLimits(frame_seconds=7.0))


def test_a_machine_hands_out_batches_and_tells_what_it_keeps() -> None:
    framed = machine()
    framed.receive_data(encode_many([b"a", b"b"]) + b"000")
    assert framed.buffered == 15
    assert framed.next_event() == [b"a", b"b"]
    assert framed.buffered == 3
    assert framed.next_event() is None
    framed.receive_data(b"01c")
    assert framed.next_event() == [b"c"]
    assert framed.buffered == 0


def test_a_frame_has_so_long_from_its_first_byte_to_its_last() -> None:
    framed = machine()
    assert (framed.allowance, framed.allowance_reason) == (None, Refusal.IDLE)
    framed.receive_data(b"0")
    assert framed.next_event() is None
    assert (framed.allowance, framed.allowance_reason) == (7.0, Refusal.READ_DEADLINE)
    phase = framed.phase
    framed.receive_data(b"0002a")
    assert framed.next_event() is None
    assert framed.phase == phase  # more of the same frame buys no time
    framed.receive_data(b"b" + b"00001")
    assert framed.next_event() == [b"ab"]
    assert framed.next_event() is None
    assert framed.phase > phase  # the next frame has its own
    assert framed.allowance == 7.0
    framed.receive_data(b"c")
    assert framed.next_event() == [b"c"]
    assert framed.next_event() is None
    with pytest.raises(RemoteProtocolError) as caught:
        framed.deadline_passed()
    assert caught.value.reason is Refusal.IDLE
    assert framed.allowance is None


def test_an_end_between_frames_is_an_end() -> None:
    for clean in (True, False):
        framed = machine()
        framed.receive_data(encode(b"a"))
        assert framed.next_event() == [b"a"]
        framed.receive_eof(clean=clean)
        assert framed.next_event() is None


def test_an_end_within_a_frame_is_truncated_once_the_frames_before_it_were_given_out() -> None:
    framed = machine()
    framed.receive_data(encode(b"a") + b"00002b")
    framed.receive_eof(clean=True)
    assert framed.next_event() == [b"a"]
    with pytest.raises(RemoteProtocolError) as caught:
        framed.next_event()
    assert caught.value.reason is Refusal.TRUNCATED


def test_a_cut_within_a_frame_is_truncated_at_once() -> None:
    framed = machine()
    framed.receive_data(b"00002b")
    assert framed.next_event() is None
    with pytest.raises(RemoteProtocolError) as caught:
        framed.receive_eof(clean=False)
    assert caught.value.reason is Refusal.TRUNCATED
