"""The parts of a daemon, wired together: reload, cutting off, what it logs and says of itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from secure_net import config
from secure_net.audit.trail import AuditTrail
from secure_net.clock import SystemClock
from secure_net.config import Configuration
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.parts import Parts
from secure_net.errors import Refusal
from secure_net.http.server import HTTPService
from secure_net.identity.certificates import RevocationList
from secure_net.metrics import Metrics
from secure_net.rpc.registry import Registry, inline
from secure_net.store import Snapshot
from tests.support.pki import PKI, make_pki

TEXT = """
[rpc]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[identities.demo]
scopes = ["rpc:call:**"]
[identities.admin]
scopes = ["*:*:**"]
"""


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def _note(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.lines.append((level, event, fields))

    def __getattr__(self, level: str) -> Callable[..., None]:
        return self._note(level)


@dataclasses.dataclass
class Built:
    parts: Parts
    lines: Lines
    trail: AuditTrail
    pki: PKI


def build(pki: PKI, state: Path, snapshot: Snapshot | None = None) -> Built:
    clock, lines = SystemClock(), Lines()
    registry = Registry()

    @registry.method("math.double")
    @inline
    def double(value: int) -> int:
        return 2 * value

    state.mkdir(mode=0o700, exist_ok=True)
    trail = AuditTrail.open(state, clock)
    parts = Parts(
        inputs(pki, clock.wall()),
        snapshot or Snapshot(),
        registry,
        clock=clock,
        metrics=Metrics(),
        trail=trail,
        logger=lines,  # type: ignore[arg-type]
        checks={"state": lambda: "full", "serving": str},
    )
    return Built(parts, lines, trail, pki)


def inputs(pki: PKI, now: float, text: str = TEXT, running: Configuration | None = None) -> Inputs:
    return Inputs.load(config.parse(text, pki.directory / "secure-net.toml", {}), now, running)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("parts"))


def within(
    pki: PKI, state: Path, test: Callable[[Built], Coroutine[Any, Any, None]], **build_with: Any
) -> None:
    """Run `test` with a parts whose listeners are up."""

    async def run() -> None:
        built = build(pki, state, **build_with)
        try:
            for listener in built.parts.listeners.values():
                listener.start()
            await test(built)
        finally:
            for listener in built.parts.listeners.values():
                await listener.drain(0)
            built.parts.close()
            built.trail.close()

    asyncio.run(run())


def test_every_configured_service_listens(pki: PKI, tmp_path: Path) -> None:
    async def test(built: Built) -> None:
        listening = built.parts.listening
        assert list(listening) == ["rpc", "admin"]
        assert all(address.host == "127.0.0.1" and address.port for (address,) in listening.values())

    within(pki, tmp_path / "state", test)


def test_what_the_store_holds_counts_from_the_start(pki: PKI, tmp_path: Path) -> None:
    snapshot = Snapshot(epoch=4, revoked_tokens={"t": 1.0}, identities={"demo": ("rpc:call:a",)})

    async def test(built: Built) -> None:
        assert built.parts.revocations.counts == (0, 1, 0)
        entry = built.parts.policy.entry("demo")
        assert entry is not None
        assert [str(scope) for scope in entry.scopes] == ["rpc:call:a"]

    within(pki, tmp_path / "state", test, snapshot=snapshot)


def test_a_reload_changes_what_new_connections_get(pki: PKI, tmp_path: Path) -> None:
    text = TEXT.replace("rpc:call:**", "rpc:call:x") + "[limits]\nidle_seconds = 7\nrpc_call_seconds = 3\n"
    text += '[tls]\nclient_certificates = "required"\n[log]\nlevel = "debug"\n'

    async def test(built: Built) -> None:
        parts = built.parts
        old_service, epoch = parts.listeners["rpc"].service, parts.authenticator.epoch
        fresh = inputs(pki, parts.clock.wall(), text, parts.inputs.configuration)
        assert fresh.needs_restart == ("log.level",)
        parts.apply(fresh)
        assert parts.shell.limits.idle_seconds == 7
        assert parts._parts["rpc"].dispatcher.limits.rpc_call_seconds == 3
        service = parts.listeners["rpc"].service
        assert service is not old_service
        assert service.tls.client_certificates == "required"
        assert parts.authenticator.epoch > epoch
        entry = parts.policy.entry("demo")
        assert entry is not None
        assert not entry.allows("rpc", "call", "math.double")

    within(pki, tmp_path / "state", test)


def test_what_was_loaded_is_served_whatever_became_of_the_files(tmp_path: Path) -> None:
    """Every service by the same certificate; one whose table is gone stays until a restart."""
    text = TEXT.replace('[admin]\nlisten = "127.0.0.1:0"\n', "") + '[tls]\nminimum = "1.2"\n'
    pki = make_pki(tmp_path / "pki")

    async def test(built: Built) -> None:
        parts = built.parts
        fresh = inputs(pki, parts.clock.wall(), text, parts.inputs.configuration)
        (pki.certs / "server.pem").unlink()
        (pki.certs / "server.key").write_text("")
        parts.apply(fresh)
        assert parts.inputs is fresh
        shown = set()
        for (address,) in parts.listening.values():
            connection = await asyncio.to_thread(_handshake, pki, "demo", *address)
            shown.add(connection.getpeercert(binary_form=True))
            connection.close()
        assert shown == {fresh.material.certificate.public_bytes(Encoding.DER)}

    within(pki, tmp_path / "state", test)


def test_who_is_revoked_is_cut_off_and_nobody_else(pki: PKI, tmp_path: Path) -> None:
    async def test(built: Built) -> None:
        parts = built.parts
        (host, port) = parts.listeners["rpc"].listen_addrs[0]
        opened = {
            name: await asyncio.to_thread(_handshake, built.pki, name, host, port)
            for name in ("demo", "metrics")
        }
        try:
            async with asyncio.timeout(10):
                await _both_known(parts)
            assert parts.cut_off() == 0
            parts.revocations.revoke_name("demo", parts.clock.wall())
            assert parts.cut_off() == 1
            assert parts.cut_off() == 0
            answer = await asyncio.to_thread(opened["demo"].recv, 4096)
            assert b"401" in answer or answer == b""
            assert "metrics" in parts.shell.live.principals()
        finally:
            for connection in opened.values():
                connection.close()

    within(pki, tmp_path / "state", test)


async def _both_known(parts: Parts) -> None:
    """A client's handshake is over before the server has seen the end of it."""
    while len(parts.shell.live.principals()) < 2:  # noqa: ASYNC110 - the shell announces nothing to wait for
        await asyncio.sleep(0)


def _handshake(pki: PKI, name: str, host: str, port: int) -> Any:
    import socket
    import ssl

    context = ssl.create_default_context(cafile=str(pki.ca))
    certificate, key = pki.client(name)
    context.load_cert_chain(certificate, key)
    return context.wrap_socket(socket.create_connection((host, port)), server_hostname="localhost")


def test_refusals_reach_the_log_and_the_trail(pki: PKI, tmp_path: Path) -> None:
    async def test(built: Built) -> None:
        built.parts.log("connection_refused", service="rpc", peer="127.0.0.1:1", reason=Refusal.IDLE.value)
        built.parts.log("internal_error", service="rpc", reference="ab", error=ValueError("x"))
        built.parts.log("something", service="rpc")
        for reason in (Refusal.CREDENTIAL, Refusal.CERTIFICATE_INVALID):
            built.parts.log("connection_refused", service="rpc", peer="127.0.0.1:2", reason=reason.value)
        levels = [(level, fields.get("reason")) for level, _, fields in built.lines.lines]
        assert levels == [
            ("info", "idle"),
            ("error", None),
            ("info", None),
            ("always", "credential"),
            ("always", "certificate_invalid"),
        ]

    within(pki, tmp_path / "state", test)
    trail = "".join(path.read_text() for path in (tmp_path / "state" / "audit").iterdir())
    assert '"refusals"' in trail
    assert "idle" in trail


def test_the_trail_counts_refusals_by_source_and_not_by_port(pki: PKI, tmp_path: Path) -> None:
    peers = [
        "127.0.0.1:1",
        "127.0.0.1:2",
        "127.0.0.1",
        "[2001:db8::1]:5",
        "2001:db8::2",
        "[::ffff:127.0.0.1]:9",
    ]

    async def test(built: Built) -> None:
        for peer in peers:
            built.parts.log("connection_refused", service="rpc", peer=peer, reason=Refusal.IDLE.value)

    within(pki, tmp_path / "state", test)
    lines = "".join(path.read_text() for path in (tmp_path / "state" / "audit").iterdir()).splitlines()
    (details,) = [line["details"] for line in map(json.loads, lines) if line.get("what") == "refusals"]
    assert details["sources"] == {"127.0.0.1": 4, "2001:db8::/64": 2}


def test_revocations_are_counted_and_what_is_given_back_is_not(pki: PKI, tmp_path: Path) -> None:
    async def test(built: Built) -> None:
        parts = built.parts
        parts.import_crl(RevocationList(1, 0.0, 9e9, frozenset({"a", "b"})))
        parts.import_crl(RevocationList(2, 0.0, 9e9, frozenset({"b", "c"})))
        assert parts.metrics.revocations == 3
        parts.count_revocation()
        parts.revocations.lock_name("demo", 1.0)
        parts.revocations.unlock_name("demo")
        assert parts.metrics.revocations == 4

    within(pki, tmp_path / "state", test)


def test_the_status_is_whole(pki: PKI, tmp_path: Path) -> None:
    async def test(built: Built) -> None:
        now = built.parts.clock.wall()
        status = built.parts.status(started_at=now - 5, draining=False, log_dropped=3)
        assert [service.name for service in status.services] == ["rpc", "admin"]
        assert [certificate.file for certificate in status.certificates] == ["server.pem", "ca.pem"]
        assert status.certificates[0].names == tuple(sorted(built.parts.inputs.material.names))
        assert 390 < status.certificates[0].days_left < 398
        assert status.uptime_seconds >= 5
        assert status.records.log_dropped == 3
        assert status.problems == {"state": "full"}
        assert status.activity is not None
        assert set(status.activity.series) == {"calls", "connections", "refused"}
        assert built.parts.metrics.certificates() == built.parts.inputs.certificate_ends
        assert built.parts.metrics.crl_expiry() is None
        assert built.parts.metrics.buffered_bytes() == 0

    within(pki, tmp_path / "state", test)


def test_the_status_has_refusals_by_reason_and_the_last_lines(pki: PKI, tmp_path: Path) -> None:
    async def test(built: Built) -> None:
        built.parts.metrics.service("rpc").refuse(Refusal.IDLE)
        await built.trail.require("revoke", who="uid:0", name="x")
        status = built.parts.status(started_at=0.0, draining=False, log_dropped=0)
        assert [service.refused for service in status.services] == [{"idle": 1}, {}]
        assert [line["what"] for line in status.audit] == ["revoke"]

    within(pki, tmp_path / "state", test)


def test_the_status_page_is_of_its_own_origins(pki: PKI, tmp_path: Path) -> None:
    async def test(built: Built) -> None:
        ((_, port),) = built.parts.listeners["admin"].listen_addrs
        found = built.parts._origins("admin")
        assert f"https://localhost:{port}" in found
        assert all(origin.endswith(f":{port}") for origin in found)
        service = built.parts.listeners["admin"].service
        assert isinstance(service, HTTPService)
        answer = await asyncio.to_thread(_page, pki, port)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Not ready: state: full" in answer

    within(pki, tmp_path / "state", test)


def _page(pki: PKI, port: int) -> bytes:
    with _handshake(pki, "admin", "127.0.0.1", port) as connection:
        connection.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))
