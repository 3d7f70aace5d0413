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


def handshake_message(records: bytes) -> bytes | None:
    """The first handshake message out of TLS records, joined where it is split over several.

    Returns None while it is not whole. Raises `RemoteProtocolError`: PLAINTEXT where the first byte is
    not a handshake record's, CLIENT_HELLO for anything else that no ClientHello begins with.
    """
    if records and records[0] != RECORD_HANDSHAKE:
        raise RemoteProtocolError(Refusal.PLAINTEXT)
    message, at = b"", 0
    while at + 5 <= len(records):
        length = int.from_bytes(records[at + 3 : at + 5], "big")
        if records[at] != RECORD_HANDSHAKE or records[at + 1] != 3 or not 0 < length <= LARGEST_HELLO:
            raise RemoteProtocolError(Refusal.CLIENT_HELLO, "record header")
        message += records[at + 5 : at + 5 + length]
        at += 5 + length
        if message[0] != HANDSHAKE_CLIENT_HELLO:
            raise RemoteProtocolError(Refusal.CLIENT_HELLO, "not a ClientHello")
        if len(message) >= 4:
            end = 4 + int.from_bytes(message[1:4], "big")
            if end > LARGEST_HELLO:
                raise RemoteProtocolError(Refusal.CLIENT_HELLO, "too large")
            if len(message) >= end:
                return message[4:end]
        if at > len(records):
            break
    if len(records) > 2 * LARGEST_HELLO:
        raise RemoteProtocolError(Refusal.CLIENT_HELLO, "too many records")
    return None


def parse_client_hello(records: bytes) -> ClientHello | None:
    """What a ClientHello asks for; None while it is not whole. Raises `RemoteProtocolError`."""
    message = handshake_message(records)
    if message is None:
        return None
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
