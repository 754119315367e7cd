"""Copies a whole database of runs into an empty one, of the same or another kind: table by table, row by row."""

from __future__ import annotations

from collections.abc import Mapping

import anyio.to_thread

from orchestrator.core.errors import StoreError, UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.stores.base import Backend
from orchestrator.stores.user_errors import run_locked

__all__ = ["Copied", "copy_database"]


@fast_dataclass(kw_only=False)
class Copied:
    """What was copied: rows by table, and the cost of all charges."""

    rows: Mapping[str, int]
    cost_pusd: Picodollars


async def copy_database(source: Backend, target: Backend) -> Copied:
    """Copy all runs; the target must have none. Nothing is copied unless all of it is, with the same sums."""
    if source.address == target.address:
        raise UsageError("a database cannot be copied to itself", hint="name another one with --to")
    async with source.open_reader() as reader:
        for run in await reader.runs():
            if source.is_locked(run.id):
                raise run_locked(run.name, holder="another process")
    async with target.open_store():
        pass  # makes the tables
    return await anyio.to_thread.run_sync(_copy, source, target)


def _copy(source: Backend, target: Backend) -> Copied:
    with source.open_tables(writes=False) as tables, target.open_tables(writes=True) as copy:
        known = copy.columns()
        if copy.totals("run", known["run"])[0]:
            raise UsageError(f"{target.address} has runs already", hint="name an empty database with --to")
        rows: dict[str, int] = {}
        for table, columns in tables.columns().items():
            copy.add(table, columns, tables.rows(table, columns))
            expected, found = tables.totals(table, columns), copy.totals(table, columns)
            if expected != found:
                raise StoreError(
                    f"the copy of {table} has {found[0]:,} rows with a sum of {found[1]}, not {expected[0]:,} with "
                    f"{expected[1]}; nothing was copied",
                    where=target.address,
                    hint="run the same command again when no other program writes to either database",
                )
            rows[table] = found[0]
        _, cost_pusd = copy.totals("charge", ["cost_pusd"])
        return Copied(rows, cost_pusd)
