"""What is asked and what must come back: the same bytes for everyone who speaks XML-RPC. Pure.

gRPC cannot speak XML-RPC: it gets the same values as protobuf messages (`peers/grpc_messages.py`).
"""

from __future__ import annotations

import dataclasses
import xmlrpc.client

Value = int | list[dict[str, int | str | float | bool]]


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """One call, repeated."""

    title: str
    method: str
    argument: Value
    expected: Value

    def request(self) -> bytes:
        """The XML-RPC call, as the standard library's client writes it."""
        return xmlrpc.client.dumps((self.argument,), self.method).encode()

    def is_answered_by(self, body: bytes) -> bool:
        """Whether this XML-RPC answer carries the expected value (a fault does not)."""
        try:
            values, _ = xmlrpc.client.loads(body)
        except xmlrpc.client.Fault:
            return False
        return values == (self.expected,)


def rows(count: int) -> list[dict[str, int | str | float | bool]]:
    """So many structs of five members, about 470 bytes of XML each."""
    return [
        {
            "id": number,
            "name": f"sensor-{number:04d}",
            "reading": 20.0 + number / 8,
            "active": number % 2 == 0,
            "remark": f"Inspected by the evening shift; housing dry, label {number:04d} readable",
        }
        for number in range(count)
    ]


DOUBLE = Workload("math.double(7)", "math.double", 7, 14)


def same(count: int) -> Workload:
    """So many structs in, the same out."""
    return Workload(f"{count} structs of 5 members, the same back", "bench.same", rows(count), rows(count))
