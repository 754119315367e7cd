"""The stages of a run as the database has them: where each stands, and which has a row of a key."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from orchestrator.core.errors import RunNotFound, UsageError
from orchestrator.core.model import MAIN_STAGE
from orchestrator.stores.base import HistoryReader, Reader
from orchestrator.stores.pipeline_rows import PartialGroups
from orchestrator.stores.reads import RequestCounts, RequestRecord, Run, StageSummary, Summary

__all__ = ["check_stage", "row_of", "with_stages"]


def _stage_names(run: Run) -> list[str]:
    """The stages of a run that make requests, in their order; the main one for a job without stages."""
    stages = json.loads(run.spec_json).get("stages") or {}
    return [name for name, stage in stages.items() if stage.get("request") is not None] or [MAIN_STAGE]


def check_stage(run: Run, stage: str | None) -> None:
    """Raise ``UsageError`` if a run has no such stage."""
    if stage is not None and stage not in (known := _stage_names(run)):
        raise UsageError(
            f"run {run.name!r} has no stage {stage!r}",
            hint=f"its stages: {', '.join(known)}" if known != [MAIN_STAGE] else "its job has no stages",
        )


async def with_stages(summary: Summary, reader: Reader) -> Summary:
    """The counts of a run with those of its stages, if its job has stages."""
    names = _stage_names(summary.run)
    if names == [MAIN_STAGE]:
        return summary
    run_id = summary.run.id
    tally, groups = await reader.stage_tally(run_id), await reader.partial_groups(run_id)
    costs = {row.group[0]: row for row in await reader.costs(run_id, ("stage",))}
    stages = {}
    for name in names:
        cost, group = costs.get(name), groups.get(name, PartialGroups())
        stages[name] = StageSummary(
            requests=RequestCounts(tally.get(name, Counter())),
            cost_pusd=cost.cost_pusd if cost is not None else 0,
            cost_unknown=cost.cost_unknown if cost is not None else 0,
            partial=group.partial,
            outdated=group.outdated,
        )
    return replace(summary, stages=stages)


async def row_of(reader: HistoryReader, run: Run, key: str, *, stage: str | None = None) -> RequestRecord:
    """The request of a row, of one stage or of the one that has such a row.

    Raises ``RunNotFound`` if the run has none of that key, ``UsageError`` if several stages have it.
    """
    check_stage(run, stage)
    names = [stage] if stage is not None else _stage_names(run)
    found = [each for name in names if (each := await reader.request(run.id, key, stage=name)) is not None]
    if not found:
        where = f" at stage {stage}" if stage is not None else ""
        raise RunNotFound(
            f"run {run.name!r} has no row with the key {key!r}{where}",
            hint=f"list them: orchestrator export {run.name}",
        )
    if len(found) > 1:
        several = ", ".join(each.stage for each in found)
        raise UsageError(
            f"several stages of run {run.name!r} have a row with the key {key!r}: {several}",
            hint=f"name one of them: --stage {found[-1].stage}",
        )
    return found[0]
