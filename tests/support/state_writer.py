"""A process that writes to a state as fast as it can, and says what was acknowledged, until it is killed.

``python -m tests.support.state_writer STATE PREFIX``: each line on stdout is an id that is in the store and
the sequence number of the line of the audit trail that tells of it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from secure_net.audit.trail import AuditTrail
from secure_net.clock import SystemClock
from secure_net.store.sqlite import SQLiteStore

WRITERS = 64


async def write(store: SQLiteStore, trail: AuditTrail, prefix: str, numbers: Iterator[int]) -> None:
    for number in numbers:
        name = f"{prefix}-{number}"
        sequence = await trail.require("revoke_token", jti=name)
        trail.record("noise", number=number)
        await store.revoke_token(name, at=1.0, forget_at=2.0)
        os.write(1, f"{name} {sequence}\n".encode())


async def main(state: Path, prefix: str) -> None:
    store = SQLiteStore.open(state)
    # Small files, so that the end comes in the middle of a rotation as well.
    trail = AuditTrail.open(state, SystemClock(), rotate_bytes=20_000)
    numbers = itertools.count()
    await asyncio.gather(*(write(store, trail, prefix, numbers) for _ in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
