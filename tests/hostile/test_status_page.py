"""The threat list's "Pages" for the status page: against the real daemon, by raw requests over TLS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.support.daemon import RunningDaemon
from tests.support.file_daemon import address as files_address
from tests.support.file_daemon import run_file_daemon
from tests.support.files import write
from tests.support.peer import Answer, Peer, get, rpc
from tests.support.scrape import metric
from tests.support.waiting import until

SCOPE = "admin:read:status"
FORM = b"application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with run_file_daemon(
        tmp_path_factory.mktemp("house"),
        environ={"SECURE_NET_LIMITS__ADMIN_SESSIONS_PER_PRINCIPAL_COUNT": "4"},
    ) as daemon:
        write(daemon.directory / "www" / "page.html", b"<title>a page</title>")
        yield daemon


def origin(daemon: RunningDaemon) -> bytes:
    return daemon.admin_url.encode()


def post(path: bytes, body: bytes, *fields: bytes) -> bytes:
    head = (b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Content-Type: " + FORM)
    return b"\r\n".join((*head, b"Content-Length: %d" % len(body), *fields)) + b"\r\n\r\n" + body


def ask(daemon: RunningDaemon, request: bytes, name: str | None = None) -> Answer:
    """One request on a connection of its own, with the certificate of `name`."""
    with Peer(daemon.admin, daemon.context(name)) as peer:
        peer.send(request)
        return peer.answer()


def look(daemon: RunningDaemon, cookie: bytes = b"", path: bytes = b"/status.json") -> int:
    return ask(daemon, get(path, *([b"Cookie: " + cookie] if cookie else []))).status


def log_in(daemon: RunningDaemon, token: str, *fields: bytes) -> Answer:
    body = urlencode({"token": token}).encode()
    return ask(daemon, post(b"/status/login", body, *(fields or (b"Origin: " + origin(daemon),))))


def cookie_of(answer: Answer) -> bytes:
    assert answer.status == 303
    field = answer.header(b"set-cookie")
    assert field is not None
    return field.partition(b";")[0]


@pytest.fixture(scope="module")
def token(house: RunningDaemon) -> str:
    return house.token("ana", SCOPE)


@pytest.fixture
def cookie(house: RunningDaemon, token: str) -> bytes:
    return cookie_of(log_in(house, token))


# --- the cookie -------------------------------------------------------------------------------------------


def test_the_cookie_is_an_opaque_id_for_this_host_alone(house: RunningDaemon, token: str) -> None:
    """Row "Pages": "`__Host-` cookie with an opaque server-side id, `SameSite=Strict`"."""
    answer = log_in(house, token)
    field = answer.header(b"set-cookie")
    assert field is not None
    pair, *attributes = field.split(b"; ")
    assert re.fullmatch(rb"__Host-secure-net-status=[A-Za-z0-9_-]{43}", pair)
    assert sorted(attributes) == [b"HttpOnly", b"Path=/", b"SameSite=Strict", b"Secure"]
    assert token.encode() not in answer.raw
    assert answer.header(b"location") == b"/status"
    assert answer.header(b"cache-control") == b"no-store"
    assert answer.header(b"strict-transport-security") is None  # this is localhost, and it is opt-in


def test_no_other_listener_looks_at_the_cookie(house: RunningDaemon, cookie: bytes, token: str) -> None:
    """Row "Pages": "other listeners ignore `Cookie`": it travels to every port of the host."""
    field = b"Cookie: %b; token=%b" % (cookie, token.encode())
    with Peer(house.rpc, house.context(None)) as peer:
        peer.send(rpc("math.double", 1, fields=(field,)))
        assert peer.answer().status == 401
    with Peer(files_address(house), house.context(None)) as peer:
        peer.send(get(b"/manuals/m.txt", field))
        assert peer.answer().status == 401
        peer.send(get(b"/page.html", field))
        assert peer.answer().header(b"set-cookie") is None
    with Peer(house.addresses["chat-web"], house.context(None)) as peer:
        peer.send(get(b"/whoami", field))
        assert peer.answer().body == b'{"principal": null}'


@pytest.mark.parametrize("path", [b"/metrics", b"/readyz?verbose"])
def test_the_cookie_is_for_the_page_and_nothing_else(house: RunningDaemon, path: bytes) -> None:
    cookie = cookie_of(log_in(house, house.token("admin", "admin:read:**")))
    assert look(house, cookie) == 200
    assert look(house, cookie, path) == 401


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value[:-1],
        lambda value: value + b"A",
        lambda value: value.swapcase(),
        lambda value: b"A" * len(value),
        lambda value: b"",
        lambda value: b"../../../etc/passwd",
        lambda value: b'"' + value + b'"',
        lambda value: value + b"; __Host-secure-net-status=" + value,
    ],
)
def test_any_other_id_is_nobody(house: RunningDaemon, cookie: bytes, change: object) -> None:
    name, _, value = cookie.partition(b"=")
    assert callable(change)
    assert look(house, name + b"=" + change(value)) == 401
    assert look(house, cookie) == 200


def test_a_planted_id_is_never_taken_over(house: RunningDaemon, token: str) -> None:
    planted = b"__Host-secure-net-status=" + b"A" * 43
    answer = log_in(house, token, b"Origin: " + origin(house), b"Cookie: " + planted)
    assert cookie_of(answer) != planted
    assert look(house, planted) == 401


def test_sessions_are_bounded(house: RunningDaemon, token: str) -> None:
    cookies = [cookie_of(log_in(house, token)) for _ in range(7)]
    assert [look(house, cookie) for cookie in cookies] == [401] * 3 + [200] * 4


# --- its end ----------------------------------------------------------------------------------------------


def test_it_ends_by_logging_out_and_only_from_our_page(house: RunningDaemon, cookie: bytes) -> None:
    shown = b"Cookie: " + cookie
    for other in (b"null", b"https://localhost:%d" % files_address(house)[1], b"https://evil.example"):
        assert ask(house, post(b"/status/logout", b"", b"Origin: " + other, shown)).status == 403
    assert ask(house, get(b"/status/logout", shown)).status == 405  # no link, no image can
    assert look(house, cookie) == 200
    answer = ask(house, post(b"/status/logout", b"", b"Origin: " + origin(house), shown))
    assert answer.status == 303
    assert look(house, cookie) == 401


def test_it_ends_by_a_revocation_and_its_connection_is_cut(house: RunningDaemon) -> None:
    token = house.token("leaver", SCOPE)
    cookie = cookie_of(log_in(house, token))
    with Peer(house.admin, house.context(None)) as peer:
        peer.send(get(b"/status.json", b"Cookie: " + cookie))
        answer = peer.answer()
        assert json.loads(answer.body)["principals"]["leaver"] == 1
        house.cli("revoke", "leaver")
        assert b"200 OK" not in peer.rest()
    assert look(house, cookie) == 401
    assert log_in(house, token).status == 401


def test_it_ends_with_its_token(house: RunningDaemon) -> None:
    cookie = cookie_of(log_in(house, house.token("brief", SCOPE, ttl="2s")))
    assert look(house, cookie) == 200
    until(lambda: look(house, cookie) == 401)


def test_a_change_of_policy_is_felt_at_the_next_request(house: RunningDaemon) -> None:
    cookie = cookie_of(log_in(house, house.token("changer", SCOPE)))
    assert look(house, cookie) == 200
    house.cli("user", "lock", "changer")
    assert look(house, cookie) == 401


# --- logging in -------------------------------------------------------------------------------------------


def test_wrong_tokens_get_one_answer_and_the_log_the_address(house: RunningDaemon) -> None:
    good = house.token("ana", SCOPE)
    head, payload, signature = good.split(".")
    before = metric(house, "refused_total", service="admin", reason="credential")
    wrong = ["x", f"{head}.{payload}.", f"{head}.{payload}.{signature[::-1]}", good + "=", "a" * 8192]
    answers = {log_in(house, token).without_date for token in wrong}
    assert len(answers) == 1
    answer = answers.pop()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"set-cookie" not in answer
    assert b"\r\nconnection: close\r\n" in answer
    assert metric(house, "refused_total", service="admin", reason="credential") == before + len(wrong)
    lines = [line for line in house.log.read_text().splitlines() if '"login_refused"' in line]
    assert len(lines) >= len(wrong)
    assert all('"peer":' in line and "127.0.0.1:" in line for line in lines)
    assert payload not in house.log.read_text()


@pytest.mark.parametrize(
    "other",
    [
        b"null",
        b"https://localhost",
        b"https://evil.example",
        b"https://localhost:%d.evil.example",
        b"http://localhost:%d",
    ],
)
def test_another_page_cannot_log_anybody_in(house: RunningDaemon, token: str, other: bytes) -> None:
    """Nor into an account of the attacker's."""
    found = other % house.admin[1] if b"%d" in other else other
    answer = log_in(house, token, b"Origin: " + found)
    assert (answer.status, answer.header(b"set-cookie")) == (403, None)


def test_a_token_in_the_address_is_no_token(house: RunningDaemon, token: str) -> None:
    assert look(house, path=b"/status.json?token=" + token.encode()) == 401
    line = b"/status/login?token=" + token.encode()
    assert ask(house, post(line, b"", b"Origin: " + origin(house))).status == 400


def test_large_and_slow_forms(house: RunningDaemon) -> None:
    ours = b"Origin: " + origin(house)
    assert ask(house, post(b"/status/login", b"token=" + b"a" * 9300, ours)).status == 413
    assert ask(house, post(b"/status/login", b"token=" + b"a" * 9000, ours)).status == 401
    many = b"&".join(b"a=%d" % number for number in range(1000)) + b"&token=x"
    assert ask(house, post(b"/status/login", many, ours)).status == 400
    with Peer(house.admin, house.context(None)) as peer:
        peer.send(post(b"/status/login", b"token=aaaa", ours)[:-4])
        assert peer.answer().status == 408


# --- the page ---------------------------------------------------------------------------------------------


def test_other_pages_get_nothing_whatever_the_browser_shows(house: RunningDaemon, cookie: bytes) -> None:
    """Row "Pages": "a page among the served files tries the status page": same site, so it has the cookie,
    and the client certificate too."""
    tried = (b"Sec-Fetch-Site: same-site", b"Sec-Fetch-Mode: cors", b"Sec-Fetch-Dest: empty")
    for path in (b"/status", b"/status.json"):
        assert ask(house, get(path, b"Cookie: " + cookie, *tried)).status == 403
        assert ask(house, get(path, *tried), "admin").status == 403
        answer = ask(house, get(path, b"Origin: https://localhost:1", b"Cookie: " + cookie))
        assert answer.header(b"access-control-allow-origin") is None
        assert answer.header(b"cross-origin-resource-policy") == b"same-origin"
        assert answer.header(b"cross-origin-opener-policy") == b"same-origin"
    with Peer(files_address(house), house.context(None)) as peer:
        peer.send(get(b"/page.html"))
        assert peer.answer().header(b"content-security-policy") == b"sandbox"


@pytest.mark.parametrize("path", [b"/status", b"/status.json", b"/status.js", b"/status/login"])
def test_every_answer_is_under_a_strict_policy(house: RunningDaemon, path: bytes) -> None:
    for answer in (ask(house, get(path)), ask(house, get(path), "admin")):
        policy = answer.header(b"content-security-policy")
        assert policy is not None
        assert b"unsafe" not in policy
        directives = policy.split(b"; ")
        for directive in (b"default-src 'none'", b"frame-ancestors 'none'", b"base-uri 'none'"):
            assert directive in directives
        assert answer.header(b"x-content-type-options") == b"nosniff"


def test_a_certificate_without_the_scope_sees_nothing(house: RunningDaemon) -> None:
    answer = ask(house, get(b"/status"), "metrics")
    assert answer.status == 403
    assert b"127.0.0.1" not in answer.body
    assert ask(house, get(b"/status.json"), "metrics").status == 403
    assert ask(house, get(b"/status.json"), "admin").status == 200


def test_markup_in_names_is_text(house: RunningDaemon) -> None:
    """Row "Pages": "Markup in names: escaped". This one gets into the audit lines."""
    name = "<script>alert(1)</script>\x1b[31m"
    house.cli("backup", f"{house.directory}/{name}", check=False)
    page = ask(house, get(b"/status"), "admin").body.decode()
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_it_shows_no_secret(house: RunningDaemon, cookie: bytes, token: str) -> None:
    for path in (b"/status", b"/status.json"):
        answer = ask(house, get(path, b"Cookie: " + cookie))
        assert answer.status == 200
        for secret in (token, token.split(".")[1], cookie.partition(b"=")[2].decode(), "PRIVATE KEY"):
            assert secret.encode() not in answer.body
