"""What `check` finds, one mishap at a time."""

from __future__ import annotations

import dataclasses
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from secure_net import config
from secure_net.config import Configuration
from secure_net.daemon import posture
from secure_net.daemon.posture import Finding, examine
from tests.support.clock import FakeClock
from tests.support.pki import PKI, make_pki

GOOD = '[rpc]\nservices = ["a:b"]\n[admin]\n[limits]\nconnections_count = 300\nhandshakes_count = 200\n'
DAY = 86_400.0


@dataclasses.dataclass
class Place:
    """A folder with a PKI of its own, and the configuration in it."""

    directory: Path
    pki: PKI
    text: str = GOOD
    now: float = 0.0

    @property
    def certs(self) -> Path:
        return self.directory / "certs"

    @property
    def configuration(self) -> Configuration:
        path = self.directory / "secure-net.toml"
        path.write_text(self.text)
        return config.load(path, {})

    def findings(self) -> list[Finding]:
        return list(examine(self.configuration, self.now))

    def only(self) -> Finding:
        (finding,) = self.findings()
        return finding


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("posture"), clock=FakeClock())


@pytest.fixture
def place(template: PKI, tmp_path: Path) -> Place:
    shutil.copytree(template.directory, tmp_path, dirs_exist_ok=True)
    tmp_path.chmod(0o755)
    (tmp_path / "state").mkdir(mode=0o700)
    return Place(tmp_path, template, now=FakeClock().wall())


def test_what_init_writes_has_no_finding(place: Place) -> None:
    assert place.findings() == []


def test_an_expired_certificate(place: Place) -> None:
    place.now += 398 * DAY
    found = place.findings()
    assert found[0].level == "error"
    assert found[0].where.endswith("server.pem")
    assert found[0].problem.startswith("expired on ")
    assert "ca renew server" in found[0].cure
    names = {Path(finding.where).name: finding for finding in found[1:]}
    assert set(names) == {"admin.pem", "metrics.pem", "demo.pem", "crl.pem"}
    assert {finding.level for finding in names.values()} == {"warning"}
    assert "ca renew demo --kind client" in names["demo.pem"].cure


def test_a_certificate_that_ends_soon_or_has_not_begun(place: Place) -> None:
    place.now += 380 * DAY
    assert any(finding.problem.startswith("ends on ") for finding in place.findings())
    place.now = FakeClock().wall() - 3600
    first = place.findings()[0]
    assert (first.level, first.cure) == ("error", "set the clock")


def _remove(name: str) -> Callable[[Place], None]:
    return lambda place: (place.directory / name).unlink()


def _write(name: str, text: str, mode: int | None = None) -> Callable[[Place], None]:
    def mishap(place: Place) -> None:
        path = place.directory / name
        path.write_text(text)
        if mode is not None:
            path.chmod(mode)

    return mishap


def _mode(name: str, mode: int) -> Callable[[Place], None]:
    return lambda place: (place.directory / name).chmod(mode)


def _text(text: str) -> Callable[[Place], None]:
    def mishap(place: Place) -> None:
        place.text = text

    return mishap


def _state_is_a_file(place: Place) -> None:
    (place.directory / "state").rmdir()
    (place.directory / "state").touch()


MISHAPS: dict[str, tuple[Callable[[Place], None], str, str, str]] = {
    "no certificate": (_remove("certs/server.pem"), "error", "server.pem", "does not exist"),
    "key readable by others": (_mode("certs/server.key", 0o644), "error", "server.key", "others can read"),
    "client key readable": (_mode("certs/clients/demo.key", 0o640), "error", "demo.key", "others can read"),
    "CA key readable": (_mode("ca/ca.key", 0o604), "error", "ca.key", "others can read"),
    "CA folder open": (_mode("ca", 0o755), "warning", "ca", "open to others"),
    "state open": (_mode("state", 0o750), "warning", "state", "open to others"),
    "certs writable": (_mode("certs", 0o777), "error", "certs", "changed by others"),
    "CA certificate writable": (_mode("certs/ca.pem", 0o666), "error", "ca.pem", "changed by others"),
    "no CRL": (_remove("certs/crl.pem"), "notice", "crl.pem", "no CRL"),
    "a damaged CRL": (_write("certs/crl.pem", "x"), "error", "crl.pem", "not a CRL"),
    "no token keys": (_remove("certs/token-keys.json"), "error", "token-keys.json", ""),
    "empty token keys": (
        _write("certs/token-keys.json", '{"keys": []}'),
        "warning",
        "token-keys.json",
        "no key",
    ),
    "a damaged client": (_write("certs/clients/demo.pem", "x"), "warning", "demo.pem", "not a readable"),
    "state is a file": (_state_is_a_file, "error", "server.state", "is no directory"),
    "state nowhere": (_text(GOOD + '[server]\nstate = "a/b/c"'), "error", "server.state", "not writable"),
    "foreign name": (
        _text(GOOD + '[server]\nnames = ["localhost", "rpc.example.org"]'),
        "error",
        "server.pem",
        "does not bear rpc.example.org",
    ),
    "nothing to call": (_text(GOOD.replace('services = ["a:b"]', "")), "warning", "rpc.services", "empty"),
    "TLS 1.2": (
        _text(GOOD.replace("[admin]", '[admin]\nminimum = "1.2"')),
        "warning",
        "admin.minimum",
        "TLS 1.2",
    ),
    "probes": (
        _text(GOOD.replace("[admin]", '[admin]\nclient_certificates = "required"')),
        "notice",
        "admin.client_certificates",
        "kubelet",
    ),
    "no admin": (_text(GOOD.replace("[admin]", "")), "notice", "admin", "nothing to scrape"),
    "may do everything": (
        _text(GOOD + '[identities.joe]\nscopes = ["*:*:**"]'),
        "warning",
        "identities.joe.scopes",
        "may do everything",
    ),
    "may do nothing": (
        _text(GOOD + "[identities.joe]\nscopes = []"),
        "notice",
        "identities.joe.scopes",
        "may do nothing",
    ),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_each_mishap_is_one_finding_with_its_cure(place: Place, mishap: str) -> None:
    do, level, where, problem = MISHAPS[mishap]
    do(place)
    found = place.only()
    assert (found.level, Path(found.where).name) == (level, where)
    assert problem in found.problem
    assert found.cure


def test_admin_may_do_everything(place: Place) -> None:
    place.text += '[identities.admin]\nscopes = ["*:*:**"]\n[identities.demo]\nscopes = ["rpc:call:**"]'
    assert place.findings() == []


def test_no_service_at_all(place: Place) -> None:
    place.text = ""
    assert place.findings()[0].where == "rpc"


def test_a_certificate_of_another_ca(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_pki(tmp_path_factory.mktemp("other"), clock=FakeClock())
    for name in ("server.pem", "server.key"):
        shutil.copy(other.certs / name, place.certs / name)
    found = place.only()
    assert (found.level, "not signed by" in found.problem) == ("error", True)


def test_a_ca_of_another_trust_domain(place: Place) -> None:
    place.text += '[server]\nnames = ["rpc.example.org", "localhost"]'
    found = {finding.where: finding for finding in place.findings()}["server.names"]
    assert (found.level, found.cure) == ("error", "put localhost first")


def test_a_ca_that_is_not_ours(place: Place) -> None:
    (place.certs / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    found = place.findings()
    assert any(finding.problem.startswith("not a CA of ours") for finding in found)
    assert all(finding.cure for finding in found)


def test_tokens_of_the_client_are_secrets(place: Place) -> None:
    (place.directory / "token").write_text("x")
    place.text += '[client]\ntoken_file = "token"'
    assert place.only().where.endswith("token")
    (place.directory / "token").chmod(0o600)
    assert place.findings() == []
    place.text = GOOD + '[client]\ntoken = "x"'
    assert place.only().where.endswith("secure-net.toml")


def test_tls_1_2_for_all_names_the_table_of_all(place: Place) -> None:
    place.text += '[tls]\nminimum = "1.2"'
    assert [finding.where for finding in place.findings()] == ["tls.minimum", "tls.minimum"]


def test_what_reaches_the_network(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    place.text = GOOD.replace("[admin]", '[admin]\nlisten = ["127.0.0.1:1", "0.0.0.0:1"]')
    found = {Path(finding.where).name: finding for finding in place.findings()}
    assert "admin listens to the network" in found["server.pem"].problem
    assert found["ca.key"].level == found["process"].level == "notice"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "process" not in {finding.where for finding in place.findings()}


def test_too_few_descriptors(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    found = place.only()
    assert found.where == "limits.connections_count"
    assert "364 file descriptors, the hard limit is 256" in found.problem


def test_files_need_descriptors_as_well(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    place.text += "files_open_count = 10\n[files]\n"
    found = {finding.where: finding.problem for finding in place.findings()}
    assert "empty" in found["files.roots"]
    assert "394 file descriptors" in found["limits.connections_count"]


def test_a_full_disk(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posture, "FREE_BYTES", 1 << 62)
    assert "MiB free" in place.only().problem


def test_a_crl_that_cannot_be_read(place: Place) -> None:
    (place.certs / "crl.pem").unlink()
    (place.certs / "crl.pem").mkdir()
    assert place.only().level == "error"
