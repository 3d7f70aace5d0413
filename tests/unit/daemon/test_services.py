"""What each listener serves, as the configuration has it at the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_net import config
from secure_net.config import Configuration
from secure_net.daemon.core import Core
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.services import AdminPart, ChatPart, EchoPart, FilesPart, Part, RPCPart, listener_of
from secure_net.http.head import parse_head
from secure_net.http.server import HTTPService
from secure_net.limits import HTTPLimits
from secure_net.metrics import Metrics
from secure_net.rpc.registry import Registry
from secure_net.store.sqlite import SQLiteStore
from secure_net.store.sqlite_broker import SQLiteBroker
from secure_net.wire.listener import Listener
from secure_net.wire.threads import ThreadedListener
from tests.support.clock import FakeClock
from tests.support.pki import PKI, make_pki
from tests.unit.control.test_status import STATUS

TEXT = "[rpc]\n[echo]\n[admin]\n[limits]\nrpc_call_seconds = {}"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"), clock=FakeClock())


def configured(pki: PKI, seconds: int = 5) -> Configuration:
    return config.parse(TEXT.format(seconds), pki.directory / "secure-net.toml", {})


def loaded(pki: PKI) -> tuple[Inputs, Core]:
    inputs = Inputs.load(configured(pki), FakeClock().wall())
    return inputs, Core(inputs, clock=FakeClock(), metrics=Metrics(), log=lambda *_, **__: None)


def test_who_must_log_in_and_what_is_spoken(pki: PKI) -> None:
    inputs, core = loaded(pki)
    parts: dict[str, Part] = {
        "rpc": RPCPart(core, inputs.configuration, Registry()),
        "echo": EchoPart(core),
        "admin": AdminPart(core, inputs.configuration, {}, lambda: STATUS, frozenset),
    }
    services = {name: part.service(name, inputs.configuration) for name, part in parts.items()}
    assert {name: service.name for name, service in services.items()} == {name: name for name in parts}
    assert {name: service.authentication for name, service in services.items()} == {
        "rpc": True,
        "echo": True,
        "admin": False,
    }
    assert services["echo"].tls.alpn == ()
    assert services["echo"].tls.client_certificates == "required"
    assert "http/1.1" in services["rpc"].tls.alpn
    for part in parts.values():
        part.apply(inputs.configuration)
        part.drain(0.0)
        part.close()


def test_calls_go_by_the_limits_of_the_last_reload(pki: PKI) -> None:
    inputs, core = loaded(pki)
    part = RPCPart(core, inputs.configuration, Registry())
    part.apply(configured(pki, 3))
    assert part.dispatcher.limits.rpc_call_seconds == 3
    part.close()


def test_chat_serves_frames_and_browsers_from_the_same_rooms(pki: PKI, tmp_path: Path) -> None:
    text = '[chat]\nweb = "127.0.0.1:0"\nlive = ["live.*"]\n[limits]\nchat_history_count = {}'
    configuration = config.parse(text.format(7), pki.directory / "secure-net.toml", {})
    inputs = Inputs.load(configuration, FakeClock().wall())
    core = Core(inputs, clock=FakeClock(), metrics=Metrics(), log=lambda *_, **__: None)
    store = SQLiteStore.open(tmp_path)
    broker = SQLiteBroker(store.database, configuration.limits.chat)
    part = ChatPart(core, configuration, broker, lambda: {"https://localhost:1"})
    frames, web = (part.service(name, configuration) for name in ("chat", "chat-web"))
    assert (frames.tls.alpn, frames.authentication) == ((), True)
    assert "http/1.1" in web.tls.alpn
    assert [part.chat.rooms.is_live(room) for room in ("live.a", "live", "live.a.b")] == [True, False, False]
    part.apply(config.parse(text.format(3), pki.directory / "secure-net.toml", {}))
    assert broker.limits.chat_history_count == part.chat.rooms.limits.chat_history_count == 3
    part.drain(0.0)
    part.close()
    store.close()


def test_files_are_those_of_the_last_reload(pki: PKI) -> None:
    """Who had to log in, and for whom nothing was there, on the connections that are open already."""

    def configuration(path: str, access: str) -> Configuration:
        text = f'[files]\n[[files.roots]]\npath = "{path}"\ndirectory = "x"\naccess = "{access}"'
        return config.parse(text, pki.directory / "secure-net.toml", {})

    before, after = configuration("/", "scope"), configuration("/a", "public")
    assert before.files is not None
    inputs = Inputs.load(before, FakeClock().wall())
    core = Core(inputs, clock=FakeClock(), metrics=Metrics(), log=lambda *_, **__: None)
    part = FilesPart(core, before, before.files)
    service = part.service("files", before)
    assert isinstance(service, HTTPService)
    assert (service.authentication, "http/1.1" in service.tls.alpn) == (True, True)
    head = parse_head(b"GET /a/b HTTP/1.1\r\nHost: localhost\r\n\r\n", HTTPLimits())
    refusal = service.application.admit(head, None)
    assert refusal is not None
    assert refusal.status == 401
    part.apply(after)
    assert service.application.admit(head, None) is None
    assert not part.service("files", after).authentication
    part.apply(config.parse("", pki.directory / "secure-net.toml", {}))  # stays until a restart
    assert service.application.admit(head, None) is None
    part.close()


def test_the_engine_of_echo_is_the_configurations(pki: PKI) -> None:
    for engine, kind in (("asyncio", Listener), ("threads", ThreadedListener)):
        configuration = config.parse(f'[echo]\nengine = "{engine}"', pki.directory / "secure-net.toml", {})
        inputs = Inputs.load(configuration, FakeClock().wall())
        core = Core(inputs, clock=FakeClock(), metrics=Metrics(), log=lambda *_, **__: None)
        assert type(listener_of("echo", core, EchoPart(core), inputs, [("127.0.0.1", 0)])) is kind


def test_a_listener_counts_under_the_name_of_its_service(pki: PKI) -> None:
    inputs, core = loaded(pki)
    listener = listener_of("echo", core, EchoPart(core), inputs, [("127.0.0.1", 0)])
    assert listener.counters is core.metrics.service("echo")
    assert listener.listen_addrs == ()


def test_a_part_that_serves_nothing_says_so(pki: PKI) -> None:
    with pytest.raises(NotImplementedError):
        Part().service("x", configured(pki))
