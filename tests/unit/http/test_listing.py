"""A folder's page."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import re
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.http import listing
from secure_net.http.listing import Entry, page, parse_after

NASTY = '<script>alert("x")</script>&\'" javascript:x\x1b[31m\u202e'


class Reader(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(entries: list[Entry], **how: object) -> Reader:
    given = {"after": "", "more": False, "top": True} | how
    return Reader(page("/a/", entries, **given).decode())  # type: ignore[arg-type]


def test_files_and_folders() -> None:
    reader = read([Entry("b", None, 0), Entry("c.txt", 1023, 86_400)])
    assert reader.links == ["./b/", "./c.txt"]
    assert "1023 B" in reader.text
    assert "1970-01-02 00:00" in reader.text
    assert read([], top=False).links == ["../"]


def test_pages() -> None:
    reader = read([Entry("a&b=c#d", 1, 0)], more=True, after="0")
    first, following = reader.links[-2:]
    assert first == "?"
    query = urllib.parse.urlsplit(following).query
    assert parse_after(query) == "a&b=c#d"


def test_markup_in_names_is_text() -> None:
    plain, nasty = read([Entry("x", 1, 0)]), read([Entry(NASTY, 1, 0)], more=True)
    assert set(nasty.tags) == set(plain.tags)
    assert "\x1b" not in nasty.text
    assert "\u202e" not in nasty.text
    assert Reader(page(f"/{NASTY}/", [], after="", more=False, top=True).decode()).tags == read([]).tags


@given(st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1))
def test_every_link_leads_to_the_name_below_the_folder(name: str) -> None:
    (link,) = read([Entry(name, 1, 0)]).links
    there = urllib.parse.urlsplit(urllib.parse.urljoin("https://localhost/a/", link))
    if name not in {".", ".."}:
        assert (there.scheme, there.netloc, there.query, there.fragment) == ("https", "localhost", "", "")
        assert urllib.parse.unquote(there.path) == f"/a/{name}"


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024**2, "10.0 MiB"),
        (3 * 1024**4, "3.0 TiB"),
        (2**63, "8.0 EiB"),
        (2**73, "8192.0 EiB"),
    ],
)
def test_sizes(size: int, shown: str) -> None:
    assert shown in read([Entry("x", size, 0)]).text


def test_a_time_that_no_calendar_has() -> None:
    assert read([Entry("x", 1, 1e20)]).links == ["./x"]


@pytest.mark.parametrize(
    ("query", "after"),
    [
        ("", ""),
        ("after=", ""),
        ("after=a%20b", "a b"),
        ("after=a+b=c", "a+b=c"),
        ("after=%ff", None),
        ("after=a&after=b", None),
        ("after", None),
        ("before=a", None),
        ("utm=1", None),
    ],
)
def test_where_a_page_begins(query: str, after: str | None) -> None:
    assert parse_after(query) == after


def test_the_policy_allows_this_style_and_nothing_else() -> None:
    text = page("/", [], after="", more=False, top=True).decode()
    (style,) = re.findall(r"<style>(.*?)</style>", text)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in listing.POLICY.decode()
    assert b"default-src 'none'" in listing.POLICY
    assert b"sandbox" in listing.POLICY
    assert "<script" not in text
