"""The input as batches of requests for the store, each with the mark of how far the input was read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import BinaryIO

from orchestrator.core.errors import BadRow
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import NewRequest, PlanMark, SkippedRow
from orchestrator.core.stage_rows import NewGroup
from orchestrator.job.chains import Chain, turn_of
from orchestrator.job.requests.renderer import Renderer, unexpected
from orchestrator.job.rows.keyed_rows import Row, UnreadableRow, open_rows
from orchestrator.job.spec import Job

__all__ = ["PlannedBatch", "plan"]

# A batch ends early at this size, so that long documents do not pile up in memory.
_BATCH_BYTES = 4 * 1024 * 1024


@fast_dataclass(kw_only=False)
class PlannedBatch:
    """What is stored in one transaction: new requests, rows left out, and how far the input was read."""

    rows: list[NewRequest]
    skipped: list[SkippedRow]
    mark: PlanMark
    groups: list[NewGroup] = field(default_factory=list)


def plan(
    job: Job, renderer: Renderer, *, start: PlanMark, batch_size: int = 500, stdin: BinaryIO | None = None
) -> Iterator[PlannedBatch]:
    """Batches from the mark ``start`` on; the last one's mark says that the input is complete.

    Raises ``BadRow`` if ``input.on_bad_row`` is ``stop``. Whether a key was used before only the store knows.
    """
    if start.complete:
        return
    rows: list[NewRequest] = []
    skipped: list[SkippedRow] = []
    position, size = start.position, 0
    for row in open_rows(job, start=position, stdin=stdin, columns=_columns_read(job, renderer)):
        try:
            request = _request(row, renderer, job.chain)
        except Exception as caught:  # noqa: BLE001 – a row may hold anything
            error = caught if isinstance(caught, BadRow) else unexpected(caught, where=row.where)
            if job.input.on_bad_row == "stop":
                cause = "the template or the row" if error.message.startswith("request.") else "the row"
                hint = error.hint or f"fix {cause}, or leave such rows out with input.on_bad_row: skip"
                raise BadRow(error.message, where=error.where, hint=hint) from None
            skipped.append(SkippedRow(position=row.position, where=row.where, reason=error.message))
        else:
            rows.append(request)
            size += len(request.row)
        position = row.position + 1
        if len(rows) + len(skipped) >= batch_size or size >= _BATCH_BYTES:
            yield PlannedBatch(rows, skipped, PlanMark(position=position, complete=False))
            rows, skipped, size = [], [], 0
    yield PlannedBatch(rows, skipped, PlanMark(position=position, complete=True))


def _columns_read(job: Job, renderer: Renderer) -> frozenset[str] | None:
    named = (job.chain.by, job.chain.order) if job.chain is not None else ()
    return None if renderer.columns is None else renderer.columns | {name for name in named if name is not None}


def _request(row: Row | UnreadableRow, renderer: Renderer, chain: Chain | None) -> NewRequest:
    if isinstance(row, UnreadableRow):
        raise BadRow(row.reason, where=row.where, hint=row.hint)
    renderer.check(row)
    packed = renderer.pack(row)
    if chain is None:
        return NewRequest(key=row.key, position=row.position, where=row.where, row=packed)
    name, place = turn_of(chain, row.data, where=row.where)
    return NewRequest(key=row.key, position=row.position, where=row.where, row=packed, chain=name, place=place)
