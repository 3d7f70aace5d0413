"""Every limit has its unit in its name, and the contract's defaults."""

from __future__ import annotations

import dataclasses

import pytest

from secure_net.limits import KIB, MIB, Limits

UNITS = ("_bytes", "_bytes_per_second", "_count", "_percent", "_ratio", "_seconds")

GROUPS = {group.name: getattr(Limits(), group.name) for group in dataclasses.fields(Limits)}
KEYS = [(group, field.name) for group, limits in GROUPS.items() for field in dataclasses.fields(limits)]


@pytest.mark.parametrize(("group", "key"), KEYS)
def test_a_limit_names_its_unit_and_is_positive(group: str, key: str) -> None:
    assert key.endswith(UNITS)
    assert getattr(GROUPS[group], key) > 0


def test_no_key_is_there_twice() -> None:
    keys = [key for _, key in KEYS]
    assert len(set(keys)) == len(keys), "[limits] is one flat table"


@pytest.mark.parametrize("group", GROUPS)
def test_limits_do_not_change_under_those_who_hold_them(group: str) -> None:
    limits = GROUPS[group]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(limits, dataclasses.fields(limits)[0].name, 1)


def test_the_contracts_defaults() -> None:
    """CONTRACTS, section 8."""
    limits = Limits()
    c, h, r, t = limits.connection, limits.http, limits.rpc, limits.token
    assert (c.connections_count, c.connections_per_source_count) == (10_000, 256)
    assert c.connections_per_principal_count == 128
    assert (c.handshakes_count, c.handshakes_random_count) == (256, 100)
    assert (c.handshake_seconds, c.authentication_seconds, c.idle_seconds) == (5, 10, 300)
    assert (c.write_stall_seconds, c.buffered_bytes, c.overload_percent) == (30, 512 * MIB, 80)
    assert (h.http_request_line_bytes, h.http_headers_bytes) == (8 * KIB, 32 * KIB)
    assert (h.http_headers_count, h.http_headers_seconds, h.http_keep_alive_seconds) == (100, 10, 75)
    assert (r.rpc_body_bytes, r.rpc_body_bytes_per_second, r.rpc_body_seconds) == (MIB, KIB, 5)
    assert (r.rpc_answer_bytes, r.rpc_call_seconds, r.rpc_multicall_count) == (8 * MIB, 30, 100)
    assert (r.xml_depth_count, r.xml_nodes_count, r.xml_method_name_bytes) == (32, 50_000, 255)
    assert (t.token_bytes, t.token_lifetime_seconds, t.token_skew_seconds) == (8 * KIB, 86_400, 30)


def test_an_outbox_holds_the_largest_answer() -> None:
    limits = Limits()
    assert limits.connection.outbox_bytes > limits.rpc.rpc_answer_bytes
    assert limits.connection.buffered_bytes > limits.connection.outbox_bytes
