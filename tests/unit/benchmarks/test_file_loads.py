"""What the loads of files say, and what they refuse as a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.loads import curl, downloads, listing, probe
from benchmarks.loads.downloads import Taken
from benchmarks.loads.http import write_headers
from benchmarks.processes import BenchmarkError, peak_kib
from secure_net.http.listing import Entry, page

MIB = 1024 * 1024
SAID = '{"status": 200, "bytes": 1048576, "seconds": 0.5}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\nand so on"


def test_curl() -> None:
    assert curl.parse(SAID, "", MIB) == 0.5
    found = curl.result([0.5, 0.25, 0.25], MIB, 0.8)
    assert (found.operations, found.seconds, found.p50_us, found.busy) == (3, 1.0, 250_000, 0.8)


@pytest.mark.parametrize(
    "said", [SAID.replace("200", "403"), SAID.replace("1048576", "1048575"), "", "curl: (7) refused"]
)
def test_curl_without_the_whole_file_is_no_result(said: str) -> None:
    with pytest.raises(BenchmarkError):
        curl.parse(said, "why", MIB)


def test_a_download_begins_with_its_size() -> None:
    downloads.check(HEAD, MIB)


@pytest.mark.parametrize("answer", [HEAD.replace(b"200", b"503"), HEAD.replace(b"1048576", b"104857")])
def test_a_download_of_something_else_is_no_result(answer: bytes) -> None:
    with pytest.raises(BenchmarkError):
        downloads.check(answer, MIB)


def test_what_downloads_took() -> None:
    assert Taken.of([3, 1, 2], 0.5) == Taken(6, 1, 3, 0.5)


def test_our_pages_are_counted_and_followed() -> None:
    names = [Entry(f"entry-{number:06d}", 0, 0.0) for number in range(3)]
    first = page("/folder/", names, after="", more=True, top=False)
    assert listing.entries(first) == 3
    assert listing.following(first) == "?after=entry-000002"
    assert listing.following(page("/folder/", names, after="x", more=False, top=False)) is None


@pytest.mark.parametrize(
    "line",
    [
        b'<a href="entry-000001">entry-000001</a>      01-Jan-2026 00:00    0',
        b'<li><a href="/folder-1000/entry-000001">entry-000001</a></li>',
    ],
)
def test_entries_of_the_peers_pages_are_counted_once(line: bytes) -> None:
    assert listing.entries(b'<a href="../">../</a>' + line) == 1


def test_what_is_secret_stands_in_a_file_of_ours(tmp_path: Path) -> None:
    file = write_headers(tmp_path, {"Authorization": "Bearer x"})
    assert file.read_text(encoding="ascii") == "Authorization: Bearer x\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_request_is_as_wrk_sends_it() -> None:
    request = probe.get_request(8444, "/small", {"Authorization": "Bearer x"})
    assert request == b"GET /small HTTP/1.1\r\nHost: localhost:8444\r\nAuthorization: Bearer x\r\n\r\n"


def test_the_peak_of_a_process() -> None:
    assert peak_kib("Name: x\nVmHWM:\t   2048 kB\nVmRSS:\t 1024 kB\n") == 2048
    assert peak_kib("Name: ended\n") == 0
