"""Holds members of chat rooms (or a broker's subscribers) open, spread over 127.0.0.0/8.

    python -m benchmarks.loads.members PLAN.json

Reads lines on stdin and answers each with itself once it is done:

    connections N   N connections are open, and have said who they are
    members N       the first N of them are in rooms of as many members as the plan's `in_flight` says
    rooms N         the first connection is in N further rooms, alone in each
"""

from __future__ import annotations

import dataclasses
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import raise_open_files
from benchmarks.loads.dialects import DIALECTS, Dialect
from benchmarks.loads.link import connected, say, tls_context
from benchmarks.loads.result import Plan
from benchmarks.processes import BenchmarkError


class Holder:
    """The connections that are held, and how far each of the three counts has come."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tls = tls_context(plan)
        self._held: list[ssl.SSLSocket] = []
        self._members = self._rooms = 0
        self._commands: Mapping[str, Callable[[int], None]] = {
            "connections": self.connections,
            "members": self.members,
            "rooms": self.rooms,
        }

    def obey(self, line: str) -> None:
        name, _, count = line.partition(" ")
        self._commands[name](int(count))

    def connections(self, count: int) -> None:
        dialect = self._dialect(self._plan.room)
        while len(self._held) < count:
            plain = connected(self._plan.port, len(self._held), dialect.greeting)
            connection = self._tls.wrap_socket(plain, server_hostname="localhost")
            say(connection, dialect.opening)
            self._held.append(connection)

    def members(self, count: int) -> None:
        for index in range(self._members, count):
            room = self._dialect(f"bench.{index // self._plan.in_flight}")
            say(self._held[index], [room.subscribing])
        self._members = count

    def rooms(self, count: int) -> None:
        for number in range(self._rooms, count):
            say(self._held[0], [self._dialect(f"bench.alone-{number}").subscribing])
        self._rooms = count

    def _dialect(self, room: str) -> Dialect:
        return DIALECTS[self._plan.dialect](dataclasses.replace(self._plan, room=room))


def main() -> int:
    raise_open_files()
    try:
        holder = Holder(Plan.read(Path(sys.argv[1])))
        for line in sys.stdin:
            holder.obey(line)
            print(line.strip(), flush=True)
    except (BenchmarkError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
