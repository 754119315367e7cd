"""Accounts: how long ``costs`` takes over 100,000 charges, by a fast grouping and by a slow one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.figures import AtMost, Figure, figure
from benchmarks.processes import measure
from benchmarks.product import command, scratch
from benchmarks.scenarios import Extent
from orchestrator.stores.sqlite.database import migrate
from orchestrator.stores.sqlite.migrations import migrations

__all__ = ["accounts"]

_CHARGES = 100_000
_CUSTOMERS = 50


def accounts(extent: Extent) -> Iterator[Figure]:
    """``costs`` of a run with 100,000 charges: by model and tier, and by a field of the user's metadata."""
    with scratch() as folder:
        _fill(folder / "runs.db")
        for words in ("model,tier", "metadata.customer"):
            wanted = command(folder, "costs", "measured", "--by", words, "--json")
            costs = [measure(wanted) for _ in range(1 + extent.rounds)][1:]
            yield figure(f"costs by {words}", [cost.wall_s for cost in costs], "s")
            # One thread does all the work: on an idle machine, the wait is hardly longer than this.
            yield figure(f"costs by {words}: CPU", [cost.cpu_s for cost in costs], "s", AtMost(1.0))


def _fill(path: Path) -> None:
    """Writes a finished run directly into the tables: running it would take minutes."""
    ids = range(1, _CHARGES + 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, migrations(), path=path)
        database.execute("BEGIN")
        database.execute(
            "INSERT INTO run (id, name, uid, job, spec, fingerprint, input_identity, state, created_at,"
            " first_request_id, last_request_id)"
            " VALUES (1, 'measured', 'u', 'j', '{}', 'f', 'i', 'finished', 0, 1, ?)",
            (_CHARGES,),
        )
        database.execute(
            "INSERT INTO price"
            " VALUES (1, 'gpt-5-mini', 'default', 250000, 25000, 250000, 2000000, 0, 0, 0, 's', '1', 0)"
        )
        database.executemany(
            "INSERT INTO request (id, run_id, stage, key, state, number, settled_at)"
            " VALUES (?1, 1, 'main', 'row-' || ?1, 'succeeded', 1, 1.0)",
            ((number,) for number in ids),
        )
        database.executemany(
            "INSERT INTO attempt (id, idempotency_key, model, service_tier, sent_at, response_id, status, ended_at,"
            " metadata) VALUES (?1 * 1000000 + 1, 'k', 'gpt-5-mini-2025-08-07', 'default', 1.0, 'resp_' || ?1,"
            " 'completed', 2.0, ?2)",
            ((number, f'{{"customer": "c-{number % _CUSTOMERS}"}}') for number in ids),
        )
        database.executemany(
            "INSERT INTO charge (attempt_id, charged_at, cost_pusd, price_id, input_tokens, cached_tokens,"
            " cache_write_tokens, output_tokens, reasoning_tokens, total_tokens)"
            " VALUES (?1 * 1000000 + 1, ?1, 450000000, 1, 1000, 0, 0, 100, 10, 1100)",
            ((number,) for number in ids),
        )
        database.execute("COMMIT")
