"""The pages of runs: all of them, and one with its figures now and before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from orchestrator.core.money import format_usd
from orchestrator.core.states import OPEN, SETTLED, RunState, State
from orchestrator.report.summary import changes_object, summary_object
from orchestrator.stores.pulses import Pulse
from orchestrator.stores.reads import Run, Summary
from orchestrator.stores.row_pages import RowFilter, RowPlace
from orchestrator.web.page_addresses import STATE_GROUPS, name_in_paths, path_of_row, path_of_run, place_of, query_of
from orchestrator.web.page_context import SEARCH_S, PageContext
from orchestrator.web.run_events import latest_happenings

__all__ = ["figures_of_run", "latest_rate", "overview_page", "run_page"]

_RUNS = 30
_RATE_OVER_S = 60.0
_CODES, _KEYS_OF_A_CODE = 12, 3
_CHARTED = 300
# The order of the bar: what is done first, and what needs a person before what waits.
BAR = (
    State.SUCCEEDED,
    State.FAILED,
    State.CANCELLED,
    State.IN_DOUBT,
    State.SUBMITTED,
    State.AWAITING_TOOLS,
    State.SUBMITTING,
    State.BLOCKED,
    State.PENDING,
)


async def overview_page(view: PageContext, request: Request) -> dict[str, Any]:
    """All runs, the newest first, and the datasets."""
    place = place_of(request.query_params)
    before_id = place.request_id if place.backward else None
    found = await view.browser.runs(before_id=before_id, limit=_RUNS + 1)
    shown = found[:_RUNS]
    datasets = await view.browser.quick.datasets()
    return {
        "database": view.browser.database,
        "runs": [
            {
                **summary_object(each, view.browser.database),
                "created_at": each.run.created_at,
                "simulated": each.run.simulated,
                "page": path_of_run(each.run),
                "bar": bar_of(each),
            }
            for each in shown
        ],
        "datasets": [
            {
                "name": each.name,
                "rows": each.rows,
                "simulated": each.simulated,
                "page": "/dataset" + query_of({"name": each.name}),
            }
            for each in datasets
        ],
        "older": query_of({"before": str(shown[-1].run.id)}) if len(found) > _RUNS else None,
        "is_first": before_id is None,
    }


async def run_page(view: PageContext, request: Request) -> dict[str, Any]:
    """One run: its figures, its samples, why rows failed, and what people flagged."""
    run = await view.run_of(request)
    reader = view.browser.quick
    is_object = request.url.path.endswith(".json")
    pulses = await reader.pulses(run.id, most=None if is_object else _CHARTED)
    figures = await figures_of_run(view, run, pulses)
    if is_object:
        whole = await view.browser.summary_with_stages(run)
        figures["summary"] = summary_object(whole, view.browser.database)
    return {
        **figures,
        "pulses": [pulse_object(each) for each in pulses],
        "happenings": [
            {"at": each.at, "what": each.what, "number": each.number} for each in latest_happenings(pulses)
        ],
        "failures": await _failures(view, run),
        "flags": [
            {"flag": flag, "rows": rows, "page": path_of_run(run, "rows") + query_of({"flag": flag})}
            for flag, rows in (await reader.flags_of_run(run.id)).items()
        ],
        "skipped": [{"where": each.where, "reason": each.reason} for each in (await reader.skipped(run.id))[:_CODES]],
    }


async def figures_of_run(view: PageContext, run: Run, pulses: Sequence[Pulse] | None = None) -> dict[str, Any]:
    """What changes while a run is worked on: the object of ``status --json``, and what follows from it."""
    summary = await view.browser.summary(run)
    if pulses is None:
        pulses = await view.browser.quick.pulses(run.id, most=_CHARTED)
    counts = summary.requests
    settled = sum(counts.get(state, 0) for state in SETTLED)
    is_active = summary.run.state is RunState.ACTIVE
    # Of a run that no process works on, the latest figures are as old as its end.
    now = view.browser.clock.now() if is_active else summary.run.ended_at or (pulses[-1].at if pulses else 0.0)
    rate = (
        latest_rate(pulses) if is_active else settled / summary.elapsed_s if summary.elapsed_s and settled else None
    )
    left = counts.total - settled
    return {
        **head_of(run, summary),
        "summary": summary_object(summary, view.browser.database),
        "settled": settled,
        "in_flight": sum(counts.get(state, 0) for state in OPEN),
        "rows_per_s": rate,
        "seconds_left": left / rate if is_active and rate and summary.run.plan.complete else None,
        "is_active": is_active,
        "is_read": summary.run.plan.complete,
        "bar": bar_of(summary),
        "changes": None if summary.changes is None else changes_object(summary.changes),
        "now": {**pulse_object(pulse_of(summary, now)), "rows_per_s": rate},
    }


def head_of(run: Run, summary: Summary | None = None) -> dict[str, Any]:
    """What the head of every page of a run shows."""
    shown = summary.run if summary is not None else run
    return {
        "run": run.name,
        "job": run.job,
        "state": shown.state.value,
        "reason": shown.reason,
        "simulated": run.simulated,
        "created_at": run.created_at,
        "ended_at": run.ended_at,
        "pages": {
            "run": path_of_run(run),
            **{name: path_of_run(run, name) for name in ("rows", "costs", "stages", "live")},
            "compare": "/compare" + query_of({"a": name_in_paths(run)}),
        },
    }


def bar_of(summary: Summary) -> list[dict[str, Any]]:
    """How many requests are in each state, in the order of the bar; those without any are left out."""
    rows = path_of_run(summary.run, "rows")
    return [
        {"state": state.value, "requests": number, "page": rows + query_of({"state": state.value})}
        for state in BAR
        if (number := summary.requests.get(state, 0))
    ]


def latest_rate(pulses: Sequence[Pulse]) -> float | None:
    """Settled rows a second over the last minute of samples; None if there is no such minute yet."""
    if len(pulses) < 2:
        return None
    last = pulses[-1]
    first = next(each for each in pulses if last.at - each.at <= _RATE_OVER_S or each is pulses[-2])
    # A run that was resumed settled nothing while no process worked on it.
    return (last.settled - first.settled) / (last.at - first.at) if last.at > first.at else None


def pulse_of(summary: Summary, at: float) -> Pulse:
    """The counts of a run as a sample."""
    counts = summary.requests
    return Pulse(
        at=at,
        settled=sum(counts.get(state, 0) for state in SETTLED),
        failed=counts.failed,
        in_flight=counts.open,
        attempts=summary.attempts,
        polls=summary.polls,
        rate_limited=summary.rate_limited,
        cost_pusd=summary.cost_pusd,
    )


def pulse_object(pulse: Pulse) -> dict[str, Any]:
    """A sample for scripts and charts."""
    return {
        "at": pulse.at,
        "settled": pulse.settled,
        "failed": pulse.failed,
        "in_flight": pulse.in_flight,
        "attempts": pulse.attempts,
        "polls": pulse.polls,
        "rate_limited": pulse.rate_limited,
        "cost_usd": format_usd(pulse.cost_pusd),
    }


async def _failures(view: PageContext, run: Run) -> list[dict[str, Any]]:
    """Failed rows by code, each with the first keys."""
    reader, failures = view.browser.quick, []
    for code, rows in list((await reader.failures_by_code(run.id)).items())[:_CODES]:
        fields: Mapping[str, str] = {"state": "failed", "code": code}
        chosen = RowFilter(states=STATE_GROUPS["failed"], code=code)
        first = await reader.row_page(run.id, chosen, RowPlace(), limit=_KEYS_OF_A_CODE, within_s=SEARCH_S)
        failures.append(
            {
                "code": code,
                "rows": rows,
                "page": path_of_run(run, "rows") + query_of(fields),
                "first": [{"key": each.key, "page": path_of_row(run, each, fields)} for each in first.rows],
            }
        )
    return failures
