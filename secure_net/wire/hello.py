"""The ClientHello, read before OpenSSL sees it (RFC 8446, section 4.1.2; RFC 6066, section 3; RFC 7301).

The `ssl` module accepts an ALPN offer that shares nothing with ours, and a server name that is not ours,
without a word: a page can then be made to talk to another protocol's port (ALPACA). So the layer reads
names and offers itself and answers with the alert the RFCs ask for.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from secure_net.errors import Refusal, RemoteProtocolError

LARGEST_HELLO = 16 * 1024  # Chromium's is about 2 KiB, with post-quantum shares
RECORD_HANDSHAKE = 0x16
HANDSHAKE_CLIENT_HELLO = 1
EXTENSION_SERVER_NAME = 0
EXTENSION_ALPN = 16

# A fatal alert in a plaintext record: 15 03 03 00 02 02 xx (RFC 8446, section 6.2).
ALERT_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
ALERT_NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"


class ClientHello(NamedTuple):
    """`server_name`: lower case, None where absent or an IP literal. `alpn`: the offer, in its order."""

    server_name: str | None
    alpn: tuple[bytes, ...]


class _Reader:
    """Takes length-prefixed vectors off a byte string; whatever does not fit is a broken hello."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._end = data, 0, len(data)

    def take(self, length: int) -> bytes:
        begin, self._at = self._at, self._at + length
        if self._at > self._end:
            raise RemoteProtocolError(Refusal.CLIENT_HELLO, "vector runs past its end")
        return self._data[begin : self._at]

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def vector(self, prefix: int) -> bytes:
        return self.take(self.number(prefix))

    def __bool__(self) -> bool:
        return self._at < self._end


class HelloReader:
    """Collects a ClientHello that may come in any number of reads and records.

    Each byte is looked at once. To read from the start again at every byte would let one peer, with
    32 KiB in segments of one byte, keep a core busy for seconds. `received` is all that came, for OpenSSL.
    """

    __slots__ = ("_message", "_next_record", "received")

    def __init__(self) -> None:
        self.received = bytearray()
        self._message = bytearray()
        self._next_record = 0

    def receive(self, data: bytes) -> ClientHello | None:
        """Take more bytes; the hello once it is whole, until then None.

        Raises `RemoteProtocolError`: PLAINTEXT where the first byte is not a handshake record's,
        CLIENT_HELLO for anything else that no ClientHello begins with.
        """
        received = self.received
        received += data
        if received and received[0] != RECORD_HANDSHAKE:
            raise RemoteProtocolError(Refusal.PLAINTEXT)
        while (fragment := self._fragment()) is not None:
            self._message += fragment
            if self._message[0] != HANDSHAKE_CLIENT_HELLO:
                raise RemoteProtocolError(Refusal.CLIENT_HELLO, "not a ClientHello")
            if len(self._message) < 4:
                continue
            end = 4 + int.from_bytes(self._message[1:4], "big")
            if end > LARGEST_HELLO:
                raise RemoteProtocolError(Refusal.CLIENT_HELLO, "too large")
            if len(self._message) >= end:
                return parse_client_hello(bytes(self._message[4:end]))
        if len(received) > 2 * LARGEST_HELLO:
            raise RemoteProtocolError(Refusal.CLIENT_HELLO, "too many records")
        return None

    def _fragment(self) -> bytes | None:
        """What the next record holds, or None while it is not whole."""
        received, body = self.received, self._next_record + 5
        if len(received) < body:
            return None
        kind, major, _, *length = received[self._next_record : body]
        end = body + int.from_bytes(length, "big")
        if kind != RECORD_HANDSHAKE or major != 3 or not body < end <= body + LARGEST_HELLO:
            raise RemoteProtocolError(Refusal.CLIENT_HELLO, "record header")
        if len(received) < end:
            return None
        self._next_record = end
        return bytes(received[body:end])


def parse_client_hello(message: bytes) -> ClientHello:
    """What a ClientHello asks for: its body, without the handshake header. Raises `RemoteProtocolError`."""
    reader = _Reader(message)
    reader.take(2 + 32)  # legacy_version, random
    reader.vector(1)  # legacy_session_id
    reader.vector(2)  # cipher_suites
    reader.vector(1)  # legacy_compression_methods
    name: str | None = None
    alpn: tuple[bytes, ...] = ()
    extensions = _Reader(reader.vector(2)) if reader else _Reader(b"")
    while extensions:
        kind, body = extensions.number(2), extensions.vector(2)
        if kind == EXTENSION_SERVER_NAME:
            name = _server_name(_Reader(body))
        elif kind == EXTENSION_ALPN:
            alpn = _protocols(_Reader(_Reader(body).vector(2)))
    return ClientHello(name, alpn)


def _server_name(body: _Reader) -> str | None:
    names = _Reader(body.vector(2))
    if names.number(1) != 0:
        raise RemoteProtocolError(Refusal.SERVER_NAME, "not a host_name")
    try:
        name = names.vector(2).decode("ascii").lower().removesuffix(".")
    except UnicodeDecodeError:
        raise RemoteProtocolError(Refusal.SERVER_NAME, "not ASCII") from None
    try:
        # RFC 6066 permits no literal addresses; lftp sends them all the same. Taken as absent.
        ipaddress.ip_address(name)
    except ValueError:
        return name
    return None


def _protocols(offer: _Reader) -> tuple[bytes, ...]:
    protocols = []
    while offer:
        protocols.append(offer.vector(1))
    return tuple(protocols)
