"""The ClientHello: what it says, whatever it is split into, and what is not one."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_net.errors import Refusal, RemoteProtocolError
from secure_net.wire.hello import LARGEST_HELLO, ClientHello, HelloReader


def vector(prefix: int, body: bytes) -> bytes:
    return len(body).to_bytes(prefix, "big") + body


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, body)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def message(*extensions: bytes, bare: bool = False) -> bytes:
    """A ClientHello's handshake message. `bare`: as SSL 3.0 had it, without the extensions' vector."""
    body = b"\x03\x03" + bytes(32) + vector(1, bytes(32)) + vector(2, b"\x13\x01") + vector(1, b"\x00")
    if not bare:
        body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body)


def records(data: bytes, size: int = 1 << 14) -> bytes:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def openssl_hello(name: str | None, offer: list[str]) -> bytes:
    context = ssl.create_default_context()
    if offer:
        context.set_alpn_protocols(offer)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def read(data: bytes) -> ClientHello | None:
    return HelloReader().receive(data)


def refusal(data: bytes) -> tuple[Refusal, str]:
    with pytest.raises(RemoteProtocolError) as caught:
        read(data)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize(
    ("name", "offer", "hello"),
    [
        (None, [], ClientHello(None, ())),
        ("Host.Example", ["h2", "http/1.1"], ClientHello("host.example", (b"h2", b"http/1.1"))),
        ("127.0.0.1", [], ClientHello(None, ())),  # OpenSSL sends no SNI for a literal
        ("::1", ["smtp"], ClientHello(None, (b"smtp",))),
    ],
)
def test_what_openssl_sends(name: str | None, offer: list[str], hello: ClientHello) -> None:
    assert read(openssl_hello(name, offer)) == hello


@pytest.mark.parametrize(
    ("extensions", "hello"),
    [
        ((), ClientHello(None, ())),
        ((server_name(b"LOCALHOST."),), ClientHello("localhost", ())),
        ((server_name(b"127.0.0.1"),), ClientHello(None, ())),
        ((server_name(b"::1"), alpn(b"ftp")), ClientHello(None, (b"ftp",))),
        ((server_name(b""),), ClientHello("", ())),
        ((extension(43, b"\x02\x03\x04"), alpn(b"a", b"")), ClientHello(None, (b"a", b""))),
        ((alpn(),), ClientHello(None, ())),
    ],
)
def test_what_extensions_say(extensions: tuple[bytes, ...], hello: ClientHello) -> None:
    assert read(records(message(*extensions))) == hello


def test_a_hello_without_extensions_asks_for_nothing() -> None:
    assert read(records(message(bare=True))) == ClientHello(None, ())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 50, 1 << 14])
def test_a_hello_split_over_records_is_the_same(size: int) -> None:
    whole = message(server_name(b"localhost"), alpn(b"http/1.1"))
    assert read(records(whole, size)) == ClientHello("localhost", (b"http/1.1",))


@given(sizes=st.lists(st.integers(1, 60), max_size=12), record=st.integers(1, 80))
@settings(max_examples=80, deadline=None)
def test_any_split_of_the_input_gives_the_same_hello_at_its_last_byte(sizes: list[int], record: int) -> None:
    data = records(message(server_name(b"a.example"), alpn(b"x", b"y")), record)
    reader, rest, hello = HelloReader(), data, None
    for size in [*sizes, *([1] * len(data))]:
        if not rest:
            break
        assert hello is None
        hello = reader.receive(rest[:size])
        rest = rest[size:]
    assert hello == ClientHello("a.example", (b"x", b"y"))
    assert reader.received == data


def test_what_stands_behind_the_hello_is_left_to_openssl() -> None:
    data = records(message(server_name(b"localhost"))) + b"\x14\x03\x03\x00\x01\x01"
    reader = HelloReader()
    assert reader.receive(data) == ClientHello("localhost", ())
    assert reader.received == data


@pytest.mark.parametrize("byte", [b"\x00", b"\x14", b"\x15", b"\x17", b"\x80", b"G", b"E", b" "])
def test_a_first_byte_that_is_no_handshake_record_is_plaintext(byte: bytes) -> None:
    assert refusal(byte) == (Refusal.PLAINTEXT, "")


def test_nothing_is_not_yet_a_hello() -> None:
    assert read(b"") is None


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"\x16\x02\x00\x00\x05hello", "record header"),  # SSL 2
        (b"\x16\x03\x01\x00\x00", "record header"),  # empty: RFC 8446, section 5.1
        (b"\x16\x03\x01\x40\x01", "record header"),  # longer than a record may be
        (records(message())[:10] + b"\x00", ""),
        (records(b"\x02" + message()[1:]), "not a ClientHello"),
        (records(message()[:10]) + b"\x17\x03\x03\x00\x01a", "record header"),
        (records(b"\x01" + (LARGEST_HELLO - 3).to_bytes(3, "big")), "too large"),
        (records(b"\x01\xff\xff\xff"), "too large"),
        (records(message(b"\x00" * 3)), "vector runs past its end"),
        (records(b"\x01" + vector(3, b"\x03\x03" + bytes(20))), "vector runs past its end"),
        (records(message(extension(0, b""))), "vector runs past its end"),
        (records(message(extension(0, vector(2, b"")))), "vector runs past its end"),
        (records(message(extension(16, b"\x00\x05\x04ftp"))), "vector runs past its end"),
        (records(message(extension(16, b"\x00\x03\x09ft"))), "vector runs past its end"),
    ],
)
def test_what_is_no_client_hello_is_refused(data: bytes, detail: str) -> None:
    if not detail:  # a truncated one is waited for
        assert read(data) is None
        return
    assert refusal(data) == (Refusal.CLIENT_HELLO, detail)


@pytest.mark.parametrize(
    ("name", "detail"),
    [(server_name("höst".encode()), "not ASCII"), (server_name(b"x", kind=1), "not a host_name")],
)
def test_a_name_that_cannot_be_ours(name: bytes, detail: str) -> None:
    assert refusal(records(message(name))) == (Refusal.SERVER_NAME, detail)


def test_a_hello_as_large_as_may_be() -> None:
    padding = LARGEST_HELLO - len(message(extension(21, b"")))
    assert read(records(message(extension(21, bytes(padding))))) == ClientHello(None, ())
    assert refusal(records(message(extension(21, bytes(padding + 1))))) == (Refusal.CLIENT_HELLO, "too large")


def test_a_hello_in_ever_more_records_is_refused_at_a_bound() -> None:
    """Records of one byte each: six times the size of what they carry."""
    data = records(b"\x01" + struct.pack(">I", LARGEST_HELLO - 4)[1:] + bytes(LARGEST_HELLO), 1)
    reader = HelloReader()
    with pytest.raises(RemoteProtocolError, match="too many records"):
        for at in range(0, len(data), 999):
            assert reader.receive(data[at : at + 999]) is None
    assert len(reader.received) <= 2 * LARGEST_HELLO + 999


def test_each_byte_is_looked_at_once() -> None:
    """Bytes one by one are as much work as they are many: counted as fragments taken, not as time."""
    data = records(b"\x01" + struct.pack(">I", LARGEST_HELLO - 4)[1:] + bytes(5000), 1)[: 2 * LARGEST_HELLO]
    looks = 0

    class Counting(HelloReader):
        __slots__ = ()

        def _fragment(self) -> bytes | None:
            nonlocal looks
            looks += 1
            return super()._fragment()

    reader = Counting()
    for at in range(len(data)):
        assert reader.receive(data[at : at + 1]) is None
    assert looks <= len(data) + len(data) // 6 + 1


@given(data=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_whatever_comes_parses_or_is_refused(data: bytes) -> None:
    try:
        hello = read(data)
    except RemoteProtocolError as error:
        assert error.reason in (Refusal.PLAINTEXT, Refusal.CLIENT_HELLO, Refusal.SERVER_NAME)
    else:
        assert hello is None


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_the_body_parses_or_is_refused(data: bytes) -> None:
    prefix = b"\x03\x03" + bytes(32) + b"\x00" + vector(2, b"\x13\x01") + vector(1, b"\x00")
    try:
        hello = read(records(b"\x01" + vector(3, prefix + vector(2, data))))
    except RemoteProtocolError as error:
        assert error.reason in (Refusal.CLIENT_HELLO, Refusal.SERVER_NAME)
    else:
        assert hello is not None
