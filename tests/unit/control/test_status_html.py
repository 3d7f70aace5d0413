"""The page as HTML: whole, escaped, and with nothing that the policy would refuse."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import msgspec

from secure_net.control.status import Activity
from secure_net.control.status_html import login_page, status_page
from secure_net.control.view import View, view_of
from tests.unit.control.test_status import STATUS
from tests.unit.control.test_view import status

MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


class Read(HTMLParser):
    """Elements with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "path"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(view: View | None = None, viewer: str = "admin", *, by_cookie: bool = False) -> Read:
    return Read(status_page(view or view_of(STATUS), viewer, by_cookie=by_cookie))


def with_activity(**changes: Any) -> View:
    return view_of(status(activity=Activity(series={"calls": (1.0, 2.0), "connections": ()}), **changes))


def test_every_element_is_closed_and_in_its_place() -> None:
    for read in (page(), page(with_activity(), by_cookie=True), Read(login_page()), Read(login_page("no"))):
        assert read.open == []


def test_nothing_that_the_policy_refuses() -> None:
    for text in (status_page(with_activity(), "a", by_cookie=True), login_page("problem")):
        read = Read(text)
        names = {name for _, attributes in read.elements for name in attributes}
        assert "style" not in names
        assert not [name for name in names if name.startswith("on")]
        assert [script for script in read.all("script") if not script.get("src")] == []
        assert "style" not in {tag for tag, _ in read.elements}
        addresses = re.findall(r'(?:src|href|action)="([^"]*)"', text)
        assert all(address.startswith(("/status", "#")) for address in addresses), addresses


def test_markup_is_text() -> None:
    view = with_activity(principals={MARKUP: 1}, audit=({"what": MARKUP, "details": {MARKUP: MARKUP}},))
    view = msgspec.structs.replace(view, title=MARKUP)
    read = page(view, MARKUP)
    plain, elements = page(with_activity()), {tag for tag, _ in read.elements}
    assert elements == {tag for tag, _ in plain.elements}
    assert "img" not in elements
    assert sum(MARKUP in word for word in read.words) >= 4


def test_who_has_a_cookie_may_log_out() -> None:
    assert page().all("form") == []
    (form,) = page(by_cookie=True).all("form")
    assert (form["method"], form["action"]) == ("post", "/status/logout")


def test_a_form_sends_the_token_in_its_body() -> None:
    read = Read(login_page())
    (form,), (field,) = read.all("form"), read.all("textarea")
    assert (form["method"], form["action"]) == ("post", "/status/login")
    assert (field["name"], field["autocomplete"]) == ("token", "off")
    (label,) = read.all("label")
    assert label["for"] == field["id"]


def test_what_was_wrong_is_told_to_everybody() -> None:
    (problem,) = [one for one in Read(login_page("wrong")).all("p") if one.get("role") == "alert"]
    (field,) = Read(login_page("wrong")).all("textarea")
    assert str(problem["id"]) in str(field["aria-describedby"])
    assert [one for one in Read(login_page()).all("p") if one.get("role") == "alert"] == []


def test_a_drawing_is_said_in_words_and_a_table_has_its_title() -> None:
    read = page(with_activity())
    drawings = read.all("svg")
    assert [drawing["role"] for drawing in drawings] == ["img"] * 2
    assert str(drawings[0]["aria-label"]).startswith("Calls per second, the last 1 min: now 1.5")
    identifiers = {attributes.get("id") for _, attributes in read.elements}
    tables = read.all("table")
    assert {str(table["aria-labelledby"]) for table in tables} <= identifiers
    assert all(cell["scope"] == "col" for cell in read.all("th"))
    lines = [path["d"] for path in read.all("path")]
    assert lines[1:3] == ["M599 50L600 0V100H599Z", "M599 50L600 0"]
    assert lines[4:6] == ["", ""]  # nothing yet


def test_an_empty_table_says_so() -> None:
    read = page()
    hidden = [table for table in read.all("table") if "hidden" in table]
    said = [one for one in read.all("p") if one.get("class") == "quiet empty" and "hidden" not in one]
    assert len(hidden) == len(said) == 2
    assert "The trail is empty." in read.words


def test_without_script_it_refreshes_itself() -> None:
    (refresh,) = [meta for meta in page().all("meta") if meta.get("http-equiv")]
    assert (refresh["http-equiv"], refresh["content"]) == ("refresh", "10")
    assert [meta for meta in Read(login_page()).all("meta") if meta.get("http-equiv")] == []
