"""Fan-out: one publisher that keeps its window full, and members that count what comes.

Driven as `child` says. The first member decrypts and counts messages; the others measure plaintext bytes by
the headers of the records (`link.Sink`), which must come to the same number. So nothing is taken for
delivered that was not, and the load costs little more than the kernel's copy.
"""

from __future__ import annotations

import collections
import select
import sys
import time

from benchmarks.loads import child
from benchmarks.loads.dialects import DIALECTS, MARK
from benchmarks.loads.link import SINK, Link, Sink, tls_context, wanted
from benchmarks.loads.result import LoadResult, Plan
from benchmarks.loads.tallies import Latencies
from benchmarks.processes import BenchmarkError

WAIT_SECONDS = 0.05
REFILL = 4  # publish again when this fraction of the window is free: a pipe is not filled by drops


class Publisher:
    """A connection that publishes as long as its window has room."""

    def __init__(self, link: Link, plan: Plan) -> None:
        self.link = link
        self._dialect = DIALECTS[plan.dialect](plan)
        self.link.say(self._dialect.opening)
        self.link.say(self._dialect.preparing)
        self.link.ready()
        self.sent = self.acknowledged = 0

    def read(self) -> None:
        self.acknowledged += self._dialect.tally.count(self.link.receive()) * self._dialect.unit

    def publish(self) -> int:
        """Fill the window, if enough of it is free; how many were published."""
        room = self._dialect.window - (self.sent - self.acknowledged)
        if self.link.stuck or room * REFILL < self._dialect.window:
            return 0
        count = room // self._dialect.unit * self._dialect.unit
        if count:
            self.sent += count
            self.link.send(self._dialect.publishing(count))
        return count


class Member:
    """The member that decrypts: it counts messages, and the time that each batch took to come."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.messages = self.plaintext_bytes = 0
        self.latencies = Latencies()
        self._batches: collections.deque[tuple[float, int, int]] = collections.deque()

    def expect(self, now: float, count: int, upto: int) -> None:
        """`count` messages were published now, the last of them the `upto`-th."""
        self._batches.append((now, count, upto))

    def read(self, now: float) -> None:
        data = self.link.receive()
        self.plaintext_bytes += len(data)
        self.messages += data.count(MARK)
        while self._batches and self._batches[0][2] <= self.messages:
            begin, count, _ = self._batches.popleft()
            self.latencies.add(now - begin, count)


class Load:
    def __init__(self, plan: Plan) -> None:
        tls = tls_context(plan)
        dialect = DIALECTS[plan.dialect](plan)
        self._publisher = Publisher(Link(plan.port, tls, 0, dialect.greeting), plan)
        first = Link(plan.port, tls, 1, dialect.greeting)
        first.say((*dialect.opening, dialect.subscribing))
        first.ready()
        self._member = Member(first)
        sinks = [Sink(plan.port, tls, 1 + index, dialect) for index in range(1, plan.connections)]
        self._sinks = {sink.fileno: sink for sink in sinks}
        self._buffer = memoryview(bytearray(SINK))
        self._size = plan.size
        self._epoll = select.epoll()
        for number in (self._publisher.link.fileno, first.fileno, *self._sinks):
            self._epoll.register(number, select.EPOLLIN)

    def measure(self, seconds: float) -> LoadResult:
        """Publish for so many seconds, and wait until every member has everything."""
        member, publisher = self._member, self._publisher
        member.latencies = Latencies()
        sent, received = publisher.sent, member.plaintext_bytes
        measured = {number: sink.records.plaintext_bytes for number, sink in self._sinks.items()}
        watch = child.Stopwatch()
        end = time.perf_counter() + seconds
        while (now := self._turn()) < end:
            if count := publisher.publish():
                member.expect(now, count, publisher.sent)
        while not self._arrived(received, measured):
            if self._turn() > end + child.GRACE_SECONDS:
                raise BenchmarkError(self._missing(received, measured))
        return LoadResult(
            operations=(publisher.sent - sent) * (1 + len(self._sinks)),
            seconds=watch.seconds(),
            p50_us=member.latencies.percentile(0.50),
            p99_us=member.latencies.percentile(0.99),
            answer_bytes=(member.plaintext_bytes - received) / max(1, publisher.sent - sent),
            busy=watch.busy(),
            cipher=member.link.cipher(),
        )

    def _turn(self) -> float:
        """Take what has come, once from each connection; when that was."""
        publisher, member, sinks = self._publisher, self._member, self._sinks
        events = self._epoll.poll(WAIT_SECONDS)
        now = time.perf_counter()
        for number, event in events:
            if number in sinks:
                sinks[number].drain(self._buffer)
            elif number == member.link.fileno:
                member.read(now)
            else:
                if event & select.EPOLLOUT:
                    publisher.link.flush()
                publisher.read()
        self._epoll.modify(publisher.link.fileno, wanted(publisher.link))
        return now

    def _arrived(self, received: int, measured: dict[int, int]) -> bool:
        """Every message was acknowledged and delivered; members' bytes may differ by less than a message."""
        publisher, member = self._publisher, self._member
        if publisher.acknowledged < publisher.sent or member.messages < publisher.sent:
            return False
        right = member.plaintext_bytes - received - self._size
        return all(
            sink.records.plaintext_bytes - measured[number] > right for number, sink in self._sinks.items()
        )

    def _missing(self, received: int, measured: dict[int, int]) -> str:
        publisher, member = self._publisher, self._member
        had = [sink.records.plaintext_bytes - measured[number] for number, sink in self._sinks.items()]
        return (
            f"of {publisher.sent} messages {publisher.acknowledged} were acknowledged and {member.messages} "
            f"came; one member had {member.plaintext_bytes - received} bytes, another {min(had, default=0)}"
        )


if __name__ == "__main__":
    sys.exit(child.main(lambda plan: Load(plan).measure))
