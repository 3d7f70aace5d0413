"""The browser client's service: its page, and behind ``/socket`` the chat.

===========  =================================================================================
``/``        the page; beside it its scripts, its style sheet and its icon
``/whoami``  whom the browser's client certificate names, so that the page need not ask for a token
``/socket``  becomes a WebSocket, for requests from this very page (`Origin`), and then a chat session
===========  =================================================================================

The page itself is no secret and is given to anybody; who may say and read what is decided in the chat
session, as over frames. An access token comes in its `hello` and nowhere else: `Authorization` and `Cookie`
are not looked at, and nothing stands in a URL.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, cast

from secure_net.clock import Clock
from secure_net.errors import AuthenticationError, NotPermittedError, RemoteProtocolError
from secure_net.http.head import Head
from secure_net.http.protocol import HTTPMachine, Request, RequestHead
from secure_net.http.response import NOT_FOUND, Response, ResponseHeads, constant, method_not_allowed
from secure_net.limits import FrameLimits, HTTPLimits
from secure_net.machine import Machine
from secure_net.messaging.assets import CONTENT_TYPES, assets, secured
from secure_net.messaging.protocol import Framing
from secure_net.messaging.server import Chat, ChatSession
from secure_net.messaging.websocket import (
    VERSION,
    WebSocketMachine,
    WebSocketReader,
    encode_many,
    handshake,
)
from secure_net.wire.shell import Session
from secure_net.wire.tls import TLSPolicy

if TYPE_CHECKING:
    from secure_net.identity.authenticator import Authenticator
    from secure_net.identity.policy import Principal
    from secure_net.metrics import ServiceCounters
    from secure_net.wire.connection import Connection

SOCKET, WHOAMI = "/socket", "/whoami"
FOLDER = "page"

_NOT_FOUND = secured(NOT_FOUND)
_METHODS = secured(method_not_allowed("GET", "HEAD"))
_SOCKET_METHODS = secured(method_not_allowed("GET"))
_ELSEWHERE = secured(constant(403, close=True))
_NO_HANDSHAKE = secured(constant(400, VERSION, close=True))
_JSON = (b"content-type", b"application/json")

# Begins the chat on a connection; its machine reads from the reader.
BeginChat = Callable[["Connection", WebSocketReader], Session]


def origins(names: Collection[str], ports: Collection[int]) -> frozenset[str]:
    """The origins (RFC 6454) of pages that a listener with a certificate for `names` serves on `ports`."""
    hosts = [f"[{name}]" if ":" in name else name.lower() for name in names]
    return frozenset(
        f"https://{host}" + ("" if port == 443 else f":{port}") for host in hosts for port in ports
    )


def chat_over_websocket(chat: Chat, counters: ServiceCounters) -> BeginChat:
    """Sessions of `chat` behind a page: one framing, so that all browsers in a room get the same bytes."""
    framing = Framing(encode_many, counters)

    def begin(connection: Connection, reader: WebSocketReader) -> Session:
        return ChatSession(chat, connection, chat.machine(framing, reader))

    return begin


@functools.cache
def read_page() -> dict[str, bytes]:
    """Name to content, of the files that ship with the package; read once, as a reload must not fail."""
    folder = importlib.resources.files("secure_net.messaging") / FOLDER
    # What an editor or a system leaves beside them is nobody's business.
    files = (file for file in folder.iterdir() if file.name.rpartition(".")[2] in CONTENT_TYPES)
    return {file.name: file.read_bytes() for file in files}


class WebService:
    """What a listener serves to browsers: one for all its connections.

    `begin_chat` (see `chat_over_websocket`) makes a connection's chat session once it is a WebSocket;
    `origins` says, at each handshake, which origins are ours (see the function of that name).
    """

    # Anybody may have the page; what is behind it has a deadline of its own for the login.
    authentication = False

    def __init__(
        self,
        name: str,
        begin_chat: BeginChat,
        authenticator: Authenticator,
        counters: ServiceCounters,
        *,
        clock: Clock,
        origins: Callable[[], Collection[str]],
        frame: FrameLimits | None = None,
        http: HTTPLimits | None = None,
        tls: TLSPolicy | None = None,
    ) -> None:
        self.name = name
        self.tls = tls or TLSPolicy(alpn=("http/1.1",))
        self.begin_chat = begin_chat
        self.authenticator = authenticator
        self.origins = origins
        self.assets = assets(read_page())
        self._counters = counters
        self._heads = ResponseHeads(clock.wall)
        self._http = http or HTTPLimits()
        self._frame = frame or FrameLimits()

    def machine(self) -> WebSocketMachine:
        return WebSocketMachine(
            HTTPMachine(self._http, self._heads, body_bytes=0, responses=self._counters.responses)
        )

    def reader(self) -> WebSocketReader:
        return WebSocketReader(self._frame.frame_bytes)

    def session(self, connection: Connection) -> WebSession:
        return WebSession(self, connection)


class WebSession:
    """One browser's connection: requests for files, then perhaps a chat."""

    __slots__ = ("_chat", "_connection", "_machine", "_service", "machine")

    def __init__(self, service: WebService, connection: Connection) -> None:
        self._machine = service.machine()
        self.machine: Machine = self._machine  # the shell's name for it
        self._service = service
        self._connection = connection
        self._chat: Session | None = None

    def handle(self, event: Any) -> Coroutine[Any, Any, None] | None:
        """Answer a request, or hand the event on to the chat."""
        if self._chat is not None:
            return self._chat.handle(event)
        if isinstance(event, RequestHead):
            self._machine.http.accept_body()  # nothing but an empty one fits
        elif event.head.path == SOCKET:
            self._upgrade(event)
        else:
            self._machine.http.respond(self._answer(event.head))
        return None

    def closed(self) -> None:
        if self._chat is not None:
            self._chat.closed()

    def _answer(self, head: Head) -> Response:
        asset = self._service.assets.get(head.path)
        if asset is None and head.path != WHOAMI:
            return _NOT_FOUND
        if head.method not in {"GET", "HEAD"}:
            return _METHODS
        return self._whoami() if asset is None else asset.answer(head)

    def _whoami(self) -> Response:
        """Whom the certificate names. Raises `RemoteProtocolError` where it is refused by now."""
        # The shell has it from our authenticator, and needs to know no more than a name of it.
        shown = cast("Principal | None", self._connection.certificate_principal)
        try:
            name = None if shown is None else self._service.authenticator.current(shown).name
        except AuthenticationError as error:
            raise RemoteProtocolError(error.reason, error.detail, 401) from error
        return secured(Response(200, (_JSON,), json.dumps({"principal": name}).encode("ascii")))

    def _upgrade(self, request: Request) -> None:
        """Begin the chat. A request that is no handshake of our page's is answered, counted, and the end."""
        service, http = self._service, self._machine.http
        if request.head.method != "GET":
            http.respond(_SOCKET_METHODS)
            return
        try:
            answer = handshake(request.head, service.origins())
        except NotPermittedError:
            http.respond(_ELSEWHERE)
            raise
        except RemoteProtocolError:
            http.respond(_NO_HANDSHAKE)
            raise
        reader = service.reader()
        self._chat = service.begin_chat(self._connection, reader)
        self._machine.switch(answer, reader, self._chat.machine)
