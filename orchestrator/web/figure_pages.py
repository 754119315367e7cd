"""The pages of sums: costs, stages, and the nights of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from orchestrator.core import exact_json
from orchestrator.core.errors import RunNotFound
from orchestrator.core.increments import Change
from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.states import State
from orchestrator.report.costs import costs_object
from orchestrator.report.summary import summary_object
from orchestrator.stores.cost_groupings import COST_GROUPINGS, METADATA_GROUPING, check_groupings
from orchestrator.stores.reads import Run
from orchestrator.web.page_addresses import path_of_run, query_of
from orchestrator.web.page_context import PAGE_WAIT_S, PageContext, version_of
from orchestrator.web.run_pages import BAR, head_of

__all__ = ["costs_page", "dataset_page", "stages_page"]

_NIGHTS = 60
# Changes that have a column even if there were none.
_ALWAYS = (Change.NEW, Change.CHANGED, Change.REMOVED)
_DEFAULT_GROUPS = "model,tier"


async def costs_page(view: PageContext, request: Request) -> dict[str, Any]:
    """What a run cost, by any grouping; ``costs`` is the object of ``costs --json``."""
    run = await view.run_of(request)
    groups = list(dict.fromkeys((request.query_params.get("by") or _DEFAULT_GROUPS).split(",")))
    check_groupings(groups)
    summary = await view.browser.summary(run)
    found = await view.figures.get(
        (run.id, "costs", *groups),
        version_of(summary),
        lambda: view.browser.slow.costs(run.id, groups),
        within_s=None if request.url.path.endswith(".json") else PAGE_WAIT_S,
    )
    return {
        **head_of(run, summary),
        "summary": summary_object(summary, view.browser.database),
        "by": groups,
        "groupings": [each for each in COST_GROUPINGS if each != "run"],
        "metadata": METADATA_GROUPING,
        "costs": None if found.value is None else costs_object(found.value, groups),
        "is_current": found.is_current,
    }


async def stages_page(view: PageContext, request: Request) -> dict[str, Any]:
    """The stages of a run in the order of the job, with how many requests of each are in each state."""
    run = await view.run_of(request)
    tally: Mapping[str, Mapping[State, int]] = await view.browser.quick.stage_tally(run.id)
    sealed = await view.browser.quick.sealed_stages(run.id)
    sections = _sections_of(run) or {MAIN_STAGE: {"request": {}}}
    stages = {name: str(section.get("from") or "input") for name, section in sections.items()}
    return {
        **head_of(run, await view.browser.summary(run)),
        "stages": [
            {
                "name": name,
                "from": source,
                "asks": sections[name].get("request") is not None,
                "depth": _depth(stages, name),
                "requests": sum(tally.get(name, {}).values()),
                "is_complete": name in sealed or (name == MAIN_STAGE and run.plan.complete),
                "page": path_of_run(run, "rows") + query_of({"stage": name}),
                "bar": [
                    {
                        "state": state.value,
                        "requests": number,
                        "page": path_of_run(run, "rows") + query_of({"stage": name, "state": state.value}),
                    }
                    for state in BAR
                    if (number := tally.get(name, {}).get(state, 0))
                ],
            }
            for name, source in stages.items()
        ],
    }


def _sections_of(run: Run) -> dict[str, Mapping[str, Any]]:
    """The stages of the stored job; nothing for a job without stages."""
    spec = exact_json.loads(run.spec_json.encode())
    found = spec.get("stages") if isinstance(spec, dict) else None
    return dict(found) if found else {}


def _depth(stages: dict[str, str], name: str) -> int:
    """How many stages are before one; a stage stands after its source, so this ends."""
    depth, seen = 0, {name}
    while (name := stages[name]) in stages and name not in seen:
        seen.add(name)
        depth += 1
    return depth


async def dataset_page(view: PageContext, request: Request) -> dict[str, Any]:
    """The nights of a dataset, the newest first: what each found changed, and what it cost."""
    name = request.query_params.get("name")
    if not name:
        raise RunNotFound("no dataset is named", hint="choose one on the page of all runs")
    nights = await view.browser.nights(name, limit=_NIGHTS)
    return {
        "dataset": name,
        "changes": [
            each.value for each in Change if each in _ALWAYS or any(night.record.changes[each] for night in nights)
        ],
        "nights": [
            {
                **summary_object(each.summary, view.browser.database),
                "created_at": each.summary.run.created_at,
                "is_closed": each.record.is_closed,
                "changes": {change.value: each.record.changes[change] for change in Change},
                "failed": each.summary.requests.get(State.FAILED, 0),
                "page": path_of_run(each.summary.run),
            }
            for each in nights
        ],
    }
