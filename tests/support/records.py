"""TLS 1.3 records written by hand (RFC 8446, sections 5 and 7): what no TLS library sends when asked."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, APPLICATION_DATA = 22, 23


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00"
    return HKDFExpand(SHA384(), length, info).derive(secret)


class RecordWriter:
    """Takes over a client's sending side once its handshake is done.

    The client's context needs `keylog_filename`, and must not have sent application data before.
    """

    def __init__(self, keylog: Path, tls: ssl.SSLObject) -> None:
        assert tls.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
        lines = (line.split() for line in keylog.read_text().splitlines())
        (secret,) = (fields[2] for fields in lines if fields[0] == "CLIENT_TRAFFIC_SECRET_0")
        self._use(bytes.fromhex(secret))

    def _use(self, secret: bytes) -> None:
        self._secret, self._sequence = secret, 0
        self._aead, self._iv = AESGCM(_expand(secret, b"key", 32)), _expand(secret, b"iv", 12)

    def record(self, data: bytes, content_type: int = APPLICATION_DATA) -> bytes:
        header = b"\x17\x03\x03" + (len(data) + 1 + 16).to_bytes(2, "big")
        nonce = int.from_bytes(self._iv, "big") ^ self._sequence
        self._sequence += 1
        return header + self._aead.encrypt(nonce.to_bytes(12, "big"), data + bytes([content_type]), header)

    def key_update(self, *, requested: bool) -> bytes:
        """New keys from here on; `requested`: the other side owes the same."""
        record = self.record(b"\x18\x00\x00\x01" + bytes([requested]), HANDSHAKE)
        self._use(_expand(self._secret, b"traffic upd", 48))
        return record
