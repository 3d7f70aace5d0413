"""What every service stands on, built from what was read and what the store remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_net import config
from secure_net.daemon.core import Core
from secure_net.daemon.inputs import Inputs
from secure_net.errors import AuthenticationError
from secure_net.metrics import Metrics
from secure_net.store import NameRecord, Snapshot
from tests.support.clock import FakeClock
from tests.support.pki import PKI, make_pki


@pytest.fixture
def pki(tmp_path: Path) -> PKI:
    return make_pki(tmp_path, clock=FakeClock())


def inputs(pki: PKI, text: str) -> Inputs:
    configuration = config.parse(text, pki.directory / "secure-net.toml", {})
    return Inputs.load(configuration, FakeClock().wall())


def core(pki: PKI, text: str, snapshot: Snapshot | None = None) -> Core:
    return Core(
        inputs(pki, text), clock=FakeClock(), metrics=Metrics(), log=lambda *_, **__: None, snapshot=snapshot
    )


def test_the_stores_entry_takes_the_place_of_the_configurations(pki: PKI) -> None:
    built = core(
        pki, '[identities.demo]\nscopes = ["rpc:call:a"]', Snapshot(identities={"demo": ("echo:use",)})
    )
    principal = built.authenticator.certificate(pki.client_der("demo"))
    assert principal.permits("echo", "use")
    assert not principal.permits("rpc", "call", "a")


def test_what_was_revoked_stays_revoked(pki: PKI) -> None:
    now = FakeClock().wall() + 1.0
    built = core(pki, "", Snapshot(names={"demo": NameRecord(now, now)}))
    assert built.shell.identify is not None
    with pytest.raises(AuthenticationError):
        built.shell.identify(pki.client_der("demo"))
    built.shell.identify(pki.client_der("admin"))


def test_a_reload_is_felt(pki: PKI) -> None:
    built = core(pki, '[identities.demo]\nscopes = ["echo:use"]')
    before = built.authenticator.certificate(pki.client_der("demo"))
    built.apply(inputs(pki, "[identities.demo]\nscopes = []\n[limits]\nidle_seconds = 7"))
    assert not built.authenticator.current(before).permits("echo", "use")
    assert built.shell.limits.idle_seconds == 7.0
