"""What was spent, by any grouping: a table, an object for scripts, or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from orchestrator.core.model import Usage
from orchestrator.core.money import format_usd
from orchestrator.report import figures
from orchestrator.report.summary import usage_object
from orchestrator.report.table import columns
from orchestrator.stores.base import CostRow

__all__ = ["costs_csv", "costs_object", "costs_table", "total"]


def total(rows: Sequence[CostRow]) -> CostRow:
    """The sum of all groups, exact."""
    return CostRow(
        group=(),
        responses=sum(row.responses for row in rows),
        usage=sum((row.usage for row in rows), Usage()),
        cost_pusd=sum(row.cost_pusd for row in rows),
        cost_unknown=sum(row.cost_unknown for row in rows),
        upper_bound_pusd=sum(row.upper_bound_pusd for row in rows),
    )


def costs_object(rows: Sequence[CostRow], by: Sequence[str]) -> dict[str, Any]:
    """``{"by": […], "rows": […], "total": {…}}``; what is unknown is not in ``cost_usd`` but has its own bound."""
    return {
        "by": list(by),
        "rows": [{**dict(zip(by, row.group, strict=True)), **_sums(row)} for row in rows],
        "total": _sums(total(rows)),
    }


def costs_csv(rows: Sequence[CostRow], by: Sequence[str]) -> str:
    """One line a group, without a total, so that a spreadsheet can add up by itself."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*by, *_flat(total(()))])
    writer.writerows([*row.group, *_flat(row).values()] for row in rows)
    return out.getvalue()


def costs_table(rows: Sequence[CostRow], by: Sequence[str]) -> Text:
    """Groups with the total on the last line; what is unknown has columns only where something is."""
    together = total(rows)
    figures_of = _cells if together.cost_unknown else lambda row: _cells(row)[:-2]
    header = [*(name.upper() for name in by), "RESPONSES", "INPUT", "CACHED", "OUTPUT", "COST"]
    header += ["UNKNOWN", "AT MOST"] if together.cost_unknown else []
    lines = [(*row.group, *figures_of(row)) for row in rows]
    lines.append((*("total" if index == 0 else "" for index in range(len(by))), *figures_of(together)))
    return columns(header, lines, right=range(len(by), len(header)))


def _sums(row: CostRow) -> dict[str, Any]:
    return {
        "responses": row.responses,
        "usage": usage_object(row.usage),
        "cost_usd": format_usd(row.cost_pusd),
        "cost_unknown": row.cost_unknown,
        "cost_unknown_upper_bound_usd": format_usd(row.upper_bound_pusd),
    }


def _flat(row: CostRow) -> dict[str, Any]:
    sums = _sums(row)
    usage = sums.pop("usage")
    return {"responses": sums.pop("responses"), **usage, **sums}


def _cells(row: CostRow) -> tuple[str, ...]:
    return (
        figures.count(row.responses),
        figures.count(row.usage.input_tokens),
        figures.count(row.usage.cached_tokens),
        figures.count(row.usage.output_tokens),
        figures.dollars(row.cost_pusd),
        figures.count(row.cost_unknown) if row.cost_unknown else "",
        figures.dollars(row.upper_bound_pusd) if row.cost_unknown else "",
    )
