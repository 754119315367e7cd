"""Datasets in SQL; see ``stores.datasets`` for what is promised."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from orchestrator.core.increments import Change, Changes, ComparedRow, DatasetEntry, NotedChange
from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.states import State
from orchestrator.stores.datasets import Dataset, KeptRequest, NightRecord
from orchestrator.stores.sql.connection import Row, SqlConnection
from orchestrator.stores.sql.group_writer import GroupWriter
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.transaction import Transaction

__all__ = ["SqlDatasetReader", "SqlDatasetStore", "changes_of"]

T = TypeVar("T")

_SQL = queries("datasets.sql")
# How many rows one transaction of ``gather`` takes, so that other writers wait only briefly.
_GATHERED_AT_ONCE = 5_000


class SqlDatasetStore:
    """The writing half, for a store that has a writer."""

    _writer: GroupWriter

    async def open_dataset(self, name: str, *, simulated: bool) -> int:
        return await self._writer.write(_open_dataset, name, simulated)

    async def begin_night(self, run_id: int, dataset_id: int, *, as_of: int = 0) -> None:
        night = {"run_id": run_id, "dataset_id": dataset_id, "as_of": as_of}
        await self._writer.write(_execute, "begin_night", night)

    async def note_changes(self, run_id: int, changes: Sequence[NotedChange]) -> None:
        await self._writer.write(_note_changes, run_id, changes)

    async def keep_requests(self, kept: Sequence[KeptRequest]) -> None:
        await self._writer.write(_keep_requests, kept)

    async def count_changes(self, run_id: int, changes: Changes) -> None:
        counts = json.dumps({change.value: count for change, count in changes.items()})
        await self._writer.write(_execute, "count_changes", {"run_id": run_id, "changes": counts})

    async def gather(self, run_id: int) -> None:
        after: str | None = ""
        while after is not None:
            after = await self._writer.write(_gather, run_id, after)

    async def close_night(self, run_id: int) -> None:
        await self._writer.write(_execute, "close_night", {"run_id": run_id})

    async def note_removed(self, run_id: int, entry_ids: Sequence[int]) -> None:
        noted = {"run_id": run_id, "entry_ids": json.dumps(entry_ids), "change": Change.REMOVED.value}
        await self._writer.write(_execute, "note_removed", noted)

    async def remove_noted(self, run_id: int, *, drop: bool, at: float) -> None:
        chosen = {"run_id": run_id, "change": Change.REMOVED.value}
        statement = "drop_noted" if drop else "mark_noted"
        await self._writer.write(_execute, statement, chosen if drop else {**chosen, "at": at})

    async def restore_entries(self, entry_ids: Sequence[int]) -> None:
        await self._writer.write(_execute, "restore_entries", {"entry_ids": json.dumps(entry_ids)})


class SqlDatasetReader:
    """The reading half, for a reader that can run a function on its connection."""

    async def _read(self, function: Callable[[SqlConnection], T]) -> T:
        raise NotImplementedError

    async def dataset(self, name: str, *, simulated: bool) -> Dataset | None:
        found = await self._ask_datasets("dataset", name=name, simulated=simulated)
        return _dataset(found[0]) if found else None

    async def datasets(self) -> list[Dataset]:
        return [_dataset(row) for row in await self._ask_datasets("dataset", name=None, simulated=None)]

    async def entries(self, dataset_id: int, keys: Sequence[str]) -> dict[str, DatasetEntry]:
        rows = await self._ask_datasets("entries", dataset_id=dataset_id, keys=json.dumps(keys))
        return {row["key"]: _entry(row) for row in rows}

    async def other_stages(self, dataset_id: int, stage_hash: bytes) -> int:
        [found] = await self._ask_datasets("other_stages", dataset_id=dataset_id, stage_hash=stage_hash)
        entries: int = found["entries"]
        return entries

    async def entries_after(self, dataset_id: int, after_id: int, *, limit: int) -> list[int]:
        rows = await self._ask_datasets("entries_after", dataset_id=dataset_id, after_id=after_id, limit=limit)
        return [row["id"] for row in rows]

    async def planned_keys(self, run_id: int, keys: Sequence[str]) -> set[str]:
        rows = await self._ask_datasets("planned_keys", run_id=run_id, stage=MAIN_STAGE, keys=json.dumps(keys))
        return {row["key"] for row in rows}

    async def night(self, run_id: int) -> NightRecord | None:
        found = await self._ask_datasets("night", run_id=run_id)
        return _night(found[0]) if found else None

    async def nights(self, dataset_id: int) -> list[NightRecord]:
        return [_night(row) for row in await self._ask_datasets("nights", dataset_id=dataset_id)]

    async def noted_changes(self, run_id: int) -> dict[str, str]:
        return {row["key"]: row["change"] for row in await self._ask_datasets("noted_changes", run_id=run_id)}

    async def _dataset_requests(self, dataset_id: int, after_id: int, limit: int) -> list[tuple[int, int]]:
        """Pages of entries: their ids, and the ids of their latest requests."""
        rows = await self._ask_datasets("dataset_requests", dataset_id=dataset_id, after_id=after_id, limit=limit)
        return [(row["id"], row["request_id"]) for row in rows]

    async def _ask_datasets(self, query: str, **parameters: Any) -> list[Row]:
        return await self._read(lambda connection: connection.rows(_SQL[query], parameters))


# ── in the connection's thread ────────────────────────────────────────────────────────────────────────────────


def _execute(tx: Transaction, statement: str, columns: dict[str, Any]) -> None:
    tx.execute(_SQL[statement], columns)


def _open_dataset(tx: Transaction, name: str, simulated: bool) -> int:
    chosen = {"name": name, "simulated": simulated}
    tx.execute(_SQL["open_dataset"], chosen)
    dataset_id: int = tx.execute(_SQL["dataset_id"], chosen).fetchone()[0]
    return dataset_id


def _note_changes(tx: Transaction, run_id: int, changes: Sequence[NotedChange]) -> None:
    rows = (
        {
            "run_id": run_id,
            "key": each.key,
            "change": each.change.value,
            "row_hash": each.row.row_hash,
            "stage_hash": each.row.stage_hash,
            "request_hash": each.row.request_hash,
        }
        for each in changes
    )
    tx.execute_many(_SQL["note_change"], rows)


def _keep_requests(tx: Transaction, kept: Sequence[KeptRequest]) -> None:
    rows = ({"entry_id": each.entry_id, "row_hash": each.row_hash, "stage_hash": each.stage_hash} for each in kept)
    tx.execute_many(_SQL["keep_request"], rows)


def _gather(tx: Transaction, run_id: int, after: str) -> str | None:
    """Take over one page of requests; the last key of it, None if there was none."""
    chosen = {"run_id": run_id, "after": after}
    last: str | None = tx.execute(_SQL["noted_bounds"], {**chosen, "limit": _GATHERED_AT_ONCE}).fetchone()[0]
    if last is not None:
        states = {"answered": State.SUCCEEDED.value, "failed": State.FAILED.value}
        tx.execute(_SQL["gather"], {**chosen, **states, "last": last, "stage": MAIN_STAGE})
    return last


def _dataset(row: Row) -> Dataset:
    return Dataset(
        id=row["id"],
        name=row["name"],
        simulated=bool(row["simulated"]),
        rows=row["live"],
        last_entry_id=row["last_entry_id"],
    )


def changes_of(connection: SqlConnection, run_id: int) -> Changes | None:
    """What a run found changed; None if it adds to no dataset, or has not read its input yet."""
    found = connection.rows(_SQL["night"], {"run_id": run_id})
    return _changes(found[0]["changes"]) if found and found[0]["changes"] is not None else None


def _changes(stored: str | None) -> Changes:
    return Changes({Change(change): count for change, count in json.loads(stored or "{}").items()})


def _night(row: Row) -> NightRecord:
    return NightRecord(
        run_id=row["run_id"],
        dataset_id=row["dataset_id"],
        is_closed=bool(row["is_closed"]),
        changes=_changes(row["changes"]),
    )


def _entry(row: Row) -> DatasetEntry:
    return DatasetEntry(
        id=row["id"],
        key=row["key"],
        row=ComparedRow(row_hash=row["row_hash"], stage_hash=row["stage_hash"], request_hash=row["request_hash"]),
        answered_at=row["answered_at"],
        failed_nights=row["failed_nights"],
        removed=bool(row["removed"]),
        as_of=row["as_of"],
    )
