"""`revoke NAME`, through a daemon's socket and without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from secure_net.cli.main import WRONG_USAGE, run
from secure_net.cli.revoke import felt
from secure_net.control.socket import SOCKET_FILE, ControlServer
from secure_net.identity.certificates import read_crl
from secure_net.store.sqlite import SQLiteStore
from tests.support.clock import FakeClock
from tests.support.site import make_site


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "secure-net.toml").write_text("")
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    return tmp_path / "state"


def test_without_a_daemon_the_state_learns_it(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["revoke", "bob"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "bob is revoked: no daemon is running, the next one will know\n"
    assert "where it rests, `secure-net ca revoke SERIAL`" in shown.err
    assert shown.err.count("\n") == 1
    store = SQLiteStore.open(state)
    assert store.snapshot().names["bob"].revoked_before is not None
    store.close()


def test_with_a_daemon_the_daemon_does_it(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    async def perform(act: str, arguments: Mapping[str, Any], _: str) -> dict[str, Any]:
        asked.append((act, dict(arguments)))
        return {"epoch": 4, "connections_cut": 1}

    async def main() -> int:
        server = ControlServer(state / SOCKET_FILE, perform, FakeClock(), print)
        await server.start()
        try:
            return await asyncio.to_thread(run, ["revoke", "bob", "--json"])
        finally:
            await server.stop()

    assert asyncio.run(main()) == 0
    assert asked == [("revoke", {"name": "bob"})]
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"name": "bob", "daemon": True, "epoch": 4, "connections_cut": 1}


def test_the_ca_and_its_list_learn_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = make_site(tmp_path, capsys)
    assert site.run("ca", "renew", "demo") == 0
    assert site.run("revoke", "demo") == 0
    assert site.err == ""
    held = {
        record.serial: record.revoked_at > 0
        for record in site.pki.authority.records()
        if record.name == "demo"
    }
    assert list(held.values()) == [True, True]
    crl = read_crl((site.pki.certs / "crl.pem").read_bytes(), [site.pki.authority.certificate])
    assert crl.serials == set(held)
    assert site.run("revoke", "nobody") == 0
    again = read_crl((site.pki.certs / "crl.pem").read_bytes(), [site.pki.authority.certificate])
    assert again.number == crl.number


def test_what_is_no_name(state: Path) -> None:
    assert run(["revoke", "../bob"]) == WRONG_USAGE


def test_what_it_meant_for_those_who_were_connected() -> None:
    assert felt(1, running=True) == "1 connection cut"
    assert felt(2, running=True) == "2 connections cut"
