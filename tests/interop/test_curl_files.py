"""Debian's curl fetches files: whole, in part, again, compressed."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import peers
from tests.support.daemon import RunningDaemon
from tests.support.file_daemon import run_file_daemon, url
from tests.support.files import write

LARGE_BYTES = 20_000_003


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with run_file_daemon(tmp_path_factory.mktemp("files")) as daemon:
        www = daemon.directory / "www"
        write(www / "index.html", b"<h1>home</h1>")
        write(www / "large.bin", random.Random(7).randbytes(LARGE_BYTES))  # noqa: S311 - a file, not a secret
        text = b"compressible " * 1000
        write(www / "text.css", text)
        write(www / "text.css.gz", gzip.compress(text))
        write(www / "assets" / "a.js", b"1")
        write(www / "folder" / "a b&c.txt", b"in a folder")
        write(www / "ä#?.txt", b"umlaut")
        write(daemon.directory / "manuals" / "m.txt", b"manual")
        yield daemon


class Curl:
    def __init__(self, daemon: RunningDaemon, folder: Path) -> None:
        self.daemon, self.folder = daemon, folder
        self.output = folder / "output"

    def __call__(self, path: str, *arguments: str, name: str | None = None, code: int = 0) -> dict[str, Any]:
        """What curl says of it; the body is in `output`."""
        certificate: tuple[str, ...] = ()
        if name is not None:
            pem, key = map(str, self.daemon.certificate(name))
            certificate = ("--cert", pem, "--key", key)
        if "--continue-at" not in arguments:
            self.output.unlink(missing_ok=True)
        done = subprocess.run(
            [
                *(str(peers.need("curl")), "--silent", "--cacert", str(self.daemon.ca), *certificate),
                *("--output", str(self.output), "--write-out", "%{json}\n%{header_json}"),
                *(*arguments, url(self.daemon, path)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        about, _, headers = done.stdout.partition("\n")
        return json.loads(about) | {"headers": json.loads(headers)}

    @property
    def body(self) -> bytes:
        return self.output.read_bytes() if self.output.exists() else b""


@pytest.fixture
def curl(files: RunningDaemon, tmp_path: Path) -> Curl:
    return Curl(files, tmp_path)


@pytest.fixture
def large(files: RunningDaemon) -> bytes:
    return (files.directory / "www" / "large.bin").read_bytes()


def test_a_large_file(curl: Curl, large: bytes) -> None:
    about = curl("/large.bin")
    assert (about["http_code"], about["size_download"]) == (200, LARGE_BYTES)
    assert hashlib.sha256(curl.body).digest() == hashlib.sha256(large).digest()


def test_a_slow_reader_gets_it_whole(curl: Curl, large: bytes) -> None:
    curl("/large.bin", "--limit-rate", "8M")
    assert curl.body == large


def test_an_interrupted_download_goes_on(curl: Curl, large: bytes) -> None:
    curl.output.write_bytes(large[:12_345_678])
    about = curl("/large.bin", "--continue-at", "-")
    assert about["http_code"] == 206
    assert about["headers"]["content-range"] == [f"bytes 12345678-{LARGE_BYTES - 1}/{LARGE_BYTES}"]
    assert curl.body == large


def test_ranges(curl: Curl, large: bytes) -> None:
    assert curl("/large.bin", "--range", "5-9")["http_code"] == 206
    assert curl.body == large[5:10]
    assert curl("/large.bin", "--range", "-7")["http_code"] == 206
    assert curl.body == large[-7:]
    about = curl("/large.bin", "--range", "0-1,1000000-1200000")
    assert about["content_type"].startswith("multipart/byteranges; boundary=")
    assert large[1_000_000:1_200_001] in curl.body
    assert curl("/large.bin", "--range", f"{LARGE_BYTES}-")["http_code"] == 416


def test_head(curl: Curl) -> None:
    about = curl("/large.bin", "--head")
    assert about["headers"]["content-length"] == [str(LARGE_BYTES)]
    assert about["size_download"] == 0


def test_what_curl_has_it_does_not_get_again(curl: Curl) -> None:
    tags = str(curl.folder / "tags")
    assert curl("/", "--etag-save", tags)["http_code"] == 200
    assert curl("/", "--etag-compare", tags)["http_code"] == 304
    about = curl("/large.bin", "--remote-time")
    assert about["http_code"] == 200
    kept = curl.folder / "kept"
    kept.write_bytes(b"")
    os.utime(kept, (curl.output.stat().st_mtime,) * 2)
    assert curl("/large.bin", "--time-cond", str(kept))["http_code"] == 304


def test_a_compressed_twin(curl: Curl) -> None:
    plain = curl("/text.css")
    expected = curl.body
    about = curl("/text.css", "--compressed")
    assert curl.body == expected
    assert about["headers"]["content-encoding"] == ["gzip"]
    assert about["headers"]["vary"] == ["accept-encoding"] == plain["headers"]["vary"]
    assert about["size_download"] < plain["size_download"] / 10


def test_a_folder_by_its_redirect_and_its_listing(curl: Curl) -> None:
    about = curl("/folder", "--location")
    assert about["url_effective"].endswith("/folder/")
    assert b'href="./a%20b&amp;c.txt"' in curl.body
    curl("/folder/a%20b&c.txt")
    assert curl.body == b"in a folder"
    curl("/%C3%A4%23%3F.txt")
    assert curl.body == b"umlaut"


def test_what_it_says_besides(curl: Curl) -> None:
    headers = curl("/assets/a.js")["headers"]
    assert headers["cache-control"] == ["public, max-age=31536000, immutable"]
    assert headers["content-security-policy"] == ["sandbox"]
    assert headers["x-content-type-options"] == ["nosniff"]
    assert headers["content-type"] == ["text/javascript; charset=utf-8"]
    assert "strict-transport-security" not in headers
    assert "server" not in headers


def test_out_of_the_root(curl: Curl) -> None:
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/folder/../../secure-net.toml", "/%00"):
        assert curl(path, "--path-as-is")["http_code"] == 404


def test_who_may(curl: Curl, files: RunningDaemon) -> None:
    assert curl("/manuals/m.txt")["http_code"] == 401
    assert curl("/manuals/m.txt", name="metrics")["http_code"] == 403
    assert curl("/manuals/m.txt", name="admin")["http_code"] == 200
    header = curl.folder / "authorization"
    header.write_text(f"Authorization: Bearer {files.token('admin', 'files:read:/manuals/*')}\n")
    assert curl("/manuals/m.txt", "--header", f"@{header}")["http_code"] == 200
    assert curl.body == b"manual"


def test_http_1_0(curl: Curl, large: bytes) -> None:
    about = curl("/large.bin", "--http1.0")
    assert about["headers"]["connection"] == ["close"]
    assert curl.body == large


def test_many_on_one_connection(curl: Curl, large: bytes) -> None:
    """A small file behind a large one, and a large one behind that."""
    names = [str(curl.folder / str(number)) for number in range(3)]
    config = curl.folder / "config"
    paths = ("/large.bin", "/", "/large.bin")
    lines = [
        f'url = "{url(curl.daemon, path)}"\noutput = "{name}"'
        for path, name in zip(paths, names, strict=True)
    ]
    config.write_text("\n".join(lines))
    command = [str(peers.need("curl")), "--silent", "--cacert", str(curl.daemon.ca), "--config", str(config)]
    done = subprocess.run(
        [*command, "--write-out", "%{num_connects}\n"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["1", "0", "0"]
    assert [Path(name).read_bytes() for name in names] == [large, b"<h1>home</h1>", large]


def test_a_file_that_shrinks_is_a_download_that_failed(curl: Curl, files: RunningDaemon) -> None:
    path = files.directory / "www" / "shrinking"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    with subprocess.Popen(
        [
            *(str(peers.need("curl")), "--silent", "--cacert", str(files.ca), "--limit-rate", "4M"),
            *("--output", str(curl.output), url(files, "/shrinking")),
        ]
    ) as process:
        while not curl.body:
            assert process.poll() is None
        os.truncate(path, 10)
        assert process.wait(60) != 0
    assert len(curl.body) < 64 << 20
