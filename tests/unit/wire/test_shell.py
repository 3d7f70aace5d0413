"""What all connections share: who is connected from where, as whom, and what counts as overload."""

from __future__ import annotations

import pytest

from secure_net.limits import ConnectionLimits
from secure_net.wire.channel import Channel
from secure_net.wire.shell import LiveConnections, Shell, source_of
from tests.support.clock import FakeClock
from tests.support.machines import Person


class Somebody:
    """As much of a channel as is counted."""

    def __init__(self, source: str = "127.0.0.1", name: str = "") -> None:
        self.source = source
        self.principal = Person(name) if name else None


def somebody(live: LiveConnections, source: str = "127.0.0.1", name: str = "") -> Channel:
    connection: Channel = Somebody(source, name)  # type: ignore[assignment]  # a fake
    live.opened(connection)
    if name:
        live.bound(connection, name)
    return connection


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::1", "::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_sources(address: str, source: str) -> None:
    assert source_of(address) == source


def test_connections_are_counted_by_source() -> None:
    live = LiveConnections()
    first, second = somebody(live), somebody(live)
    other = somebody(live, "::/64")
    assert (len(live), live.from_source("127.0.0.1"), live.from_source("::/64")) == (3, 2, 1)
    assert set(live) == {first, second, other}
    live.closed(first)
    live.closed(first)
    assert live.from_source("127.0.0.1") == 1
    live.closed(second)
    live.closed(other)
    assert len(live) == live.from_source("127.0.0.1") == 0
    assert live.from_source("elsewhere") == 0


def test_a_connection_may_close_while_all_are_gone_through() -> None:
    live = LiveConnections()
    for _ in range(3):
        somebody(live)
    for connection in live:
        live.closed(connection)
    assert len(live) == 0


def test_connections_are_counted_by_principal() -> None:
    live = LiveConnections()
    first, second = somebody(live, name="b"), somebody(live, name="b")
    somebody(live, name="a")
    assert live.principals() == {"a": 1, "b": 2}
    assert (live.of("b"), live.of("nobody")) == (2, 0)
    live.closed(first)
    live.unbound(second, "b")
    live.unbound(second, "nobody")
    assert live.principals() == {"a": 1}


def test_the_longest_handshake() -> None:
    live = LiveConnections()
    first, second = somebody(live), somebody(live)
    assert live.longest_handshake() is None
    for connection in (first, second, first):  # begun twice, its place is the first time's
        live.handshake_begun(connection)
    assert (live.handshakes, live.longest_handshake()) == (2, first)
    live.handshake_done(first)
    live.handshake_done(first)
    live.handshake_answered(first)
    assert live.longest_handshake() is second
    live.closed(second)
    assert (live.handshakes, live.longest_handshake()) == (0, None)


def test_room_is_made_where_the_flood_is() -> None:
    live = LiveConnections()
    first, second, third, fourth = [somebody(live) for _ in range(4)]
    for connection in (first, second, third, fourth):
        live.handshake_begun(connection)
    live.handshake_answered(second)
    live.handshake_answered(second)
    assert (live.handshakes, live.longest_handshake()) == (4, first)  # three are silent
    live.handshake_answered(fourth)
    live.handshake_answered(first)
    assert (live.handshakes, live.longest_handshake()) == (4, second)  # one is
    live.closed(second)
    live.handshake_done(fourth)
    live.handshake_done(first)
    assert (live.handshakes, live.longest_handshake()) == (1, third)
    live.closed(third)
    assert (live.handshakes, live.longest_handshake()) == (0, None)


def test_deadlines_shorten_above_a_share_of_the_cap_and_not_at_it() -> None:
    shell = Shell(FakeClock(), ConnectionLimits(connections_count=10), None, lambda *_, **__: None)
    for _ in range(8):
        somebody(shell.live)
    assert not shell.stressed
    assert shell.shortened(10.0) == 10.0
    somebody(shell.live)
    assert shell.stressed
    assert shell.shortened(10.0) == 2.0
