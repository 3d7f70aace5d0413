"""What a path stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.http.head import parse_head
from secure_net.http.targets import CacheRule, Root, Target, Targets, is_visible, parse_prefix, quoted
from secure_net.limits import HTTPLimits

TOP = Root((), "/srv/www")
MANUALS = Root(("manuals",), "/srv/manuals")
DEEP = Root(("manuals", "old"), "/")
TARGETS = Targets([TOP, MANUALS, DEEP])


def find(path: str, targets: Targets = TARGETS) -> Target | None:
    raw = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    return targets.find(parse_head(raw, HTTPLimits(), any_path=True))


@pytest.mark.parametrize(
    ("path", "root", "names", "slash", "normal"),
    [
        ("/", TOP, (), True, "/"),
        ("/a", TOP, ("a",), False, "/a"),
        ("/a?b=/../c", TOP, ("a",), False, "/a"),
        ("/a/b/", TOP, ("a", "b"), True, "/a/b/"),
        ("/%61%20b", TOP, ("a b",), False, "/a b"),
        ("/%c3%a4", TOP, ("ä",), False, "/ä"),
        ("/%252e%252e/x", TOP, ("%2e%2e", "x"), False, "/%2e%2e/x"),
        ("/manual", TOP, ("manual",), False, "/manual"),
        ("/manualsX/a", TOP, ("manualsX", "a"), False, "/manualsX/a"),
        ("/manuals", MANUALS, (), False, "/manuals"),
        ("/manuals/", MANUALS, (), True, "/manuals/"),
        ("/%6danuals/a", MANUALS, ("a",), False, "/manuals/a"),
        ("/manuals/old/a", DEEP, ("a",), False, "/manuals/old/a"),
        ("/manuals/older", MANUALS, ("older",), False, "/manuals/older"),
    ],
)
def test_a_root_and_names(path: str, root: Root, names: tuple[str, ...], slash: bool, normal: str) -> None:
    assert find(path) == Target(root, names, slash, normal)


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/.",
        "/..",
        "/../a",
        "/a/..",
        "/a/./b",
        "/%2e%2e/a",
        "/.%2e/a",
        "/a/%2e",
        "/.git/config",
        "/a/.htaccess",
        "/%2ehidden",
        "/a%2fb",
        "/a%5cb",
        "/..%5c..%5cetc",
        "/%00",
        "/a%00.txt",
        "/a%0a",
        "/%7f",
        "/%c2%9b",
        "/%ff",
        "/%c0%ae%c0%ae/a",
        "/manuals/../a",
        "/" + "a" * 256,
        "/" + "%c3%a4" * 128,
        "/a" * 65,
    ],
)
def test_what_cannot_be_there(path: str) -> None:
    assert find(path) is None


def test_depth_and_length_are_bounded_where_they_are() -> None:
    assert find("/a" * 64) is not None
    assert find("/" + "a" * 255) is not None


def test_without_a_root_at_the_top_the_rest_is_nowhere() -> None:
    assert find("/a", Targets([MANUALS])) is None
    assert find("/", Targets([])) is None


@pytest.mark.parametrize(
    ("path", "location"),
    [("/manuals", "/manuals/"), ("/a", "/a/"), ("/%c3%a4%3f/%2523", "/%C3%A4%3F/%2523/"), ("/a:b", "/a:b/")],
)
def test_where_a_folder_is(path: str, location: str) -> None:
    target = find(path)
    assert target is not None
    assert target.location == location


def test_where_it_lies() -> None:
    assert Target(MANUALS, ("a",), False, "").below("a", "b") == "/srv/manuals/a/b"
    assert Target(DEEP, (), False, "").below("a") == "/a"


@given(st.text(st.characters(min_codepoint=1, blacklist_categories=["Cs"]), min_size=1, max_size=20))
def test_what_is_visible_can_be_asked_for_by_its_quoted_name(name: str) -> None:
    target = find("/" + quoted(name))
    assert (target is not None) == is_visible(name)
    if target is not None:
        assert target.names == (name,)
        assert target.location.startswith("/")
        assert not target.location.startswith("//")


@given(st.text("a./\\%20ef5c\x7f", max_size=30))
def test_names_of_whatever_path_stay_below_their_root(text: str) -> None:
    path = "/" + "".join(c if c in "a./205cef" else f"%{ord(c):02x}" for c in text)
    target = find(path)
    if target is not None:
        for name in target.names:
            assert name
            assert not name.startswith(".")
            assert "/" not in name
            assert "\\" not in name
            assert "\0" not in name


@pytest.mark.parametrize(
    ("path", "names"),
    [("/", ()), ("/a", ("a",)), ("/a/", ("a",)), ("/a/b/", ("a", "b")), ("/.well-known/", (".well-known",))],
)
def test_prefixes(path: str, names: tuple[str, ...]) -> None:
    assert parse_prefix(path) == names


@pytest.mark.parametrize("path", ["", "a", "a/", "//", "/a//b", "/..", "/a/./b", "/a\\b", "/a\n"])
def test_what_is_no_prefix(path: str) -> None:
    with pytest.raises(ValueError, match="a path is"):
        parse_prefix(path)


def test_a_surrogate_cannot_be_asked_for() -> None:
    assert not is_visible("a\udcff")
    assert not is_visible("")


def test_cache_rules_match_as_scopes_do() -> None:
    rule = CacheRule.parse("/assets/*.js", "max-age=60")
    assert rule.control == b"max-age=60"
    assert rule.matches("/assets/a.js")
    assert not rule.matches("/assets/b/a.js")
    assert CacheRule.parse("/assets/**", "x").matches("/assets/b/a.js")
    for pattern in ("assets/**", "", "/a b", "/***"):
        with pytest.raises(ValueError, match=r"a pattern|a scope"):
            CacheRule.parse(pattern, "x")
