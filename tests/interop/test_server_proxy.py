"""The standard library's `xmlrpc.client.ServerProxy` against the running daemon, over real sockets."""

from __future__ import annotations

import datetime
import re
import ssl
import xmlrpc.client

import pytest

from tests.support.daemon import RunningDaemon
from tests.support.scrape import metric
from tests.support.waiting import until


@pytest.fixture(scope="module")
def token(daemon: RunningDaemon) -> str:
    return daemon.token("demo", "rpc:call:math.*", "rpc:call:account.*")


def test_a_client_certificate_alone(daemon: RunningDaemon) -> None:
    with daemon.proxy("demo") as proxy:
        assert proxy.math.double(21) == 42
        assert proxy.account.whoAmI()["name"] == "demo"


def test_a_token_in_a_header_alone(daemon: RunningDaemon, token: str) -> None:
    with daemon.proxy(None, token) as proxy:
        assert proxy.math.double(21) == 42
        assert proxy.account.whoAmI()["name"] == "demo"


def test_with_both_the_token_decides(daemon: RunningDaemon, token: str) -> None:
    with daemon.proxy("admin", token) as proxy:
        assert proxy.account.whoAmI()["name"] == "demo"
        with pytest.raises(xmlrpc.client.Fault, match="no such method, or not permitted"):
            proxy.time.wait(0.0)


def test_a_token_bound_to_its_certificate(daemon: RunningDaemon) -> None:
    certificate = str(daemon.certificate("demo")[0])
    bound = daemon.token("demo", "rpc:call:**", bind=certificate)
    with daemon.proxy("demo", bound) as proxy:
        assert proxy.math.double(21) == 42


def test_the_connection_is_kept(daemon: RunningDaemon, token: str) -> None:
    for proxy in (daemon.proxy("demo"), daemon.proxy(None, token)):
        with proxy:
            assert len({proxy.account.whoAmI()["peer"] for _ in range(20)}) == 1


def test_every_type_there_and_back(daemon: RunningDaemon) -> None:
    with daemon.proxy() as proxy:
        report = proxy.reports.summary([1.5, 2, -4], "<label> & \u20ac \U0001f600")
        assert report == {
            "label": "<label> & \u20ac \U0001f600",
            "count": 3,
            "sum": -0.5,
            "range": [-4.0, 2.0],
        }
        now = proxy.time.currentTime()
        assert isinstance(now, datetime.datetime)
        assert now.tzinfo is None
        assert abs(datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - now) < datetime.timedelta(
            minutes=1
        )
        assert len(proxy.text.digest("x")) == 64  # on a thread of the pool, as base64
        assert proxy.time.wait(0.01) >= 0.01  # awaited


def test_a_fault_that_a_method_raises_on_purpose(daemon: RunningDaemon) -> None:
    with daemon.proxy() as proxy:
        with pytest.raises(xmlrpc.client.Fault) as raised:
            proxy.math.divide(1.0, 0.0)
        assert (raised.value.faultCode, raised.value.faultString) == (-32500, "the divisor is zero")
        with pytest.raises(xmlrpc.client.Fault) as raised:
            proxy.reports.summary([])
        assert (raised.value.faultCode, raised.value.faultString) == (1, "there is nothing to sum up")
        assert proxy.math.double(1) == 2  # the connection is as good as before


def test_an_error_gives_a_reference_that_is_in_the_log_too(daemon: RunningDaemon) -> None:
    with daemon.proxy() as proxy, pytest.raises(xmlrpc.client.Fault) as raised:
        proxy.account.motto()
    assert raised.value.faultCode == -32603
    found = re.fullmatch(r"internal error, reference ([0-9a-f]+)", raised.value.faultString)
    assert found, raised.value.faultString
    (line,) = until(lambda: [line for line in daemon.log.read_text().splitlines() if found[1] in line])
    assert "FileNotFoundError" in line


@pytest.mark.parametrize(
    ("method", "parameters", "code"),
    [
        ("no.such.method", (), -32601),
        ("math.double", ("21",), -32602),
        ("math.double", (), -32602),
        ("math.double", (True,), -32602),
        ("system.shutdown", (), -32601),
    ],
)
def test_faults_of_the_server(
    daemon: RunningDaemon, method: str, parameters: tuple[object, ...], code: int
) -> None:
    with daemon.proxy() as proxy, pytest.raises(xmlrpc.client.Fault) as raised:
        getattr(proxy, method)(*parameters)
    assert raised.value.faultCode == code


def test_multicall(daemon: RunningDaemon) -> None:
    with daemon.proxy() as proxy:
        calls = xmlrpc.client.MultiCall(proxy)
        calls.math.double(1)
        calls.math.divide(1.0, 0.0)
        calls.no.such.method()
        calls.time.wait(0.0)
        results = calls()
        assert results[0] == 2
        with pytest.raises(xmlrpc.client.Fault, match="the divisor is zero"):
            results[1]
        with pytest.raises(xmlrpc.client.Fault, match="no such method"):
            results[2]
        assert results[3] >= 0.0


def test_multicall_is_bounded_and_never_nested(daemon: RunningDaemon) -> None:
    with daemon.proxy() as proxy:
        call = {"methodName": "math.double", "params": [1]}
        assert proxy.system.multicall([call] * 100) == [[2]] * 100
        with pytest.raises(xmlrpc.client.Fault) as raised:
            proxy.system.multicall([call] * 101)
        assert raised.value.faultCode == -32602
        (nested,) = proxy.system.multicall([{"methodName": "system.multicall", "params": [[call]]}])
        assert nested["faultCode"] < 0


def test_introspection_shows_what_the_caller_may_call(daemon: RunningDaemon, token: str) -> None:
    with daemon.proxy(None, token) as proxy:
        mine = proxy.system.listMethods()
        assert [name for name in mine if not name.startswith("system.")] == [
            "account.motto",
            "account.whoAmI",
            "math.divide",
            "math.double",
        ]
        assert proxy.system.methodHelp("math.double") == "Twice the value."
        assert proxy.system.methodSignature("math.double") == [["int", "int"]]
        for asked in (proxy.system.methodHelp, proxy.system.methodSignature):
            with pytest.raises(xmlrpc.client.Fault, match="no such method"):
                asked("time.wait")


def test_nobody_gets_401_and_a_token_without_scope_403(daemon: RunningDaemon) -> None:
    with daemon.proxy(None) as proxy, pytest.raises(xmlrpc.client.ProtocolError) as raised:
        proxy.math.double(21)
    assert raised.value.errcode == 401
    scopeless = daemon.token("demo", "admin:read:metrics")
    with daemon.proxy(None, scopeless) as proxy, pytest.raises(xmlrpc.client.ProtocolError) as raised:
        proxy.math.double(21)
    assert raised.value.errcode == 403


def test_a_transport_that_compresses_gets_415(daemon: RunningDaemon) -> None:
    class Compressing(xmlrpc.client.SafeTransport):
        encode_threshold = 10

    with (
        xmlrpc.client.ServerProxy(daemon.url, transport=Compressing(context=daemon.context())) as proxy,
        pytest.raises(xmlrpc.client.ProtocolError) as raised,
    ):
        proxy.math.double(21)
    assert raised.value.errcode == 415


def test_a_body_over_the_bound_gets_413_and_the_proxy_reads_it(daemon: RunningDaemon) -> None:
    with daemon.proxy() as proxy:
        assert proxy.text.digest("x" * 900_000)
        with pytest.raises(xmlrpc.client.ProtocolError) as raised:
            proxy.text.digest("x" * 1_100_000)
        assert raised.value.errcode == 413


def test_a_proxy_that_knows_another_ca_goes_no_further(daemon: RunningDaemon) -> None:
    stranger = ssl.create_default_context()
    with (
        xmlrpc.client.ServerProxy(daemon.url, context=stranger) as proxy,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        proxy.math.double(21)


def test_plain_http_gets_no_answer(daemon: RunningDaemon) -> None:
    before = metric(daemon, "refused_total", service="rpc", reason="plaintext")
    with (
        xmlrpc.client.ServerProxy(daemon.url.replace("https", "http")) as proxy,
        pytest.raises(ConnectionError),
    ):
        proxy.math.double(21)
    # `xmlrpc.client.Transport` sends a call again after a reset: it counts once or twice.
    until(lambda: metric(daemon, "refused_total", service="rpc", reason="plaintext") > before)
