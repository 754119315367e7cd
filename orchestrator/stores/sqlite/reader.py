"""Reads a database that another process may be writing to."""

from __future__ import annotations

import inspect
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite
import anyio

from orchestrator.core.model import MAIN_STAGE, PastUse, SkippedRow
from orchestrator.core.states import State
from orchestrator.stores.cost_groupings import COST_GROUPINGS, METADATA_GROUPING
from orchestrator.stores.reads import (
    AttemptRecord,
    CostRow,
    Duplicate,
    EarlierTurn,
    Needed,
    OpenAttempt,
    OtherRequest,
    PendingRequest,
    RequestRecord,
    ResultRecord,
    Run,
    SharedCaps,
    Spending,
    Summary,
    ToolCall,
    Uncosted,
    Wait,
)
from orchestrator.stores.sqlite import adoption, removal, row_mapping
from orchestrator.stores.sqlite.attempt_ids import request_id_of
from orchestrator.stores.sqlite.compression import unpack_body, unpack_row
from orchestrator.stores.sqlite.database import damaged, in_thread, open_reader, reporting_damage
from orchestrator.stores.sqlite.datasets import SqliteDatasetReader, changes_of
from orchestrator.stores.sqlite.queries import queries, rows_of
from orchestrator.stores.sqlite.retained import SqliteRetentionReader
from orchestrator.stores.sqlite.shared_budget import spending
from orchestrator.stores.sqlite.stage_store import SqliteStageReader
from orchestrator.stores.stream_events import ProgressEvent
from orchestrator.stores.uploaded_files import Upload

__all__ = ["SqliteReader"]

T = TypeVar("T")
R = TypeVar("R")

_SQL = queries("read.sql")
# The same columns for requests of several runs.
_RESULTS_OF = (
    _SQL["results"].partition("\nWHERE")[0]  # noqa: S608  # both parts are constants
    + "\nWHERE request.id IN (SELECT value FROM json_each(:request_ids))"
)
# At most this many results are read at once, and fewer if their texts are long: memory stays small, and the writer's
# log is held back for a few milliseconds only.
_PAGE = 1_000
_FIRST_PAGE = 125
_PAGE_CHARACTERS = 2_000_000
# Where the query ``results`` has the number of a request's latest attempt.
_NUMBER = 6


def _is_of_a_document(error: ValueError) -> bool:
    """Whether a stored document, such as the job of a run, could not be read by the code that asked for it."""
    from pydantic_core import ValidationError

    return isinstance(error, (json.JSONDecodeError, ValidationError))


def _reporting(reader: type[R]) -> type[R]:
    """Makes each method of a reader raise ``StoreError`` for a value that it cannot understand."""
    for name, method in inspect.getmembers(reader, inspect.isfunction):
        if name.startswith("_"):
            continue
        if inspect.iscoroutinefunction(method):
            setattr(reader, name, _reporting_call(method))
        elif inspect.isasyncgenfunction(method):
            setattr(reader, name, _reporting_iteration(method))
    return reader


def _reporting_call(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def call(self: SqliteReader, *args: Any, **names: Any) -> Any:
        with reporting_damage(self._path):
            return await method(self, *args, **names)

    return call


def _reporting_iteration(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    @wraps(method)
    async def iterate(self: SqliteReader, *args: Any, **names: Any) -> AsyncIterator[Any]:
        items = method(self, *args, **names)
        while True:
            with reporting_damage(self._path):
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item

    return iterate


@_reporting
class SqliteReader(SqliteRetentionReader, SqliteDatasetReader, SqliteStageReader):
    """Reads a SQLite database through a connection that cannot write; see ``stores.base.Reader``."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    @asynccontextmanager
    async def open(cls, path: str | Path) -> AsyncIterator[Self]:
        """Open a database that exists; raises ``StoreError`` if it does not, or cannot be read."""
        path = Path(path)
        connection = await open_reader(path)
        try:
            yield cls(connection, path)
        except ValueError as error:
            if _is_of_a_document(error):
                raise damaged(path) from error
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close()

    # ── runs ──────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, name: str) -> Run | None:
        found = await self._rows("run_by_name", name=name)
        return row_mapping.run(found[0]) if found else None

    async def runs(self) -> list[Run]:
        return [row_mapping.run(row) for row in await self._rows("runs")]

    async def summary(self, run_id: int) -> Summary:
        return await self._read(partial(_summary, run_id))

    async def skipped(self, run_id: int) -> list[SkippedRow]:
        found = await self._rows("skipped", run_id=run_id)
        return [SkippedRow(position=row["position"], where=row["source"], reason=row["reason"]) for row in found]

    # ── pending and open requests ─────────────────────────────────────────────────────────────────────────

    async def fresh(self, run_id: int, *, stage: str = MAIN_STAGE, after_id: int, limit: int) -> list[PendingRequest]:
        return await self._pending(
            "fresh", row_mapping.pending, run_id=run_id, stage=stage, after_id=after_id, limit=limit
        )

    async def delayed(self, run_id: int, *, limit: int) -> list[PendingRequest]:
        return await self._pending("delayed", row_mapping.delayed, run_id=run_id, limit=limit)

    async def duplicates(self, run_id: int, fingerprints: Sequence[bytes]) -> dict[bytes, Duplicate]:
        return await self._read(partial(_duplicates, run_id, fingerprints))

    async def others(self, run_id: int, since: Mapping[bytes, float]) -> dict[bytes, list[OtherRequest]]:
        return await self._read(partial(_others, run_id, since))

    async def waits(self, run_id: int) -> list[Wait]:
        return await self._read(lambda connection: adoption.waits(connection.execute, run_id))

    async def earlier_turns(self, request_id: int, *, limit: int) -> list[EarlierTurn]:
        rows = await self._rows("earlier_turns", request_id=request_id, limit=limit)
        return [EarlierTurn(unpack_row(row["data"]), row["source"], row["output_text"] or "") for row in rows]

    async def open_attempts(self, run_id: int) -> list[OpenAttempt]:
        return [row_mapping.open_attempt(row) for row in await self._rows("open_attempts", run_id=run_id)]

    async def has_accepted(self, run_id: int) -> bool:
        return await self._read(partial(removal.has_accepted, run_id))

    async def needed_by(self, run_id: int) -> Needed:
        return await self._read(partial(removal.needed_by, run_id))

    async def latest_at(self, run_id: int) -> float | None:
        [latest] = await self._rows("latest_at", run_id=run_id)
        at: float | None = latest["at"]
        return at

    # ── results ───────────────────────────────────────────────────────────────────────────────────────────

    async def results(self, run_id: int, states: Sequence[State]) -> AsyncIterator[ResultRecord]:
        wanted = json.dumps([state.value for state in states])
        after_id, limit = 0, _FIRST_PAGE
        while True:
            chosen = {"run_id": run_id, "states": wanted, "after_id": after_id, "limit": limit}
            found = await self._read(partial(_results, chosen))
            for record in found:
                yield record
            if len(found) < limit:
                return
            after_id = found[-1].request_id
            characters = sum(len(record.output_text or "") for record in found)
            limit = max(1, limit // 2) if characters > _PAGE_CHARACTERS else min(2 * limit, _PAGE)

    async def dataset_results(self, dataset_id: int) -> AsyncIterator[ResultRecord]:
        after_id, limit = 0, _FIRST_PAGE
        while page := await self._dataset_requests(dataset_id, after_id, limit):
            wanted = {request_id: place for place, (_, request_id) in enumerate(page)}
            found = await self._read(partial(_results_of, list(wanted)))
            for record in sorted(found, key=lambda each: wanted[each.request_id]):
                yield record
            after_id = page[-1][0]

    async def request(self, run_id: int, key: str, *, stage: str = MAIN_STAGE) -> RequestRecord | None:
        found = await self._rows("request_by_key", run_id=run_id, stage=stage, key=key)
        return row_mapping.request(found[0]) if found else None

    async def attempts(self, request_id: int) -> list[AttemptRecord]:
        return [row_mapping.attempt(row) for row in await self._rows("attempts", request_id=request_id)]

    async def attempt(self, attempt_id: int) -> AttemptRecord | None:
        attempts = await self.attempts(request_id_of(attempt_id))
        return next((each for each in attempts if each.id == attempt_id), None)

    async def holder(self, response_id: str) -> int | None:
        found = await self._rows("holder", response_id=response_id)
        return int(found[0]["id"]) if found else None

    async def tool_calls(self, attempt_id: int) -> list[ToolCall]:
        return [row_mapping.tool_call(row) for row in await self._rows("tool_calls", attempt_id=attempt_id)]

    async def body(self, attempt_id: int) -> bytes | None:
        found = await self._rows("body", attempt_id=attempt_id)
        if not found or found[0]["body"] is None:
            return None
        return unpack_body(found[0]["body"], found[0]["output_text"], found[0]["response_id"])

    async def progress(self, attempt_id: int) -> list[ProgressEvent]:
        return [ProgressEvent(**dict(row)) for row in await self._rows("progress", attempt_id=attempt_id)]

    async def last_progress(self, attempt_id: int) -> int | None:
        [found] = await self._rows("last_progress", attempt_id=attempt_id)
        sequence: int | None = found["sequence"]
        return sequence

    async def upload(self, provider: str, sha256: bytes) -> Upload | None:
        found = await self._rows("upload", provider=provider, sha256=sha256)
        return Upload(**dict(found[0])) if found else None

    # ── money ─────────────────────────────────────────────────────────────────────────────────────────────

    async def costs(self, run_id: int | None, by: Sequence[str], *, with_simulated: bool = True) -> list[CostRow]:
        fields = [each.removeprefix(METADATA_GROUPING) for each in by if each.startswith(METADATA_GROUPING)]
        chosen = {"run_id": run_id, **{f"by_{grouping}": grouping in by for grouping in COST_GROUPINGS}}
        # A quoted name is taken as it is, whatever is in it.
        paths = json.dumps([f'$."{field}"' for field in fields]) if fields else None
        rows = await self._rows("costs", **chosen, paths=paths, with_simulated=with_simulated)
        return sorted((row_mapping.cost(row, by) for row in rows), key=lambda row: row.group)

    async def spending(self, caps: SharedCaps, at: float) -> Spending:
        return await self._read(partial(spending, caps, at))

    async def uncosted(self, run_id: int, *, limit: int) -> list[Uncosted]:
        return [row_mapping.uncosted(row) for row in await self._rows("uncosted", run_id=run_id, limit=limit)]

    async def past_use(self, run_id: int, *, stage: str = MAIN_STAGE, most: int) -> PastUse:
        [sums] = await self._rows("past_use", run_id=run_id, stage=stage, most=most)
        return PastUse(**{name: sums[name] for name in sums.keys()})  # noqa: SIM118  # a row iterates over its values

    # ── memory ────────────────────────────────────────────────────────────────────────────────────────────

    async def recall(self, name: str) -> bytes | None:
        found = await self._rows("recall", name=name)
        return found[0]["value"] if found else None

    # ── how ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _pending(
        self, query: str, record: Callable[[sqlite3.Row], PendingRequest], **parameters: Any
    ) -> list[PendingRequest]:
        return await self._read(partial(_pending, query, record, parameters))

    async def _rows(self, query: str, **parameters: Any) -> list[sqlite3.Row]:
        return await self._read(partial(_rows, query, parameters))

    async def _read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in the connection's thread, in one snapshot of the database."""

        def in_one_snapshot(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN")
            try:
                return function(connection)
            finally:
                connection.rollback()

        with reporting_damage(self._path):
            return await in_thread(self._connection, in_one_snapshot)


# ── in the connection's thread ────────────────────────────────────────────────────────────────────────────────


def _rows(query: str, parameters: Mapping[str, Any], connection: sqlite3.Connection) -> list[sqlite3.Row]:
    return rows_of(connection, _SQL[query], parameters)


def _pending(
    query: str,
    record: Callable[[sqlite3.Row], PendingRequest],
    parameters: Mapping[str, Any],
    connection: sqlite3.Connection,
) -> list[PendingRequest]:
    # In the thread, because long rows are expanded here.
    return [record(row) for row in _rows(query, parameters, connection)]


def _duplicates(run_id: int, fingerprints: Sequence[bytes], connection: sqlite3.Connection) -> dict[bytes, Duplicate]:
    found: dict[bytes, Duplicate] = {}
    for fingerprint in fingerprints:
        for (request_id,) in connection.execute(_SQL["duplicate"], (fingerprint, run_id)):
            found[fingerprint] = Duplicate(request_id, here=True)
    return found


def _others(
    run_id: int, since: Mapping[bytes, float], connection: sqlite3.Connection
) -> dict[bytes, list[OtherRequest]]:
    found = {
        fingerprint: adoption.others(connection.execute, run_id, fingerprint, at) for fingerprint, at in since.items()
    }
    return {fingerprint: others for fingerprint, others in found.items() if others}


def _summary(run_id: int, connection: sqlite3.Connection) -> Summary:
    parameters = {"run_id": run_id}
    [run] = _rows("run_by_id", parameters, connection)
    [totals] = _rows("totals", parameters, connection)
    tally = {row["state"]: row["requests"] for row in _rows("tally", parameters, connection)}
    return row_mapping.summary(run, totals, tally, changes_of(connection, run_id))


def _results(chosen: Mapping[str, Any], connection: sqlite3.Connection) -> list[ResultRecord]:
    return _records(connection, connection.execute(_SQL["results"], chosen).fetchall())


def _results_of(request_ids: Sequence[int], connection: sqlite3.Connection) -> list[ResultRecord]:
    return _records(connection, connection.execute(_RESULTS_OF, {"request_ids": json.dumps(request_ids)}).fetchall())


def _records(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> list[ResultRecord]:
    tried_again = [row[0] for row in rows if row[_NUMBER] > 1]
    if not tried_again:
        return [row_mapping.result(row, None) for row in rows]
    sums = _rows("spent_before", {"request_ids": json.dumps(tried_again)}, connection)
    before = {row["request_id"]: row_mapping.spent(row) for row in sums}
    return [row_mapping.result(row, before.get(row[0])) for row in rows]
