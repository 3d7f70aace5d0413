"""What reading a plain call costs, by one regular expression and by defusedxml.

``python -m benchmarks.micro_plain_call``
"""

from __future__ import annotations

import timeit
import xmlrpc.client

from secure_net.limits import RPCLimits
from secure_net.rpc.decode import parse_call
from secure_net.rpc.plain import loads_plain_call

LIMITS = RPCLimits()
CALLS = {
    "math.double(7)": xmlrpc.client.dumps((7,), "math.double").encode(),
    "four scalars": xmlrpc.client.dumps((7, "two words", True, 1.5), "a.b").encode(),
    "a struct (not plain)": xmlrpc.client.dumps(({"a": 1},), "a.b").encode(),
}
NUMBER = 20_000


def main() -> None:
    for name, body in CALLS.items():
        plain = min(timeit.repeat(lambda body=body: loads_plain_call(body), number=NUMBER))
        parsed = min(timeit.repeat(lambda body=body: parse_call(body, LIMITS), number=NUMBER))
        print(f"{name:22} plain {plain / NUMBER * 1e6:6.2f} µs   defusedxml {parsed / NUMBER * 1e6:6.2f} µs")


if __name__ == "__main__":
    main()
