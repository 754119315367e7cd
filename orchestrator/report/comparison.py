"""How the rows of a job with increments compare with its dataset, for people and for scripts."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from orchestrator.core.increments import Change, Comparison
from orchestrator.core.money import format_usd
from orchestrator.report import formatting
from orchestrator.report.table import columns

__all__ = ["comparison_object", "comparison_table"]


def comparison_object(comparison: Comparison) -> dict[str, Any]:
    """Returns the counts by change, how many rows would be asked, and about what they cost."""
    about = comparison.about_pusd
    return {
        "dataset": comparison.dataset,
        "since": comparison.since,
        **{change.value: comparison.changes[change] for change in Change},
        "asked": comparison.asked,
        "about_usd": None if about is None else format_usd(about),
    }


def comparison_table(comparison: Comparison) -> Text:
    """Returns a line of counts under their names."""
    changes = comparison.changes
    shown = [each for each in Change if changes[each] or each in (Change.NEW, Change.CHANGED, Change.UNCHANGED)]
    header = (*(each.value.replace("_", " ") for each in shown), "ASK", "EXPECTED")
    about = comparison.about_pusd
    cost = "not known" if about is None else f"about {formatting.dollars(about)}"
    row = (*(formatting.count(changes[each]) for each in shown), formatting.count(comparison.asked), cost)
    title = Text(f"{comparison.dataset}, compared with {comparison.since}\n", "bold")
    return title.append_text(columns([name.upper() for name in header], [row], right=range(len(header))))
