"""Reads and checks every row of a job, and composes its first request; sends and stores nothing."""

from __future__ import annotations

from dataclasses import replace

import anyio

from orchestrator.app.forecast.estimates import Forecast
from orchestrator.app.forecast.pipeline_forecast import PipelineForecaster
from orchestrator.app.reusable import Reusable
from orchestrator.config import Config
from orchestrator.core.errors import BadRow
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane, first_lane, in_background
from orchestrator.core.model import NewRequest, PlanMark, SkippedRow
from orchestrator.engine.tasks.planner import key_taken
from orchestrator.executors.background import create_body
from orchestrator.job.requests.compose import RequestRules, compose, compose_first, fingerprint, request_rules
from orchestrator.job.requests.lane_fields import in_lane
from orchestrator.job.requests.renderer import Renderer, contained
from orchestrator.job.rows.plan import plan
from orchestrator.job.spec import Job

__all__ = ["DryRun", "dry_run", "dry_run_of_stages"]


@fast_dataclass(kw_only=False)
class DryRun:
    """What a run of the job would read and send. ``first_request`` is the body of the first create call.

    ``reused`` are those of ``rows`` that earlier runs have answered or in flight.

    ``invalid`` are rows that would be read, and would then fail as ``row_invalid``; ``rows`` leaves them out.
    """

    rows: int
    skipped: list[SkippedRow]
    invalid: list[SkippedRow]
    first_request: bytes | None
    reused: int = 0
    # Of a job with stages: what each would send.
    forecast: Forecast | None = None


async def dry_run(job: Job, config: Config, reusable: Reusable, now: float) -> DryRun:
    """Read and check every row of a job, and compose the first request; raises ``BadRow`` if a run would stop."""
    marks: list[bytes] = []
    dry = await anyio.to_thread.run_sync(_dry_run, job, config, reusable, marks)
    there = await reusable.among(marks, now)
    return replace(dry, reused=sum(mark in there for mark in marks))


async def dry_run_of_stages(forecaster: PipelineForecaster) -> DryRun:
    """Read every row of a job with stages, and foresee and check the requests of each; raises as ``dry_run``."""
    walked = await forecaster.walk(every=True)
    forecast = await forecaster.forecast(walked)
    return DryRun(
        walked.rows, walked.skipped, walked.invalid, walked.first_request, forecast.reused or 0, forecast=forecast
    )


def _dry_run(job: Job, config: Config, reusable: Reusable, marks: list[bytes]) -> DryRun:
    """As ``dry_run``; adds to ``marks`` the fingerprint of each row that could be reused."""
    renderer = Renderer(job, may_be_unstored=config.provider.store == "optional", private=config.private_files)
    rules = request_rules(job, cap_output_tokens=config.output_cap(job.budget_pusd))
    skipped: list[SkippedRow] = []
    invalid: list[SkippedRow] = []
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
            try:
                first = _first_request(row, renderer, rules, first_lane(job.lane), first)
                if reusable.is_possible:
                    mark = reusable.fingerprint(compose_first(renderer, rules, row.row, where=row.where))
                    marks += [mark] if mark is not None else []
            except BadRow as error:
                invalid.append(SkippedRow(position=row.position, where=row.where, reason=error.message))
    return DryRun(len(keys) - len(invalid), skipped, invalid, first)


def _first_request(
    row: NewRequest, renderer: Renderer, rules: RequestRules, lane: Lane, first: bytes | None
) -> bytes:
    """The body of the first request that can be made; raises ``BadRow`` if none can be made of this row."""
    if first is not None and renderer.is_certain:
        return first
    with contained(row.where):
        if first is None:
            fields = compose_first(renderer, rules, row.row, where=row.where)
        else:
            fields = compose(renderer.rehearse(row.row, where=row.where), rules)
        fingerprint(fields, provider="")
        marks = {"run_uid": "dry-run", "key": row.key}
        body = create_body(in_lane(fields, lane), **marks, number=1, background=in_background(lane))
    return first or body
