"""The row "Files" of the threat list, against the file server and a real folder.

Beside the root lies what must never be seen. (Over TLS, against the daemon: `test_daemon_files.py`.)
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from secure_net.errors import RemoteProtocolError
from secure_net.http import lookup, opened, roots
from secure_net.http.head import parse_head
from secure_net.http.opened import Found
from secure_net.http.roots import AbsentError
from secure_net.http.targets import Root, Target
from secure_net.limits import HTTPLimits
from tests.support.files import HeldThreads, descriptors, served, write
from tests.support.loops import in_loop
from tests.support.transport import turns

SECRET = b"what must never be seen"


@pytest.fixture(autouse=True)
def every_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "NO_WAIT", 0)


@pytest.fixture
def www(tmp_path: Path) -> Path:
    """The root, with a secret beside it, and another one within that is hidden."""
    www = tmp_path / "www"
    write(www / "a.txt", b"0123456789")
    write(www / "sub" / "b.txt", b"below")
    write(tmp_path / "secret.txt", SECRET)
    write(tmp_path / "outside" / "secret.txt", SECRET)
    write(www / ".hidden", SECRET)
    write(www / ".git" / "config", SECRET)
    write(www / "sub" / ".env", SECRET)
    return www


# How ".." and separators can be written so that somebody on the way, or a careless server, sees them.
DOTS = (
    "..",
    "%2e%2e",
    ".%2e",
    "%2e.",
    "%2E%2E",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "%ef%bc%8e%ef%bc%8e",
    "...",
    "..;",
)
SEPARATORS = ("/", "%2f", "%5c", "%255c", "%252f", "//", "/./", "%c0%af", "%e2%81%84")
WAYS = [
    f"/{start}{dots}{separator}{name}"
    for dots in DOTS
    for separator in SEPARATORS
    for start in ("", "sub/" + dots + separator)
    for name in ("secret.txt", "outside/secret.txt")
]
MORE_WAYS = [
    "/%00",
    "/a.txt%00",
    "/%00/../secret.txt",
    "/a.txt%00.html",
    "/a.txt/../../secret.txt",
    "/sub/b.txt/../../../secret.txt",
    "/..%5c..%5csecret.txt",
    "/sub%5c..%5c..%5csecret.txt",
    "/c:%5csecret.txt",
    "//secret.txt",
    "///etc/passwd",
    "/./a.txt",
    "/sub/./b.txt",
    "/sub//b.txt",
    "/a.txt/",
    "/a.txt/x",
    "/%2e",
    "/sub/%2e%2e/a.txt",
    "/%0a",
    "/%ff",
    "/proc/self/environ",
    "/dev/stdin",
]


@pytest.mark.parametrize("path", [*WAYS, *MORE_WAYS])
def test_no_way_of_writing_it_leads_out_of_the_root(www: Path, path: str) -> None:
    @in_loop
    async def run() -> None:
        with served(www, listing=True) as server:
            answer = await server.ask(path)
            assert answer.status == 404
            assert SECRET not in answer.body

    run()


@pytest.mark.parametrize(
    "path", ["/..\\secret.txt", "/\x00", "/a b", "/ä", "/a%zz", "/a%2", "/a#b", "http://h/a"]
)
def test_what_is_no_target_is_malformed(www: Path, path: str) -> None:
    @in_loop
    async def run() -> None:
        with served(www) as server:
            with pytest.raises(RemoteProtocolError) as raised:
                await server.ask(path)
            assert raised.value.status == 400

    run()


@in_loop
async def test_names_with_a_percent_sign_are_decoded_once(www: Path) -> None:
    write(www / "%2e%2e", b"a name like any other")
    with served(www) as server:
        assert (await server.ask("/%252e%252e")).body == b"a name like any other"
        assert (await server.ask("/%2e%2e")).status == 404


@pytest.mark.parametrize("path", ["/.hidden", "/%2ehidden", "/.git/config", "/.git/", "/sub/.env", "/.git"])
def test_dot_files_do_not_exist(www: Path, path: str) -> None:
    @in_loop
    async def run() -> None:
        with served(www, listing=True) as server:
            assert (await server.ask(path)).status == 404
            for folder in ("/", "/sub/"):
                assert b"./." not in (await server.ask(folder)).body

    run()


# --- symlinks -------------------------------------------------------------------------------------------


@in_loop
async def test_symlinks_do_not_exist_wherever_they_lead(www: Path) -> None:
    links = {
        "out": "../secret.txt",
        "absolute": str(www.parent / "secret.txt"),
        "inside": "a.txt",
        "folder": "../outside",
        "self": "self",
        "dangling": "nowhere",
        "proc": "/proc/self/environ",
        "sub/up": "..",
    }
    for name, where in links.items():
        (www / name).symlink_to(where)
    with served(www, listing=True) as server:
        for path in (*links, "folder/secret.txt", "folder/", "sub/up/a.txt", "sub/up/", "self/self"):
            answer = await server.ask(f"/{path}")
            assert (path, answer.status) == (path, 404)
        listing = (await server.ask("/")).body
        for name in links:
            assert f"./{name}".encode() not in listing


@in_loop
async def test_a_symlinked_index_twin_or_error_page_is_not_followed(www: Path) -> None:
    (www / "index.html").symlink_to("../secret.txt")
    (www / "a.txt.gz").symlink_to("../secret.txt")
    (www / "a.txt.br").symlink_to("a.txt")
    (www / "404.html").symlink_to("../secret.txt")
    with served(www, not_found=("404.html",)) as server:
        assert (await server.ask("/")).status == 404
        for path in ("/a.txt", "/nowhere", "/a.txt.gz", "/a.txt.br", "/404.html"):
            answer = await server.ask(path, b"Accept-Encoding: br, gzip")
            assert SECRET not in answer.body
            assert b"content-encoding" not in answer.headers
        assert (await server.ask("/a.txt", b"Accept-Encoding: br, gzip")).body == b"0123456789"


@in_loop
async def test_what_becomes_a_symlink_while_it_is_kept_open(www: Path) -> None:
    with served(www) as server:
        assert (await server.ask("/sub/b.txt")).status == 200
        (www / "sub").rename(www / "was")
        (www / "sub").symlink_to("../outside")
        write(www.parent / "outside" / "b.txt", SECRET)
        assert (await server.ask("/sub/b.txt")).status == 404
        (www / "sub").unlink()
        (www / "was").rename(www / "sub")
        assert (await server.ask("/sub/b.txt")).body == b"below"


STEPS = ("open", "stat", "fstat")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["folder", "file", "twin"])
def test_a_swap_at_any_step_of_the_open(
    www: Path, monkeypatch: pytest.MonkeyPatch, step: str, what: str
) -> None:
    """Before each call to the kernel, in turn, somebody puts a symlink to the secret in the place."""
    write(www / "sub" / "b.txt.gz", b"gzipped")
    write(www.parent / "outside" / "b.txt", SECRET)
    write(www.parent / "outside" / "b.txt.gz", SECRET)
    places = {"folder": "sub", "file": "sub/b.txt", "twin": "sub/b.txt.gz"}
    ends = {"folder": "../outside", "file": "../../outside/b.txt", "twin": "../../outside/b.txt.gz"}
    place = www / places[what]
    whole = {name: os.__dict__[name] for name in STEPS}
    for moment in range(12):
        calls = 0

        def swapping(*given: object, moment: int = moment, **named: object) -> object:
            nonlocal calls
            if calls == moment:
                place.rename(www / "was")
                place.symlink_to(ends[what])
            calls += 1
            return whole[step](*given, **named)

        before = descriptors()
        with monkeypatch.context() as patch:
            patch.setattr(os, step, swapping)
            _look_and_read(www)
        assert descriptors() == before
        if place.is_symlink():
            place.unlink()
            (www / "was").rename(place)


def _look_and_read(www: Path) -> None:
    target = Target(Root((), str(www)), ("sub", "b.txt"), False, "/sub/b.txt")
    try:
        found = lookup.look_up(target)
    except AbsentError:
        return
    assert isinstance(found, Found)
    for file in (found.file, *found.twins.values()):
        buffer = memoryview(bytearray(100))
        assert bytes(buffer[: file.read(buffer, 0)]) in {b"below", b"gzipped"}
    found.release()


def test_a_swap_again_and_again_while_others_read(www: Path) -> None:
    """A folder and a symlink to another one change places, as fast as a thread can, under 400 looks."""
    write(www.parent / "outside" / "b.txt", SECRET)
    (www / "link").symlink_to("../outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (www / "sub").rename(www / "x")
            (www / "link").rename(www / "sub")
            (www / "sub").rename(www / "link")
            (www / "x").rename(www / "sub")

    thread = threading.Thread(target=swap)
    before = descriptors()
    thread.start()
    try:
        for _ in range(400):
            _look_and_read(www)
    finally:
        stop.set()
        thread.join()
    assert descriptors() == before


# --- what is no regular file ----------------------------------------------------------------------------


@in_loop
async def test_a_fifo_is_neither_there_nor_waited_for(www: Path) -> None:
    for name in ("fifo", "index.html", "a.txt.gz"):
        os.mkfifo(www / name)
    with served(www, listing=True) as server:
        assert (await server.ask("/fifo")).status == 404
        assert b"fifo" not in (await server.ask("/")).body
        assert (await server.ask("/a.txt", b"Accept-Encoding: gzip")).body == b"0123456789"


def test_a_device_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[object] = []
    whole = os.open

    def noting(name: object, *given: object, **named: object) -> int:
        names.append(name)
        return whole(name, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", noting)
    with roots.folder("/dev", ()) as place, pytest.raises(AbsentError):
        roots.open_file(place, "null")
    assert names == ["/dev"]


# --- ranges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "status"),
    [
        (b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(1000)), 200),
        (b"bytes=" + b",".join([b"0-"] * 1000), 200),
        (b"bytes=0-,0-,0-", 200),
        (b"bytes=0-5,3-8", 200),
        (b"bytes=-10,0-0", 200),
        (b"bytes=10-", 416),
        (b"bytes=99999999999999999999-", 416),
        (b"bytes=-0", 416),
        (b"bytes=5-4", 200),
        (b"bytes=0-" + b"9" * 5000, 206),
        (b"bytes=" + b"9" * 5000 + b"-", 416),
        (b"bytes=-" + b"9" * 5000, 206),
        (b"bytes=" + b"," * 5000, 200),
        (b"bytes=-1-", 200),
        (b"lines=0-1", 200),
    ],
)
def test_ranges_get_416_or_the_whole_and_never_more_than_the_file(
    www: Path, ranges: bytes, status: int
) -> None:
    @in_loop
    async def run() -> None:
        with served(www) as server:
            answer = await server.ask("/a.txt", b"Range: " + ranges)
            assert answer.status == status
            if status == 416:
                assert answer[b"content-range"] == b"bytes */10"
            else:
                assert answer.body == b"0123456789"

    run()


@in_loop
async def test_as_many_ranges_as_may_be_cost_no_more_than_the_file_and_their_heads(www: Path) -> None:
    with served(www) as server:
        ranges = b",".join(b"%d-%d" % (n, n) for n in range(10))
        answer = await server.ask("/a.txt", b"Range: bytes=" + ranges)
        assert answer.status == 206
        assert answer.length == len(answer.body) < 10 * 200


# --- markup, redirects ----------------------------------------------------------------------------------


@in_loop
async def test_markup_in_names_is_escaped(www: Path) -> None:
    name = '"><script>alert(1)</script>&lt;'.replace("/", "")
    write(www / name)
    (www / "<img src=x onerror=alert(1)>").mkdir()
    with served(www, listing=True) as server:
        page = (await server.ask("/")).body
        assert b"<script" not in page
        assert b"<img" not in page
        inner = (await server.ask("/%3Cimg%20src=x%20onerror=alert(1)%3E/")).body
        assert b"<img" not in inner


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "//evil.example/",
        "/%2fevil.example",
        "/%5cevil.example",
        "/%09/evil.example",
        "/sub//",
    ],
)
def test_a_redirect_never_leads_elsewhere(www: Path, path: str) -> None:
    (www / "evil.example").mkdir()

    @in_loop
    async def run() -> None:
        with served(www, listing=True) as server:
            answer = await server.ask(path)
            assert (answer.status, answer[b"location"]) == (404, None)

    run()


@in_loop
async def test_a_redirect_holds_no_line_end(www: Path) -> None:
    with served(www, listing=True) as server:
        answer = await server.ask("/sub?x=%0d%0aSet-Cookie:y")
        assert answer[b"location"] == b"/sub/?x=%0d%0aSet-Cookie:y"


# --- work -----------------------------------------------------------------------------------------------


@in_loop
async def test_10000_names_leave_nothing_behind(www: Path) -> None:
    with served(www) as server:
        for number in range(10_000):
            raw = f"GET /x{number}?{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
            assert server.application.admit(parse_head(raw, HTTPLimits()), None) is None
        assert len(server.application._paths) <= 4096
        for number in range(200):
            assert (await server.ask(f"/no{number}")).status == 404
        assert server.counters.kept() == 0


@in_loop
async def test_a_disk_that_hangs_holds_up_nobody_whose_file_is_open(www: Path) -> None:
    with served(www) as server:
        assert (await server.ask("/a.txt")).status == 200
        server.disk._threads = threads = HeldThreads()
        stuck = [asyncio.create_task(server.ask(f"/sub/b.txt?{number}")) for number in range(10)]
        await turns()
        threads.begin()
        for _ in range(10):
            assert (await server.ask("/a.txt")).body == b"0123456789"
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        threads.finish()
