"""The acts: checked, recorded before they are done, durable, and felt by those who are connected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_net.audit.chain import files_of
from secure_net.audit.trail import DIRECTORY, AuditTrail
from secure_net.control.acts import ACTS, FORGET_TOKENS_SECONDS, Administration, Running
from secure_net.errors import ConfigurationError, LocalProtocolError, StateError, StateFullError
from secure_net.identity.policy import Grant, Policy
from secure_net.identity.revocation import Revocations
from secure_net.store import CertificateRecord, NameRecord, TokenKeyRecord
from secure_net.store.sqlite import SQLiteStore
from tests.support.clock import FakeClock
from tests.support.disk import FailingDisk
from tests.unit.control.test_status import STATUS

SERIAL = "0123456789abcdef0123456789abcdef"


class Rig:
    """The acts on a real store and trail, with what a daemon would bring."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.clock = FakeClock()
        self.disk = FailingDisk({"write"})
        self.disk.failing = False
        self.store = SQLiteStore.open(state)
        self.audit = AuditTrail.open(state, self.clock, disk=self.disk)
        self.revocations = Revocations()
        self.policy = Policy({"configured": Grant.parse(["echo:use"])})
        self.cuts = self.counted = 0
        self.reloading: Exception | None = None
        running = Running(self.revocations, self.policy, self._cut, lambda: STATUS, self._reload, self._count)
        self.acts = Administration(self.store, self.audit, self.clock, running)
        self.offline = Administration(self.store, self.audit, self.clock)

    def _count(self) -> None:
        self.counted += 1

    def _cut(self) -> int:
        self.cuts += 1
        return 3

    async def _reload(self) -> dict[str, Any]:
        if self.reloading is not None:
            raise self.reloading
        return {"restart_needed": []}

    def perform(self, act: str, **arguments: Any) -> dict[str, Any]:
        return asyncio.run(self.acts.perform(act, arguments, "uid:7"))

    def perform_offline(self, act: str, **arguments: Any) -> dict[str, Any]:
        return asyncio.run(self.offline.perform(act, arguments, "uid:7"))

    def recorded(self) -> list[tuple[str, str, str]]:

        asyncio.run(self.audit.require("end"))
        files = files_of(self.state / DIRECTORY)
        lines = [json.loads(line) for path in files for line in path.read_bytes().splitlines()]
        return [(line["what"], line["who"], line["outcome"]) for line in lines if line["what"] != "end"]

    def close(self) -> None:
        self.disk.failing = False
        self.audit.close()
        self.store.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_revoking_a_name_is_recorded_kept_and_felt(rig: Rig) -> None:
    assert rig.perform("revoke", name="bob") == {"epoch": 1, "connections_cut": 3}
    now = rig.clock.wall()
    assert rig.store.snapshot().names == {"bob": NameRecord(now, now)}
    assert "bob" in rig.revocations._blocked
    assert rig.cuts == 1
    assert rig.recorded() == [("revoke", "uid:7", "begun"), ("revoke", "uid:7", "done")]


def test_locking_blocks_and_unlocking_lifts_it_with_nothing_revoked(rig: Rig) -> None:
    rig.perform("lock", name="bob")
    assert "bob" in rig.revocations._blocked
    assert rig.store.snapshot().names == {"bob": NameRecord(rig.clock.wall(), None)}
    rig.perform("unlock", name="bob")
    assert "bob" not in rig.revocations._blocked
    assert rig.store.snapshot().names == {"bob": NameRecord(None, None)}
    assert rig.revocations._revoked_before == {}


def test_locking_a_name_that_was_revoked_keeps_it_revoked(rig: Rig) -> None:
    rig.perform("revoke", name="bob")
    rig.perform("lock", name="bob")
    rig.perform("unlock", name="bob")
    assert rig.revocations._revoked_before == {"bob": rig.clock.wall()}
    assert rig.store.snapshot().names == {"bob": NameRecord(None, rig.clock.wall())}


def test_what_takes_away_is_counted_and_what_gives_is_not(rig: Rig) -> None:
    rig.perform("revoke", name="bob")
    rig.perform("lock", name="eve")
    rig.perform("revoke_token", jti="j-1")
    rig.perform("revoke_certificate", serial=SERIAL)
    rig.perform("unlock", name="bob")
    rig.perform("put_identity", name="bob", scopes=["echo:use"])
    assert rig.counted == 4


def test_revoking_tokens_and_certificates(rig: Rig) -> None:
    rig.perform("revoke_token", jti="j-1")
    rig.perform("revoke_certificate", serial=SERIAL, reason="lost")
    rig.perform("revoke_certificate", serial="ab")
    snapshot = rig.store.snapshot()
    assert snapshot.revoked_tokens == {"j-1": rig.clock.wall()}
    assert set(snapshot.revoked_certificates) == {SERIAL, "ab".rjust(32, "0")}
    assert rig.revocations._tokens == {"j-1"}
    assert rig.revocations._certificates == {SERIAL, "ab".rjust(32, "0")}
    assert rig.cuts == 3
    rig.clock.jump_wall(FORGET_TOKENS_SECONDS + 1)
    rig.perform("revoke_token", jti="j-2")
    assert set(rig.store.snapshot().revoked_tokens) == {"j-2"}


def test_giving_scopes(rig: Rig) -> None:
    answer = rig.perform("put_identity", name="bob", scopes=["rpc:call:math.*", "echo:use", "echo:use"])
    assert answer == {"epoch": 1, "name": "bob", "scopes": ["rpc:call:math.*", "echo:use"]}
    assert rig.store.snapshot().identities == {"bob": ("rpc:call:math.*", "echo:use")}
    assert rig.policy.entry("bob") == Grant.parse(["rpc:call:math.*", "echo:use"])
    with pytest.raises(LocalProtocolError, match="a scope is"):
        rig.perform("put_identity", name="bob", scopes=["nonsense"])
    assert rig.recorded()[-1] == ("put_identity", "uid:7", "failed")


def test_recording_what_was_issued(rig: Rig) -> None:
    rig.perform("record_certificate", serial=SERIAL, name="bob", kind="client", not_before=1.0, not_after=2.0)
    rig.perform("record_token_key", kid="k1", created_at=1.0)
    snapshot = rig.store.snapshot()
    assert snapshot.certificates == {SERIAL: CertificateRecord(SERIAL, "bob", "client", 1.0, 2.0)}
    assert snapshot.token_keys == {"k1": TokenKeyRecord("k1", 1.0)}


def test_what_a_command_does_itself_is_recorded_as_it_says(rig: Rig) -> None:
    begun = rig.perform("begin", what="ca.issue", kind="client", name="bob")["begun"]
    assert rig.perform("end", what="ca.issue", begun=begun, outcome="failed") == {}
    assert rig.recorded() == [("ca.issue", "uid:7", "begun"), ("ca.issue", "uid:7", "failed")]
    for wrong in ({"what": "revoke"}, {"what": "ca.crl", "who": "uid:0"}):
        with pytest.raises(LocalProtocolError):
            rig.perform("begin", **wrong)
    rig.disk.failing = True
    with pytest.raises(StateFullError):
        rig.perform("begin", what="ca.crl")


def test_listing_names(rig: Rig) -> None:
    rig.perform("put_identity", name="given", scopes=["echo:use"])
    rig.perform("revoke", name="gone")
    rig.perform("unlock", name="gone")
    rig.perform("record_certificate", serial="1", name="held", kind="client", not_before=1.0, not_after=2.0)
    rig.perform("record_certificate", serial="2", name="host", kind="server", not_before=1.0, not_after=2.0)
    names = {entry.pop("name"): entry for entry in rig.perform("list")["names"]}
    assert list(names) == ["configured", "given", "gone", "held"]
    assert names["configured"]["scopes"] == names["given"]["scopes"] == ["echo:use"]
    assert names["gone"] == {
        "scopes": [],
        "locked": False,
        "blocked_since": None,
        "revoked_before": rig.clock.wall(),
        "certificates": 0,
    }
    assert names["held"]["certificates"] == 1
    assert "configured" not in [entry["name"] for entry in rig.perform_offline("list")["names"]]


def test_looking_is_not_recorded(rig: Rig) -> None:
    assert rig.perform("status")["services"][0]["name"] == "rpc"
    rig.perform("list")
    assert rig.recorded() == []


def test_reload_and_its_refusal(rig: Rig) -> None:
    assert rig.perform("reload") == {"restart_needed": []}
    rig.reloading = ConfigurationError("rpc.listen", "is taken")
    with pytest.raises(ConfigurationError, match="is taken"):
        rig.perform("reload")
    assert [outcome for _, _, outcome in rig.recorded()] == ["begun", "done", "begun", "failed"]


def test_a_backup(rig: Rig, tmp_path: Path) -> None:
    target = str(tmp_path / "copy")
    assert rig.perform("backup", path=target) == {"path": target}
    assert Path(target).stat().st_mode & 0o777 == 0o600
    with pytest.raises(StateError, match="not overwritten"):
        rig.perform("backup", path=target)


def test_without_a_daemon_the_state_learns_all_the_same(rig: Rig) -> None:
    assert rig.perform_offline("revoke", name="bob") == {"epoch": 1, "connections_cut": 0}
    assert rig.perform_offline("put_identity", name="amy", scopes=["echo:use"])["epoch"] == 2
    assert rig.store.snapshot().names["bob"].blocked_since is not None
    assert "bob" not in rig.revocations._blocked
    for act in ("status", "reload"):
        with pytest.raises(StateError, match="no daemon"):
            rig.perform_offline(act)


def test_what_cannot_be_recorded_is_not_done(rig: Rig) -> None:
    rig.perform("list")
    rig.audit.record("first")  # the file is there: what fails is a write to it
    rig.recorded()
    rig.disk.failing = True
    for act, arguments in (
        ("revoke", {"name": "bob"}),
        ("lock", {"name": "bob"}),
        ("put_identity", {"name": "bob", "scopes": []}),
        (
            "record_certificate",
            {"serial": "1", "name": "b", "kind": "client", "not_before": 1, "not_after": 2},
        ),
        ("backup", {"path": str(rig.state / "copy")}),
        ("reload", {}),
    ):
        with pytest.raises(StateFullError):
            rig.perform(act, **arguments)
    snapshot = rig.store.snapshot()
    assert (snapshot.epoch, snapshot.names, snapshot.identities, snapshot.certificates) == (0, {}, {}, {})
    assert (rig.cuts, "bob" in rig.revocations._blocked) == (0, False)
    assert not (rig.state / "copy").exists()


@pytest.mark.parametrize(
    ("act", "arguments"),
    [
        ("__init__", {}),
        ("perform", {}),
        ("", {}),
        ("revoke", {}),
        ("revoke", {"name": "Bob"}),
        ("revoke", {"name": "bob\n"}),
        ("revoke", {"name": "a" * 65}),
        ("revoke", {"name": 5}),
        ("revoke", {"name": "bob", "more": 1}),
        ("revoke_token", {"jti": ""}),
        ("revoke_token", {"jti": "a b"}),
        ("revoke_certificate", {"serial": "xyz"}),
        ("revoke_certificate", {"serial": "a" * 41}),
        ("revoke_certificate", {"serial": "ab", "reason": "x" * 201}),
        ("backup", {"path": "relative"}),
        ("backup", {"path": "/nul\x00"}),
        ("put_identity", {"name": "bob", "scopes": "echo:use"}),
        ("record_certificate", {"serial": "1", "name": "b", "kind": "root", "not_before": 1, "not_after": 2}),
        ("status", {"verbose": True}),
    ],
)
def test_what_does_not_fit_is_neither_done_nor_recorded(
    rig: Rig, act: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(LocalProtocolError):
        asyncio.run(rig.acts.perform(act, arguments, "uid:7"))
    assert rig.recorded() == []


def test_every_act_that_changes_something_is_recorded() -> None:
    assert {name for name, act in ACTS.items() if not act.recorded} == {"list", "status"}
