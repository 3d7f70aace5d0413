"""Static files over HTTPS: the HTTP application that answers GET and HEAD from one or more roots.

Theory of operation. `targets` says what a path stands for, without looking; `admit` asks whether the caller
may have that, and knows nothing yet of what is there. `lookup` opens it on a thread, as that may wait for the
disk, and `opened` keeps it open for those who ask next. Everything an answer says of a file (its tag, its
length, when it was changed) comes from the descriptor that its bytes are read from. A small file is read at
once and leaves with its head in one write; a large one is a `Stream` from a `FileBody`.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import secrets
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from secure_net.clock import Clock, TimerHandle
from secure_net.errors import RefusedError
from secure_net.http import conditional, listing, ranges
from secure_net.http.conditional import Validators, Verdict
from secure_net.http.disk import Disk
from secure_net.http.file_body import FileBody
from secure_net.http.head import Head
from secure_net.http.lookup import Names, Other, list_folder, look_up
from secure_net.http.media_types import media_type
from secure_net.http.negotiation import wanted
from secure_net.http.opened import Found, OpenFile, OpenFiles
from secure_net.http.protocol import Request
from secure_net.http.ranges import Span
from secure_net.http.response import (
    FORBIDDEN,
    NOT_FOUND,
    PRECONDITION_FAILED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Headers,
    Response,
    Stream,
    constant,
    method_not_allowed,
)
from secure_net.http.roots import AbsentError
from secure_net.http.site import Site
from secure_net.http.targets import Target, Targets
from secure_net.limits import FilesLimits
from secure_net.metrics import FileCounters

if TYPE_CHECKING:
    from secure_net.identity.policy import Principal
    from secure_net.wire.connection import Connection

# Up to this size a file is read and sent as a whole; it stays below a piece of a larger one.
WHOLE_BYTES = 64 * 1024

# A file that changes each time it is looked at is tried so often.
_TRIES = 3

_TARGETS_COUNT = 4096  # paths remembered ...
_TARGET_BYTES = 512  # ... that are no longer than this
_NAMES_SECONDS = 30.0  # a listing is remembered for its next page

_METHODS = frozenset({"GET", "HEAD"})
_NOT_GET = method_not_allowed("GET", "HEAD")
_SPECIAL = conditional.FIELDS | {b"range"}

# Of a file's fields, those that a 304 repeats (RFC 9110 section 15.4.5).
_ON_304 = frozenset(
    {b"cache-control", b"etag", b"vary", b"content-security-policy", b"strict-transport-security"}
)
# Those that a page which says that nothing is there has as well.
_ON_404 = frozenset({b"content-type", b"content-encoding", b"vary", b"content-security-policy"})

_SAME_ORIGIN = (b"cross-origin-resource-policy", b"same-origin")
_LISTING: Headers = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", listing.POLICY),
    (b"referrer-policy", b"no-referrer"),
)


class _Look:
    """A look at the disk under way, and how many wait for what it finds."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[Found | Other]) -> None:
        self.task = task
        self.waiters = 0


class FilesApplication:
    """Answers with the files of `site`. `log` is told of what is wrong with the disk."""

    def __init__(
        self,
        site: Site,
        limits: FilesLimits,
        *,
        disk: Disk,
        clock: Clock,
        counters: FileCounters,
        log: Callable[..., None],
    ) -> None:
        self._disk, self._clock, self._counters, self._log = disk, clock, counters, log
        self._open = OpenFiles(clock, limits.files_open_count)
        self._paths: dict[str, Target | None] = {}
        self._scratch = memoryview(bytearray(WHOLE_BYTES))
        self._looks: dict[Target, _Look] = {}
        # Folders are listed one at a time: each can be seconds of work.
        self._listing = asyncio.Lock()
        self._names: Names | None = None
        self._names_timer: TimerHandle | None = None
        counters.kept = self._open.__len__
        self.configure(site, limits)

    def configure(self, site: Site, limits: FilesLimits) -> None:
        """Serve `site` from now on (reload)."""
        self._site, self._limits = site, limits
        self._targets = Targets(site.roots)
        self._paths.clear()
        self._open.clear()
        self._open.most = limits.files_open_count
        self._forget_names()

    def close(self) -> None:
        """Let go of what is kept open."""
        self._open.clear()
        self._forget_names()

    # -- may they, and what is it ---------------------------------------------------------------------

    def admit(self, head: Head, principal: Principal | None) -> Response | None:
        """Refuse before anything is looked at. Depends on nothing but its arguments and the configuration,
        with which the authenticator's epoch changes."""
        if head.method not in _METHODS:
            return _NOT_GET
        target = self._target(head)
        if target is None:
            return NOT_FOUND
        if target.root.public:
            return None
        if principal is None:
            return UNAUTHENTICATED
        return None if principal.permits("files", "read", target.path) else FORBIDDEN

    def respond(
        self, request: Request, principal: Principal | None, connection: Connection
    ) -> Response | Coroutine[Any, Any, Response]:
        """Answer what `admit` let in: at once, where the file is open and in memory."""
        head = request.head
        target = self._target(head)
        if target is None:
            return NOT_FOUND
        return self._kept(head, target) or self._look(head, target)

    def _target(self, head: Head) -> Target | None:
        path = head.target
        if path in self._paths:
            return self._paths[path]
        target = self._targets.find(head)
        if len(path) <= _TARGET_BYTES:
            if len(self._paths) >= _TARGETS_COUNT:
                self._paths.clear()
            self._paths[path] = target
        return target

    async def _look(self, head: Head, target: Target) -> Response:
        """Open what the target stands for, and answer with it."""
        try:
            for _ in range(_TRIES):
                found = await self._found(target)
                if found is Other.REDIRECT:
                    return _redirect(target, head)
                if found is Other.LISTING:
                    return await self._list(head, target)
                answer = self._kept(head, target)
                if answer is not None:
                    return answer
        except AbsentError:
            return await self._absent(head, target)
        except OSError as error:
            self._log("file_unavailable", detail=error.strerror)
        except RefusedError:
            pass  # as many wait as may
        return UNAVAILABLE

    def _kept(self, head: Head, target: Target) -> Response | None:
        """The answer, where what the target stands for is open, and has not changed."""
        found = self._open.get(target)
        return None if found is None else self._answer(head, target, found)

    async def _found(self, target: Target) -> Found | Other:
        """What the target stands for; a file is kept open. Looked for once, however many want to know."""
        look = self._looks.get(target)
        if look is None:
            look = self._looks[target] = _Look(asyncio.create_task(self._open_now(target)))
        look.waiters += 1
        try:
            return await asyncio.shield(look.task)
        finally:
            look.waiters -= 1
            if not look.waiters:
                look.task.cancel()  # for nobody; where it is done, that does nothing
                if self._looks.get(target) is look:
                    del self._looks[target]

    async def _open_now(self, target: Target) -> Found | Other:
        found = await self._disk.run(look_up, target, unwanted=_release)
        if isinstance(found, Found):
            self._open.keep(target, found)
        return found

    async def _absent(self, head: Head, target: Target) -> Response:
        """404, with the root's own page where it has one."""
        page = Target(target.root, target.root.not_found, False, "")
        if not page.names:
            return NOT_FOUND
        try:
            answer = self._page(head, page)
            if answer is None:
                await self._found(page)
                answer = self._page(head, page)
        except (AbsentError, OSError, RefusedError):
            return NOT_FOUND
        return answer or NOT_FOUND

    def _page(self, head: Head, page: Target) -> Response | None:
        found = self._open.get(page)
        if found is None:
            return None
        file, coding = _chosen(head, found)
        headers = self._headers(head, page, found, file, coding)
        return self._checked(page, found, file, self._whole(404, _only(headers, _ON_404), file, head))

    # -- files ----------------------------------------------------------------------------------------

    def _answer(self, head: Head, target: Target, found: Found) -> Response | None:
        """None: what was found is not what is there now."""
        file, coding = _chosen(head, found)
        return self._checked(target, found, file, self._from(head, target, found, file, coding))

    def _checked(self, target: Target, found: Found, file: OpenFile, answer: Response) -> Response | None:
        """`answer`, where its file is still there. Asked after it was read: what was read is then of the file
        that the head tells of."""
        if file.is_there() and (file is found.file or found.file.is_there()):
            return answer
        if isinstance(answer, Stream):
            answer.source.close()
        self._open.forget(target)
        return None

    def _from(self, head: Head, target: Target, found: Found, file: OpenFile, coding: str) -> Response:
        headers = self._headers(head, target, found, file, coding)
        fields = head.fields
        if not _SPECIAL.isdisjoint(fields):
            validators = Validators(file.etag, file.modified)
            verdict = conditional.judge(fields, validators)
            if verdict is Verdict.FAILED:
                return PRECONDITION_FAILED
            if verdict is Verdict.NOT_MODIFIED:
                return Response(304, _only(headers, _ON_304))
            asked = fields.get(b"range")
            if (
                asked is not None
                and head.method == "GET"
                and conditional.range_holds(fields.get(b"if-range"), validators, self._clock.wall())
            ):
                spans = ranges.parse_ranges(asked, file.size, self._limits.files_ranges_count)
                if spans is not None:
                    return self._part(spans, headers, file)
        return self._whole(200, headers, file, head)

    def _whole(self, status: int, headers: Headers, file: OpenFile, head: Head) -> Response:
        size = file.size
        if size <= WHOLE_BYTES and head.method == "GET":
            count = file.read_at_once(self._scratch[:size], 0) if size else 0
            if count == size:
                self._counters.reads_cached += 1
                return Response(status, headers, bytes(self._scratch[:size]))
        return self._stream(status, headers, file, (Span(0, size),), size)

    def _part(self, spans: tuple[Span, ...], headers: Headers, file: OpenFile) -> Response:
        size = file.size
        if not spans:
            nothing = (b"content-range", ranges.unsatisfied(size))
            return Response(416, (*_only(headers, _ON_304), nothing), constant(416).body)
        if len(spans) == 1:
            (span,) = spans
            told = (b"content-range", ranges.content_range(span, size))
            return self._stream(206, (*headers, told), file, spans, span.length)
        boundary = secrets.token_hex(16).encode("ascii")
        (_, content_type), *others = headers
        plan, length = ranges.multipart(spans, size, content_type, boundary)
        kind = (b"content-type", b"multipart/byteranges; boundary=" + boundary)
        return self._stream(206, (kind, *others), file, plan, length)

    def _stream(
        self, status: int, headers: Headers, file: OpenFile, plan: tuple[bytes | Span, ...], length: int
    ) -> Stream:
        return Stream(status, headers, length, FileBody(file, plan, self._disk, self._counters))

    def _headers(self, head: Head, target: Target, found: Found, file: OpenFile, coding: str) -> Headers:
        """The fields of a 200, its type first; made once for each form of what was found."""
        strict = bool(self._site.hsts_seconds) and takes_hsts(head.host)
        headers = found.headers.get((coding, strict))
        if headers is None:
            made = self._made(target, found, file, coding)
            if strict:
                made.append((b"strict-transport-security", b"max-age=%d" % self._site.hsts_seconds))
            headers = found.headers[coding, strict] = tuple(made)
        return headers

    def _made(self, target: Target, found: Found, file: OpenFile, coding: str) -> list[tuple[bytes, bytes]]:
        root = target.root
        control = next((rule.control for rule in self._site.cache if rule.matches(target.path)), None)
        made = [
            (b"content-type", media_type(found.name)),
            (b"etag", file.etag),
            (b"last-modified", formatdate(file.modified, usegmt=True).encode("ascii")),
            (b"accept-ranges", b"bytes"),
            (b"cache-control", control or (b"no-cache" if root.public else b"private, no-cache")),
        ]
        if self._site.policy:
            made.append((b"content-security-policy", self._site.policy))
        if root.precompressed:
            made.append((b"vary", b"accept-encoding"))
        if coding:
            made.append((b"content-encoding", coding.encode("ascii")))
        if not root.public:
            made.append(_SAME_ORIGIN)
        return made

    # -- folders --------------------------------------------------------------------------------------

    async def _list(self, head: Head, target: Target) -> Response:
        after = listing.parse_after(head.query)
        if after is None:
            return NOT_FOUND
        limits = self._limits
        async with self._listing:
            work = functools.partial(
                list_folder,
                target,
                after,
                page_count=limits.files_listing_count,
                folder_count=limits.files_folder_count,
                known=self._names,
            )
            self._names, page = await self._disk.run(work)
        if self._names_timer is not None:
            self._names_timer.cancel()
        self._names_timer = self._clock.call_at(self._clock.monotonic() + _NAMES_SECONDS, self._forget_names)
        return Response(200, _LISTING, page)

    def _forget_names(self) -> None:
        self._names = None
        if self._names_timer is not None:
            self._names_timer.cancel()
            self._names_timer = None


def _release(found: Found | Other) -> None:
    """Whoever asked has gone."""
    if isinstance(found, Found):
        found.release()


def _chosen(head: Head, found: Found) -> tuple[OpenFile, str]:
    """The file, or the twin that suits who asks best, with its coding."""
    if found.twins:
        for coding in wanted(head.get(b"accept-encoding")):
            if coding in found.twins:
                return found.twins[coding], coding
    return found.file, ""


def _only(headers: Headers, names: frozenset[bytes]) -> Headers:
    return tuple(pair for pair in headers if pair[0] in names)


def _redirect(target: Target, head: Head) -> Response:
    """To the folder, on this very server: a path, of names that were found."""
    location = target.location + (f"?{head.query}" if head.query else "")
    return constant(301, (b"location", location.encode("ascii")))


@functools.lru_cache(maxsize=256)
def takes_hsts(host: str) -> bool:
    """Whether HSTS may be said to who asked for `host` (as in the field): by a name, and not this machine's.

    One service that says it of localhost would shut out every other on it (RFC 6797 has no ports).
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").rstrip(".").lower()
    if not name or name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False
