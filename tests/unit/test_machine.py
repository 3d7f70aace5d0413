"""What every machine inherits."""

from __future__ import annotations

import pytest

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.machine import Machine


def test_a_machine_begins_without_a_wish() -> None:
    machine = Machine()
    assert (machine.phase, machine.allowance, machine.allowance_reason) == (0, None, Refusal.IDLE)
    assert (machine.wants_tls, machine.finished, machine.buffered) == (False, False, 0)
    assert machine.data_to_send() == b""


def test_a_phase_restarts_the_count_even_with_the_same_allowance() -> None:
    machine = Machine()
    machine._enter(5.0, Refusal.READ_DEADLINE)
    machine._enter(5.0, Refusal.READ_DEADLINE)
    assert (machine.phase, machine.allowance, machine.allowance_reason) == (2, 5.0, Refusal.READ_DEADLINE)


def test_a_passed_deadline_has_the_phases_reason() -> None:
    machine = Machine()
    machine._enter(5.0, Refusal.READ_DEADLINE)
    with pytest.raises(RemoteProtocolError) as caught:
        machine.deadline_passed()
    assert caught.value.reason is Refusal.READ_DEADLINE


def test_what_is_queued_leaves_once_and_in_order() -> None:
    machine, data = Machine(), bytes(10)
    machine.outgoing.append(data)
    assert machine.data_to_send() is data, "a single piece is not copied"
    outgoing = machine.outgoing
    outgoing += [b"one", b"two"]
    assert machine.data_to_send() == b"onetwo"
    assert machine.data_to_send() == b""
    assert machine.outgoing is outgoing, "the shell holds on to the list"


def test_what_a_protocol_has_to_say_itself() -> None:
    machine = Machine()
    with pytest.raises(NotImplementedError):
        machine.receive_data(b"x")
    with pytest.raises(NotImplementedError):
        machine.receive_eof(clean=True)
    with pytest.raises(NotImplementedError):
        machine.next_event()


def test_the_last_words_and_the_drain_that_most_protocols_have() -> None:
    machine = Machine()
    assert machine.farewell(RemoteProtocolError(Refusal.IDLE)) == b""
    machine.drain()
    assert machine.finished
