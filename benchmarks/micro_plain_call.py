"""What reading a plain call costs, by the tokenizer and by defusedxml.

``python -m benchmarks.micro_plain_call``
"""

from __future__ import annotations

import timeit
import xmlrpc.client

from benchmarks import payloads
from secure_net.limits import RPCLimits
from secure_net.rpc.decode import parse_call
from secure_net.rpc.plain import loads_plain_call

LIMITS = RPCLimits()
CALLS = {
    "math.double(7)": xmlrpc.client.dumps((7,), "math.double").encode(),
    "four scalars": xmlrpc.client.dumps((7, "two words", True, 1.5), "a.b").encode(),
    "100 structs": payloads.same(100).request(),
    "100 structs, not plain": payloads.same(100).request().replace(b"<name>", b"<name >"),
}
BYTES = 3_000_000  # read in each of the runs, of which the fastest is shown


def main() -> None:
    for name, body in CALLS.items():
        number = BYTES // len(body)
        plain = min(timeit.repeat(lambda body=body: loads_plain_call(body), number=number))
        parsed = min(timeit.repeat(lambda body=body: parse_call(body, LIMITS), number=number))
        print(f"{name:24} plain {plain / number * 1e6:8.2f} µs   defusedxml {parsed / number * 1e6:8.2f} µs")


if __name__ == "__main__":
    main()
