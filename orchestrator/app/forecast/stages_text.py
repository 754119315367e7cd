"""What each stage of a job will take and cost: a table, and objects for scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.text import Text

from orchestrator.app.forecast.estimates import Forecast, Span, StageForecast
from orchestrator.core.money import format_usd
from orchestrator.report import formatting
from orchestrator.report.table import columns

__all__ = ["reuse_words", "stages_object", "stages_table", "sums_object"]


def stages_object(forecast: Forecast) -> dict[str, Any]:
    """The stages by name, in their order; money as decimal strings, null if nothing bounds it."""
    return {
        each.name: {
            "models": list(each.models),
            "requests": _plain(each.requests, lambda figure: figure),
            "reused": each.reused,
            "duplicates": each.duplicates,
            "failing": each.failing,
            "output_by": each.basis.value,
            "learnt_from": list(each.learned_from),
            **sums_object(each.estimate),
            "worst_case_usd": None if each.worst_pusd is None else format_usd(each.worst_pusd),
        }
        for each in forecast.stages
    }


def sums_object(estimate: Any) -> dict[str, Any]:
    """Tokens and cost of an estimate, as ranges."""
    return {
        "input_tokens": _plain(estimate.input_tokens, lambda figure: figure),
        "output_tokens": _plain(estimate.output_tokens, lambda figure: figure),
        "cost_usd": None if estimate.cost is None else _plain(estimate.cost, format_usd),
        "price_estimated": estimate.price_estimated,
    }


def stages_table(forecast: Forecast) -> Text:
    """A line for each stage, and their sum."""
    header = ["STAGE", "REQUESTS", "REUSED", "TOKENS IN", "TOKENS OUT", "LEAST", "LIKELY", "MOST", "MODEL"]
    lines = [
        (each.name, _range(each.requests), _count(each.reused), *_sums(each), ", ".join(each.models))
        for each in forecast.stages
    ]
    together = _together(forecast.stages)
    lines.append(("total", _range(together), _count(forecast.reused), *_sums(forecast), ""))
    text = columns(header, lines, right=range(1, 8))
    for note in _notes(forecast):
        text.append(f"\n{note}", "not bold")
    return text


def reuse_words(forecast: Forecast) -> str | None:
    """Which stages ask, where others have all their answers already; None if nothing is reused."""
    asking = [each for each in forecast.stages if each.requests.high]
    if not forecast.reused:
        return None
    reused = formatting.count(forecast.reused)
    if not asking:
        return f"nothing is asked: all {reused} answers are there from earlier runs"
    rest = [each.name for each in forecast.stages if each not in asking and each.reused]
    if not rest:
        return f"{reused} answers are there from earlier runs"
    word = "is" if len(asking) == 1 else "are"
    names = ", ".join(each.name for each in asking)
    return f"only {names} {word} asked: the answers of {', '.join(rest)} are there from earlier runs"


def _notes(forecast: Forecast) -> list[str]:
    notes = []
    if any(each.requests.low != each.requests.high for each in forecast.stages):
        notes.append("ranges: how many rows later stages get, and how long they are, depends on answers")
    failing = [(each.name, each.failing) for each in forecast.stages if each.failing]
    if failing:
        notes.append(
            "cannot be sent: " + ", ".join(f"{formatting.count(number)} of {name}" for name, number in failing)
        )
    duplicates = sum(each.duplicates for each in forecast.stages)
    if duplicates:
        notes.append(f"{formatting.count(duplicates)} more ask what another asks, and are sent once")
    high = None if forecast.estimate.cost is None else forecast.estimate.cost.high
    if forecast.worst_pusd is not None and high is not None and forecast.worst_pusd > high:
        notes.append(
            f"worst case, if every answer is as long as it may be: {formatting.dollars(forecast.worst_pusd)}"
        )
    return notes


def _together(stages: Sequence[StageForecast]) -> Span:
    total = Span(low=0, likely=0, high=0)
    for each in stages:
        total += each.requests
    return total


def _sums(each: StageForecast | Forecast) -> tuple[str, ...]:
    estimate = each.estimate
    tokens = (_range(estimate.input_tokens), _range(estimate.output_tokens))
    cost = estimate.cost
    if cost is None:
        return (*tokens, "no price", "", "")
    return (*tokens, *(_dollars(figure) for figure in (cost.low, cost.likely, cost.high)))


def _dollars(amount: int | None) -> str:
    return "-" if amount is None else formatting.short_dollars(amount)


def _count(number: int | None) -> str:
    return "-" if number is None else formatting.count(number)


def _range(span: Span) -> str:
    low = formatting.short_count(span.low)
    if span.high is None:
        return f"{low} or more"
    high = formatting.short_count(span.high)
    if span.likely not in (None, span.low) and low != high:
        return f"about {formatting.short_count(span.likely or 0)}"
    return low if low == high else f"{low} to {high}"


def _plain(span: Span, write: Callable[[int], Any]) -> dict[str, Any]:
    likely, high = (None if figure is None else write(figure) for figure in (span.likely, span.high))
    return {"low": write(span.low), "likely": likely, "high": high}
