"""The questions that readers answer, for all SQL databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

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
    ResultDetails,
    ResultRecord,
    Run,
    SharedCaps,
    Spending,
    Summary,
    ToolCall,
    Uncosted,
    Wait,
)
from orchestrator.stores.sql import adoption, removal, row_mapping
from orchestrator.stores.sql.attempt_ids import request_id_of
from orchestrator.stores.sql.compression import unpack_body, unpack_row
from orchestrator.stores.sql.connection import Row, SqlConnection
from orchestrator.stores.sql.datasets import SqlDatasetReader, changes_of
from orchestrator.stores.sql.provider_batches import SqlBatchReader
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.retained import SqlRetentionReader
from orchestrator.stores.sql.shard_reader import SqlShardReader
from orchestrator.stores.sql.shared_budget import spending
from orchestrator.stores.sql.stage_store import SqlStageReader
from orchestrator.stores.stream_events import ProgressEvent
from orchestrator.stores.uploaded_files import Upload

__all__ = ["SqlReader", "excerpts_of", "summary_of"]

T = TypeVar("T")

_SQL = queries("read.sql")
# The same columns for requests of several runs.
_RESULTS_OF = (
    _SQL["results"].partition("\nWHERE")[0]  # noqa: S608  # both parts are constants
    + "\nWHERE request.id IN (SELECT value FROM json_each(:request_ids))"
)
# And with answers cut to their beginning.
_EXCERPTS_OF = _RESULTS_OF.replace(
    "result.output_text", "substr(result.output_text, 1, CAST(:characters AS INTEGER))"
)
# At most this many results are read at once, and fewer if their texts are long: memory stays small, and the writer's
# log is held back for a few milliseconds only.
_PAGE = 1_000
_FIRST_PAGE = 125
_PAGE_CHARACTERS = 2_000_000
# Rows and bodies are read so many at a time, until they are so long together.
_DETAILS_PAGE = 16
_DETAILS_BYTES = 16 * 2**20
# Where the query ``results`` has the number of a request's latest attempt.
_NUMBER = 6


class SqlReader(SqlRetentionReader, SqlDatasetReader, SqlStageReader, SqlBatchReader, SqlShardReader):
    """Answers questions through a connection of a driver; see ``stores.base.Reader``."""

    # ── runs ──────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, name: str) -> Run | None:
        found = await self._rows("run_by_name", name=name)
        return row_mapping.run(found[0]) if found else None

    async def runs(self) -> list[Run]:
        return [row_mapping.run(row) for row in await self._rows("runs")]

    async def summary(self, run_id: int) -> Summary:
        return await self._read(partial(summary_of, run_id))

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

    async def accepted_by_endpoint(self, run_id: int) -> set[tuple[str, str | None]]:
        return {(row["stage"], row["endpoint"]) for row in await self._rows("accepted_by_endpoint", run_id=run_id)}

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

    async def stage_results(self, run_id: int, wanted: Mapping[str, Sequence[State]]) -> AsyncIterator[ResultRecord]:
        chosen = [f"{stage}/{state.value}" for stage, states in wanted.items() for state in states]
        ids = [row["id"] for row in await self._rows("places_in_input", run_id=run_id, wanted=json.dumps(chosen))]
        for start in range(0, len(ids), _FIRST_PAGE):
            page = {request_id: place for place, request_id in enumerate(ids[start : start + _FIRST_PAGE])}
            found = await self._read(partial(_results_of, list(page)))
            for record in sorted(found, key=lambda each: page[each.request_id]):
                yield record

    async def dataset_results(self, dataset_id: int) -> AsyncIterator[ResultRecord]:
        after_id, limit = 0, _FIRST_PAGE
        while page := await self._dataset_requests(dataset_id, after_id, limit):
            wanted = {request_id: place for place, (_, request_id) in enumerate(page)}
            found = await self._read(partial(_results_of, list(wanted)))
            for record in sorted(found, key=lambda each: wanted[each.request_id]):
                yield record
            after_id = page[-1][0]

    async def answers(self, attempt_ids: Sequence[int]) -> dict[int, str]:
        found = await self._rows("answers", attempt_ids=json.dumps(attempt_ids))
        return {row["attempt_id"]: row["output_text"] for row in found}

    async def details(self, request_ids: Sequence[int], *, with_bodies: bool) -> dict[int, ResultDetails]:
        return await self._read(partial(_details, request_ids, with_bodies))

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
        self, query: str, record: Callable[[Row], PendingRequest], **parameters: Any
    ) -> list[PendingRequest]:
        return await self._read(partial(_pending, query, record, parameters))

    async def _rows(self, query: str, **parameters: Any) -> list[Row]:
        return await self._read(partial(_rows, query, parameters))

    async def _read(self, function: Callable[[SqlConnection], T]) -> T:
        """Run a function in the connection's thread, in one snapshot of the database."""
        raise NotImplementedError


# ── in the connection's thread ────────────────────────────────────────────────────────────────────────────────


def _rows(query: str, parameters: Mapping[str, Any], connection: SqlConnection) -> list[Row]:
    return connection.rows(_SQL[query], parameters)


def _pending(
    query: str,
    record: Callable[[Row], PendingRequest],
    parameters: Mapping[str, Any],
    connection: SqlConnection,
) -> list[PendingRequest]:
    # In the thread, because long rows are expanded here.
    return [record(row) for row in _rows(query, parameters, connection)]


def _duplicates(run_id: int, fingerprints: Sequence[bytes], connection: SqlConnection) -> dict[bytes, Duplicate]:
    found: dict[bytes, Duplicate] = {}
    for fingerprint in fingerprints:
        for (request_id,) in connection.execute(_SQL["duplicate"], (fingerprint, run_id)):
            found[fingerprint] = Duplicate(request_id, here=True)
    return found


def _others(run_id: int, since: Mapping[bytes, float], connection: SqlConnection) -> dict[bytes, list[OtherRequest]]:
    found = {
        fingerprint: adoption.others(connection.execute, run_id, fingerprint, at) for fingerprint, at in since.items()
    }
    return {fingerprint: others for fingerprint, others in found.items() if others}


def summary_of(run_id: int, connection: SqlConnection) -> Summary:
    """The counts of a run, as they are stored."""
    parameters = {"run_id": run_id}
    [run] = _rows("run_by_id", parameters, connection)
    [totals] = _rows("totals", parameters, connection)
    tally = {row["state"]: row["requests"] for row in _rows("tally", parameters, connection)}
    return row_mapping.summary(run, totals, tally, changes_of(connection, run_id))


def _results(chosen: Mapping[str, Any], connection: SqlConnection) -> list[ResultRecord]:
    return _records(connection, connection.execute(_SQL["results"], chosen).fetchall())


def excerpts_of(
    request_ids: Sequence[int], connection: SqlConnection, *, characters: int = 400
) -> dict[int, ResultRecord]:
    """Requests of any runs by their ids, with the beginning of their answers."""
    rows = connection.execute(
        _EXCERPTS_OF, {"request_ids": json.dumps(request_ids), "characters": characters}
    ).fetchall()
    return {record.request_id: record for record in _records(connection, rows)}


def _results_of(request_ids: Sequence[int], connection: SqlConnection) -> list[ResultRecord]:
    return _records(connection, connection.execute(_RESULTS_OF, {"request_ids": json.dumps(request_ids)}).fetchall())


def _details(request_ids: Sequence[int], with_bodies: bool, connection: SqlConnection) -> dict[int, ResultDetails]:
    found: dict[int, ResultDetails] = {}
    size = 0
    for start in range(0, len(request_ids), _DETAILS_PAGE):
        wanted = json.dumps(request_ids[start : start + _DETAILS_PAGE])
        chosen = {"request_ids": wanted, "with_bodies": int(with_bodies)}
        for request_id, row, text, response_id, packed in connection.execute(_SQL["details"], chosen).fetchall():
            body = None if packed is None else unpack_body(packed, text, response_id)
            found[request_id] = ResultDetails(unpack_row(row), body)
            size += len(row) + len(body or b"")
        if found and size > _DETAILS_BYTES:
            break
    return found


def _records(connection: SqlConnection, rows: Sequence[tuple[Any, ...]]) -> list[ResultRecord]:
    tried_again = [row[0] for row in rows if row[_NUMBER] > 1]
    if not tried_again:
        return [row_mapping.result(row, None) for row in rows]
    sums = _rows("spent_before", {"request_ids": json.dumps(tried_again)}, connection)
    before = {row["request_id"]: row_mapping.spent(row) for row in sums}
    return [row_mapping.result(row, before.get(row[0])) for row in rows]
