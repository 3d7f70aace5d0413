from __future__ import annotations

import sqlite3

from secure_net.store.schema import APPLICATION_ID, MIGRATIONS


def test_every_migration_runs_after_the_ones_before_it() -> None:
    connection = sqlite3.connect(":memory:")
    for migration in MIGRATIONS:
        for statement in migration:
            connection.execute(statement)
    counters = dict(connection.execute("SELECT name, value FROM counters"))
    assert counters == {"epoch": 0, "crl_number": -1, "chat_writes": 0}
    connection.close()


def test_the_application_id_fits_sqlite_and_reads_snet() -> None:
    assert APPLICATION_ID.to_bytes(4, "big") == b"SNET"
