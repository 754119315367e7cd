"""Writes the results of a run, or of a dataset, in one of the formats of an export."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from orchestrator.core import exact_json
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import State
from orchestrator.job.result_file import Included, included_in_spec
from orchestrator.policy.errors.answer_schema import asked_schema
from orchestrator.report import export as files
from orchestrator.report.extra_columns import ExtraColumns
from orchestrator.report.row_columns import find_columns, refuse_unknown
from orchestrator.stores.reads import ResultRecord, Run

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator

__all__ = ["Selection", "asks_for_parts", "write_results"]


@fast_dataclass
class Selection:
    """What is written: the requests of a run or of one of its stages, or all rows of a dataset.

    With a ``dataset``, ``run`` is the latest one that added to it. Of the rows with a ``flag`` only those are
    written, and ``with_parts`` those of parts of groups too. ``include`` are columns of the rows; None means those of
    the job.
    """

    run: Run
    states: Sequence[State]
    dataset: str | None = None
    stage: str | None = None
    flag: str | None = None
    with_parts: bool = False
    include: Included | None = None


async def write_results(orchestrator: Orchestrator, selection: Selection, out: BinaryIO, shape: files.Format) -> int:
    """Write the results; returns how many. Raises ``UsageError`` for a column that no row has kept."""
    export = _Export(orchestrator, selection)
    await export.check()
    match shape:
        case files.Format.JSONL:
            records = export.records(bodies=export.has_parts)
            return await files.write_jsonl(
                records,
                out,
                schema=export.schema,
                typed_stages=export.typed_stages,
                include=export.include,
                with_parts=export.has_parts,
            )
        case files.Format.CSV | files.Format.SAFE_CSV:
            extra = await export.extra_columns()
            safe = shape is files.Format.SAFE_CSV
            return await files.write_csv(export.records(), out, extra=extra, without_formulas=safe)
        case files.Format.OPENAI_BATCH:
            return await files.write_openai_batch(export.records(), out, body_of=export.body_of)
        case files.Format.PARQUET:
            from orchestrator.report.parquet_file import write_parquet

            return await write_parquet(export.records, out, extra=await export.extra_columns())


class _Export:
    """One export: its records, as often as they are needed, and what its job says about them."""

    def __init__(self, orchestrator: Orchestrator, selection: Selection) -> None:
        self._orchestrator = orchestrator
        self._selection = selection
        spec = exact_json.loads(selection.run.spec_json)
        requests = _requests_of(spec, selection.stage)
        self.schema = asked_schema(requests[0]) if len(requests) == 1 else None
        stages = spec.get("stages") or {}
        self._is_staged = bool(stages)
        self.typed_stages = {name for name in stages if any(map(asked_schema, _requests_of(spec, name)))}
        is_batch = (spec.get("input") or {}).get("format") == "openai-batch"
        self.has_parts = is_batch or any(asks_for_parts(request) for request in requests)
        self.include = included_in_spec(spec) if selection.include is None else selection.include

    def records(self, *, bodies: bool = False) -> AsyncIterator[ResultRecord]:
        chosen = self._selection
        if chosen.dataset is None:
            records = self._orchestrator.results(
                chosen.run.name,
                states=chosen.states,
                stage=chosen.stage,
                with_parts=chosen.with_parts,
                flag=chosen.flag,
            )
        else:
            records = self._orchestrator.dataset(
                chosen.dataset, states=chosen.states, simulated=chosen.run.simulated, flag=chosen.flag
            )
        has_details = bodies or self.include != "none"
        return self._orchestrator.with_details(records, bodies=bodies) if has_details else records

    async def check(self) -> None:
        if isinstance(self.include, tuple):
            await refuse_unknown(
                self.records(), self.include, run=self._selection.dataset or self._selection.run.name
            )

    async def extra_columns(self) -> ExtraColumns:
        if self.include == "none":
            return ExtraColumns.of(self.schema, staged=self._is_staged)
        names = None if self.include == "all" else self.include
        return ExtraColumns.of(self.schema, await find_columns(self.records(), names), staged=self._is_staged)

    async def body_of(self, record: ResultRecord) -> bytes | None:
        history = await self._orchestrator.show(self._selection.run.name, record.key, stage=record.stage)
        return next((each.body for each in history.responses if each.response_id == record.response_id), None)


def _requests_of(spec: Mapping[str, Any], stage: str | None) -> list[Mapping[str, Any]]:
    """The request of a stored job, that of one of its stages, or those of all."""
    stages = spec.get("stages")
    if not stages:
        return [spec.get("request") or {}]
    chosen = stages.values() if stage is None else [stages.get(stage) or {}]
    return [each.get("request") or {} for each in chosen]


def asks_for_parts(request: Mapping[str, Any]) -> bool:
    """Whether the answers may hold more than their text: only their whole responses show it."""
    reasoning = request.get("reasoning")
    summary = reasoning.get("summary") if isinstance(reasoning, dict) else reasoning
    return bool(request.get("tools") or request.get("include") or request.get("top_logprobs") or summary)
