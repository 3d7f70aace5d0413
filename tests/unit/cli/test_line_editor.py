"""Keys in, lines out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.cli.line_editor import LONGEST, REMEMBERED, Key, LineEditor, cells

LEFT, RIGHT, UP, DOWN = b"\x1b[D", b"\x1b[C", b"\x1b[A", b"\x1b[B"


def typed(*keys: bytes) -> LineEditor:
    editor = LineEditor()
    for key in keys:
        assert editor.feed(key) == []
    return editor


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        ([b"abc"], "abc", 3),
        (["gr\u00fc\u00df".encode()], "gr\u00fc\u00df", 4),
        ([b"gr\xc3", b"\xbc"], "gr\u00fc", 3),
        ([b"\xff"], "\ufffd", 1),
        ([b"abc", LEFT, LEFT, b"x"], "axbc", 2),
        ([b"abc", b"\x1bOD", b"\x1bOC", b"x"], "abcx", 4),
        ([b"abc", LEFT * 9, RIGHT * 9], "abc", 3),
        ([b"abc", b"\x01", b"x"], "xabc", 1),
        ([b"abc", b"\x1b[H", b"\x1b[F"], "abc", 3),
        ([b"abc", b"\x1b[1~", b"\x1b[3~"], "bc", 0),
        ([b"abc", b"\x1b[4~", b"\x1b[3~"], "abc", 3),
        ([b"abc", b"\x02\x06\x05"], "abc", 3),
        ([b"abc", b"\x7f"], "ab", 2),
        ([b"abc", b"\x01\x7f\x08"], "abc", 0),
        ([b"abc", b"\x01\x04"], "bc", 0),
        ([b"abc", LEFT, b"\x0b"], "ab", 2),
        ([b"abc", LEFT, b"\x15"], "c", 0),
        ([b"one two  ", b"\x17"], "one ", 4),
        ([b"one two", b"\x1b\x7f"], "one ", 4),
        ([b"one", b"\x17\x17"], "", 0),
        ([b"a\x00\x07\tb"], "ab", 2),
        ([b"a\x1b[200~b\x1b[201~", b"\x1bx", b"\x1b[1;5C"], "ab", 2),
        ([b"a\x1b", b"[", b"1", b"~b"], "ba", 1),
        ([b"a\x1b[\x07b"], "ab", 2),
    ],
)
def test_keys(keys: list[bytes], text: str, cursor: int) -> None:
    editor = typed(*keys)
    assert (editor.text, editor.cursor) == (text, cursor)


def test_lines_come_out() -> None:
    editor = LineEditor()
    assert editor.feed(b"one\rtwo\nth") == ["one", "two"]
    assert editor.feed(b"ree\r\r") == ["three", ""]
    assert (editor.text, editor.cursor) == ("", 0)


def test_the_end_and_the_wish_to_see_anew() -> None:
    editor = LineEditor()
    assert editor.feed(b"\x0c\x04") == [Key.REDRAW, Key.END]
    assert editor.feed(b"a\x01\x04\x04") == [Key.END]


def test_lines_entered_before() -> None:
    editor = LineEditor()
    editor.feed(b"one\rtwo\rtwo\r\r")
    editor.feed(b"new" + UP)
    assert editor.text == "two"
    editor.feed(UP + UP + UP)
    assert editor.text == "one"
    editor.feed(b"\x0e")
    assert editor.text == "two"
    editor.feed(DOWN + DOWN)
    assert (editor.text, editor.cursor) == ("new", 3)
    for number in range(2 * REMEMBERED):
        editor.feed(b"%d\r" % number)
    editor.feed(b"\x10" * 3 * REMEMBERED)
    assert editor.text == str(REMEMBERED)


def test_a_line_has_a_longest() -> None:
    assert len(typed(b"x" * (LONGEST + 10)).text) == LONGEST


@pytest.mark.parametrize(
    ("keys", "width", "shown", "column"),
    [
        ([b"abc"], 10, "abc", 3),
        ([b"abcdef"], 4, "def", 3),
        ([b"abcdef", b"\x01"], 4, "abc", 0),
        ([b"abcdef", LEFT, LEFT], 4, "bcd", 3),
        (["\u6f22\u5b57\u6f22".encode()], 5, "\u5b57\u6f22", 4),
        (["e\u0301x".encode()], 10, "e\u0301x", 2),
        ([b"abc"], 1, "", 0),
        ([b""], 10, "", 0),
    ],
)
def test_what_of_it_fits(keys: list[bytes], width: int, shown: str, column: int) -> None:
    assert typed(*keys).window(width) == (shown, column)


@given(
    st.lists(st.sampled_from([b"abc ", LEFT, RIGHT, b"\x7f", b"\x1b[3~", b"\x17", "\u6f22".encode(), b"\r"]))
)
def test_in_any_pieces_and_always_within_the_window(keys: list[bytes]) -> None:
    whole, split = LineEditor(), LineEditor()
    data = b"".join(keys)
    events = whole.feed(data)
    assert [event for byte in data for event in split.feed(bytes([byte]))] == events
    assert (whole.text, whole.cursor) == (split.text, split.cursor)
    for width in range(1, 12):
        shown, column = whole.window(width)
        assert sum(map(cells, shown)) < width
        assert column < width
