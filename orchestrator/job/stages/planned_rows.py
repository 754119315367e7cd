"""Rows that the pipeline makes, as requests for the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import orjson

from orchestrator.core.errors import BadRow
from orchestrator.core.model import NewRequest, PlanMark, SkippedRow
from orchestrator.core.stage_rows import NewGroup, NewMember
from orchestrator.job.rows.keyed_rows import Row, UnreadableRow, open_rows
from orchestrator.job.rows.plan import PlannedBatch
from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import FAILURE, Made, MadeRow, Pipeline

__all__ = ["member_of", "new_groups", "new_requests", "plan_stages"]

_BATCH_BYTES = 8_000_000


def plan_stages(
    job: Job, pipeline: Pipeline, *, start: PlanMark, batch_size: int = 200, stdin: BinaryIO | None = None
) -> Iterator[PlannedBatch]:
    """Batches of the rows of all stages ``from: input``, as ``job.rows.plan.plan`` gives those of other jobs."""
    if start.complete:
        return
    batch = PlannedBatch([], [], start)
    read, size = 0, 0
    for row in open_rows(job, start=start.position, stdin=stdin):
        if isinstance(row, UnreadableRow):
            if job.input.on_bad_row == "stop":
                hint = "fix the row, or leave such rows out with input.on_bad_row: skip"
                raise BadRow(row.reason, where=row.where, hint=hint)
            batch.skipped.append(SkippedRow(position=row.position, where=row.where, reason=row.reason))
        else:
            size += _add(batch, pipeline, row)
        read += 1
        if read >= batch_size or size >= _BATCH_BYTES:
            yield _marked(batch, PlanMark(position=row.position + 1, complete=False))
            batch, read, size = PlannedBatch([], [], start), 0, 0
        last = row.position + 1
        start = PlanMark(position=last, complete=False)
    yield _marked(batch, PlanMark(position=start.position, complete=True))


def _add(batch: PlannedBatch, pipeline: Pipeline, row: Row) -> int:
    made = pipeline.of_input(row.key, row.data)
    requests = list(new_requests(pipeline, made.rows, position=row.position, where=row.where))
    batch.rows.extend(requests)
    batch.groups.extend(new_groups(pipeline, made, position=row.position, where=row.where))
    return sum(len(each.row) for each in requests)


def _marked(batch: PlannedBatch, mark: PlanMark) -> PlannedBatch:
    return PlannedBatch(batch.rows, batch.skipped, mark, batch.groups)


def new_requests(pipeline: Pipeline, rows: Iterable[MadeRow], *, position: int, where: str) -> Iterator[NewRequest]:
    """The requests for rows that were made of one row."""
    for row in rows:
        yield NewRequest(
            key=row.key,
            position=position,
            where=where,
            row=_packed(row.row if row.failure is None else {**row.row, FAILURE: row.failure}),
            stage=row.stage,
            passes_on=pipeline.plans[row.stage].passes_on,
        )


def new_groups(pipeline: Pipeline, made: Made, *, position: int, where: str) -> Iterator[NewGroup]:
    """The groups whose members were made of one row."""
    for group in made.groups:
        yield NewGroup(
            stage=group.stage,
            key=group.key,
            position=position,
            where=where,
            row=_packed(group.row),
            of=group.of,
            members=group.members,
            passes_on=pipeline.plans[group.stage].passes_on,
        )


def member_of(pipeline: Pipeline, request_id: int, made: Made, *, position: int, where: str) -> Iterator[NewMember]:
    """The groups that a settled request belongs to."""
    for grouped in made.grouped:
        yield NewMember(
            request_id=request_id,
            stage=grouped.stage,
            key=grouped.key,
            position=position,
            where=where,
            row=_packed(grouped.row),
            passes_on=pipeline.plans[grouped.stage].passes_on,
        )


def _packed(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row)
