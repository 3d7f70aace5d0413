"""Which twin a client wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.http.negotiation import SUFFIXES, wanted


@pytest.mark.parametrize(
    ("field", "codings"),
    [
        (None, ()),
        (b"", ()),
        (b"gzip", ("gzip",)),
        (b"GZIP", ("gzip",)),
        (b"x-gzip", ("gzip",)),
        (b"gzip, deflate, br, zstd", ("br", "gzip")),
        (b"gzip;q=1, br;q=0.9", ("gzip", "br")),
        (b"gzip;q=0.1,br ; Q=0.100", ("br", "gzip")),
        (b"*", ("br", "gzip")),
        (b"*;q=0.1, gzip", ("gzip", "br")),
        (b"br;q=0, *", ("gzip",)),
        (b"gzip;q=0", ()),
        (b"gzip;q=0.000", ()),
        (b"identity", ()),
        (b"identity, gzip;q=0.5", ()),
        (b"identity;q=0.5, gzip;q=0.5", ("gzip",)),
        (b"identity;q=0, gzip", ("gzip",)),
        (b"deflate", ()),
        (b"gzip;q=2", ()),
        (b"gzip;q=1.001", ()),
        (b"gzip;q=0.1234", ()),
        (b"gzip;q=", ()),
        (b"gzip;x=1", ()),
        (b"gz ip, br", ("br",)),
        (b"gzip," + b" " * 600, ()),
    ],
)
def test_the_best_comes_first(field: bytes | None, codings: tuple[str, ...]) -> None:
    assert wanted(field) == codings


@given(st.text("gzipbr*;q=0.15, identity", max_size=50))
def test_whatever_is_sent_only_twins_we_know_come_back(field: str) -> None:
    found = wanted(field.encode())
    assert len(set(found)) == len(found)
    assert set(found) <= set(SUFFIXES)
