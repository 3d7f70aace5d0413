"""What each listener serves, as the configuration has it at the time."""

from __future__ import annotations

import pytest

from secure_net import config
from secure_net.config import Configuration
from secure_net.daemon.core import Core
from secure_net.daemon.inputs import Inputs
from secure_net.daemon.services import AdminPart, EchoPart, Part, RPCPart, listener_of
from secure_net.metrics import Metrics
from secure_net.rpc.registry import Registry
from tests.support.clock import FakeClock
from tests.support.pki import PKI, make_pki

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
        "admin": AdminPart(core, {}),
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


def test_a_listener_counts_under_the_name_of_its_service(pki: PKI) -> None:
    inputs, core = loaded(pki)
    listener = listener_of("echo", core, EchoPart(core), inputs, [("127.0.0.1", 0)])
    assert listener.counters is core.metrics.service("echo")
    assert listener.listen_addrs == ()


def test_a_part_that_serves_nothing_says_so(pki: PKI) -> None:
    with pytest.raises(NotImplementedError):
        Part().service("x", configured(pki))
