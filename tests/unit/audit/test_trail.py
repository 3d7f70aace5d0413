"""The trail of a daemon: nothing waits for the disk but what must, and nothing is lost unsaid."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from secure_net.audit.chain import HEAD, Position, files_of
from secure_net.audit.reader import verify
from secure_net.audit.trail import (
    DIRECTORY,
    HEAD_SECONDS,
    KEY_FILE,
    PUBLIC_KEY_FILE,
    REFUSALS_SECONDS,
    SOURCES,
    AuditTrail,
    public_key,
    signing_key,
    timestamp,
)
from secure_net.errors import ConfigurationError, Refusal, StateDamagedError, StateError, StateFullError
from secure_net.store.files import Disk
from tests.support.clock import FakeClock
from tests.support.disk import FailingDisk


def lines_of(state: Path) -> list[dict[str, Any]]:
    files = files_of(state / DIRECTORY)
    return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]


def whats(state: Path) -> list[str]:
    return [line["what"] for line in lines_of(state)]


def drained(trail: AuditTrail) -> None:
    """What was put until now is written."""
    asyncio.run(trail.require("drained"))


def sound(state: Path, head: str = "") -> bool:
    report = verify(
        state / DIRECTORY, public_key(state / PUBLIC_KEY_FILE), head=Position.parse(head) if head else None
    )
    return report.sound and report.signed_to == report.last


class GatedDisk(Disk):
    """A disk that stands still until it is let go, and may be full then."""

    def __init__(self) -> None:
        self.full = False
        self.reached, self.gate = threading.Event(), threading.Event()

    def write(self, descriptor: int, data: bytes) -> None:
        if data.startswith(b"{"):
            self.reached.set()
            self.gate.wait(10)
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        super().write(descriptor, data)


def test_a_line_says_who_did_what_from_where_and_what_came_of_it(tmp_path: Path) -> None:
    trail = AuditTrail.open(tmp_path, FakeClock())
    trail.record(
        "rpc.call", who="bob", service="rpc", where="[fe80::1]:5", outcome="fault", method="m", token="t"
    )
    trail.close()
    first, head = lines_of(tmp_path)
    assert list(first) == [
        "sequence",
        "time",
        "where",
        "who",
        "service",
        "what",
        "outcome",
        "details",
        "previous",
    ]
    assert first["where"] == "[fe80::1]:5"
    assert first["time"] == "2027-01-15T08:00:00.000000Z"
    assert (first["who"], first["service"], first["what"], first["outcome"]) == (
        "bob",
        "rpc",
        "rpc.call",
        "fault",
    )
    assert first["details"] == {"method": "m", "token": "***"}
    assert head["what"] == "audit.head"
    assert sound(tmp_path)
    assert (tmp_path / DIRECTORY).stat().st_mode & 0o777 == 0o700


def test_what_is_required_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    trail = AuditTrail.open(tmp_path, FakeClock())

    async def main() -> int:
        trail.record("before")
        sequence = await trail.require("revoke", who="uid:0", name="bob")
        assert whats(tmp_path) == ["before", "revoke"]
        return sequence

    assert asyncio.run(main()) == 2
    trail.close()


def test_heads_are_signed_every_minute_while_something_happens(tmp_path: Path) -> None:
    clock, announced = FakeClock(), []
    trail = AuditTrail.open(tmp_path, clock, announce=announced.append)
    clock.advance(10 * HEAD_SECONDS)
    assert clock.pending == 0
    trail.record("a")
    clock.advance(HEAD_SECONDS - 1)
    drained(trail)
    assert announced == []
    clock.advance(1)
    clock.advance(10 * HEAD_SECONDS)
    assert clock.pending == 0
    drained(trail)
    trail.close()
    assert whats(tmp_path) == ["a", "drained", "audit.head", "drained", "audit.head"]
    assert trail.head == announced[-1]
    assert len(announced) == 2
    for head in announced:
        assert sound(tmp_path, head)


def test_closing_signs_nothing_twice_and_takes_nothing_more(tmp_path: Path) -> None:
    trail = AuditTrail.open(tmp_path, FakeClock())
    trail.close()
    assert whats(tmp_path) == []
    trail.record("too late")
    assert trail.dropped == 1
    with pytest.raises(StateError):
        drained(trail)


def test_refusals_are_one_line_a_second_and_service(tmp_path: Path) -> None:
    clock = FakeClock()
    trail = AuditTrail.open(tmp_path, clock)
    for number in range(1000):
        trail.refused("rpc", Refusal.HANDSHAKE, f"10.0.0.{number % 20}")
    trail.refused("rpc", Refusal.CREDENTIAL, "10.0.0.1")
    trail.refused("admin", Refusal.PLAINTEXT, "10.0.0.1")
    clock.advance(REFUSALS_SECONDS)
    trail.refused("admin", Refusal.PLAINTEXT, "10.0.0.2")
    trail.close()
    rpc, admin, later, head = lines_of(tmp_path)
    assert (rpc["service"], rpc["what"], rpc["outcome"]) == ("rpc", "refusals", "refused")
    assert rpc["details"]["reasons"] == {"handshake": 1000, "credential": 1}
    assert len(rpc["details"]["sources"]) == SOURCES + 1
    assert rpc["details"]["sources"]["others"] == 200
    assert sum(rpc["details"]["sources"].values()) == 1001
    assert admin["details"] == {"reasons": {"plaintext": 1}, "sources": {"10.0.0.1": 1}}
    assert later["details"]["sources"] == {"10.0.0.2": 1}
    assert head["what"] == "audit.head"
    assert clock.pending == 0


def test_a_stalled_disk_stops_nobody_and_the_trail_says_what_it_missed(tmp_path: Path) -> None:
    disk = GatedDisk()
    trail = AuditTrail.open(tmp_path, FakeClock(), disk=disk, capacity=5)
    trail.record("first")
    assert disk.reached.wait(10)
    for _ in range(12):
        trail.record("more")
    assert trail.dropped == 7
    disk.gate.set()
    trail.close()
    assert whats(tmp_path) == ["first", "audit.dropped", *["more"] * 5, "audit.head"]
    assert lines_of(tmp_path)[1]["details"] == {"count": 7}
    assert sound(tmp_path)


def test_what_must_be_recorded_fails_on_a_full_disk_and_the_rest_is_counted(tmp_path: Path) -> None:
    disk, clock = FailingDisk({"write"}), FakeClock()
    disk.failing = False
    trail = AuditTrail.open(tmp_path, clock, disk=disk)
    drained(trail)
    disk.failing = True
    trail.record("lost")
    trail.record("lost")
    with pytest.raises(StateFullError):
        asyncio.run(trail.require("revoke"))
    clock.advance(HEAD_SECONDS)
    with pytest.raises(StateFullError):
        asyncio.run(trail.require("revoke"))
    assert trail.dropped == 2
    assert trail.head == ""
    assert trail.failing
    disk.failing = False
    trail.record("after")
    trail.close()
    assert not trail.failing
    assert whats(tmp_path) == ["drained", "audit.dropped", "after", "audit.head"]
    assert lines_of(tmp_path)[1]["details"] == {"count": 2}
    assert sound(tmp_path)


def test_an_error_of_another_kind_is_a_state_error(tmp_path: Path) -> None:
    disk = FailingDisk({"write"}, errno.EBADF)
    disk.failing = False
    trail = AuditTrail.open(tmp_path, FakeClock(), disk=disk)
    drained(trail)
    disk.failing = True
    with pytest.raises(StateError, match="Bad file descriptor"):
        drained(trail)
    disk.failing = False
    trail.close()


def test_two_who_wait_get_errors_of_their_own(tmp_path: Path) -> None:
    disk = GatedDisk()
    trail = AuditTrail.open(tmp_path, FakeClock(), disk=disk)
    trail.record("first")

    async def main() -> list[BaseException | int]:
        await asyncio.to_thread(disk.reached.wait, 10)
        both = [asyncio.ensure_future(trail.require("x")) for _ in range(2)]
        await asyncio.sleep(0)
        disk.full = True
        disk.gate.set()
        return await asyncio.gather(*both, return_exceptions=True)

    one, two = asyncio.run(main())
    assert isinstance(one, StateFullError)
    assert isinstance(two, StateFullError)
    assert one is not two
    disk.full = False
    trail.close()


def test_a_restart_goes_on_with_the_same_key_and_chain(tmp_path: Path) -> None:
    for what in ("a", "b"):
        trail = AuditTrail.open(tmp_path, FakeClock())
        trail.record(what)
        trail.close()
    assert whats(tmp_path) == ["a", "audit.head", "b", "audit.head"]
    assert sound(tmp_path, trail.head)


def test_the_key_is_private_and_made_once(tmp_path: Path) -> None:
    first = signing_key(tmp_path)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / PUBLIC_KEY_FILE).stat().st_mode & 0o777 == 0o644
    assert signing_key(tmp_path).private_bytes_raw() == first.private_bytes_raw()
    assert public_key(tmp_path / PUBLIC_KEY_FILE).public_bytes_raw() == first.public_key().public_bytes_raw()
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        signing_key(tmp_path)


def pem(private: bool) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    if private:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize("content", [b"", b"junk", pem(private=True)])
def test_a_key_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(StateDamagedError):
        signing_key(tmp_path)


def test_a_key_that_is_missing_is_not_made_anew_beside_what_it_signed(tmp_path: Path) -> None:
    trail = AuditTrail.open(tmp_path, FakeClock())
    drained(trail)
    trail.close()
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(StateDamagedError, match="missing"):
        AuditTrail.open(tmp_path, FakeClock())


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, StateError), (b"junk", StateDamagedError), (pem(private=False), StateDamagedError)],
)
def test_a_public_key_that_is_none(tmp_path: Path, content: bytes | None, error: type[StateError]) -> None:
    if content is not None:
        (tmp_path / PUBLIC_KEY_FILE).write_bytes(content)
    with pytest.raises(error):
        public_key(tmp_path / PUBLIC_KEY_FILE)


@pytest.mark.parametrize("call", ["create", "sync", "sync_directory"])
def test_a_full_disk_at_the_first_start(tmp_path: Path, call: str) -> None:
    with pytest.raises(StateFullError):
        AuditTrail.open(tmp_path, FakeClock(), disk=FailingDisk({call}))


def test_times_are_utc_with_microseconds() -> None:
    assert timestamp(0.5) == "1970-01-01T00:00:00.500000Z"


def test_the_last_lines_newest_first_and_without_heads(tmp_path: Path) -> None:
    clock = FakeClock()
    trail = AuditTrail.open(tmp_path, clock)
    assert trail.recent(5) == ()
    for name in ("a", "b", "c"):
        trail.record("token.issue", name=name)
    clock.advance(HEAD_SECONDS)
    drained(trail)
    assert HEAD in whats(tmp_path)
    assert [line["what"] for line in trail.recent(10)] == ["drained"] + ["token.issue"] * 3
    assert [line["details"]["name"] for line in trail.recent(3)[1:]] == ["c", "b"]
    trail.close()


def test_of_the_last_lines_those_that_were_damaged_are_passed_over(tmp_path: Path) -> None:
    trail = AuditTrail.open(tmp_path, FakeClock())
    trail.record("a")
    trail.record("b")
    drained(trail)
    trail.close()
    (path,) = files_of(tmp_path / DIRECTORY)
    path.write_bytes(b"nonsense" + path.read_bytes()[8:])
    trail = AuditTrail.open(tmp_path, FakeClock())
    assert [line["what"] for line in trail.recent(10)] == ["drained", "b"]
    trail.close()
