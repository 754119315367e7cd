"""The addresses of pages: names of runs and keys of rows may hold anything, and a filter is in the address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from orchestrator.core.errors import UsageError
from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.states import OPEN, SETTLED, State
from orchestrator.stores.reads import ResultRecord, Run
from orchestrator.stores.row_pages import RowFilter, RowPlace

__all__ = [
    "NUMBERED",
    "SORTS",
    "STATE_GROUPS",
    "filter_of",
    "kept_fields",
    "name_in_paths",
    "path_of_row",
    "path_of_run",
    "place_of",
    "query_of",
]

# What a browser leaves as it is in a path, and what is not the address of a page as JSON.
_PLAIN = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9_. @+-]{0,198}[A-Za-z0-9_-])?")
# Longer keys are named by the number of their request.
_LONGEST_KEY = 1_000
# How a run is named whose name cannot be a part of a path.
NUMBERED = "~"
FILTER_FIELDS = ("state", "code", "stage", "flag", "q", "sort")
SORTS = ("cost", "latency", "tokens")
STATE_GROUPS: Mapping[str, tuple[State, ...]] = {
    "settled": tuple(state for state in State if state in SETTLED),
    "in_flight": tuple(state for state in State if state in OPEN),
    **{state.value: (state,) for state in State},
}


def name_in_paths(run: Run) -> str:
    """What names a run in an address: its name, or its number if its name cannot be a part of a path."""
    return run.name if _is_plain(run.name) else f"{NUMBERED}{run.id}"


def path_of_run(run: Run, page: str = "") -> str:
    """The path of a run's page."""
    return f"/run/{quote(name_in_paths(run), safe='')}{f'/{page}' if page else ''}"


def path_of_row(run: Run, record: ResultRecord, query: Mapping[str, str] | None = None) -> str:
    """The path of a row's page, with the filter of the list that it stands in."""
    fields = dict(query or {})
    # The stage of the row is not that of the filter.
    if record.stage != MAIN_STAGE:
        fields["of"] = record.stage
    if _is_plain(record.key):
        return path_of_run(run, f"row/{quote(record.key, safe='')}") + query_of(fields)
    named = {"key": record.key} if 0 < len(record.key) <= _LONGEST_KEY else {"request": str(record.request_id)}
    return path_of_run(run, "row") + query_of({**named, **fields})


def _is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None and not text.endswith(".json")


def query_of(fields: Mapping[str, str | None]) -> str:
    """The query part of an address; fields without a value are left out."""
    given = {name: value for name, value in fields.items() if value}
    return f"?{urlencode(given, errors='replace')}" if given else ""


def filter_of(fields: Mapping[str, str]) -> RowFilter:
    """The filter in an address; raises ``UsageError`` if a state or an order is unknown."""
    state = fields.get("state") or None
    if state is not None and state not in STATE_GROUPS:
        raise UsageError(f"there is no state {state!r}", hint=f"one of {', '.join(STATE_GROUPS)}")
    if fields.get("sort") and fields["sort"] not in SORTS:
        raise UsageError(f"rows are not sorted by {fields['sort']!r}", hint=f"one of {', '.join(SORTS)}")
    return RowFilter(
        states=None if state is None else STATE_GROUPS[state],
        code=fields.get("code") or None,
        stage=fields.get("stage") or None,
        flag=fields.get("flag") or None,
        text=fields.get("q") or None,
    )


def kept_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of an address that choose and order rows."""
    return {name: fields[name] for name in FILTER_FIELDS if fields.get(name)}


def place_of(fields: Mapping[str, str]) -> RowPlace:
    """Where a page begins; raises ``UsageError`` for what is no number."""
    name = "before" if fields.get("before") else "after"
    number = fields.get(name) or "0"
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise UsageError(f"{name} is the number of a row, not {number!r}")
    return RowPlace(request_id=int(number), backward=name == "before")
