"""The admin listener's pages: ``/metrics`` for Prometheus, ``/livez`` and ``/readyz`` for probes, and the
status page where there is one (`status_page`).

The probes are open, for a kubelet has no credential; they answer one word. What tells a stranger something
(``?verbose`` and the metrics) needs its scope. `/livez` answers as long as the loop turns; `/readyz` fails
while the daemon starts or drains, and when one of its checks does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from secure_net.http.head import Head
from secure_net.http.protocol import Request
from secure_net.http.response import Response
from secure_net.http.status_page import StatusPages
from secure_net.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from secure_net.identity.policy import Principal
    from secure_net.wire.connection import Connection

# A check gives "" while all is well, else what is wrong, in words without a secret.
Check = Callable[[], str]

# Path, and the resource of `admin:read:RESOURCE` that it needs; "" where it is open.
_METRICS, _LIVE, _READY = "/metrics", "/livez", "/readyz"
_OPEN = frozenset({_LIVE, _READY})
_VERBOSE = "verbose"
_METHODS = frozenset({"GET", "HEAD"})
_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class AdminApplication:
    """Serves the counters of `metrics`, the result of `checks`, a table of name to check, and `pages`."""

    def __init__(
        self, metrics: Metrics, checks: Mapping[str, Check], pages: StatusPages | None = None
    ) -> None:
        self._metrics = metrics
        self._checks = checks
        self._pages = pages

    def admit(self, head: Head, principal: Principal | None) -> Response | None:
        """Refuse before a body is read: by 404, 405, 401, 403, and what else a form is refused by."""
        if self._pages is not None and head.path in self._pages:
            return self._pages.admit(head)
        return self._admit_reader(head, principal)

    def _admit_reader(self, head: Head, principal: Principal | None) -> Response | None:
        if head.path not in _OPEN and head.path != _METRICS:
            return _plain(404, "not found")
        if head.method not in _METHODS:
            return _plain(405, "method not allowed", (b"allow", b"GET, HEAD"))
        resource = _resource(head)
        if not resource:
            return None
        if principal is None:
            return _plain(401, "unauthorized", (b"www-authenticate", b"Bearer"))
        if not principal.permits("admin", "read", resource):
            challenge = f'Bearer error="insufficient_scope", scope="admin:read:{resource}"'
            return _plain(403, "forbidden", (b"www-authenticate", challenge.encode()))
        return None

    def respond(self, request: Request, principal: Principal | None, connection: Connection) -> Response:
        """Answer what `admit` let in."""
        head = request.head
        if self._pages is not None and head.path in self._pages:
            return self._pages.respond(request, principal, connection)
        if head.path == _METRICS:
            return Response(200, ((b"content-type", CONTENT_TYPE.encode()),), self._metrics.render())
        checks = self._checks if head.path == _READY else {}
        results = {name: check() for name, check in checks.items()}
        failed = any(results.values())
        if head.query == _VERBOSE:
            text = "".join(_verdict(name, problem) for name, problem in results.items())
        else:
            text = ""
        return _plain(503 if failed else 200, text + ("not ready" if failed else "ok"))


def _resource(head: Head) -> str:
    if head.path == _METRICS:
        return "metrics"
    return "health" if head.query else ""


def _verdict(name: str, problem: str) -> str:
    # Kubernetes' own components answer `?verbose` in this form.
    return f"[-]{name} failed: {problem}\n" if problem else f"[+]{name} ok\n"


def _plain(status: int, text: str, *headers: tuple[bytes, bytes]) -> Response:
    return Response(status, (_TEXT, *headers), f"{text}\n".encode())
