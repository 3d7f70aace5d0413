"""What a reload may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_net import config
from secure_net.config import Configuration
from secure_net.daemon.reload import changed_keys, effective
from secure_net.limits import ChatLimits, FrameLimits

BEFORE = """
[server]
names = ["localhost"]
[rpc]
services = ["a:b"]
[identities.demo]
scopes = ["rpc:call:a"]
"""


def parse(text: str) -> Configuration:
    return config.parse(text, Path("/srv/secure-net.toml"), {})


@pytest.mark.parametrize(
    ("text", "waiting"),
    [
        (BEFORE, ()),
        (BEFORE + "[limits]\nidle_seconds = 1", ()),
        (BEFORE.replace("rpc:call:a", "rpc:call:b"), ()),
        (BEFORE + '[tls]\nminimum = "1.2"\ndirectory = "other"', ()),
        (BEFORE.replace("[rpc]", '[rpc]\nclient_certificates = "required"'), ()),
        (BEFORE.replace("localhost", "rpc.example.org"), ("server.names",)),
        (BEFORE.replace("[server]", '[server]\nstate = "other"'), ("server.state",)),
        (BEFORE.replace("a:b", "c:d"), ("rpc.services",)),
        (BEFORE.replace("[rpc]", '[rpc]\nlisten = "127.0.0.1:1"'), ("rpc.listen",)),
        (BEFORE + "[admin]", ("admin",)),
        (
            BEFORE + "[limits]\nfiles_threads_count = 1\nfiles_ranges_count = 1",
            ("limits.files_threads_count",),
        ),
        (
            BEFORE + "[limits]\nframe_bytes = 300_000\nchat_body_bytes = 200_000\nchat_page_count = 7\n"
            "frame_seconds = 1\nchat_rooms_count = 3",
            ("limits.chat_body_bytes", "limits.chat_page_count", "limits.frame_bytes"),
        ),
        ("", ("rpc",)),
        (BEFORE + '[log]\nlevel = "debug"', ("log.level",)),
        (
            BEFORE + "[limits]\nrpc_threads_count = 1\ntoken_bytes = 100",
            ("limits.rpc_threads_count", "limits.token_bytes"),
        ),
    ],
)
def test_what_has_to_wait_for_a_restart_is_named(text: str, waiting: tuple[str, ...]) -> None:
    before, after = parse(BEFORE), parse(text)
    kept = effective(before, after)
    assert changed_keys(kept, after) == waiting
    assert changed_keys(effective(kept, after), after) == waiting


def test_what_can_change_does() -> None:
    after = parse(
        BEFORE.replace('names = ["localhost"]', 'names = ["x"]\ndrain_seconds = 1')
        + '[limits]\nidle_seconds = 1\nrpc_call_seconds = 2\n[tls]\nminimum = "1.2"'
    )
    kept = effective(parse(BEFORE), after)
    assert kept.server.names == ("localhost",)
    assert kept.server.drain_seconds == 1
    assert kept.limits.connection.idle_seconds == 1
    assert kept.limits.rpc.rpc_call_seconds == 2
    assert kept.minimum("rpc") == "1.2"


def test_members_keep_the_sizes_that_they_were_welcomed_with_and_nothing_else() -> None:
    """Or one who came later could say what those who are here cannot be sent, and could not read."""
    before = parse(BEFORE)
    sizes = "frame_bytes = 300_000\nchat_body_bytes = 200_000\nchat_page_count = 7\n"
    kept = effective(before, parse(BEFORE + f"[limits]\n{sizes}frame_seconds = 1\nchat_rooms_count = 3"))
    assert kept.limits.frame == FrameLimits(frame_seconds=1)
    assert kept.limits.chat == ChatLimits(chat_rooms_count=3)


def test_a_table_that_both_have_is_compared_key_by_key() -> None:
    one, other = parse("[rpc]\n[admin]"), parse('[rpc]\nlisten = "h:1"\n[admin]')
    assert changed_keys(one, other) == ("rpc.listen",)
    assert changed_keys(parse(BEFORE), parse("")) == ("identities.demo", "rpc")
