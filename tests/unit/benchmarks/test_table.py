"""Tables for people."""

from __future__ import annotations

from benchmarks import table


def test_the_first_column_is_left_and_the_others_right() -> None:
    assert table.render(("", "µs"), [("ours", "37"), ("a longer name", "148")]).splitlines() == [
        "                µs",
        "-------------  ---",
        "ours            37",
        "a longer name  148",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert table.render(("a", "bc"), []) == "a  bc\n-  --"


def test_notes_are_aligned() -> None:
    assert table.notes([("a", "one"), ("long", "two")]) == "  a     one\n  long  two"
    assert table.notes([]) == ""
