"""Requests that are answered one by one: so many unanswered on each of some connections, never more.

Driven as `child` says. Echo, and publishes that a server acknowledges: what differs is in `dialects`.
"""

from __future__ import annotations

import collections
import select
import ssl
import sys
import time

from benchmarks.loads import child
from benchmarks.loads.dialects import DIALECTS
from benchmarks.loads.link import Link, tls_context, wanted
from benchmarks.loads.result import LoadResult, Plan
from benchmarks.loads.tallies import Latencies
from benchmarks.processes import BenchmarkError

WAIT_SECONDS = 0.1


class Client:
    """One connection, and what it waits for."""

    def __init__(self, plan: Plan, tls: ssl.SSLContext, index: int) -> None:
        self.dialect = DIALECTS[plan.dialect](plan)
        self.link = Link(plan.port, tls, index, self.dialect.greeting)
        self.link.say(self.dialect.opening)
        if index == 0:
            self.link.say(self.dialect.preparing)
        self.link.ready()
        self.outstanding = 0
        self._sent: collections.deque[tuple[float, int]] = collections.deque()

    def ask(self, count: int, now: float) -> None:
        self.link.send(self.dialect.publishing(count))
        self.outstanding += count
        self._sent.append((now, count))

    def answered(self, now: float, latencies: Latencies) -> int:
        """Read; how many answers came. They come in the order of the requests."""
        answers = self.dialect.tally.count(self.link.receive())
        self.outstanding -= answers
        left = answers
        while left:
            if not self._sent:
                raise BenchmarkError("more answers than requests")
            begin, count = self._sent.popleft()
            taken = min(left, count)
            latencies.add(now - begin, taken)
            left -= taken
            if taken < count:
                self._sent.appendleft((begin, count - taken))
        return answers


class Load:
    def __init__(self, plan: Plan) -> None:
        tls = tls_context(plan)
        clients = [Client(plan, tls, index) for index in range(plan.connections)]
        self._in_flight = plan.in_flight
        self._clients = {client.link.fileno: client for client in clients}
        self._epoll = select.epoll()
        for number in self._clients:
            self._epoll.register(number, select.EPOLLIN)

    def measure(self, seconds: float) -> LoadResult:
        """Ask for so many seconds, and wait for the answers that are then under way."""
        latencies, watch, operations = Latencies(), child.Stopwatch(), 0
        end = time.perf_counter() + seconds
        for client in self._clients.values():
            client.ask(self._in_flight, time.perf_counter())
        asking = True
        while asking or any(client.outstanding for client in self._clients.values()):
            events = self._epoll.poll(WAIT_SECONDS)
            now = time.perf_counter()
            asking = now < end
            if now > end + child.GRACE_SECONDS:
                raise BenchmarkError("requests that are never answered")
            for number, event in events:
                client = self._clients[number]
                if event & ~select.EPOLLOUT:
                    answers = client.answered(now, latencies)
                    operations += answers
                    if asking and answers:
                        client.ask(answers, now)
                if event & select.EPOLLOUT or client.link.stuck:
                    client.link.flush()
                    self._epoll.modify(number, wanted(client.link))
        return LoadResult(
            operations=operations,
            seconds=watch.seconds(),
            p50_us=latencies.percentile(0.50),
            p99_us=latencies.percentile(0.99),
            answer_bytes=0.0,  # the tallies have looked at every one
            busy=watch.busy(),
            cipher=next(iter(self._clients.values())).link.cipher(),
        )


if __name__ == "__main__":
    sys.exit(child.main(lambda plan: Load(plan).measure))
