"""The line service with a handler that keeps its thread busy."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from typing import Any

from secure_net.wire.connection import Connection
from tests.support.machines import LineService, LineSession


class ThoroughSession(LineSession):
    """``think``: computes until it is let go. ``whose``: the name of the thread that runs it."""

    service: ThoroughService

    def handle(self, event: bytes) -> Coroutine[Any, Any, None] | None:
        if event == b"think":
            self.service.thinking.set()
            self.service.thought.wait(20)
        elif event == b"whose":
            self.machine.answer(threading.current_thread().name.encode())
        else:
            return super().handle(event)
        return None


class ThoroughService(LineService):
    """`thinking` is set when a handler begins to compute, which it does until `thought`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.thinking, self.thought = threading.Event(), threading.Event()
        self.begun_by: list[str] = []

    def session(self, connection: Connection) -> ThoroughSession:
        self.begun_by.append(threading.current_thread().name)
        session = ThoroughSession(self, connection)
        self.sessions.append(session)
        return session
