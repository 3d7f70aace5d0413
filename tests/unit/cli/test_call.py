"""``secure-net call``."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_net.limits import RPCLimits
from secure_net.rpc.decode import loads_call
from secure_net.rpc.encode import dumps_value, wrap_answer
from tests.support.scripted_server import Peer, Script, ScriptedServer
from tests.support.site import Site, make_site

LIMITS = RPCLimits()


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return make_site(tmp_path, capsys)


def echoes(peer: Peer) -> None:
    """Answer with the parameters."""
    _, body = peer.read_request()
    peer.send_body(wrap_answer(dumps_value(loads_call(body, LIMITS)[1], LIMITS)))
    peer.wait_for_end()


def status(line: str) -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send_body(b"", status=line)
        peer.wait_for_end()

    return script


def call(site: Site, script: Script, *arguments: str) -> int:
    with ScriptedServer(site.pki.certs, script) as server:
        return site.run("call", "--url", server.url, *arguments)


def test_parameters_and_result_are_json(site: Site) -> None:
    parameters = ["21", '"text"', "[1, 2.5, true, null]", '{"a": {"b": []}}', "-7"]
    assert call(site, echoes, "a.echo", "--", *parameters) == 0
    assert site.json == [21, "text", [1, 2.5, True, None], {"a": {"b": []}}, -7]
    assert site.err == ""


def test_bytes_and_times_have_a_form(site: Site) -> None:
    parameters = ['{"$base64": "aGVsbG8="}', '{"$time": "2026-01-31T14:00:00+02:00"}']
    assert call(site, echoes, "a.echo", *parameters) == 0
    assert site.json == [{"$base64": "aGVsbG8="}, {"$time": "2026-01-31T12:00:00Z"}]


def test_what_a_server_says_cannot_act_on_a_terminal(site: Site) -> None:
    assert call(site, echoes, "a.echo", '"\\u009b31m \\u202e"') == 0
    assert site.out.isascii()
    assert site.out.count("\n") == 1


@pytest.mark.parametrize(
    "parameter",
    [
        "text",
        "{",
        "NaN",
        "Infinity",
        "'a'",
        "1 2",
        "[" * 100_000,
        '{"$base64": "a"}',
        '{"$time": "now"}',
        '{"$time": 1}',
    ],
)
def test_what_is_not_json_is_wrong_usage(site: Site, parameter: str) -> None:
    assert site.run("call", "--url", "https://localhost:1/RPC2", "a", parameter) == 2
    assert "Traceback" not in site.err


def test_what_xml_rpc_cannot_carry_is_wrong_usage(site: Site) -> None:
    url = "https://localhost:1/RPC2"
    for parameter in (str(2**63), '"\\u0000"', '{"$time": "2026-01-31T14:00:00"}'):
        assert site.run("call", "--url", url, "a", parameter) == 2


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("401 Unauthorized", 77),
        ("403 Forbidden", 77),
        ("503 Service Unavailable", 1),
        ("404 Not Found", 1),
        ("500 Internal Server Error", 1),
    ],
)
def test_exit_codes(site: Site, line: str, code: int) -> None:
    assert call(site, status(line), "a") == code
    assert site.out == ""
    assert site.err.count("\n") == 1


def test_a_fault_is_one_line(site: Site) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send_body(
            b"<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>7</int></value>"
            b"</member><member><name>faultString</name><value>a&#10;b</value></member></struct></value></fault>"
            b"</methodResponse>"
        )
        peer.wait_for_end()

    assert call(site, script, "a") == 1
    assert site.err.count("\n") == 1
    assert site.err.startswith("secure-net: 7: a")


def test_a_deadline(site: Site) -> None:
    def silent(peer: Peer) -> None:
        peer.read_request()
        peer.wait_for_end()

    assert call(site, silent, "--deadline", "0.3", "a") == 1
    assert "deadline" in site.err
    assert site.run("call", "--deadline", "0", "a") == 2
