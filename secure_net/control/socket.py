"""The control socket: how a command on this machine has the running daemon do an act.

Theory of operation. ``state/control.sock`` is a Unix socket of mode 0600, and the kernel says whose process
is at the other end (``SO_PEERCRED``): only the daemon's own user and root are answered. One connection
carries one request and one answer, each a line of JSON::

    {"act": "revoke", "arguments": {"name": "bob"}}
    {"answer": {"epoch": 7, "connections_cut": 2}}
    {"error": "state_full", "text": "state/store.db: database or disk is full"}

`error` is from a closed set, and comes out of the client as the exception it was.

`reach` is what commands use: the daemon where one runs, else the state itself, under its lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

import msgspec

from secure_net.clock import Clock, SystemClock, TimerHandle
from secure_net.errors import (
    ConfigurationError,
    LocalProtocolError,
    OutcomeUnknownError,
    SecureNetError,
    StateDamagedError,
    StateError,
    StateFullError,
    StateLockedError,
)

SOCKET_FILE: Final = "control.sock"
REQUEST_BYTES: Final = 64 * 1024
ANSWER_BYTES: Final = 16 * 1024 * 1024
REQUEST_SECONDS: Final = 5.0  # from the connection to the request's last byte
ANSWER_SECONDS: Final = 60.0  # a backup, or a reload, may take its time
CONNECTIONS: Final = 32  # more at once is no operator
ACCEPT_TURNS: Final = 3  # of the loop, until asyncio has made a transport of what it accepted
LOCK_TRIES: Final = 20  # another command holds the state for a moment, a daemon may be about to answer
LOCK_PAUSE_SECONDS: Final = 0.1
_PATH_BYTES: Final = 100  # sun_path holds 108

Answer = dict[str, Any]
Perform = Callable[[str, Mapping[str, Any], str], Awaitable[Answer]]
"""`Administration.perform`: act, arguments, who."""

# The most special first: the first that fits names an error, and is raised again at the other end.
ERRORS: Final[tuple[tuple[str, type[SecureNetError]], ...]] = (
    ("state_full", StateFullError),
    ("state_damaged", StateDamagedError),
    ("state_locked", StateLockedError),
    ("state", StateError),
    ("request", LocalProtocolError),
    ("failed", SecureNetError),
)
_CONFIGURATION: Final = "configuration"
_INTERNAL: Final = "internal"


class Request(msgspec.Struct, forbid_unknown_fields=True):
    act: str
    arguments: dict[str, Any] = {}


class Reply(msgspec.Struct, omit_defaults=True):
    """Either `answer`, or `error` with its `text`; of a `ConfigurationError` also where, and the cure."""

    answer: Answer | None = None
    error: str = ""
    text: str = ""
    path: str = ""
    cure: str = ""


def reply_for(error: SecureNetError) -> Reply:
    """An error as it travels."""
    if isinstance(error, ConfigurationError):
        return Reply(error=_CONFIGURATION, text=error.problem, path=error.path, cure=error.cure)
    word = next(word for word, kind in ERRORS if isinstance(error, kind))
    return Reply(error=word, text=str(error))


def raise_for(reply: Reply) -> Answer:
    """The answer, or the exception that took its place."""
    if reply.answer is not None:
        return reply.answer
    if reply.error == _CONFIGURATION:
        raise ConfigurationError(reply.path, reply.text, reply.cure)
    for word, kind in ERRORS:
        if reply.error == word:
            raise kind(reply.text)
    raise StateError(f"the daemon failed; {reply.text or 'see its log'}")


# --- the daemon's side -------------------------------------------------------------------------------


class ControlServer:
    """Listens at `path`. The caller holds the state's lock, so a socket that is there already is stale."""

    def __init__(self, path: Path, perform: Perform, clock: Clock, log: Callable[..., Any]) -> None:
        self.path = path
        self.perform = perform
        self.clock = clock
        self.log = log
        self.connections: set[_ControlProtocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()  # acts under way; the loop itself keeps no hold of them
        self._server: asyncio.Server | None = None
        self._none_left = asyncio.Event()

    async def start(self) -> None:
        """Raises `StateError` when something that is no socket stands at the path."""
        self._listener = _bound(self.path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _ControlProtocol(self), sock=self._listener)

    async def stop(self) -> None:
        """Take no more, let acts under way end, and their answers be taken."""
        self._none_left.clear()
        if self._server is not None:
            self.path.unlink(missing_ok=True)
            # Up to 3.12 a server that is closed drops, unclosed, what it accepted in the turn before.
            asyncio.get_running_loop().remove_reader(self._listener)
            for _ in range(ACCEPT_TURNS):
                await asyncio.sleep(0)
            self._server.close()
        if self.tasks:
            await asyncio.wait(self.tasks)
        for connection in tuple(self.connections):
            connection.end()
        if self.connections:
            await self._none_left.wait()

    def lost(self, connection: _ControlProtocol) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._none_left.set()


class _ControlProtocol(asyncio.Protocol):
    """One connection: one request, one answer."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._received = b""
        self._timer: TimerHandle | None = None
        self._who = ""  # empty: nobody we listen to
        self._requested = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        uid = peer_uid(transport.get_extra_info("socket"))
        if uid not in {os.geteuid(), 0} or len(self._server.connections) > CONNECTIONS:
            self._server.log("control_refused", uid=uid)
            self._transport.abort()
            return
        self._who = f"uid:{uid}"
        self._allow(REQUEST_SECONDS)

    def data_received(self, data: bytes) -> None:
        if self._requested or not self._who:
            return  # one request; what follows it is not looked at
        self._received += data
        line, newline, _ = self._received.partition(b"\n")
        if newline:
            self._take(line)
        elif len(self._received) > REQUEST_BYTES:
            self._requested = True
            self._send(Reply(error="request", text="too large"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._allow(None)
        self._server.lost(self)

    def end(self) -> None:
        self._transport.close()

    def _allow(self, seconds: float | None) -> None:
        """The connection ends after so long, unless it is allowed anew."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            clock = self._server.clock
            self._timer = clock.call_at(clock.monotonic() + seconds, self._transport.abort)

    def _take(self, line: bytes) -> None:
        self._requested = True
        self._allow(None)
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._send(Reply(error="request", text="malformed"))
            return
        task = asyncio.get_running_loop().create_task(self._perform(request))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _perform(self, request: Request) -> None:
        try:
            reply = Reply(answer=await self._server.perform(request.act, request.arguments, self._who))
        except SecureNetError as error:
            reply = reply_for(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours: logged under the reference it gets
            reference = secrets.token_hex(4)
            self._server.log("control_failed", reference=reference, act=request.act, detail=repr(error))
            reply = Reply(error=_INTERNAL, text=f"reference {reference} in its log")
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        if not self._transport.is_closing():
            self._allow(REQUEST_SECONDS)  # to take it
            self._transport.write(msgspec.json.encode(reply) + b"\n")
            self._transport.close()


def peer_uid(connection: socket.socket) -> int:
    """Whose process is at the other end of a Unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def _bound(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StateError(f"{path} is in the way: not a socket")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # bind() makes the file: with this umask there is no moment at which others could connect.
        mask = os.umask(0o177)
        try:
            with _address(path) as address:
                listener.bind(address)
        finally:
            os.umask(mask)
    except OSError as error:
        listener.close()
        raise StateError(f"{path}: {error.strerror or error}") from error
    return listener


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """The path as it fits into a socket address, however deep the folder is."""
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


# --- a command's side --------------------------------------------------------------------------------


class Reached(Protocol):
    """Whoever performs acts: the daemon, or this process."""

    running: bool

    def request(self, act: str, **arguments: Any) -> Answer:
        """Do the act; see `secure_net.control.acts.ACTS`. Raises what it raises."""
        ...


class ControlClient:
    """The running daemon, through its socket. Blocks."""

    running = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def request(self, act: str, **arguments: Any) -> Answer:
        """Raises `ConnectionRefusedError` or `FileNotFoundError` when no daemon listens there."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            with _address(self._path) as address:
                connection.connect(address)
            try:
                connection.sendall(msgspec.json.encode(Request(act, arguments)) + b"\n")
                line = _received_line(connection)
            except OSError as error:
                raise OutcomeUnknownError(f"{self._path}: {error.strerror or error}") from error
        try:
            reply = msgspec.json.decode(line, type=Reply)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise OutcomeUnknownError(f"{self._path}: the daemon did not answer; see its log") from error
        return raise_for(reply)

    def answers(self) -> bool:
        """Whether somebody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(REQUEST_SECONDS)
            try:
                with _address(self._path) as address:
                    connection.connect(address)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError as error:
                raise StateError(f"{self._path}: {error.strerror or error}") from error
        return True


def _received_line(connection: socket.socket) -> bytes:
    """Up to the newline; what came, when the end or the bound comes first."""
    received = bytearray()
    while not received.endswith(b"\n") and len(received) <= ANSWER_BYTES:
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return bytes(received)


class Offline:
    """The acts without a daemon, in this process, which holds the lock."""

    running = False

    def __init__(self, runner: asyncio.Runner, perform: Perform) -> None:
        self._runner = runner
        self._perform = perform

    def request(self, act: str, **arguments: Any) -> Answer:
        return self._runner.run(self._perform_here(act, arguments))

    async def _perform_here(self, act: str, arguments: Mapping[str, Any]) -> Answer:
        return await self._perform(act, arguments, f"uid:{os.geteuid()}")


def reach(
    state: Path, pause: Callable[[float], None] = time.sleep
) -> contextlib.AbstractContextManager[Reached]:
    """The running daemon, or, where there is none, the state itself under its lock.

    Raises `StateLockedError` when a process holds the state and answers not, even after two seconds.
    """
    for _ in range(LOCK_TRIES - 1):
        with contextlib.suppress(StateLockedError):
            return _reach_now(state)
        pause(LOCK_PAUSE_SECONDS)
    return _reach_now(state)


def _reach_now(state: Path) -> contextlib.AbstractContextManager[Reached]:
    client = ControlClient(state / SOCKET_FILE)
    return contextlib.nullcontext(client) if client.answers() else _offline(state)


@contextlib.contextmanager
def _offline_open(store: Any, state: Path) -> Iterator[Offline]:
    from secure_net.audit.trail import AuditTrail  # noqa: PLC0415
    from secure_net.control.acts import Administration  # noqa: PLC0415

    with asyncio.Runner() as runner, contextlib.closing(store):
        clock = SystemClock(runner.get_loop())
        audit = AuditTrail.open(state, clock)
        try:
            yield Offline(runner, Administration(store, audit, clock).perform)
        finally:
            audit.close()


def _offline(state: Path) -> contextlib.AbstractContextManager[Offline]:
    from secure_net.store.sqlite import SQLiteStore  # noqa: PLC0415 - only where no daemon runs

    return _offline_open(SQLiteStore.open(state), state)
