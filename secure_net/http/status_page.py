"""The status page's requests: who may look, logging in by a token, and the cookie that stands for it.

================== ====================================================================================
``/status``        the page; for who is not known, or may not, the form to log in
``/status.json``   the same for programs, and for the page's script
``/status/login``  POST of a form with an access token, from the page itself: gives the cookie
``/status/logout`` POST from the page itself: takes it back
================== ====================================================================================

Beside them the page's script, style sheet and icon, which are no secret. Who: the bearer token where one is
sent, else the cookie, else the connection's client certificate. All need `admin:read:status`.

A browser shows cookie and certificate whichever page makes it ask, also one of another port of ours, so a
request that a page elsewhere has caused (`Sec-Fetch-Site`) gets nothing, unless a person follows a link.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from secure_net.errors import AuthenticationError, RefusedError, RemoteProtocolError
from secure_net.http.assets import Asset, content_type, page_policy, under
from secure_net.http.cookie import cookie_value, forget_cookie, set_cookie
from secure_net.http.head import Head
from secure_net.http.page_sessions import PageSessions
from secure_net.http.protocol import Request
from secure_net.http.response import (
    LENGTH_REQUIRED,
    UNSUPPORTED_MEDIA_TYPE,
    Headers,
    Response,
    constant,
    method_not_allowed,
)
from secure_net.metrics import AuthMethod, AuthOutcome

if TYPE_CHECKING:
    from secure_net.identity.authenticator import Authenticator
    from secure_net.identity.policy import Principal
    from secure_net.limits import AdminLimits
    from secure_net.metrics import ServiceCounters
    from secure_net.wire.connection import Connection

PAGE, JSON, LOG_IN, LOG_OUT = "/status", "/status.json", "/status/login", "/status/logout"
SCOPE = "admin:read:status"

# `same-origin`: with `no-referrer` the browser would hide the form's origin from us too.
SECURITY: Headers = page_policy(form_action="'self'", referrer="same-origin")

_HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"), *SECURITY)
_FORM_TYPE = b"application/x-www-form-urlencoded"
_FIELDS_COUNT = 4  # of a form; ours has one
_BEARER = (b"www-authenticate", b"Bearer")
_SCOPE_MISSING = (b"www-authenticate", f'Bearer error="insufficient_scope", scope="{SCOPE}"'.encode())

_ELSEWHERE = under(SECURITY, constant(403, close=True))
_MALFORMED = under(SECURITY, constant(400, close=True))
_UNKNOWN = under(SECURITY, constant(401, _BEARER))
_FORBIDDEN = under(SECURITY, constant(403, _SCOPE_MISSING))
_LENGTH = under(SECURITY, LENGTH_REQUIRED)
_TYPE = under(SECURITY, UNSUPPORTED_MEDIA_TYPE)
_GET, _POST = (under(SECURITY, method_not_allowed(*methods)) for methods in (("GET", "HEAD"), ("POST",)))
_READING = frozenset({"GET", "HEAD"})

WRONG_TOKEN = "That token is not valid here: it may have ended, or be meant for another server."  # noqa: S105
NO_SCOPE = f"That token is valid, but has no scope {SCOPE}."
CERTIFICATE_NO_SCOPE = f"Your certificate is known, but has no scope {SCOPE}. A token may have it."


class Source(Protocol):
    """What is shown; the status and its pages are made elsewhere."""

    files: Mapping[str, bytes]

    def page(self, viewer: str, *, by_cookie: bool) -> bytes:
        """The page, as HTML."""
        ...

    def login(self, problem: str) -> bytes:
        """The form to log in, as HTML; `problem` is constant text, or empty."""
        ...

    def json(self) -> bytes: ...


class StatusPages:
    """What the admin listener answers at ``/status`` and what belongs to it.

    `origins` says, at each form, which origins are ours.
    """

    def __init__(
        self,
        source: Source,
        authenticator: Authenticator,
        counters: ServiceCounters,
        limits: AdminLimits,
        *,
        origins: Callable[[], Collection[str]],
    ) -> None:
        self._source, self._authenticator, self._counters = source, authenticator, counters
        self._origins = origins
        self.sessions = PageSessions(authenticator, limits)
        self._assets = {
            f"/{name}": Asset(content_type(name), content, SECURITY) for name, content in source.files.items()
        }
        self._forms: Mapping[str, Callable[[Request, Connection], Response]] = {
            LOG_IN: self._log_in,
            LOG_OUT: self._log_out,
        }

    def __contains__(self, path: str) -> bool:
        return path in (PAGE, JSON) or path in self._assets or path in self._forms

    def admit(self, head: Head) -> Response | None:
        """Refuse by 403, 405, 411 or 415 before a body is read: what depends on the head alone."""
        if head.path not in self._forms:
            if head.method not in _READING:
                return _GET
            return None if head.path in self._assets or _asked_by_ours(head) else _ELSEWHERE
        if head.method != "POST":
            return _POST
        origin = head.get(b"origin")
        if origin is None or origin.decode("ascii") not in self._origins():
            return _ELSEWHERE
        if head.content_length is None:
            return _LENGTH
        kind = (head.content_type or b"").partition(b";")[0].strip().lower()
        return None if kind == _FORM_TYPE or not head.content_length else _TYPE

    def respond(self, request: Request, shown: Principal | None, connection: Connection) -> Response:
        """Answer what was admitted. `shown` is whom a bearer token or the certificate names."""
        head = request.head
        asset = self._assets.get(head.path)
        if asset is not None:
            return asset.answer(head)
        form = self._forms.get(head.path)
        if form is not None:
            return form(request, connection)
        by_cookie = None if head.authorization is not None else self._by_cookie(head, connection)
        principal = by_cookie or shown
        if principal is None or not principal.permits("admin", "read", "status"):
            return self._refused(head, principal)
        if by_cookie is not None:
            _belongs(connection, by_cookie)
        if head.path == JSON:
            return Response(200, ((b"content-type", b"application/json"), *SECURITY), self._source.json())
        return Response(200, _HTML, self._source.page(principal.name, by_cookie=by_cookie is not None))

    def _by_cookie(self, head: Head, connection: Connection) -> Principal | None:
        value = cookie_value(head.get(b"cookie"))
        return None if value is None else self.sessions.find(value, connection.certificate)

    def _refused(self, head: Head, principal: Principal | None) -> Response:
        if principal is None:
            self._counters.authenticated(AuthMethod.NONE, AuthOutcome.REFUSED)
        if head.path == JSON:
            return _UNKNOWN if principal is None else _FORBIDDEN
        if principal is None:
            return Response(401, (_BEARER, *_HTML), self._source.login(""))
        certified = principal.credentials and principal.credentials[0].kind == "certificate"
        problem = CERTIFICATE_NO_SCOPE if certified else NO_SCOPE
        return Response(403, (_SCOPE_MISSING, *_HTML), self._source.login(problem))

    def _log_in(self, request: Request, connection: Connection) -> Response:
        token = _token(request.body)
        if token is None:
            return _MALFORMED
        try:
            principal = self._authenticator.bearer(token, connection.certificate)
        except AuthenticationError as error:
            self._count_refusal(error, connection)
            # The connection ends, as with every wrong token: each guess costs a handshake.
            return Response(401, (_BEARER, *_HTML), self._source.login(WRONG_TOKEN), close=True)
        self._counters.authenticated(AuthMethod.TOKEN, AuthOutcome.ACCEPTED)
        if not principal.permits("admin", "read", "status"):
            return Response(403, (_SCOPE_MISSING, *_HTML), self._source.login(NO_SCOPE))
        before = cookie_value(request.head.get(b"cookie"))
        if before is not None:
            self.sessions.end(before)
        value = self.sessions.begin(principal, connection.certificate)
        return _see_page(set_cookie(value))

    def _log_out(self, request: Request, _connection: Connection) -> Response:
        value = cookie_value(request.head.get(b"cookie"))
        if value is not None:
            self.sessions.end(value)
        # The connection belonged to who logged out.
        return _see_page(forget_cookie(), close=True)

    def _count_refusal(self, error: AuthenticationError, connection: Connection) -> None:
        self._counters.authenticated(AuthMethod.TOKEN, AuthOutcome.REFUSED)
        self._counters.refuse(error.reason)
        connection.shell.log(
            "login_refused",
            service=self._counters.name,
            connection=connection.id,
            peer=connection.peer,
            reason=error.reason.value,
            detail=error.detail,
        )


def _asked_by_ours(head: Head) -> bool:
    """Whether our own page asks, a person, or a program that is no browser (Fetch Metadata)."""
    site = head.get(b"sec-fetch-site")
    if site is None or site in (b"same-origin", b"none"):
        return True
    return head.get(b"sec-fetch-mode") == b"navigate" and head.get(b"sec-fetch-dest") == b"document"


def _belongs(connection: Connection, principal: Principal) -> None:
    """The connection is of who is logged in: it counts for them, and is cut when they are."""
    if connection.principal is principal:
        return
    try:
        connection.authenticated(principal)
    except RefusedError as error:
        raise RemoteProtocolError(error.reason, error.detail, 429) from error


def _token(body: bytes) -> bytes | None:
    """Of a form; None where it is no form, or has not exactly one token."""
    try:
        fields = parse_qsl(
            body.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=_FIELDS_COUNT
        )
        tokens = [value.strip().encode("ascii") for name, value in fields if name == "token"]
    except ValueError:  # not ASCII, not UTF-8 once decoded, not pairs, or too many
        return None
    return tokens[0] if len(tokens) == 1 else None


def _see_page(cookie: tuple[bytes, bytes], *, close: bool = False) -> Response:
    """RFC 9110 section 15.4.4: fetch the page anew; going back sends no form again."""
    return Response(303, ((b"location", PAGE.encode("ascii")), cookie, *SECURITY), b"", close)
