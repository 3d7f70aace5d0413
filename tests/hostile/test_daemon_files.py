"""The row "Files" of the threat list, and clients in number, slow and gone, against the running daemon."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import RunningDaemon
from tests.support.file_daemon import address, open_paths, resident_bytes, run_file_daemon
from tests.support.files import write
from tests.support.peer import Answer, Peer, get
from tests.support.scrape import metric
from tests.support.waiting import until

SECRET = b"what must never be seen"
MIB = 1 << 20
LARGE_BYTES = 64 * MIB


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with run_file_daemon(tmp_path_factory.mktemp("files")) as daemon:
        www = daemon.directory / "www"
        write(www / "a.txt", b"0123456789")
        write(www / "404.html", b"<h1>nothing here</h1>")
        write(www / "sub" / "b.txt", b"below")
        write(www / ".hidden", SECRET)
        write(daemon.directory / "secret.txt", SECRET)
        write(daemon.directory / "manuals" / "m.txt", b"manual")
        (www / "link").symlink_to("../secret.txt")
        (www / "folder").symlink_to("..")
        (www / "a.txt.gz").symlink_to("../secret.txt")
        os.mkfifo(www / "fifo")
        with (www / "large").open("wb") as file:
            file.truncate(LARGE_BYTES)  # a hole: it takes no room
        yield daemon


@pytest.fixture
def peer(files: RunningDaemon) -> Iterator[Peer]:
    """Somebody without a credential."""
    with Peer(address(files), files.context(None)) as peer:
        yield peer


def ask(peer: Peer, path: bytes, *fields: bytes) -> Answer:
    peer.send(get(path, *fields))
    return peer.answer()


def test_every_way_out_of_the_root_is_404_on_one_connection(peer: Peer) -> None:
    for path in (
        b"/../secret.txt",
        b"/%2e%2e/secret.txt",
        b"/%2e%2e%2fsecret.txt",
        b"/..%2fsecret.txt",
        b"/..%5csecret.txt",
        b"/..%5c..%5csecret.txt",
        b"/%252e%252e/secret.txt",
        b"/%252e%252e%252fsecret.txt",
        b"/sub/../../secret.txt",
        b"/%c0%ae%c0%ae/secret.txt",
        b"/manuals/../../secret.txt",
        b"/%00",
        b"/a.txt%00",
        b"/a.txt%00.html",
        b"//secret.txt",
        b"/.hidden",
        b"/%2ehidden",
        b"/link",
        b"/folder/secret.txt",
        b"/folder/",
        b"/fifo",
        b"/a.txt/",
    ):
        answer = ask(peer, path)
        assert (path, answer.status) == (path, 404)
        assert SECRET not in answer.raw
    assert ask(peer, b"/a.txt").body == b"0123456789"


def test_a_symlinked_twin_is_not_followed(peer: Peer) -> None:
    answer = ask(peer, b"/a.txt", b"Accept-Encoding: gzip")
    assert (answer.body, answer.header(b"content-encoding")) == (b"0123456789", None)


def test_a_listing_shows_what_can_be_had_and_nothing_else(peer: Peer) -> None:
    page = ask(peer, b"/").body
    assert b"./a.txt" in page
    for name in (b"hidden", b"link", b"folder", b"fifo", b"secret"):
        assert name not in page


@pytest.mark.parametrize(
    ("ranges", "status"),
    [
        (b",".join(b"%d-%d" % (n, n) for n in range(1000)), 200),
        (b"0-5,3-8", 200),
        (b"10-", 416),
        (b"-0", 416),
        (b"99999999999999999999-", 416),
    ],
)
def test_ranges_get_416_or_the_whole(peer: Peer, ranges: bytes, status: int) -> None:
    answer = ask(peer, b"/a.txt", b"Range: bytes=" + ranges)
    assert answer.status == status
    assert status == 416 or answer.body == b"0123456789"


def test_who_may_not_is_told_nothing_of_what_is_there(files: RunningDaemon, peer: Peer) -> None:
    answers = {ask(peer, path).without_date for path in (b"/manuals/m.txt", b"/manuals/none", b"/manuals/")}
    assert len(answers) == 1
    assert b" 401 " in answers.pop()
    token = files.token("demo", "files:read:/manuals/other/**").encode()
    bearer = b"Authorization: Bearer " + token
    answers = {ask(peer, path, bearer).without_date for path in (b"/manuals/m.txt", b"/manuals/none")}
    assert len(answers) == 1
    assert b" 403 " in answers.pop()
    bearer = b"Authorization: Bearer " + files.token("admin", "files:read:/manuals/**").encode()
    assert ask(peer, b"/manuals/m.txt", bearer).body == b"manual"
    with Peer(address(files), files.context("admin")) as admin:
        assert ask(admin, b"/manuals/m.txt").body == b"manual"
        assert ask(admin, b"/manuals/none").status == 404


def test_files_are_sandboxed_and_cookies_not_heard(peer: Peer) -> None:
    answer = ask(peer, b"/a.txt", b"Cookie: __Host-session=x")
    assert answer.header(b"content-security-policy") == b"sandbox"
    assert answer.header(b"x-content-type-options") == b"nosniff"
    assert answer.header(b"strict-transport-security") is None
    assert answer.header(b"set-cookie") is None


def test_pipelined_good_and_bad_are_answered_in_order_large_ones_too(files: RunningDaemon) -> None:
    with Peer(address(files), files.context(None)) as peer:
        peer.send(
            get(b"/a.txt") + get(b"/large") + get(b"/none") + get(b"/a.txt") + b"GET / HTTP/9.9\r\n\r\n"
        )
        answers = peer.answers()
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 400]
    assert len(answers[1].body) == LARGE_BYTES
    assert answers[2].body == b"<h1>nothing here</h1>"


# --- files that change ------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["shrinks", "is written to"])
def test_a_file_that_changes_while_it_is_sent_ends_the_connection(files: RunningDaemon, change: str) -> None:
    path = files.directory / "www" / "changing"
    with path.open("wb") as file:
        file.truncate(LARGE_BYTES)
    changed = metric(files, "files_changed_total")
    with Peer(address(files), files.context(None)) as peer:
        peer.send(get(b"/changing") + get(b"/a.txt"))
        received = peer.socket.recv(65536)
        until(lambda: open_paths(files, files.directory / "www"))
        with path.open("r+b") as file:
            if change == "shrinks":
                file.truncate(1000)
            else:
                file.write(SECRET)
        with contextlib.suppress(ConnectionResetError, OSError):
            while data := peer.socket.recv(65536):
                received += data
    assert len(received) < LARGE_BYTES
    assert SECRET not in received
    assert b"0123456789" not in received
    assert metric(files, "files_changed_total") == changed + 1
    path.unlink()


def test_a_deleted_file_is_let_go_of(files: RunningDaemon, peer: Peer) -> None:
    path = write(files.directory / "www" / "deleted", b"x")
    assert ask(peer, b"/deleted").status == 200
    path.unlink()
    assert ask(peer, b"/deleted").status == 404
    until(lambda: not open_paths(files, files.directory / "www"))


# --- clients in number, slow, and gone --------------------------------------------------------------------


def test_who_goes_away_frees_the_file_at_once(files: RunningDaemon) -> None:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(address(files), files.context(None))) for _ in range(10)]
        for peer in peers:
            peer.send(get(b"/large"))
            peer.socket.recv(1000)
        assert metric(files, "files_downloads_open") == 10
    until(lambda: metric(files, "files_downloads_open") == 0)
    until(lambda: not open_paths(files, files.directory / "www"))


def test_many_downloads_at_once_keep_memory_flat_and_hold_up_nobody(files: RunningDaemon) -> None:
    """100 clients who take a little now and then; one who wants a small file."""
    context = files.context(None)
    with contextlib.ExitStack() as stack:
        honest = stack.enter_context(Peer(address(files), context))
        assert ask(honest, b"/a.txt").status == 200
        before = resident_bytes(files)
        peers = [stack.enter_context(Peer(address(files), context)) for _ in range(100)]
        for peer in peers:
            peer.send(get(b"/large"))
        for _ in range(5):
            for peer in peers:
                assert peer.socket.recv(200_000)
            began = time.monotonic()
            assert ask(honest, b"/a.txt").body == b"0123456789"
            assert time.monotonic() - began < 5.0
        assert metric(files, "files_downloads_open") == 100
        grown = resident_bytes(files) - before
        assert grown < 100 * MIB // 2, f"{grown} bytes for 100 downloads of {LARGE_BYTES}"
        assert len(open_paths(files, files.directory / "www")) <= 10  # one file, however many want it
    until(lambda: metric(files, "files_downloads_open") == 0)


def test_a_reader_that_never_reads_is_dropped(tmp_path: Path) -> None:
    with run_file_daemon(tmp_path, environ={"SECURE_NET_LIMITS__WRITE_STALL_SECONDS": "1"}) as files:
        with (files.directory / "www" / "large").open("wb") as file:
            file.truncate(LARGE_BYTES)
        with Peer(address(files), files.context(None)) as peer:
            peer.send(get(b"/large"))
            until(lambda: metric(files, "refused_total", service="files", reason="write_stalled") == 1)
            until(lambda: metric(files, "files_downloads_open") == 0)
            assert metric(files, "buffered_bytes") == 0


def test_sigterm_in_the_midst_of_a_download_lets_it_end(tmp_path: Path) -> None:
    with run_file_daemon(tmp_path) as files:
        with (files.directory / "www" / "large").open("wb") as file:
            file.truncate(LARGE_BYTES)
        with Peer(address(files), files.context(None)) as peer:
            peer.send(get(b"/large"))
            received = peer.socket.recv(1000)
            files.process.terminate()
            until(lambda: not _accepts(files))
            received += peer.rest()
        assert len(received.partition(b"\r\n\r\n")[2]) == LARGE_BYTES
        assert files.wait() == 0


def _accepts(files: RunningDaemon) -> bool:
    try:
        Peer(address(files), files.context(None)).close()
    except OSError:
        return False
    return True
