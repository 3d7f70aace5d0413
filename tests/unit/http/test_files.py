"""The file server, without a socket."""

from __future__ import annotations

import asyncio
import errno
import os
from email.utils import formatdate
from pathlib import Path

import pytest

from secure_net.http import files, opened
from secure_net.http.files import WHOLE_BYTES, takes_hsts
from secure_net.http.opened import KEEP_SECONDS, OpenFile
from secure_net.http.site import Site
from secure_net.http.targets import CacheRule, Root
from secure_net.limits import FilesLimits
from tests.support.files import LONG_AGO, FileServer, HeldThreads, principal, served, write
from tests.support.loops import in_loop
from tests.support.transport import turns


@pytest.fixture(autouse=True)
def every_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory can be had at once, also where the tests' folder is a tmpfs."""
    monkeypatch.setattr(opened, "NO_WAIT", 0)


@pytest.fixture
def www(tmp_path: Path) -> Path:
    write(tmp_path / "index.html", b"<h1>home</h1>")
    write(tmp_path / "a.txt", b"0123456789")
    write(tmp_path / "empty")
    write(tmp_path / "empty", b"")
    write(tmp_path / "large", bytes(range(256)) * 1024)
    write(tmp_path / "b" / "index.html", b"below")
    write(tmp_path / "c" / "x y.txt", b"spaced")
    return tmp_path


# --- what comes -----------------------------------------------------------------------------------------


@in_loop
async def test_a_file(www: Path) -> None:
    with served(www) as server:
        for streamed in (False, False):  # opened, and then kept open
            answer = await server.ask("/a.txt")
            assert (answer.status, answer.body, answer.streamed) == (200, b"0123456789", streamed)
            inode = (www / "a.txt").stat().st_ino
            assert answer.headers == {
                b"content-type": b"text/plain; charset=utf-8",
                b"etag": b'"%x-%x-a"' % (inode, LONG_AGO * 10**9),
                b"last-modified": formatdate(LONG_AGO, usegmt=True).encode(),
                b"accept-ranges": b"bytes",
                b"cache-control": b"no-cache",
                b"content-security-policy": b"sandbox",
                b"vary": b"accept-encoding",
            }
        assert server.counters.reads_cached == 2
        assert server.counters.kept() == 1
        assert server.disk.waited == 1


@in_loop
async def test_large_empty_and_head(www: Path) -> None:
    with served(www) as server:
        large = await server.ask("/large")
        assert (large.streamed, large.length) == (True, 256 * 1024)
        assert large.body == bytes(range(256)) * 1024
        empty = await server.ask("/empty")
        assert (empty.status, empty.body) == (200, b"")
        for path in ("/large", "/a.txt", "/empty"):
            whole, head = await server.ask(path), await server.ask(path, method="HEAD")
            assert (head.status, head.headers, head.length) == (200, whole.headers, whole.length)
            assert head.body == b""


@in_loop
async def test_a_small_file_that_is_not_in_memory_comes_from_a_thread(
    www: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "NO_WAIT", None)
    with served(www) as server:
        answer = await server.ask("/a.txt")
        assert (answer.body, answer.streamed) == (b"0123456789", True)
        assert server.counters.reads_waited == 1


@in_loop
async def test_folders(www: Path) -> None:
    with served(www) as server:
        assert (await server.ask("/")).body == b"<h1>home</h1>"
        assert (await server.ask("/b/")).body == b"below"
        assert (await server.ask("/b/", b"If-None-Match: *")).status == 304
        for target, location in (("/b", b"/b/"), ("/b?x=//evil", b"/b/?x=//evil"), ("/%62", b"/b/")):
            answer = await server.ask(target)
            assert (answer.status, answer[b"location"]) == (301, location)
        assert (await server.ask("/c")).status == 404
        assert (await server.ask("/c/")).status == 404
        assert (await server.ask("/a.txt/")).status == 404


@in_loop
async def test_other_methods(www: Path) -> None:
    with served(www) as server:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "get"):
            answer = await server.ask("/a.txt", method=method)
            assert (answer.status, answer[b"allow"]) == (405, b"GET, HEAD")


# --- who may --------------------------------------------------------------------------------------------


@in_loop
async def test_scopes_decide_before_anything_is_looked_at(www: Path) -> None:
    with served(www, public=False) as server:
        for path in ("/a.txt", "/nowhere"):
            assert (await server.ask(path)).status == 401
            answer = await server.ask(path, who=principal("files:read:/b/**", "ftp:read:/**"))
            assert answer.status == 403
        assert server.disk.waited == 0
        reader = principal("files:read:/a.txt", "files:read:/b/**")
        assert (await server.ask("/a.txt", who=reader)).status == 200
        assert (await server.ask("/%61.txt", who=reader)).status == 200
        assert (await server.ask("/b/", who=reader)).status == 200
        assert (await server.ask("/b/none", who=reader)).status == 404
        assert (await server.ask("/b", who=reader)).status == 403
        assert (await server.ask("/", who=reader)).status == 403
        answer = await server.ask("/a.txt", who=reader)
        assert answer[b"cache-control"] == b"private, no-cache"
        assert answer[b"cross-origin-resource-policy"] == b"same-origin"


@in_loop
async def test_roots_within_roots(www: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    inner = tmp_path_factory.mktemp("inner")
    write(inner / "a.txt", b"secret")
    site = Site((Root((), str(www), public=True), Root(("m",), str(inner))))
    server = FileServer(site)
    assert (await server.ask("/a.txt")).body == b"0123456789"
    assert (await server.ask("/m/a.txt")).status == 401
    reader = principal("files:read:/m/**")
    assert (await server.ask("/m/a.txt", who=reader)).body == b"secret"
    assert (await server.ask("/m", who=principal("files:read:/m"))).status == 404
    server.application.configure(Site((Root(("m",), str(inner), public=True),)), FilesLimits())
    assert (await server.ask("/m/a.txt")).body == b"secret"
    assert (await server.ask("/a.txt")).status == 404
    server.close()


# --- preconditions, ranges, twins -------------------------------------------------------------------------


@in_loop
async def test_preconditions(www: Path) -> None:
    with served(www) as server:
        etag = (await server.ask("/a.txt"))[b"etag"] or b""
        answer = await server.ask("/a.txt", b"If-None-Match: " + etag)
        assert (answer.status, answer.body) == (304, b"")
        assert set(answer.headers) == {b"etag", b"cache-control", b"vary", b"content-security-policy"}
        date = formatdate(LONG_AGO, usegmt=True).encode()
        assert (await server.ask("/a.txt", b"If-Modified-Since: " + date)).status == 304
        assert (await server.ask("/a.txt", b"If-Match: x")).status == 412
        assert (await server.ask("/a.txt", b"If-Match: " + etag)).status == 200
        assert (await server.ask("/a.txt", b"If-None-Match: " + etag, method="HEAD")).status == 304
        write(www / "a.txt", b"9876543210", LONG_AGO + 1)
        assert (await server.ask("/a.txt", b"If-None-Match: " + etag)).body == b"9876543210"


@in_loop
async def test_ranges(www: Path) -> None:
    with served(www, limits=FilesLimits(files_ranges_count=2)) as server:
        one = await server.ask("/a.txt", b"Range: bytes=2-4")
        assert (one.status, one.body, one[b"content-range"]) == (206, b"234", b"bytes 2-4/10")
        assert one[b"content-type"] == b"text/plain; charset=utf-8"
        assert (await server.ask("/a.txt", b"Range: bytes=0-")).status == 206
        none = await server.ask("/a.txt", b"Range: bytes=10-")
        assert (none.status, none[b"content-range"]) == (416, b"bytes */10")
        for ignored in (b"bytes=0-1,1-2", b"bytes=0-0,2-2,4-4", b"junk"):
            whole = await server.ask("/a.txt", b"Range: " + ignored)
            assert (whole.status, whole.body) == (200, b"0123456789")
        head = await server.ask("/a.txt", b"Range: bytes=2-4", method="HEAD")
        assert (head.status, head.length) == (200, 10)
        assert (await server.ask("/empty", b"Range: bytes=0-")).status == 200


@in_loop
async def test_several_ranges(www: Path) -> None:
    with served(www) as server:
        answer = await server.ask("/large", b"Range: bytes=0-1,200000-200003")
        kind = answer[b"content-type"] or b""
        _, boundary = kind.split(b"multipart/byteranges; boundary=")
        assert answer.status == 206
        assert len(answer.body) == answer.length
        first, second, last = answer.body.split(b"--" + boundary)[1:]
        assert first.endswith(b"content-range: bytes 0-1/262144\r\n\r\n\x00\x01\r\n")
        assert second.endswith(bytes(n % 256 for n in range(200_000, 200_004)) + b"\r\n")
        assert last == b"--\r\n"
        again = await server.ask("/large", b"Range: bytes=0-1,200000-200003")
        assert again[b"content-type"] != kind


@in_loop
async def test_a_range_of_what_it_was_before_is_not_given(www: Path) -> None:
    with served(www) as server:
        etag = (await server.ask("/a.txt"))[b"etag"] or b""
        ask = (b"Range: bytes=0-0", b"If-Range: " + etag)
        assert (await server.ask("/a.txt", *ask)).body == b"0"
        write(www / "a.txt", b"x123456789", LONG_AGO + 1)
        assert (await server.ask("/a.txt", *ask)).body == b"x123456789"
        date = formatdate(LONG_AGO + 1, usegmt=True).encode()
        assert (await server.ask("/a.txt", ask[0], b"If-Range: " + date)).body == b"x"


@in_loop
async def test_twins(www: Path) -> None:
    write(www / "a.txt.gz", b"gzipped")
    with served(www) as server:
        plain, twin = await server.ask("/a.txt"), await server.ask("/a.txt", b"Accept-Encoding: gzip, br")
        assert (twin.body, twin[b"content-encoding"]) == (b"gzipped", b"gzip")
        assert twin[b"content-type"] == b"text/plain; charset=utf-8"
        assert twin[b"etag"] != plain[b"etag"]
        assert b"content-encoding" not in plain.headers
        assert plain[b"vary"] == twin[b"vary"] == b"accept-encoding"
        part = await server.ask("/a.txt", b"Accept-Encoding: gzip", b"Range: bytes=0-2")
        assert (part.body, part[b"content-encoding"]) == (b"gzi", b"gzip")
        assert (await server.ask("/a.txt", b"Accept-Encoding: br")).body == b"0123456789"
        direct = await server.ask("/a.txt.gz")
        assert (direct.body, direct[b"content-type"]) == (b"gzipped", b"application/gzip")
        assert b"content-encoding" not in direct.headers
        # The file changes, and with it goes the twin that is older now.
        write(www / "a.txt", b"new", LONG_AGO + 9)
        assert (await server.ask("/a.txt", b"Accept-Encoding: gzip")).body == b"new"
    with served(www, precompressed=False) as server:
        write(www / "a.txt.gz", b"gzipped", LONG_AGO + 10)
        answer = await server.ask("/a.txt", b"Accept-Encoding: gzip")
        assert (answer.body, answer[b"vary"]) == (b"new", None)


@in_loop
async def test_a_twin_that_goes(www: Path) -> None:
    write(www / "a.txt.gz", b"gzipped")
    with served(www) as server:
        assert (await server.ask("/a.txt", b"Accept-Encoding: gzip")).body == b"gzipped"
        (www / "a.txt.gz").unlink()
        (www / "a.txt.gz").symlink_to("/etc/passwd")
        assert (await server.ask("/a.txt", b"Accept-Encoding: gzip")).body == b"0123456789"


# --- what it says besides -----------------------------------------------------------------------------------


@in_loop
async def test_cache_rules_policy_and_hsts(www: Path) -> None:
    rules = (CacheRule.parse("/b/**", "max-age=60"), CacheRule.parse("/**", "max-age=1"))
    site = Site((Root((), str(www), public=True),), rules, b"", 1000)
    server = FileServer(site)
    below, top = await server.ask("/b/"), await server.ask("/a.txt")
    assert (below[b"cache-control"], top[b"cache-control"]) == (b"max-age=60", b"max-age=1")
    assert b"content-security-policy" not in top.headers
    assert b"strict-transport-security" not in top.headers  # who asked for localhost
    away = await server.ask("/a.txt", host="files.example.org:8444")
    assert away[b"strict-transport-security"] == b"max-age=1000"
    again = await server.ask("/a.txt")
    assert b"strict-transport-security" not in again.headers
    unchanged = await server.ask("/a.txt", b"If-None-Match: *", host="files.example.org")
    assert unchanged[b"strict-transport-security"] == b"max-age=1000"
    server.close()


@pytest.mark.parametrize(
    ("host", "takes"),
    [
        ("localhost", False),
        ("LOCALHOST:8444", False),
        ("localhost.", False),
        ("a.localhost:1", False),
        ("127.0.0.1", False),
        ("127.0.0.1:8444", False),
        ("10.1.2.3:1", False),
        ("[::1]", False),
        ("[::1]:8444", False),
        ("[2001:db8::1]:1", False),
        ("files.example.org", True),
        ("files.example.org:8444", True),
        ("notlocalhost", True),
        (".", False),
    ],
)
def test_hsts_is_for_names_of_other_machines(host: str, takes: bool) -> None:
    assert takes_hsts(host) is takes


@in_loop
async def test_the_page_for_what_is_not_there(www: Path) -> None:
    write(www / "errors" / "404.html", b"<h1>nothing</h1>")
    with served(www, not_found=("errors", "404.html")) as server:
        answer = await server.ask("/nowhere", b"Range: bytes=0-1", b"If-None-Match: *")
        assert (answer.status, answer.body) == (404, b"<h1>nothing</h1>")
        assert set(answer.headers) == {b"content-type", b"content-security-policy", b"vary"}
        assert (await server.ask("/..")).body == b"404 Not Found\n"  # under no root at all
        assert (await server.ask("/nowhere", method="HEAD")).length == 16
        (www / "errors" / "404.html").unlink()
        assert (await server.ask("/nowhere")).body == b"404 Not Found\n"
        (www / "errors" / "404.html").mkdir()
        write(www / "errors" / "404.html" / "index.html")
        assert (await server.ask("/nowhere")).body == b"404 Not Found\n"


# --- files that change --------------------------------------------------------------------------------------


@in_loop
async def test_what_changes_is_felt_at_once(www: Path) -> None:
    path = www / "a.txt"
    with served(www) as server:
        assert (await server.ask("/a.txt")).body == b"0123456789"
        write(path, b"in place", None)
        assert (await server.ask("/a.txt")).body == b"in place"
        write(www / "new", b"renamed").rename(path)
        assert (await server.ask("/a.txt")).body == b"renamed"
        path.unlink()
        assert (await server.ask("/a.txt")).status == 404
        path.symlink_to(www / "index.html")
        assert (await server.ask("/a.txt")).status == 404
        path.unlink()
        write(path, b"back")
        assert (await server.ask("/a.txt")).body == b"back"
        assert (await server.ask("/b/")).body == b"below"
        (www / "b").rename(www / "other")
        (www / "b").symlink_to("other")
        write(www / "other" / "index.html", b"changed")
        assert (await server.ask("/b/")).status == 404


@in_loop
async def test_what_is_deleted_is_let_go_of(www: Path) -> None:
    with served(www) as server:
        await server.ask("/a.txt")
        assert server.counters.kept() == 1
        server.clock.advance(KEEP_SECONDS)
        assert server.counters.kept() == 0


@in_loop
async def test_a_file_that_never_rests(www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenFile, "is_there", lambda _: False)
    with served(www) as server:
        for path in ("/a.txt", "/large"):
            answer = await server.ask(path)
            assert (answer.status, answer[b"retry-after"]) == (503, b"5")


@in_loop
async def test_a_file_that_shrinks_while_it_is_looked_at(www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not as long as it was when it was opened."""
    with served(www) as server:
        await server.ask("/a.txt")
        write(www / "a.txt", b"01234", None)
        answer = await server.ask("/a.txt")
        assert (answer.body, answer.length) == (b"01234", 5)


@in_loop
async def test_trouble_with_the_disk_is_503(www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with served(www, not_found=("a.txt",)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(files, "look_up", broken)
            assert (await server.ask("/a.txt")).status == 503
        assert server.logged == [("file_unavailable", {"detail": "Too many open files"})]
        server.disk._threads = threads = HeldThreads()
        threads.full = True
        assert (await server.ask("/a.txt")).status == 503


@in_loop
async def test_what_many_want_is_looked_for_once(www: Path) -> None:
    with served(www) as server:
        server.disk._threads = threads = HeldThreads()
        tasks = [asyncio.create_task(server.ask(path)) for path in ["/a.txt"] * 5 + ["/nowhere"] * 5]
        await turns()
        assert len(threads.waiting) == 2
        tasks[0].cancel()  # whoever goes away does not take it from the others
        await turns()
        threads.finish()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [getattr(answer, "status", None) for answer in answers] == [None, *[200] * 4, *[404] * 5]
        assert server.counters.kept() == 1
        assert server.application._looks == {}


@in_loop
async def test_what_was_found_is_gone_before_who_waits_for_it_has_his_turn(www: Path) -> None:
    """Another configuration, or so many other files: it is looked for again."""
    with served(www) as server:
        server.disk._threads = threads = HeldThreads()
        task = asyncio.create_task(server.ask("/a.txt"))
        await turns()
        threads.begin()
        (job,) = threads.running
        whole = job.on_done

        def and_then_forgotten(job: object) -> None:
            whole(job)
            asyncio.get_running_loop().call_soon(server.application._open.clear)

        job.on_done = and_then_forgotten
        threads.finish()
        await turns(2)
        while not task.done():
            await turns()
            threads.finish()
        assert (await task).body == b"0123456789"


@in_loop
async def test_who_goes_away_leaves_nothing_open(www: Path) -> None:
    """Before the thread begins, and while it is at work."""
    with served(www) as server:
        server.disk._threads = threads = HeldThreads()
        for path, begun in (("/a.txt", False), ("/a.txt", True), ("/b", True)):
            task = asyncio.create_task(server.ask(path))
            await turns()
            if begun:
                threads.begin()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            threads.finish()
        assert server.counters.kept() == 0


# --- listings -----------------------------------------------------------------------------------------------


@in_loop
async def test_listings(www: Path) -> None:
    with served(www, listing=True, limits=FilesLimits(files_listing_count=1)) as server:
        write(www / "c" / "z")
        answer = await server.ask("/c/")
        assert (answer.status, answer[b"content-type"]) == (200, b"text/html; charset=utf-8")
        assert b"./x%20y.txt" in answer.body
        assert b"style-src" in (answer[b"content-security-policy"] or b"")
        names = server.application._names
        assert b"./z" in (await server.ask("/c/?after=x%20y.txt")).body
        assert server.application._names is names
        assert (await server.ask("/c/?after=%ff")).status == 404
        assert (await server.ask("/c/?x")).status == 404
        assert (await server.ask("/c/", method="HEAD")).status == 200
        assert (await server.ask("/b/")).body == b"below"
        assert server.clock.pending == 2  # of the names, and of the open file
        server.clock.advance(60)
        assert server.application._names is None
        assert server.clock.pending == 0
    assert server.clock.pending == 0


@in_loop
async def test_folders_are_listed_one_at_a_time(www: Path) -> None:
    with served(www, listing=True) as server:
        server.disk._threads = threads = HeldThreads()
        tasks = [asyncio.create_task(server.ask("/c/")) for _ in range(3)]
        await turns()
        threads.finish()  # all three are known to be folders
        for _ in tasks:
            await turns(12)
            assert len(threads.waiting) == 1
            threads.finish()
        assert [answer.status for answer in await asyncio.gather(*tasks)] == [200] * 3


@in_loop
async def test_a_folder_over_the_bound_is_not_listed(www: Path) -> None:
    with served(www, listing=True, limits=FilesLimits(files_folder_count=1)) as server:
        write(www / "c" / "z")
        assert (await server.ask("/c/")).status == 404


# --- bounds -------------------------------------------------------------------------------------------------


@in_loop
async def test_what_is_remembered_is_bounded(www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_TARGETS_COUNT", 10)
    with served(www, limits=FilesLimits(files_open_count=2)) as server:
        for number in range(25):
            assert (await server.ask(f"/a.txt?{number}")).status == 200
            write(www / str(number))
            assert (await server.ask(f"/{number}")).status == 200
        assert len(server.application._paths) <= 10
        assert (await server.ask("/a.txt?" + "x" * 600)).status == 200
        assert max(map(len, server.application._paths)) < 600
        assert server.counters.kept() == 2


@pytest.mark.parametrize("size", [WHOLE_BYTES - 1, WHOLE_BYTES, WHOLE_BYTES + 1])
def test_around_the_size_that_is_sent_at_once(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    write(tmp_path / "a", data)

    async def run() -> None:
        with served(tmp_path) as server:
            answer = await server.ask("/a")
            assert answer.body == data
            assert answer.streamed is (size > WHOLE_BYTES)

    asyncio.run(run())


@in_loop
async def test_a_configuration_that_changes_between_admission_and_answer(www: Path) -> None:
    with served(www) as server:
        await server.ask("/a.txt")
        server.application.admit = lambda *_: None  # type: ignore[method-assign]  # it was admitted before
        server.application.configure(Site(()), FilesLimits())
        assert (await server.ask("/a.txt")).status == 404
