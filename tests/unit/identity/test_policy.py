from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_net.identity import policy as module
from secure_net.identity.policy import (
    NOTHING,
    Credential,
    Grant,
    Policy,
    Principal,
    Scope,
    normalise,
    normalise_path,
    parse_action,
)


def allows(scope: str, action: str) -> bool:
    return Grant.parse([scope]).allows(*parse_action(action))


@pytest.mark.parametrize(
    ("scope", "action", "allowed"),
    [
        ("rpc:call:math.double", "rpc:call:math.double", True),
        ("rpc:call:math.double", "rpc:call:math.doubles", False),
        ("rpc:call:math.double", "rpc:call:mathXdouble", False),
        ("rpc:call:math.*", "rpc:call:math.double", True),
        ("rpc:call:math.*", "rpc:call:math.", True),
        ("rpc:call:math.*", "rpc:call:math", False),
        ("rpc:call:math.*", "rpc:call:math.a.b", False),
        ("rpc:call:math.**", "rpc:call:math.a.b", True),
        ("rpc:call:*.*", "rpc:call:a.b", True),
        ("rpc:call:*.double", "rpc:call:math.double", True),
        ("rpc:call:m*h.d*e", "rpc:call:math.double", True),
        ("rpc:call:math.*", "rpc:call:math./\n", True),
        ("rpc:*:**", "rpc:call:x", True),
        ("*:call:**", "rpc:call:x", True),
        ("*:call:**", "rpc:list:x", False),
        ("*:*:**", "mail:relay", True),
        ("*:*:*", "ftp:write:/", False),
        ("rpc:call:**", "ftp:write:/x", False),
        ("mail:relay", "mail:relay", True),
        ("mail:relay", "mail:relay:x", False),
        ("echo:use", "echo:use", True),
        ("echo:use:x", "echo:use", False),
        ("admin:read:metrics", "admin:read:metrics", True),
        ("admin:write:**", "admin:write:users.reports", True),
        ("chat:publish:ops", "chat:publish:ops", True),
        ("chat:publish:ops.*", "chat:publish:ops.db", True),
        ("chat:publish:ops.*", "chat:publish:ops.db.eu", False),
        ("chat:subscribe:**", "chat:subscribe:ops.db.eu", True),
        ("files:read:/manuals/**", "files:read:/manuals/a/b.pdf", True),
        ("files:read:/manuals/*", "files:read:/manuals/a/b.pdf", False),
        ("files:read:/manuals/*", "files:read:/manuals/b.pdf", True),
        ("files:read:/manuals/**", "files:read:/manuals/", True),
        ("files:read:/manuals/**", "files:read:/manuals", False),
        ("files:read:/manuals/**", "files:read:/manuals/../secret", False),
        ("files:read:/manuals/**", "files:read:/x/../manuals/a", True),
        ("files:read:/**", "files:read:/../etc/passwd", False),
        ("files:read:/**", "files:read:manuals", False),
        ("files:read:/**", "files:read:/a\0b", False),
        ("ftp:write:/in/**", "ftp:write://in//x", True),
        ("ftp:write:/*/x", "ftp:write:/in/x", True),
        ("ftp:write:/**/x", "ftp:write:/a/b/c/x", True),
        ("ftp:write:/**/x", "ftp:write:/x", False),
        ("ftp:write:/C:/x", "ftp:write:/C:/x", True),
        ("mail:send:*@example.org", "mail:send:a.b@example.org", True),
        ("mail:send:*@example.org", "mail:send:a@EXAMPLE.org", True),
        ("mail:send:*@Example.ORG", "mail:send:a@example.org", True),
        ("mail:send:*@example.org", "mail:send:a@b@example.org", False),
        ("mail:send:*@example.org", "mail:send:a@example.org.evil", False),
        ("mail:send:*@example.org", "mail:send:example.org", False),
        ("mail:send:**@example.org", "mail:send:a@b@example.org", True),
        ("rpc:call:[a-z]?+(x|y)$", "rpc:call:[a-z]?+(x|y)$", True),
        ("rpc:call:a?c", "rpc:call:abc", False),
    ],
)
def test_the_grammar_of_scopes(scope: str, action: str, allowed: bool) -> None:
    assert allows(scope, action) is allowed


def naive(pattern: str, text: str, separator: str) -> bool:
    """The definition, with all its backtracking."""
    if not pattern:
        return not text
    if pattern.startswith("**"):
        return any(naive(pattern[2:], text[cut:], separator) for cut in range(len(text) + 1))
    if pattern.startswith("*"):
        run = len(text.split(separator, 1)[0])
        return any(naive(pattern[1:], text[cut:], separator) for cut in range(run + 1))
    return text[:1] == pattern[0] and naive(pattern[1:], text[1:], separator)


@given(st.text("ab.*", max_size=9), st.text("ab.", max_size=10))
def test_matching_is_what_the_definition_says(resource: str, text: str) -> None:
    try:
        scope = Scope.parse(f"rpc:call:{resource}")
    except ValueError:
        return
    assert scope.matches("rpc", "call", text) is naive(resource, text, ".")


def test_matching_never_explodes() -> None:
    scope = Scope.parse("rpc:call:**a*a*a*a**a*b")
    assert not scope.matches("rpc", "call", "a" * 2000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rpc",
        "rpc:",
        ":call",
        "rpc:call:",
        "RPC:call:x",
        "rpc:ca*:x",
        "**:call:x",
        "rpc:call:a b",
        'rpc:call:"',
        "rpc:call:\\",
        "rpc:call:ä",
        "rpc:call:a\n",
        "rpc:call\n",
        "rpc:call:***",
        "rpc:call:" + "a*" * 9,
        "r" * 33 + ":call:x",
    ],
)
def test_what_is_no_scope(text: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        Scope.parse(text)


def test_a_scope_is_written_as_it_was_read() -> None:
    for text in ("rpc:call:math.*", "mail:relay", "*:*:**", "ftp:read:/a:b/**"):
        assert str(Scope.parse(text)) == text


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/..", "/"),
        ("/./a//b", "/a/b"),
        ("/...", "/..."),
        ("/..", None),
        ("/a/../../b", None),
        ("a", None),
        ("", None),
        ("/a\0", None),
    ],
)
def test_paths_are_normalised(path: str, normal: str | None) -> None:
    assert normalise_path(path) == normal


@given(st.text("ab./", max_size=12).map("/".__add__))
def test_normal_paths_stay(path: str) -> None:
    normal = normalise_path(path)
    assert normal is None or (
        normalise_path(normal) == normal and "//" not in normal and "/../" not in normal
    )


def test_an_act_without_resource_is_left_alone() -> None:
    assert normalise("ftp", "") == ""
    assert normalise("mail", "nobody") == "nobody"


def test_a_grant_gives_the_first_rule_and_drops_doubles() -> None:
    grant = Grant.parse(["rpc:call:a", "rpc:call:*", "rpc:call:a"])
    assert len(grant.scopes) == 2
    assert str(grant.rule_for("rpc", "call", "a")) == "rpc:call:a"
    assert str(grant.rule_for("rpc", "call", "b")) == "rpc:call:*"
    assert grant.rule_for("rpc", "call", "a.b") is None
    assert grant.covers("rpc", "call")
    assert not grant.covers("rpc", "list")
    assert not NOTHING.covers("rpc", "call")


def principal(*grants: Grant) -> Principal:
    return Principal("demo", grants, (Credential("token", "j", 0, 1),), 1, 1)


def test_all_grants_must_allow() -> None:
    both = principal(Grant.parse(["rpc:call:**"]), Grant.parse(["rpc:call:math.*", "ftp:read:/**"]))
    assert both.permits("rpc", "call", "math.double")
    assert both.permits("rpc", "call", "math.double")
    assert not both.permits("rpc", "call", "time.now")
    assert not both.permits("ftp", "read", "/x")
    assert both.permits_any("rpc", "call")
    assert both.permits_any("rpc", "call")
    assert not both.permits_any("ftp", "read")
    assert not principal(NOTHING).permits("echo", "use")


def test_decisions_are_remembered_within_bounds() -> None:
    somebody = principal(Grant.parse(["rpc:call:**"]))
    for number in range(1000):
        assert somebody.permits("rpc", "call", f"method{number}")
    assert len(somebody._decisions) <= 256
    before = len(somebody._decisions)
    assert somebody.permits("rpc", "call", "x" * 300)
    assert len(somebody._decisions) == before


def test_the_store_overlays_the_configuration() -> None:
    policy = Policy({"a": Grant.parse(["rpc:call:a"]), "b": NOTHING}, {"b": Grant.parse(["rpc:call:b"])})
    changes: list[int] = []
    policy.on_change.append(lambda: changes.append(1))
    assert policy.entry("a") == Grant.parse(["rpc:call:a"])
    assert policy.entry("b") == Grant.parse(["rpc:call:b"])
    assert policy.entry("c") is None
    assert set(policy.identities) == {"a", "b"}
    policy.put("c", NOTHING)
    assert (policy.entry("c"), policy.source("c")) == (NOTHING, "the store")
    policy.remove("b")
    assert (policy.entry("b"), policy.source("b")) == (NOTHING, "identities.b")
    policy.remove("b")
    policy.configure({})
    assert policy.entry("a") is None
    assert policy.source("a") == ""
    assert len(changes) == 3


def test_explain_names_the_rule_and_its_source() -> None:
    policy = Policy({"reports": Grant.parse(["rpc:call:reports.*", "ftp:write:/in/**"])})
    yes = policy.explain("reports", "rpc:call:reports.daily")
    assert (yes.permitted, yes.rule, yes.source) == (True, "rpc:call:reports.*", "identities.reports")
    near = policy.explain("reports", "rpc:call:math.double")
    assert not near.permitted
    assert near.reason == "no scope in identities.reports matches (rpc:call:reports.*)"
    assert policy.explain("reports", "chat:publish:ops").reason == (
        "no scope in identities.reports matches chat:publish at all"
    )
    assert "inside the root" in policy.explain("reports", "ftp:write:/in/../../x").reason
    assert "no entry" in policy.explain("stranger", "rpc:call:x").reason
    for action in ("", "rpc", "rpc:*:x", "*:call:x"):
        with pytest.raises(ValueError, match="an action is"):
            policy.explain("reports", action)


def test_nothing_of_a_resource_reaches_a_regular_expression() -> None:
    assert module._expression("a.*", ".").pattern == r"a\.[^\.]*?"
