"""Batches in SQL; see ``stores.provider_batches`` for what is promised."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from orchestrator.core.money import Picodollars
from orchestrator.core.states import Event, State, move
from orchestrator.stores.provider_batches import BatchNote, Claimed, NewProviderBatch, ProviderBatch
from orchestrator.stores.reads import OpenAttempt
from orchestrator.stores.sql import row_mapping
from orchestrator.stores.sql.attempt_ids import number_of
from orchestrator.stores.sql.connection import Row, SqlConnection
from orchestrator.stores.sql.group_writer import GroupWriter
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.transaction import SQL, Transaction
from orchestrator.stores.sql.transaction import Claimed as ClaimedRequest
from orchestrator.stores.sql.write_operations import claim
from orchestrator.stores.writes import Claim

__all__ = ["SqlBatchReader", "SqlBatchStore"]

T = TypeVar("T")

_SQL = queries("batches.sql")
_NO_NOTE = {"batch_id": None}
_COLUMNS = tuple(field.name for field in fields(ProviderBatch))


class SqlBatchStore:
    """The writing half, for a store that has a writer."""

    _writer: GroupWriter

    async def claim_batch(self, batch: NewProviderBatch, claims: Sequence[Claim]) -> tuple[int | None, list[Claimed]]:
        return await self._writer.write(_claim_batch, batch, claims)

    async def note_batch(self, batch: int, note: BatchNote) -> None:
        await self._writer.write(_note_batch, batch, note)

    async def attach_batch(self, batch: int, batch_id: str, status: str, at: float) -> int:
        return await self._writer.write(_attach_batch, batch, batch_id, status, at)


class SqlBatchReader:
    """The reading half, for a reader that can run a function on its connection."""

    async def _read(self, function: Callable[[SqlConnection], T]) -> T:
        raise NotImplementedError

    async def batches(self, run_id: int, *, unfinished: bool) -> list[ProviderBatch]:
        query = "unfinished_batches" if unfinished else "batches_of_run"
        found = await self._ask_batches(query, run_id=run_id)
        return [ProviderBatch(**{name: row[name] for name in _COLUMNS}) for row in found]

    async def open_lines(
        self, batch: int, *, attempt_ids: Sequence[int] | None = None, limit: int
    ) -> list[OpenAttempt]:
        ids = None if attempt_ids is None else json.dumps(list(attempt_ids))
        rows = await self._ask_batches("open_lines", batch_id=batch, attempt_ids=ids, limit=limit)
        return [row_mapping.open_attempt(row) for row in rows]

    async def line_attempts(self, batch: int, numbers: Sequence[int]) -> dict[int, int]:
        rows = await self._ask_batches("lines_by_number", batch_id=batch, numbers=json.dumps(list(numbers)))
        return {row["number"]: row["id"] for row in rows}

    async def reserved_for_batch(self, batch: int) -> Picodollars:
        [row] = await self._ask_batches("open_worst_case", batch_id=batch)
        reserved: Picodollars = row["pusd"]
        return reserved

    async def _ask_batches(self, query: str, **parameters: Any) -> list[Row]:
        return await self._read(lambda connection: connection.rows(_SQL[query], parameters))


# ── in the writer's thread and transaction ────────────────────────────────────────────────────────────────────


def _claim_batch(
    tx: Transaction, batch: NewProviderBatch, claims: Sequence[Claim]
) -> tuple[int | None, list[Claimed]]:
    claimed: list[Claimed] = [claim(tx, each) for each in claims]
    lines = [attempt_id for attempt_id in claimed if isinstance(attempt_id, int)]
    if not lines:
        return None, claimed
    tx.execute(_SQL["add_batch"], {**asdict(batch), "lines": len(lines)})
    batch_id: int = tx.execute(_SQL["id_of_uid"], {"uid": batch.uid}).fetchone()[0]
    for attempt_id in lines:
        tx.execute(_SQL["put_in_batch"], (attempt_id, batch_id))
    return batch_id, claimed


def _note_batch(tx: Transaction, batch: int, note: BatchNote) -> None:
    tx.execute(_SQL["note_batch"], {**_NO_NOTE, **asdict(note), "id": batch})


def _attach_batch(tx: Transaction, batch: int, batch_id: str, status: str, at: float) -> int:
    source, to = State.SUBMITTING, move(State.SUBMITTING, Event.ACCEPT)
    tx.execute(_SQL["attach_batch"], {"id": batch, "batch_id": batch_id, "status": status, "at": at})
    lines = tx.execute(_SQL["attempts_to_accept"], (batch, source.value)).fetchall()
    for attempt_id, request_id, run_id, stage, worst_case_pusd in lines:
        tx.execute(SQL["accept_request"], (request_id, number_of(attempt_id), source.value, to.value))
        tx.execute(_SQL["accept_line"], (attempt_id, at))
        tx.note_claim(request_id, ClaimedRequest(run_id, stage, worst_case_pusd))
        tx.moved(run_id, stage, source, to)
        tx.happened(run_id, at)
    return len(lines)
