"""One service without the daemon: what it goes by, and how it starts and ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from secure_net import config
from secure_net.daemon.core import Core
from secure_net.daemon.services import EchoPart
from secure_net.daemon.standalone import InThread, Standalone, configured
from secure_net.errors import ConfigurationError
from secure_net.metrics import Metrics
from secure_net.tables import EchoTable
from tests.support.pki import PKI, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


class Counted(EchoPart):
    """Notes how it ends."""

    ends: list[str]

    def drain(self, seconds: float) -> None:
        self.ends.append(f"drain {seconds:g}")

    def close(self) -> None:
        self.ends.append("close")


def counted(ends: list[str]) -> Standalone:
    def make(core: Core, configuration: config.Configuration) -> Counted:
        part = Counted(core)
        part.ends = ends
        return part

    return Standalone("echo", make, Metrics())


def only_echo(found: config.Configuration) -> dict[str, EchoTable]:
    return {"echo": EchoTable()}


def test_a_directory_takes_the_place_of_a_configuration(pki: PKI) -> None:
    found = configured(pki.certs, {"demo": ["echo:use"]}, only_echo)
    assert list(found.services) == ["echo"]
    assert found.server.audience == pki.trust_domain
    assert found.identities["demo"].scopes == ("echo:use",)


def test_a_configuration_keeps_all_but_its_other_services(
    pki: PKI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secure-net.toml"
    file.write_text("[rpc]\n[chat]\n[admin]\n[identities.a]\nscopes = []\n[limits]\nidle_seconds = 3")
    monkeypatch.setenv("SECURE_NET_CONFIG", str(file))
    found = configured(None, {"b": ["echo:use"]}, only_echo)
    assert list(found.services) == ["echo"]
    assert set(found.identities) == {"a", "b"}
    assert found.limits.connection.idle_seconds == 3


def test_it_ends_in_good_order_and_once(pki: PKI) -> None:
    ends: list[str] = []
    server = counted(ends)
    configuration = configured(pki.certs, {}, only_echo)

    async def serve() -> None:
        host, port = server.start(configuration, "127.0.0.1", 0)
        assert (host, port > 0) == ("127.0.0.1", True)
        with pytest.raises(ConfigurationError, match="serving already"):
            server.start(configuration, "127.0.0.1", 0)
        await server.stop()
        await server.stop()

    asyncio.run(serve())
    assert ends == ["drain 35", "close"]


def test_what_cannot_listen_leaves_nothing_behind(pki: PKI) -> None:
    ends: list[str] = []
    thread = InThread(counted(ends))
    with pytest.raises(ConfigurationError, match=r"echo\.listen"):
        thread.start(configured(pki.certs, {}, only_echo), "192.0.2.1", 1)
    assert ends == ["close"]
    assert not thread.serves
    thread.stop()


def test_a_thread_serves_until_it_is_told_to_stop(pki: PKI) -> None:
    ends: list[str] = []
    thread = InThread(counted(ends))
    configuration = configured(pki.certs, {}, only_echo)
    thread.start(configuration, "127.0.0.1", 0)
    with pytest.raises(ConfigurationError, match="serving already"):
        thread.start(configuration, "127.0.0.1", 0)
    thread.stop()
    thread.wait()
    assert ends == ["drain 35", "close"]


def test_ctrl_c_stops_it(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[str] = []
    thread = InThread(counted(ends))
    thread.start(configured(pki.certs, {}, only_echo), "127.0.0.1", 0)
    worker = thread._thread
    assert worker is not None
    join = worker.join

    def interrupted(timeout: float | None = None) -> None:
        worker.join = join  # type: ignore[method-assign]
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "join", interrupted)
    thread.wait()
    assert ends == ["drain 35", "close"]
