"""The provider's account beside what was charged here: tables with the reasons under them, or an object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.text import Text

from orchestrator.app.reconcile.matching import Reason, Reconciliation, Tokens
from orchestrator.core.money import format_usd
from orchestrator.report import formatting
from orchestrator.report.table import columns

__all__ = ["REASONS", "reconciliation_object", "reconciliation_text"]

REASONS: dict[Reason, str] = {
    Reason.AGREES: "the same, but for the rounding of the provider's account",
    Reason.UNKNOWN_HERE: "the provider has more, and no more than the responses of unknown cost can have taken",
    Reason.ESTIMATED_HERE: "the tokens are the same, and the difference is no more than what is estimated here",
    Reason.ANOTHER_DAY: "together with the next day it agrees: what ran over midnight is reported on another day",
    Reason.PRICE: "the tokens are the same and the cost is not: the provider's price is another one; see prices.yaml",
    Reason.ELSEWHERE: "the provider has more: other programs use the organisation, or runs of other databases",
    Reason.NOT_REPORTED: "the provider has less: it may not have reported everything yet, or grants a discount",
}


def reconciliation_object(found: Reconciliation) -> dict[str, Any]:
    """Every line with its reason; ``agrees`` says whether nothing is left for a person to explain."""
    return {
        "agrees": found.agrees,
        "costs": [
            {
                "day": line.day,
                "cost_usd": format_usd(line.own_pusd),
                "cost_unknown": line.unknown,
                "cost_unknown_upper_bound_usd": line.bound.usd,
                "cost_unbounded": line.bound.unbounded,
                "cost_estimated_usd": format_usd(line.estimated_pusd),
                "provider_usd": format_usd(line.reported_pusd),
                "difference_usd": format_usd(line.difference_pusd),
                "reason": line.reason.value,
            }
            for line in found.costs
        ],
        "usage": [
            {
                "day": line.day,
                "model": line.model,
                "here": asdict(line.own),
                "provider": asdict(line.reported),
                "reason": line.reason.value,
            }
            for line in found.usage
        ],
        "days_not_covered": list(found.uncovered),
    }


def reconciliation_text(found: Reconciliation) -> Text:
    """Costs by day, tokens by day and model, and what the reasons mean."""
    text = Text()
    if found.costs:
        text.append_text(_cost_table(found)).append("\n\n")
    if found.usage:
        text.append_text(_usage_table(found)).append("\n\n")
    if not found.costs and not found.usage:
        text.append("the account holds no costs and no usage\n\n")
    for reason in Reason:
        if reason in {line.reason for line in found.costs} | {line.reason for line in found.usage}:
            text.append(f"{reason.value:<14}{REASONS[reason]}\n", "not bold")
    if found.uncovered:
        text.append(f"not covered by the account: {', '.join(found.uncovered)}\n", "not bold")
    text.rstrip()
    return text


def _cost_table(found: Reconciliation) -> Text:
    rows = [
        (
            line.day,
            formatting.dollars(line.own_pusd),
            f"+ {formatting.at_most(line.bound)}" if line.unknown else "",
            formatting.dollars(line.reported_pusd),
            formatting.dollars(line.difference_pusd),
            line.reason.value,
        )
        for line in found.costs
    ]
    return columns(("DAY (UTC)", "HERE", "UNKNOWN", "PROVIDER", "DIFFERENCE", "REASON"), rows, right=range(1, 5))


def _usage_table(found: Reconciliation) -> Text:
    rows = [
        (
            line.day,
            line.model or "all models",
            _both(line.own, line.reported, "input_tokens"),
            _both(line.own, line.reported, "cached_tokens"),
            _both(line.own, line.reported, "output_tokens"),
            line.reason.value,
        )
        for line in found.usage
    ]
    return columns(("DAY (UTC)", "MODEL", "INPUT", "CACHED", "OUTPUT", "REASON"), rows, right=range(2, 5))


def _both(own: Tokens, reported: Tokens, name: str) -> str:
    here, there = getattr(own, name), getattr(reported, name)
    more = there - here
    return (
        formatting.count(here)
        if not more
        else f"{formatting.count(here)} {'+' if more > 0 else '-'} {formatting.count(abs(more))}"
    )
