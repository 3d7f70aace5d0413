"""Nothing that is shown may act."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.text import escape


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain text", "plain text"),
        ("Zoë 東京 🎉", "Zoë 東京 🎉"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("one\ntwo\r\x00\x7f\x9b", "one\\x0atwo\\x0d\\x00\\x7f\\x9b"),
        ("a\u202eb\u2066c\u200b", "a\\u202eb\\u2066c\\u200b"),
        ("\u2028\u00a0\ud800", "\\u2028\\xa0\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("[bold]x[/bold]", "\\[bold]x\\[/bold]"),
        ("\\[red]", "\\\\\\[red]"),
        ("[::1]:8443 [12]", "[::1]:8443 [12]"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_markup_stays_where_nothing_reads_it() -> None:
    assert escape("[rpc]\x1b", markup=False) == "[rpc]\\x1b"


@given(st.text())
def test_what_is_shown_is_printable_and_has_no_tag(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    for position, character in enumerate(shown[:-1]):
        if character == "[" and shown[position + 1] in "abcdefghijklmnopqrstuvwxyz#/@":
            before = shown[:position]
            assert (len(before) - len(before.rstrip("\\"))) % 2 == 1


@given(st.text(st.characters(categories=("L", "N", "P"), exclude_characters="[")))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert escape(text) == text
