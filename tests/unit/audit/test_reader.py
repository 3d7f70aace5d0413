"""What was changed, removed, moved or cut off is found; what is whole is not accused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_net.audit.chain import (
    Entry,
    Fields,
    Position,
    TrailFile,
    digest,
    files_of,
    head_fields,
    signed_part,
)
from secure_net.audit.reader import Reader, Report, verify

KEY = Ed25519PrivateKey.generate()
Lines = list[bytes]


def said(what: str, time: str = "2026-01-01T00:00:00Z") -> Entry:
    fields: Fields = {"time": time, "what": what, "outcome": "ok"}
    return lambda *_: fields


def head(key: Ed25519PrivateKey = KEY, time: str = "2026-01-01T00:00:30Z") -> Entry:
    return lambda sequence, previous: head_fields(time, key.sign(signed_part(sequence, previous, time)))


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """Ten lines, the fifth and tenth of which are heads."""
    file = TrailFile(tmp_path)
    file.append([said("a"), said("b"), said("c"), said("d"), head()], "now")
    file.append([said("e"), said("f"), said("g"), said("h"), head()], "now")
    file.close()
    return tmp_path


def lines_of(trail: Path) -> Lines:
    return files_of(trail)[0].read_bytes().splitlines()


def put(trail: Path, lines: Lines) -> Report:
    files_of(trail)[0].write_bytes(b"".join(line + b"\n" for line in lines))
    return verify(trail, KEY.public_key())


def test_a_whole_trail(trail: Path) -> None:
    lines = lines_of(trail)
    end = Position(10, digest(lines[9]))
    assert verify(trail, KEY.public_key(), head=end) == Report(
        lines=10, first=1, last=10, head=str(end), signed_to=10, problems=(), warnings=()
    )


def test_no_trail_at_all(tmp_path: Path) -> None:
    report = verify(tmp_path, KEY.public_key())
    assert report.sound
    assert (report.lines, report.last) == (0, 0)
    assert not verify(tmp_path, KEY.public_key(), head=Position(3, "a" * 64)).sound


def changed(line: bytes) -> bytes:
    return line.replace(b'"ok"', b'"no"').replace(b"30Z", b"31Z")


@pytest.mark.parametrize("number", range(10))
def test_a_changed_line(trail: Path, number: int) -> None:
    lines = lines_of(trail)
    lines[number] = changed(lines[number])
    report = put(trail, lines)
    assert any("changed" in problem for problem in report.problems)


@pytest.mark.parametrize("number", range(10))
def test_a_line_that_is_none_any_more(trail: Path, number: int) -> None:
    lines = lines_of(trail)
    lines[number] = b"\x00" * len(lines[number])
    report = put(trail, lines)
    assert report.problems[0].endswith(f"line {number + 1}: changed: not a line of the trail")


@pytest.mark.parametrize("number", range(9))
def test_a_missing_line(trail: Path, number: int) -> None:
    lines = lines_of(trail)
    del lines[number]
    report = put(trail, lines)
    assert report.problems[0].endswith(f"missing: lines {number + 1} to {number + 1}")


@pytest.mark.parametrize("number", range(8))
def test_reordered_lines(trail: Path, number: int) -> None:
    lines = lines_of(trail)
    lines[number], lines[number + 1] = lines[number + 1], lines[number]
    assert any("reordered" in problem for problem in put(trail, lines).problems)


def test_a_line_that_stands_there_twice(trail: Path) -> None:
    lines = lines_of(trail)
    lines.insert(3, lines[2])
    assert "reordered: line 3 stands where 4 should" in put(trail, lines).problems[0]


@pytest.mark.parametrize("kept", range(10))
def test_an_end_that_was_cut_off_is_found_with_a_head(trail: Path, kept: int) -> None:
    lines = lines_of(trail)
    logged = Position(10, digest(lines[9]))
    assert put(trail, lines[:kept]).sound  # nothing in the files can show it
    report = verify(trail, KEY.public_key(), head=logged)
    assert report.problems == (f"cut off: ends at line {kept}, and line 10 was logged",)


def test_an_end_that_was_cut_off_and_written_anew(trail: Path) -> None:
    lines = lines_of(trail)
    logged = Position(10, digest(lines[9]))
    put(trail, lines[:7])
    forger = TrailFile(trail)
    forger.append([said("g"), said("h"), said("i"), said("j")], "now")
    forger.close()
    report = verify(trail, KEY.public_key(), head=logged)
    assert report.problems == (
        f"{files_of(trail)[0].name} line 10: changed: not the line 10 that was logged as head",
    )
    assert verify(trail, KEY.public_key()).signed_to == 5


def test_a_chain_forged_without_the_key(trail: Path) -> None:
    files_of(trail)[0].unlink()
    forger = TrailFile(trail)
    forger.append([said("a"), head(Ed25519PrivateKey.generate()), said("b")], "now")
    forger.close()
    report = verify(trail, KEY.public_key())
    assert "the signature of head 2 does not verify" in report.problems[0]
    assert report.signed_to == 0


@pytest.mark.parametrize("signature", ["", "!", "AAAA", None, 5])
def test_a_head_whose_signature_is_none(tmp_path: Path, signature: object) -> None:
    file = TrailFile(tmp_path)
    file.append([lambda *_: {"time": "t", "what": "audit.head", "details": {"signature": signature}}], "now")
    file.close()
    assert "does not verify" in verify(tmp_path, KEY.public_key()).problems[0]


def test_a_head_says_nothing_but_what_is_signed(tmp_path: Path) -> None:
    def more(sequence: int, previous: str) -> Fields:
        return {**head()(sequence, previous), "who": "forged"}

    file = TrailFile(tmp_path)
    file.append([more], "now")
    file.close()
    assert "says more than what was signed" in verify(tmp_path, KEY.public_key()).problems[0]


def test_older_files_that_were_archived(tmp_path: Path) -> None:
    file = TrailFile(tmp_path, rotate_bytes=1)
    for what in "abcde":
        file.append([said(what)], "now")
    file.close()
    first, second, *_ = files_of(tmp_path)
    first.unlink()
    assert verify(tmp_path, KEY.public_key()).problems == (f"{second.name} line 1: missing: lines 1 to 1",)
    report = verify(tmp_path, KEY.public_key(), first=2)
    assert (report.sound, report.first, report.last) == (True, 2, 5)


def test_a_fragment_without_a_line_that_tells_of_it(tmp_path: Path) -> None:
    file = TrailFile(tmp_path, rotate_bytes=1)
    file.append([said("a")], "now")
    file.append([said("b")], "now")
    file.close()
    first, second = files_of(tmp_path)
    whole = first.read_bytes()
    first.write_bytes(whole + b"frag")
    assert verify(tmp_path, KEY.public_key()).problems == (
        f"{first.name} line 2: changed: a fragment, and no line that tells of a crash",
    )
    first.write_bytes(whole)
    second.write_bytes(second.read_bytes() + b"frag")
    report = verify(tmp_path, KEY.public_key())
    assert report.sound
    assert "being written, or torn by a crash" in report.warnings[0]


@pytest.mark.parametrize("spoilt", ["fragment", "tale"])
def test_a_tale_of_a_crash_that_was_none(tmp_path: Path, spoilt: str) -> None:
    for fragment in (b"frag", b""):
        file = TrailFile(tmp_path)
        file.append([said("a")], "now")
        file.close()
        last = files_of(tmp_path)[-1]
        last.write_bytes(last.read_bytes() + fragment)
    assert verify(tmp_path, KEY.public_key()).sound
    first, second = files_of(tmp_path)
    if spoilt == "fragment":
        first.write_bytes(first.read_bytes().removesuffix(b"frag"))
    else:
        second.write_bytes(second.read_bytes().replace(b'"bytes":4', b'"bytes":5'))
    problems = verify(tmp_path, KEY.public_key()).problems
    assert any("no line that tells of a crash" in problem for problem in problems)


@pytest.mark.parametrize(
    ("last", "warned"),
    [
        ("2026-01-01T00:01:59Z", False),
        ("2026-01-01T00:02:01Z", True),
        ("junk", False),
        ("2025-01-01T00:00:00Z", False),
    ],
)
def test_lines_that_nobody_signed(tmp_path: Path, last: str, warned: bool) -> None:
    file = TrailFile(tmp_path)
    file.append([said("a"), said("b", last)], "now")
    file.close()
    assert bool(verify(tmp_path, KEY.public_key()).warnings) is warned


def test_problems_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(b"junk\n" * 1000)
    assert len(verify(tmp_path, KEY.public_key()).problems) == 100


def test_the_last_lines_and_what_is_added(tmp_path: Path) -> None:
    def told(lines: Lines) -> list[str]:
        return [json.loads(line)["what"] for line in lines]

    file = TrailFile(tmp_path, rotate_bytes=250)
    for what in "abcdefg":
        file.append([said(what)], "now")
    reader = Reader(tmp_path)
    assert told(reader.last(3)) == ["e", "f", "g"]
    assert told(list(reader.more())) == []
    for what in "hijk":
        file.append([said(what)], "now")
    with files_of(tmp_path)[-1].open("ab") as end:
        end.write(b'{"half')
    assert told(list(reader.more())) == ["h", "i", "j", "k"]
    file.close()
    assert told(Reader(tmp_path).last(99)) == list("abcdefghijk")
    assert Reader(tmp_path).last(0) == []
    fresh = Reader(tmp_path)
    assert told(list(fresh.more())) == list("abcdefghijk")


def test_reading_an_empty_folder(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    assert reader.last(5) == []
    assert list(reader.more()) == []
