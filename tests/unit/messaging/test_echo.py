from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.limits import FrameLimits
from secure_net.messaging.echo import EchoMachine
from secure_net.messaging.frames import encode


def echoed(*pieces: bytes) -> bytes:
    machine = EchoMachine(FrameLimits())
    answers = b""
    for piece in pieces:
        machine.receive_data(piece)
        while (messages := machine.next_event()) is not None:
            machine.answer(messages)
        answers += machine.data_to_send()
    return answers


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_every_message_comes_back_in_order(messages: list[bytes]) -> None:
    data = b"".join(map(encode, messages))
    expected = b"".join(encode(b"ECHO: " + message) for message in messages)
    assert echoed(data) == expected
    assert echoed(*(data[i : i + 1] for i in range(len(data)))) == expected


def test_the_longest_message_is_the_one_whose_answer_fits_a_frame() -> None:
    assert len(echoed(encode(bytes(65_530)))) == 5 + 65_536
    with pytest.raises(RemoteProtocolError) as caught:
        echoed(b"65531")
    assert caught.value.reason is Refusal.TOO_LARGE


def test_a_header_is_as_wide_as_the_largest_frame_wants_it() -> None:
    machine = EchoMachine(FrameLimits(frame_bytes=100_000))
    machine.receive_data(b"000002hi")
    machine.answer(machine.next_event() or [])
    assert machine.data_to_send() == b"000008ECHO: hi"
