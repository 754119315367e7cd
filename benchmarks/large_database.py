"""A database of two large runs, written directly: what a run of a million rows leaves, in a minute."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio

from orchestrator.core.states import RunState
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sqlite.store import SqliteStore
from orchestrator.stores.writes import NewRun

__all__ = ["FIRST", "SECOND", "write_runs"]

FIRST, SECOND = "large-1", "large-2"
_SPEC = (
    '{"name": "large", "input": {"path": "rows.jsonl", "key": "id"}, '
    '"request": {"model": "gpt-5-mini", "input": "Summarise: {{ text }}"}}'
)
_AT = 1_790_000_000.0
_SQL = queries("large_database.sql", Path(__file__).parent)


def write_runs(database: Path, rows: int, *, answer_characters: int = 600) -> None:
    """Write two runs of the same rows into a new database; the second one has a tenth of them."""
    for name, number in ((FIRST, rows), (SECOND, rows // 10)):
        run_id = anyio.run(_create, database, name)
        text = "All the words of an answer, one after the other. " * (answer_characters // 49 + 1)
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA cache_size = -200000")
            first = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM request").fetchone()[0]
            given = {
                "run_id": run_id,
                "first": first,
                "rows": number,
                "at": _AT,
                "name": name,
                "text": text[:answer_characters],
            }
            connection.execute("BEGIN")
            for statement in _SQL.values():
                connection.execute(statement, given)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def _create(database: Path, name: str) -> int:
    async with SqliteStore.open(database) as store:
        run = await store.create_run(
            NewRun(
                name=name,
                uid=f"uid-of-{name}",
                job="large",
                spec_json=_SPEC,
                fingerprint="f" * 64,
                input_identity="rows.jsonl",
                budget_pusd=None,
                deadline_at=None,
                created_at=_AT,
            )
        )
        await store.set_run_state(run.id, RunState.HALTED, "deadline", _AT + 10_000)
        return run.id
