"""What a file is, by its name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.http.media_types import media_type
from secure_net.http.response import ResponseHeads


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("index.html", b"text/html; charset=utf-8"),
        ("INDEX.HTML", b"text/html; charset=utf-8"),
        ("a.txt", b"text/plain; charset=utf-8"),
        ("a.log", b"text/plain; charset=utf-8"),
        ("a.css", b"text/css; charset=utf-8"),
        ("a.js", b"text/javascript; charset=utf-8"),
        ("a.mjs", b"text/javascript; charset=utf-8"),
        ("a.json", b"application/json; charset=utf-8"),
        ("a.svg", b"image/svg+xml; charset=utf-8"),
        ("a.png", b"image/png"),
        ("a.woff2", b"font/woff2"),
        ("a.wasm", b"application/wasm"),
        ("a.pdf", b"application/pdf"),
        ("a.tar.gz", b"application/gzip"),
        ("a.css.gz", b"application/gzip"),
        ("a.css.br", b"application/octet-stream"),
        ("a.tar.bz2", b"application/x-bzip2"),
        ("a.tar.xz", b"application/x-xz"),
        ("a.txt.Z", b"application/octet-stream"),
        ("a.html.exe.unknown", b"application/octet-stream"),
        ("README", b"application/octet-stream"),
        ("a.", b"application/octet-stream"),
        ("data:text/html,x", b"application/octet-stream"),
        ("http://x/a.html", b"text/html; charset=utf-8"),
    ],
)
def test_the_type_of_a_name(name: str, kind: bytes) -> None:
    assert media_type(name) == kind


@given(st.text(min_size=1, max_size=30))
def test_every_name_has_a_type_that_is_a_field(name: str) -> None:
    ResponseHeads(lambda: 0.0).prefix(200, ((b"content-type", media_type(name)),))
