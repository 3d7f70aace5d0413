"""A body that is read while it is sent."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path

import pytest

from secure_net.errors import RefusedError
from secure_net.http import opened
from secure_net.http.disk import Disk
from secure_net.http.file_body import PIECE_BYTES, FileBody
from secure_net.http.opened import OpenFile
from secure_net.http.ranges import Span
from secure_net.http.response import BodyBrokenError
from secure_net.metrics import FileCounters
from tests.support.files import HeldThreads, write
from tests.support.loops import in_loop
from tests.support.transport import turns

DATA = bytes(range(256)) * 2048  # four pieces


class Body:
    """A `FileBody` of a file with DATA in it."""

    def __init__(self, tmp_path: Path, plan: Sequence[bytes | Span] = (Span(0, len(DATA)),)) -> None:
        self.path = write(tmp_path / "a", DATA)
        descriptor = os.open(self.path, os.O_RDONLY)
        self.file = OpenFile(descriptor, os.fstat(descriptor), str(self.path))
        self.counters, self.threads = FileCounters(), HeldThreads()
        self.body = FileBody(self.file, plan, Disk(self.threads), self.counters)
        self.file.release()

    def piece(self) -> bytes | memoryview:
        piece = self.body.next_piece()
        assert not isinstance(piece, Coroutine)
        return piece

    def wait(self) -> asyncio.Task[bytes | memoryview]:
        piece = self.body.next_piece()
        assert isinstance(piece, Coroutine)
        return asyncio.create_task(piece)


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "NO_WAIT", 0)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "NO_WAIT", None)


def test_pieces_from_memory(tmp_path: Path, in_memory: None) -> None:
    body = Body(tmp_path)
    assert body.counters.downloads_open == 1
    pieces = [bytes(body.piece()) for _ in range(4)]
    assert b"".join(pieces) == DATA
    assert {len(piece) for piece in pieces} == {PIECE_BYTES}
    assert body.counters.reads_cached == 4
    body.body.close()
    assert body.file.descriptor == -1
    assert body.counters.downloads_open == 0


def test_spans_and_texts_in_order(tmp_path: Path, in_memory: None) -> None:
    plan = (b"<", Span(5, 6), b"|", Span(1, PIECE_BYTES + 3), b">")
    body = Body(tmp_path, plan)
    pieces = [bytes(body.piece()) for _ in range(6)]
    assert [len(piece) for piece in pieces] == [1, 1, 1, PIECE_BYTES, 2, 1]
    assert b"".join(pieces) == b"<" + DATA[5:6] + b"|" + DATA[1 : PIECE_BYTES + 3] + b">"
    body.body.close()


def test_what_still_waits_to_be_sent_is_not_written_over(tmp_path: Path, in_memory: None) -> None:
    body = Body(tmp_path)
    first = body.piece()
    second = body.piece()
    assert bytes(first) + bytes(second) == DATA[: 2 * PIECE_BYTES]
    body.body.close()


def test_what_was_sent_makes_room_for_what_follows(tmp_path: Path, in_memory: None) -> None:
    body = Body(tmp_path)
    places = set()
    for _ in range(4):
        piece = body.piece()
        assert isinstance(piece, memoryview)
        places.add(id(piece.obj))
        del piece
    assert len(places) == 1
    body.body.close()


@in_loop
async def test_pieces_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "NO_WAIT", None)
    body = Body(tmp_path)
    received = b""
    while len(received) < len(DATA):
        task = body.wait()
        await turns()
        body.threads.finish()
        received += bytes(await task)
    assert received == DATA
    assert body.counters.reads_waited == 4
    assert body.counters.reads_cached == 0
    body.body.close()
    assert body.file.descriptor == -1


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, len(DATA) - 1, len(DATA) + 1])
def test_a_file_that_shrinks_or_grows_breaks_the_body(tmp_path: Path, in_memory: None, size: int) -> None:
    body = Body(tmp_path)
    body.piece()
    os.truncate(body.path, size)
    with pytest.raises(BodyBrokenError, match="changed"):
        body.piece()
    assert body.counters.changed == 1
    body.body.close()


def test_a_file_that_is_written_to_breaks_the_body(tmp_path: Path, in_memory: None) -> None:
    body = Body(tmp_path)
    body.piece()
    with body.path.open("r+b") as file:
        file.write(b"something else")
    with pytest.raises(BodyBrokenError, match="changed"):
        body.piece()
    body.body.close()


@in_loop
async def test_a_file_that_shrinks_while_the_disk_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "NO_WAIT", None)
    body = Body(tmp_path)
    task = body.wait()
    await turns()
    os.truncate(body.path, 0)
    body.threads.finish()
    with pytest.raises(BodyBrokenError, match="changed"):
        await task
    body.body.close()


def test_a_file_that_gets_another_name_or_is_deleted_is_sent_on(tmp_path: Path, in_memory: None) -> None:
    body = Body(tmp_path)
    first = bytes(body.piece())
    write(body.path.with_name("b"), b"other").rename(body.path)
    rest = b"".join(bytes(body.piece()) for _ in range(3))
    assert first + rest == DATA
    body.body.close()


@in_loop
async def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(opened, "NO_WAIT", 0)
    body = Body(tmp_path)
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(BodyBrokenError, match="Input/output error"):
        body.piece()
    monkeypatch.setattr(opened, "NO_WAIT", None)
    task = body.wait()
    await turns()
    body.threads.finish()
    with pytest.raises(BodyBrokenError, match="Input/output error"):
        await task
    body.body.close()
    assert body.file.descriptor == -1


@in_loop
async def test_too_many_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "NO_WAIT", None)
    body = Body(tmp_path)
    body.threads.full = True
    with pytest.raises(RefusedError):
        await body.wait()
    body.body.close()
    assert body.file.descriptor == -1


@pytest.mark.parametrize("begun", [False, True])
def test_who_goes_away_frees_thread_and_file(tmp_path: Path, on_disk: None, begun: bool) -> None:
    """The file not before the thread is out of it: its number could be that of another by then."""

    async def run() -> None:
        body = Body(tmp_path)
        task = body.wait()
        await turns()
        if begun:
            body.threads.begin()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        body.body.close()
        assert (body.file.descriptor >= 0) is begun
        assert body.threads.waiting == []
        body.threads.finish()
        assert body.file.descriptor == -1

    asyncio.run(run())
