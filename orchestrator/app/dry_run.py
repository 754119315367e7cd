"""Reads and checks every row of a job, and composes its first request; sends and stores nothing."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from orchestrator.config import Config
from orchestrator.core.model import PlanMark, SkippedRow
from orchestrator.engine.tasks.planner import key_taken
from orchestrator.executors.background import create_body
from orchestrator.job.requests.compose import compose_first, request_rules
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.plan import plan
from orchestrator.job.spec import Job

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run of the job would read and send. ``first_request`` is the body of the first create call."""

    rows: int
    skipped: list[SkippedRow]
    first_request: bytes | None


async def dry_run(job: Job, config: Config) -> DryRun:
    """Read and check every row of a job, and compose the first request; raises ``BadRow`` if a run would stop."""
    return await anyio.to_thread.run_sync(_dry_run, job, config)


def _dry_run(job: Job, config: Config) -> DryRun:
    renderer = Renderer(job, may_be_unstored=config.provider.store == "optional")
    rules = request_rules(job, cap_output_tokens=config.output_cap(job.budget_pusd))
    skipped: list[SkippedRow] = []
    first: bytes | None = None
    keys: set[str] = set()
    for batch in plan(job, renderer, start=PlanMark(position=0, complete=False)):
        skipped += batch.skipped
        for row in batch.rows:
            if row.key in keys:
                taken = key_taken(row)
                if job.input.on_bad_row == "stop":
                    raise taken
                skipped.append(SkippedRow(position=row.position, where=row.where, reason=taken.message))
                continue
            keys.add(row.key)
            if first is None:
                fields = compose_first(renderer, rules, row.row, where=row.where)
                first = create_body(fields, run_uid="dry-run", key=row.key, number=1)
    return DryRun(len(keys), skipped, first)
