"""Costs by any grouping: a table, an object for scripts, or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from orchestrator.core.model import Usage
from orchestrator.core.money import Bound, format_usd
from orchestrator.report import formatting
from orchestrator.report.summary import usage_object
from orchestrator.report.table import columns
from orchestrator.stores.reads import CostRow, Wasted

__all__ = ["costs_csv", "costs_object", "costs_table", "total"]


def total(rows: Sequence[CostRow]) -> CostRow:
    """Returns the exact sum of all groups."""
    return CostRow(
        group=(),
        responses=sum(row.responses for row in rows),
        usage=sum((row.usage for row in rows), Usage()),
        cost_pusd=sum(row.cost_pusd for row in rows),
        cost_unknown=sum(row.cost_unknown for row in rows),
        unknown_bound=sum((row.unknown_bound for row in rows), Bound()),
        estimated_pusd=sum(row.estimated_pusd for row in rows),
        wasted=sum((row.wasted for row in rows), Wasted()),
        possible_duplicates=sum(row.possible_duplicates for row in rows),
        possible_duplicates_bound=sum((row.possible_duplicates_bound for row in rows), Bound()),
        cache_saved_pusd=sum(row.cache_saved_pusd for row in rows),
    )


def costs_object(rows: Sequence[CostRow], by: Sequence[str]) -> dict[str, Any]:
    """Returns ``{"by": […], "rows": […], "total": {…}}``; unknown costs have their own bound beside ``cost_usd``."""
    return {
        "by": list(by),
        "rows": [{**dict(zip(by, row.group, strict=True)), **_sums(row)} for row in rows],
        "total": _sums(total(rows)),
    }


def costs_csv(rows: Sequence[CostRow], by: Sequence[str]) -> str:
    """Returns one line per group, without a total, for spreadsheets."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*by, *_flat(total(()))])
    writer.writerows([*row.group, *_flat(row).values()] for row in rows)
    return out.getvalue()


def costs_table(rows: Sequence[CostRow], by: Sequence[str]) -> Text:
    """Returns groups with the total on the last line, and below it how much was wasted and saved.

    Unknown, wasted and saved amounts have columns only if there are any.
    """
    together = total(rows)
    shown = [column for column in _COLUMNS if column[2] is None or column[2](together)]
    header = [*(name.upper() for name in by), *(name for name, _, _ in shown)]
    lines = [(*row.group, *(cell(row) for _, cell, _ in shown)) for row in rows]
    sums = (cell(together) for _, cell, _ in shown)
    lines.append((*("total" if index == 0 else "" for index in range(len(by))), *sums))
    text = columns(header, lines, right=range(len(by), len(header)))
    for note in _notes(together):
        text.append(f"\n{note}", "not bold")
    return text


def _positive(count: int, text: str) -> str:
    return text if count else ""


def _bounded(row: CostRow) -> str:
    return formatting.dollars(row.unknown_bound.bounded_pusd)


# Title, how to show a row, and whether there is such a column, given the sum of all rows.
_COLUMNS: tuple[tuple[str, Callable[[CostRow], str], Callable[[CostRow], int] | None], ...] = (
    ("RESPONSES", lambda row: formatting.count(row.responses), None),
    ("INPUT", lambda row: formatting.count(row.usage.input_tokens), None),
    ("CACHED", lambda row: formatting.count(row.usage.cached_tokens), None),
    ("OUTPUT", lambda row: formatting.count(row.usage.output_tokens), None),
    ("COST", lambda row: formatting.dollars(row.cost_pusd), None),
    (
        "ESTIMATED",
        lambda row: _positive(row.estimated_pusd, formatting.dollars(row.estimated_pusd)),
        lambda together: together.estimated_pusd,
    ),
    (
        "WASTED",
        lambda row: _positive(row.wasted.total, formatting.dollars(row.wasted.total)),
        lambda together: together.wasted.total,
    ),
    (
        "UNKNOWN",
        lambda row: _positive(row.cost_unknown, formatting.count(row.cost_unknown)),
        lambda together: together.cost_unknown,
    ),
    (
        "AT MOST",
        lambda row: _positive(row.cost_unknown - row.unknown_bound.unbounded, _bounded(row)),
        lambda together: together.cost_unknown - together.unknown_bound.unbounded,
    ),
    (
        "NO BOUND",
        lambda row: _positive(row.unknown_bound.unbounded, formatting.count(row.unknown_bound.unbounded)),
        lambda together: together.unknown_bound.unbounded,
    ),
)


def _notes(together: CostRow) -> list[str]:
    notes = []
    parts = [f"{name} {formatting.dollars(cost)}" for name, cost in asdict(together.wasted).items() if cost]
    if parts:
        notes.append(f"wasted, and part of the cost: {' · '.join(parts)}")
    if together.estimated_pusd:
        notes.append("estimated, and part of the cost: the price is inferred, or does not cover all that was used")
    if together.unknown_bound.unbounded:
        notes.append("no bound: the price of the model or of a tool is not known; see prices.yaml")
    if together.possible_duplicates:
        bound = formatting.at_most(together.possible_duplicates_bound)
        count = formatting.count(together.possible_duplicates)
        notes.append(f"possibly sent twice, and part of the unknown cost: {count} ({bound})")
    if together.cache_saved_pusd:
        word = "saved" if together.cache_saved_pusd > 0 else "cost"
        notes.append(f"the cache {word} {formatting.dollars(abs(together.cache_saved_pusd))}")
    return notes


def _sums(row: CostRow) -> dict[str, Any]:
    return {
        "responses": row.responses,
        "usage": usage_object(row.usage),
        "cost_usd": format_usd(row.cost_pusd),
        "cost_unknown": row.cost_unknown,
        "cost_unknown_upper_bound_usd": row.unknown_bound.usd,
        **{f"wasted_{name}_usd": format_usd(cost) for name, cost in asdict(row.wasted).items()},
        "possible_duplicates": row.possible_duplicates,
        "possible_duplicates_upper_bound_usd": row.possible_duplicates_bound.usd,
        "cache_saved_usd": format_usd(row.cache_saved_pusd),
        "cost_unbounded": row.unknown_bound.unbounded,
        "cost_estimated_usd": format_usd(row.estimated_pusd),
    }


def _flat(row: CostRow) -> dict[str, Any]:
    sums = _sums(row)
    usage = sums.pop("usage")
    return {"responses": sums.pop("responses"), **usage, **sums}
