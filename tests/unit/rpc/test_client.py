"""The blocking client against a server that does what a script says."""

from __future__ import annotations

import dataclasses
import json
import select
import socket
import struct
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from secure_net.errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    NotPermittedError,
    OutcomeUnknownError,
    RemoteProtocolError,
    TransportError,
    UnavailableError,
    VerificationError,
)
from secure_net.limits import RPCLimits
from secure_net.rpc.client import RPCClient
from secure_net.rpc.faults import ApplicationError, DecodeError, EncodeError, MethodNotFoundError
from secure_net.wire.tls import client_context
from tests.support.pki import PKI, make_pki
from tests.support.scripted_server import Peer, Script, ScriptedServer

TEXT = b"<methodResponse><params><param><value>text</value></param></params></methodResponse>"
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\nx"
HALF = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 9\r\n\r\nhalf"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def other_pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("other"))


def answers(*values: object) -> Script:
    """Answer one request with each, then wait for the client to go."""

    def script(peer: Peer) -> None:
        for value in values:
            peer.read_request()
            peer.send_answer(value)
        peer.wait_for_end()

    return script


def raw(answer: bytes) -> Script:
    """Answer one request with these bytes, and close."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)
        peer.say_goodbye()

    return script


def cut(peer: Peer) -> None:
    """Take a request, and go without a word."""
    peer.read_request()


def status(line: str, *lines: str, body: bytes = b"no\n") -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send_body(body, *lines, status=line)
        peer.wait_for_end()

    return script


class Ticks:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_calls_by_name_on_one_connection(pki: PKI) -> None:
    with (
        ScriptedServer(pki.certs, answers(42, "x", None)) as server,
        RPCClient(server.url, ca=pki.ca, token="abc.def-ghi_") as client,
    ):
        assert client.math.double(21) == 42
        assert client.call("text.of", [1, {"a": None}]) == "x"
        assert client.system.listMethods() is None
    heads, bodies = zip(*server.requests, strict=True)
    assert heads[0].startswith(b"POST /RPC2 HTTP/1.1\r\nhost: localhost:")
    assert b"\r\nauthorization: Bearer abc.def-ghi_\r\n" in heads[0]
    assert b"\r\ncontent-type: text/xml; charset=utf-8\r\n" in heads[0]
    assert xmlrpc.client.loads(bodies[0]) == ((21,), "math.double")
    assert xmlrpc.client.loads(bodies[1]) == (([1, {"a": None}],), "text.of")
    assert xmlrpc.client.loads(bodies[2]) == ((), "system.listMethods")


def test_without_a_credential_none_is_sent(pki: PKI) -> None:
    with ScriptedServer(pki.certs, answers(1)) as server, RPCClient(server.url, ca=pki.ca) as client:
        client.a()
    assert b"authorization" not in server.requests[0][0]


def test_private_names_are_attributes_and_no_methods(pki: PKI) -> None:
    client = RPCClient("https://localhost/RPC2", ca=pki.ca)
    for owner in (client, client.math):
        with pytest.raises(AttributeError):
            _ = owner._repr
        assert not hasattr(owner, "__len__")


def test_an_idle_connection_that_ended_is_made_anew_before_anything_is_sent(pki: PKI) -> None:
    answered = threading.Event()

    def leaves(peer: Peer) -> None:
        peer.read_request()
        peer.send_answer(1)
        peer.say_goodbye()

    def vanishes(peer: Peer) -> None:
        peer.read_request()
        peer.send_answer(2)

    def babbles(peer: Peer) -> None:
        peer.read_request()
        peer.send_answer(3)
        peer.send(b"HTTP/1.1 200 OK\r\n")
        peer.wait_for_end()

    def resets(peer: Peer) -> None:
        peer.read_request()
        peer.send_answer(4)
        assert answered.wait(30)  # a reset throws away what was not read
        peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(peer.connection.detach())

    def answers_last(peer: Peer) -> None:
        peer.read_request()
        peer.send_body(TEXT, "Connection: close")
        peer.wait_for_end()

    scripts = (leaves, vanishes, babbles, resets, answers_last, answers(6))
    with ScriptedServer(pki.certs, *scripts) as server, RPCClient(server.url, ca=pki.ca) as client:
        for number in (1, 2):
            assert client.a() == number
            assert server.done[number - 1].wait(30)
        assert client.a() == 3
        _wait_readable(client)
        assert client.a() == 4
        answered.set()
        assert server.done[3].wait(30)
        assert client.a() == "text"
        assert client.a() == 6
    assert len(server.requests) == 6


def _wait_readable(client: RPCClient) -> None:
    """Until the server's unasked bytes have arrived."""
    assert client._connection is not None
    assert select.select([client._connection._stream._socket], [], [], 30)[0]


# --- faults and refusals --------------------------------------------------------------------------------


def test_faults_are_typed_and_the_connection_stays(pki: PKI) -> None:
    def script(peer: Peer) -> None:
        for code in (-32601, 7):
            peer.read_request()
            peer.send_body(xmlrpc.client.dumps(xmlrpc.client.Fault(code, "because")).encode())
        peer.read_request()
        peer.send_answer(1)
        peer.wait_for_end()

    with ScriptedServer(pki.certs, script) as server, RPCClient(server.url, ca=pki.ca) as client:
        with pytest.raises(MethodNotFoundError):
            client.a()
        with pytest.raises(ApplicationError, match="because"):
            client.a()
        assert client.a() == 1


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (status("401 Unauthorized", "WWW-Authenticate: Bearer"), AuthenticationError),
        (status("403 Forbidden"), NotPermittedError),
        (status("429 Too Many Requests"), UnavailableError),
        (status("500 Internal Server Error"), OutcomeUnknownError),
        (status("502 Bad Gateway"), OutcomeUnknownError),
        (status("404 Not Found"), RemoteProtocolError),
        (status("413 Content Too Large"), RemoteProtocolError),
        (status("204 No Content", body=b""), RemoteProtocolError),
        (status("301 Moved Permanently", "Location: https://localhost:1/RPC2"), RemoteProtocolError),
        (status("307 Temporary Redirect", "Location: /other"), RemoteProtocolError),
        (status("200 OK", "Content-Encoding: gzip", body=b"x"), RemoteProtocolError),
        (status("200 OK", body=b"<html/>"), DecodeError),
        (status("200 OK", body=b""), DecodeError),
        (
            raw(HTML),
            RemoteProtocolError,
        ),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"), RemoteProtocolError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), RemoteProtocolError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), RemoteProtocolError),
        (raw(b"ICY 200 OK\r\n\r\n"), RemoteProtocolError),
        (raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), RemoteProtocolError),
        (raw(b""), OutcomeUnknownError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), OutcomeUnknownError),
        (
            raw(HALF),
            OutcomeUnknownError,
        ),
        (cut, OutcomeUnknownError),
    ],
)
def test_refusals_and_answers_that_are_none(pki: PKI, script: Script, error: type[Exception]) -> None:
    with ScriptedServer(pki.certs, script) as server, RPCClient(server.url, ca=pki.ca) as client:
        with pytest.raises(error) as caught:
            client.a()
        assert type(caught.value) is error
    # Nothing is ever sent twice, and no redirect is followed.
    assert len(server.requests) == 1


def test_a_body_without_length_counts_only_to_a_clean_end(pki: PKI) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n"
    answer += TEXT

    def cut(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)

    with ScriptedServer(pki.certs, raw(answer), cut) as server, RPCClient(server.url, ca=pki.ca) as client:
        assert client.a() == "text"
        with pytest.raises(OutcomeUnknownError):
            client.a()


@pytest.mark.parametrize(("line", "seconds"), [("7", 7.0), ("soon", None), ("-1", None), ("9" * 20, None)])
def test_retry_after(pki: PKI, line: str, seconds: float | None) -> None:
    script = status("503 Service Unavailable", f"Retry-After: {line}")
    with (
        ScriptedServer(pki.certs, script) as server,
        RPCClient(server.url, ca=pki.ca) as client,
        pytest.raises(UnavailableError) as caught,
    ):
        client.a()
    assert caught.value.retry_after == seconds


def test_an_answer_that_refuses_a_large_body_before_it_has_all_left(pki: PKI) -> None:
    def script(peer: Peer) -> None:
        peer.connection.recv(1)
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.say_goodbye()

    # Either the answer was read, or the reset that follows it was first: it is never taken for a success.
    with (
        ScriptedServer(pki.certs, script) as server,
        RPCClient(server.url, ca=pki.ca) as client,
        pytest.raises((RemoteProtocolError, OutcomeUnknownError)),
    ):
        client.a("x" * 900_000)


def test_a_parameter_without_a_form_is_refused_before_anything_is_sent(pki: PKI) -> None:
    client = RPCClient("https://localhost:1/RPC2", ca=pki.ca)
    with pytest.raises(EncodeError):
        client.a(object())


# --- deadlines --------------------------------------------------------------------------------------------


def test_a_deadline_that_passes_before_the_answer_leaves_the_outcome_unknown(pki: PKI) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.wait_for_end()

    with (
        ScriptedServer(pki.certs, script) as server,
        RPCClient(server.url, ca=pki.ca) as client,
        pytest.raises(OutcomeUnknownError, match="deadline"),
    ):
        client.call("a", deadline_seconds=0.2)


def test_a_peer_that_drips_is_late_all_the_same(pki: PKI) -> None:
    ticks = Ticks()

    def script(peer: Peer) -> None:
        peer.read_request()
        for octet in b"HTTP/1.1 200 OK\r\n":
            ticks.now += 1.0
            peer.send(bytes([octet]))
        peer.wait_for_end()

    with (
        ScriptedServer(pki.certs, script) as server,
        RPCClient(server.url, ca=pki.ca, monotonic=ticks, deadline_seconds=5.0) as client,
        pytest.raises(OutcomeUnknownError, match="deadline"),
    ):
        client.a()


def test_a_server_that_does_not_shake_hands_is_late_before_anything_is_sent(pki: PKI) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = RPCClient(f"https://localhost:{silent.getsockname()[1]}/RPC2", ca=pki.ca)
        with pytest.raises(DeadlineExceededError):
            client.call("a", deadline_seconds=0.2)
        with pytest.raises(DeadlineExceededError):
            client.call("a", deadline_seconds=0.0)


def test_a_deadline_that_passes_in_the_handshake_sends_nothing(pki: PKI) -> None:
    ticks = Ticks()

    def late(peer: Peer) -> None:
        peer.wait_for_end()

    class Context:
        """Shakes hands, and takes its time."""

        def wrap_socket(self, *arguments: object, **options: object) -> object:
            wrapped = client_context(pki.ca).wrap_socket(*arguments, **options)  # type: ignore[call-overload]
            ticks.now += 100.0
            return wrapped

    with ScriptedServer(pki.certs, late) as server:
        client = RPCClient(server.url, ca=pki.ca, monotonic=ticks)
        client._target.context = Context()  # type: ignore[assignment]
        with pytest.raises(DeadlineExceededError, match="before anything was sent"):
            client.a()
    assert server.requests == []


def test_a_deadline_while_sending_leaves_the_outcome_unknown(pki: PKI) -> None:
    stop = threading.Event()

    def deaf(peer: Peer) -> None:
        stop.wait(30)

    with ScriptedServer(pki.certs, deaf) as server, RPCClient(server.url, ca=pki.ca) as client:
        client._target.limits = _large()
        with pytest.raises(OutcomeUnknownError, match="while the call was sent"):
            client.call("a", "x" * 30_000_000, deadline_seconds=0.5)
        stop.set()


def _large() -> RPCLimits:
    return dataclasses.replace(RPCLimits(), rpc_body_bytes=40_000_000)


def test_threads_take_turns(pki: PKI) -> None:
    entered, release = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        for number in range(2):
            peer.read_request()
            entered.set()
            release.wait(30)
            peer.send_answer(number)
        peer.wait_for_end()

    found: list[object] = []
    with ScriptedServer(pki.certs, script) as server, RPCClient(server.url, ca=pki.ca) as client:
        thread = threading.Thread(target=lambda: found.append(client.a()))
        thread.start()
        entered.wait(30)
        with pytest.raises(DeadlineExceededError, match="other threads"):
            client.call("a", deadline_seconds=0.05)
        release.set()
        thread.join(30)
        assert client.a() == 1
    assert found == [0]


# --- who is it ----------------------------------------------------------------------------------------------


def test_a_server_of_another_ca_is_refused(pki: PKI, other_pki: PKI) -> None:
    with ScriptedServer(pki.certs, lambda _: None) as server:
        with pytest.raises(VerificationError):
            RPCClient(server.url, ca=other_pki.ca, token="secret").a()
        server.done[0].wait(30)
    assert server.requests == []


def test_a_server_of_another_name_is_refused(pki: PKI) -> None:
    with ScriptedServer(pki.certs, lambda _: None) as server:
        url = server.url.replace("localhost", "127.0.0.2")
        with socket.create_server(("127.0.0.2", 0)) as other:
            url = f"https://127.0.0.2:{other.getsockname()[1]}/RPC2"
            relay = threading.Thread(target=_relay, args=(other, server.port), daemon=True)
            relay.start()
            with pytest.raises(VerificationError):
                RPCClient(url, ca=pki.ca, token="secret").a()
            relay.join(30)
    assert server.requests == []


def _relay(listening: socket.socket, port: int) -> None:
    """Carry one connection's first flights to the server at `port`."""
    inner, _ = listening.accept()
    with inner, socket.create_connection(("127.0.0.1", port)) as outer:
        outer.sendall(inner.recv(65536))
        inner.sendall(outer.recv(65536))
        inner.recv(65536)


def test_a_server_that_speaks_no_tls(pki: PKI) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def speak() -> None:
            connection, _ = plain.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        with pytest.raises(TransportError, match="TLS handshake failed"):
            RPCClient(f"https://localhost:{plain.getsockname()[1]}/RPC2", ca=pki.ca).a()
        thread.join(30)


@pytest.mark.parametrize("host", ["localhost:1", "[::1]:1", "no-such-host.invalid"])
def test_a_server_that_cannot_be_reached(pki: PKI, host: str) -> None:
    with pytest.raises(TransportError):
        RPCClient(f"https://{host}/RPC2", ca=pki.ca).a()


def test_a_name_that_no_certificate_can_bear(pki: PKI) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise ValueError("server_hostname cannot be an empty string or start with a leading dot.")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = RPCClient(f"https://localhost:{listening.getsockname()[1]}/RPC2", ca=pki.ca)
        client._target.context = SimpleNamespace(wrap_socket=refuse)  # type: ignore[assignment]
        with pytest.raises(TransportError, match="no name"):
            client.a()


# --- the rest of its life -----------------------------------------------------------------------------


def test_a_closed_client_opens_again(pki: PKI) -> None:
    with ScriptedServer(pki.certs, answers(1), answers(2)) as server:
        client = RPCClient(server.url, context=client_context(pki.ca), ca=pki.ca)
        assert client.a() == 1
        client.close()
        client.close()
        assert client.a() == 2
        client.close()


def test_a_token_file_is_read_again_when_it_has_changed(pki: PKI, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    with (
        ScriptedServer(pki.certs, answers(1, 2, 3)) as server,
        RPCClient(server.url, ca=pki.ca, token_file=path) as client,
    ):
        client.a()
        client.a()
        path.write_text("second.one\n")
        client.a()
        path.unlink()
        with pytest.raises(ConfigurationError, match="cannot be read"):
            client.a()
    assert [b"Bearer first\r" in head for head, _ in server.requests] == [True, True, False]
    assert b"Bearer second.one\r" in server.requests[2][0]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
    yield tmp_path


def test_without_a_configuration_the_error_names_the_cure(elsewhere: Path) -> None:
    with pytest.raises(ConfigurationError, match="secure-net init"):
        RPCClient()
    with pytest.raises(ConfigurationError, match="secure-net init"):
        RPCClient("https://localhost/RPC2")


def test_the_discovered_configuration_is_enough(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(pki.certs, answers(5)) as server:
        names = json.dumps(["localhost"])
        text = f'[server]\nnames = {names}\n[rpc]\nlisten = "127.0.0.1:{server.port}"\n'
        (pki.directory / "secure-net.toml").write_text(text)
        monkeypatch.chdir(pki.directory)
        monkeypatch.delenv("SECURE_NET_CONFIG", raising=False)
        with RPCClient() as client:
            assert client.a() == 5
