"""The page of rows: filtered, searched and sorted by the address, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import format_usd
from orchestrator.core.states import State
from orchestrator.report.columns import error_of
from orchestrator.report.summary import usage_object
from orchestrator.stores.reads import ResultRecord, Run
from orchestrator.stores.row_pages import RowOrder
from orchestrator.web.page_addresses import (
    STATE_GROUPS,
    filter_of,
    kept_fields,
    path_of_row,
    path_of_run,
    place_of,
    query_of,
)
from orchestrator.web.page_context import PAGE_WAIT_S, SEARCH_S, PageContext, version_of
from orchestrator.web.run_pages import head_of
from orchestrator.web.visible_text import shortened

__all__ = ["record_object", "rows_page"]

_ROWS = 50
_SORTED_ROWS = 200
_EXCERPT = 160


async def rows_page(view: PageContext, request: Request) -> dict[str, Any]:
    """The rows of a run that fit the filter in the address."""
    run, fields = await view.run_of(request), request.query_params
    kept = kept_fields(fields)
    listed = await (_sorted if kept.get("sort") else _in_order)(view, run, request)
    summary = await view.browser.summary(run)
    reader = view.browser.quick
    exact = await _row_of_key(view, run, kept)
    return {
        **head_of(run, summary),
        "filter": kept,
        "total": _total(summary.requests, kept),
        "states": {
            name: sum(summary.requests.get(each, 0) for each in group) for name, group in STATE_GROUPS.items()
        },
        "codes": await reader.failures_by_code(run.id),
        "flags": await reader.flags_of_run(run.id),
        "stages": list(await reader.stage_tally(run.id)),
        "named": exact,
        "rows": [{**record_object(each), "page": path_of_row(run, each, kept)} for each in listed.rows],
        "earlier": listed.earlier,
        "later": listed.later,
        "searched_to": listed.searched_to,
        "is_current": listed.is_current,
        "rows_page": path_of_run(run, "rows"),
        "download": path_of_run(run, "rows.jsonl") + query_of({**kept, "sort": None}),
    }


@fast_dataclass
class _Listed:
    """Rows and the addresses of the pages beside them."""

    rows: list[ResultRecord]
    earlier: str | None = None
    later: str | None = None
    searched_to: int | None = None
    is_current: bool = True


async def _in_order(view: PageContext, run: Run, request: Request) -> _Listed:
    fields = request.query_params
    kept, place = kept_fields(fields), place_of(fields)
    page = await view.browser.quick.row_page(run.id, filter_of(fields), place, limit=_ROWS, within_s=SEARCH_S)
    rows = list(page.rows)
    earlier = page.searched_to if place.backward else None
    later = None if place.backward else page.searched_to
    if rows:
        earlier = earlier or (rows[0].request_id if page.more_before else None)
        later = later or (rows[-1].request_id if page.more_after else None)
    elif place.request_id and earlier is None and later is None:
        # Nothing more in this direction.
        earlier, later = (None, place.request_id - 1) if place.backward else (place.request_id + 1, None)
    return _Listed(
        rows=rows,
        earlier=query_of({**kept, "before": str(earlier)}) if earlier else None,
        later=query_of({**kept, "after": str(later)}) if later else None,
        searched_to=page.searched_to,
    )


async def _sorted(view: PageContext, run: Run, request: Request) -> _Listed:
    chosen, order = filter_of(request.query_params), RowOrder(request.query_params["sort"])
    summary = await view.browser.summary(run)
    found = await view.figures.get(
        (run.id, chosen, order),
        version_of(summary),
        lambda: view.browser.slow.top_rows(run.id, chosen, order, limit=_SORTED_ROWS),
        within_s=None if request.url.path.endswith(".json") else PAGE_WAIT_S,
    )
    return _Listed(rows=found.value or [], is_current=found.is_current)


async def _row_of_key(view: PageContext, run: Run, kept: Mapping[str, str]) -> dict[str, Any] | None:
    """The row whose key is exactly what is searched for: found at once in a run of any size."""
    key = kept.get("q", "").strip()
    if not key:
        return None
    for stage in await view.browser.quick.stage_tally(run.id):
        found = await view.browser.quick.request(run.id, key, stage=stage)
        if found is not None:
            fields = query_of({"key": key, "of": stage, **kept})
            return {"key": found.key, "state": found.state.value, "page": path_of_run(run, "row") + fields}
    return None


def _total(counts: Mapping[State, int], kept: Mapping[str, str]) -> int | None:
    """How many rows fit a filter, if that is known without reading them."""
    if any(kept.get(name) for name in ("code", "stage", "flag", "q")):
        return None
    states = STATE_GROUPS[kept["state"]] if kept.get("state") else tuple(State)
    return sum(counts.get(state, 0) for state in states)


def record_object(record: ResultRecord) -> dict[str, Any]:
    """A row of a list; the values are those of the export, its answer cut to the beginning."""
    seconds = None
    if record.settled_at is not None and record.submitted_at is not None:
        seconds = max(0.0, record.settled_at - record.submitted_at)
    return {
        "key": record.key,
        "stage": record.stage,
        "state": record.state.value,
        "error": error_of(record),
        "code": record.code,
        "excerpt": shortened(record.output_text or record.message, _EXCERPT),
        "attempts": record.attempts,
        "usage": usage_object(record.usage) if record.usage else None,
        "cost_usd": None if record.cost_pusd is None else format_usd(record.cost_pusd),
        "cost_upper_bound_usd": None if record.upper_bound_pusd is None else format_usd(record.upper_bound_pusd),
        "seconds": seconds,
        "reused": record.reused,
        "flag": record.flag,
        "note": record.note,
    }
