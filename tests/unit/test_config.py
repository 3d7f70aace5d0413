"""The configuration: what it takes, and what each error names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net import config
from secure_net.addresses import Address
from secure_net.config import Configuration
from secure_net.errors import ConfigurationError
from secure_net.limits import Limits


def parse(text: str, **environ: str) -> Configuration:
    return config.parse(text, Path("/srv/secure-net.toml"), environ)


def refused(text: str, **environ: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, **environ)
    return caught.value


def test_an_empty_file_is_the_defaults_and_no_service() -> None:
    found = parse("")
    assert found.services == {}
    assert found.limits == Limits()
    assert found.server.audience == "localhost"
    assert found.state_directory == Path("/srv/state")
    assert found.tls_directory == Path("/srv/certs")


def test_the_sample_of_the_contracts_is_taken() -> None:
    found = parse(
        """
        [server]
        names = ["rpc.example.org", "localhost"]
        state = "/var/lib/secure-net"
        drain_seconds = 35
        [tls]
        directory = "certs"
        minimum = "1.3"
        client_certificates = "optional"
        [rpc]
        listen = ["127.0.0.1:8443", "[::1]:8443"]
        services = ["examples.services:registry"]
        client_certificates = "required"
        [admin]
        minimum = "1.2"
        [identities.reports]
        scopes = ["rpc:call:reports.*", "ftp:write:/in/**"]
        [limits]
        idle_seconds = 10
        rpc_body_bytes = 4096
        """
    )
    assert found.state_directory == Path("/var/lib/secure-net")
    assert found.addresses("rpc") == (Address("127.0.0.1", 8443), Address("::1", 8443))
    assert [str(address) for address in found.addresses("rpc")] == ["127.0.0.1:8443", "[::1]:8443"]
    assert list(found.services) == ["rpc", "admin"]
    assert found.client_certificates("rpc") == "required"
    assert found.client_certificates("admin") == "optional"
    assert (found.minimum("rpc"), found.minimum("admin")) == ("1.3", "1.2")
    assert found.limits.connection.idle_seconds == 10.0
    assert found.limits.rpc.rpc_body_bytes == 4096
    assert found.identities["reports"].scopes == ("rpc:call:reports.*", "ftp:write:/in/**")


def test_files() -> None:
    text = """
    [files]
    listen = "127.0.0.1:1"
    [[files.roots]]
    path = "/"
    directory = "public"
    access = "public"
    [[files.cache]]
    pattern = "/assets/**"
    control = "max-age=60"
    """
    found = config.parse(text, Path("/srv/secure-net.toml"), {})
    assert list(found.services) == ["files"]
    assert found.files is not None
    assert found.files.roots[0].directory == "public"
    assert found.files.roots[0].index == ("index.html",)
    for wrong, where in (
        (text.replace('"/"', '"files"'), "files.roots[0].path"),
        (text.replace("/assets", "assets"), "files.cache[0].pattern"),
        (text.replace('= "public"\n    [[', '= "all"\n    [['), "files.roots[0].access"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            config.parse(wrong, None, {})
        assert raised.value.path == where
    with pytest.raises(ConfigurationError) as raised:
        config.parse(text.replace("access", "acess"), None, {})
    assert (raised.value.path, raised.value.cure) == ("files.roots[0].acess", "did you mean `access`?")


def test_echo_and_chat() -> None:
    found = config.parse('[echo]\n[chat]\nweb = "127.0.0.1:1"\nlive = ["live.*"]\n[admin]', None, {})
    assert list(found.services) == ["echo", "chat", "chat-web", "admin"]
    assert found.addresses("chat") == (Address("127.0.0.1", 9802),)
    assert found.addresses("chat-web") == (Address("127.0.0.1", 1),)
    assert [found.listen_key(service) for service in ("chat", "chat-web")] == ["chat.listen", "chat.web"]
    assert found.client_certificates("echo") == "required"
    assert found.client_certificates("chat-web") == "optional"
    assert list(config.parse("[chat]", None, {}).services) == ["chat"]


REFUSED = {
    '[echo]\nclient_certificates = "off"': ("echo.client_certificates", "the one credential", "required"),
    '[echo]\nengine = "twisted"': ("echo.engine", "invalid enum value", ""),
    '[chat]\norigins = ["https://a", "http://a"]': ("chat.origins[1]", "not an origin", "https://chat"),
    '[chat]\norigins = ["https://a:443"]': ("chat.origins[0]", "not an origin", "https://chat"),
    '[chat]\norigins = ["https://a/"]': ("chat.origins[0]", "not an origin", "https://chat"),
    '[chat]\nlive = ["a", "b c"]': ("chat.live[1]", "", ""),
    '[chat]\nweb = "127.0.0.1:9802"': ("chat.web", "taken by chat.listen", "its own port"),
    "[limits]\nchat_body_bytes = 65500": ("limits.chat_body_bytes", "would not fit", "lower one"),
    "[limits]\nchat_outbox_bytes = 99999999": ("limits.chat_outbox_bytes", "outbox_bytes", "lower one"),
    "[rcp]": ("rcp", "unknown table", "did you mean `rpc`?"),
    "rpc = 1": ("rpc", "must be a table", "write it as [rpc]"),
    "[rpc]\nlisten = 8443": ("rpc.listen", "expected `str | array`, got `int`", ""),
    "[rpc]\nlisten = []": ("rpc.listen", "no address", "leave the table out"),
    '[rpc]\nlisten = "8443"': ("rpc.listen", "'8443' is not an address", "127.0.0.1:8443"),
    '[rpc]\nlisten = "h:70000"': ("rpc.listen", "there is no port 70000", "65535"),
    '[rpc]\nlisten = "[::g]:1"': ("rpc.listen", "is not an address", ""),
    '[rpc]\nlisten = "[1:2]:1"': ("rpc.listen", "'1:2' is not an IPv6 address", ""),
    '[rpc]\nlsten = "x"': ("rpc.lsten", "unknown key", "did you mean `listen`?"),
    "[rpc]\nzzz = 1": ("rpc.zzz", "unknown key", "known: "),
    "[rpc]\nservices = [1]": ("rpc.services[0]", "expected `str`, got `int`", ""),
    '[rpc]\nservices = ["a"]': ("rpc.services[0]", "'a' names no registry", "module:attribute"),
    '[rpc]\nlisten="h:1"\n[admin]\nlisten="h:1"': (
        "admin.listen",
        "h:1 is taken by rpc.listen",
        "its own port",
    ),
    "[server]\nnames = []": ("server.names", "no name", "localhost"),
    '[server]\nnames = ["a b"]': ("server.names[0]", "neither a DNS name", ""),
    '[server]\nnames = ["127.0.0.1"]': ("server.names[0]", "is an address", "host name first"),
    "[server]\ndrain_seconds = -1": ("server.drain_seconds", "expected `float` >= 0", ""),
    '[tls]\nminimum = "1.1"': ("tls.minimum", "invalid enum value '1.1'", ""),
    "[identities]\nx = 1": ("identities.x", "expected `object`, got `int`", ""),
    "[identities.X]\nscopes = []": ("identities.X", "not a name", "[a-z0-9]"),
    "[identities.x]": ("identities.x.scopes", "is required", ""),
    '[identities.x]\nscopes = ["rpc:call:a", "rpc"]': ("identities.x.scopes[1]", "", ""),
    "[limits]\nidle_second = 1": ("limits.idle_second", "unknown key", "did you mean `idle_seconds`?"),
    "[limits]\nidle_seconds = 0": ("limits.idle_seconds", "0 is no limit", "(seconds)"),
    "[limits]\nidle_seconds = inf": ("limits.idle_seconds", "inf is no limit", ""),
    "[limits]\nidle_seconds = true": ("limits.idle_seconds", "expected `float`, got `bool`", ""),
    "[limits]\nrpc_body_bytes = 1.5": ("limits.rpc_body_bytes", "expected `int`, got `float`", "(bytes)"),
    "[limits]\noverload_percent = 101": ("limits.overload_percent", "above 100", ""),
    "[limits]\noverload_divisor_ratio = 0.5": ("limits.overload_divisor_ratio", "below 1", ""),
    "[limits]\nhandshakes_count = 1": ("limits.handshakes_random_count", "above", "lower one or raise"),
    "[limits]\nbuffered_bytes = 1048576": ("limits.outbox_bytes", "budget of the whole daemon", ""),
    "[limits]\nrpc_answer_bytes = 99999999": ("limits.rpc_answer_bytes", "one whole answer", ""),
    "[limits]\nrpc_body_bytes = 999999999": ("limits.rpc_body_bytes", "above limits.buffered_bytes", ""),
    '[client]\ntoken = "a"\ntoken_file = "b"': ("client.token", "given twice", ""),
    "[rpc": ("/srv/secure-net.toml", "not TOML: ", ""),
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text.replace("\n", " "))
def test_what_is_wrong_names_its_path_and_cure(text: str) -> None:
    path, problem, cure = REFUSED[text]
    error = refused(text)
    assert error.path == path
    assert problem in error.problem
    assert cure in error.cure
    assert "\n" not in str(error)


def test_the_environment_overrides_the_file() -> None:
    found = parse(
        '[rpc]\nlisten = "127.0.0.1:1"',
        SECURE_NET_RPC__LISTEN="127.0.0.1:2, [::1]:2",
        SECURE_NET_SERVER__DRAIN_SECONDS="1.5",
        SECURE_NET_LIMITS__IDLE_SECONDS="7",
        SECURE_NET_LIMITS__RPC_BODY_BYTES="4096",
        SECURE_NET_ADMIN__CLIENT_CERTIFICATES="required",
        SECURE_NET_CONFIG="/elsewhere.toml",
        HOME="/root",
    )
    assert found.addresses("rpc") == (Address("127.0.0.1", 2), Address("::1", 2))
    assert found.server.drain_seconds == 1.5
    assert found.limits.connection.idle_seconds == 7
    assert found.limits.rpc.rpc_body_bytes == 4096
    assert found.client_certificates("admin") == "required"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("SECURE_NET_RCP__LISTEN", "x", "there is no table [rcp]"),
        ("SECURE_NET_RPC__LSTEN", "x", "[rpc] has no key `lsten`"),
        ("SECURE_NET_SERVER__DRAIN_SECONDS", "soon", "expected `float`"),
        ("SECURE_NET_LIMITS__IDLE_SECONDS", "soon", "not a number: 'soon'"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, problem: str) -> None:
    error = refused("", **{variable: value})
    assert error.path == variable
    assert problem in error.problem


def test_every_limit_is_a_key_of_its_own() -> None:
    groups = [getattr(Limits(), field.name) for field in dataclasses.fields(Limits)]
    keys = [field.name for group in groups for field in dataclasses.fields(group)]
    assert len(keys) == len(set(keys))
    text = "[limits]\n" + "".join(
        f"{field.name} = {getattr(group, field.name)}\n"
        for group in groups
        for field in dataclasses.fields(group)
    )
    assert parse(text).limits == Limits()


def test_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "etc.toml")
    assert config.find(environ={}) is None
    with pytest.raises(ConfigurationError, match="secure-net init"):
        config.discover(environ={})
    (tmp_path / "etc.toml").write_text("")
    assert config.find(environ={}) == tmp_path / "etc.toml"
    (tmp_path / "secure-net.toml").write_text("[rpc]")
    assert config.find(environ={}) == Path("secure-net.toml")
    (tmp_path / "named.toml").write_text("[admin]")
    environ = {"SECURE_NET_CONFIG": str(tmp_path / "named.toml")}
    assert config.find(environ=environ) == tmp_path / "named.toml"
    assert config.find(Path("secure-net.toml"), environ) == Path("secure-net.toml")
    assert list(config.discover(environ=environ).services) == ["admin"]
    with pytest.raises(ConfigurationError, match="no such file"):
        config.find(tmp_path / "absent.toml", {})


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Is a directory"):
        config.load(tmp_path, {})
    (tmp_path / "x.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match="not UTF-8 text; look at byte 5"):
        config.load(tmp_path / "x.toml", {})


@given(st.text())
def test_whatever_the_text_it_is_taken_or_refused(text: str) -> None:
    try:
        parse(text)
    except ConfigurationError as error:
        assert str(error)
