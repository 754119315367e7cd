"""The stages of a run as the database has them: where each stands, and which has a row of a key."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from orchestrator.core.errors import RunNotFound, UsageError
from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.states import State
from orchestrator.stores.base import HistoryReader, LearnedReader, Reader, Store
from orchestrator.stores.pipeline_rows import PartialGroups
from orchestrator.stores.reads import RequestCounts, RequestRecord, Run, StageSummary, Summary

__all__ = [
    "check_stage",
    "grouping_stages",
    "name_of_exports",
    "note_exported",
    "row_of",
    "states_by_stage",
    "with_stages",
]

# With one of these, a row of a stage is not the same as the row before it.
_VERBS = ("expand", "rows", "group_by")
_LOST = (State.FAILED, State.CANCELLED)


def _stage_names(run: Run) -> list[str]:
    """The stages of a run that make requests, in their order; the main one for a job without stages."""
    return [name for name, stage in _stages(run).items() if stage.get("request") is not None] or [MAIN_STAGE]


def _stages(run: Run) -> dict[str, Any]:
    return json.loads(run.spec_json).get("stages") or {}


def check_stage(run: Run, stage: str | None) -> None:
    """Raise ``UsageError`` if a run has no such stage."""
    if stage is not None and stage not in (known := _stage_names(run)):
        raise UsageError(
            f"run {run.name!r} has no stage {stage!r}",
            hint=f"its stages: {', '.join(known)}" if known != [MAIN_STAGE] else "its job has no stages",
        )


def grouping_stages(run: Run) -> set[str]:
    """The stages whose requests are made of groups of rows."""
    return {name for name, stage in _stages(run).items() if stage.get("group_by") is not None}


def states_by_stage(run: Run, stage: str, states: Sequence[State]) -> dict[str, Sequence[State]]:
    """The requests that are the results of a stage: its own, and failed ones of stages before it of the same rows."""
    found: dict[str, Sequence[State]] = {stage: states}
    stages, lost = _stages(run), [state for state in states if state in _LOST]
    while (section := stages.get(stage)) is not None and not any(section.get(verb) is not None for verb in _VERBS):
        stage = section["from"]
        if lost and stages.get(stage, {}).get("request") is not None:
            found[stage] = lost
    return found


def name_of_exports(run: Run) -> str:
    """The name under which it is kept which stages of a run were exported."""
    return f"exported:{run.id}"


async def note_exported(run: Run, stage: str | None, *, store: Store, reader: LearnedReader) -> bool:
    """Note that the results of a stage are in a file, or of all of them; whether all are now.

    What is dropped after an export must not be an answer that is in no file.
    """
    if stage is None:
        return True
    kept = await reader.recall(name_of_exports(run))
    exported = {*(json.loads(kept) if kept is not None else ()), stage}
    await store.remember(name_of_exports(run), json.dumps(sorted(exported)).encode())
    return exported.issuperset(_stage_names(run))


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
