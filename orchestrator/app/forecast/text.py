"""What a job will take and cost, before it is sent: a table, an object for scripts, or one line above a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.text import Text

from orchestrator.app.forecast.estimates import Basis, Forecast, Span, Variant
from orchestrator.app.forecast.lane_forecasts import lanes_object, lanes_text
from orchestrator.app.forecast.request_size import Counting
from orchestrator.app.forecast.stages_text import reuse_words, stages_object, stages_table, sums_object
from orchestrator.core.money import Picodollars, format_usd
from orchestrator.report import formatting
from orchestrator.report.table import columns

__all__ = ["forecast_line", "forecast_object", "forecast_text", "most_cost"]

_COUNTED = {
    Counting.PROVIDER: "counted by the provider",
    Counting.PROVIDER_SAMPLE: "a sample counted by the provider",
    Counting.VOCABULARY: "counted with the model's vocabulary, o200k",
    Counting.OTHER_VOCABULARY: "counted with o200k; this model's own vocabulary is not published",
    Counting.HEURISTIC: "estimated from the characters; the extra `tokens` counts them",
}
_BY_CAP = "answers up to max_output_tokens; a run of some rows (--pilot 20) estimates them more closely"


def forecast_object(forecast: Forecast) -> dict[str, Any]:
    """All of it, for scripts: money as decimal strings, null if nothing is known or nothing bounds it."""
    return {
        "job": forecast.job,
        "models": list(forecast.models),
        "rows": forecast.rows,
        "requests": forecast.requests,
        "reused": forecast.reused,
        "rows_counted": forecast.rows_counted,
        "rows_measured": forecast.measured,
        "counted_by": forecast.counting.value,
        "output_by": forecast.basis.value,
        "learnt_from": list(forecast.learned_from),
        "learnt_model": forecast.learned_model,
        **sums_object(forecast.estimate),
        "least_time_s": None if forecast.time.seconds is None else round(forecast.time.seconds, 1),
        "time_held_by": forecast.time.held_by,
        "budget_usd": None if forecast.budget_pusd is None else format_usd(forecast.budget_pusd),
        "compared": [
            {
                "model": each.variant.model,
                "service_tier": each.variant.tier,
                "completion_window": each.variant.window,
                **sums_object(each),
            }
            for each in forecast.compared
        ],
        **_of_stages(forecast),
        **({"lanes": lanes_object(forecast.lanes)} if forecast.lanes else {}),
    }


def _of_stages(forecast: Forecast) -> dict[str, Any]:
    if not forecast.stages:
        return {}
    worst = None if forecast.worst_pusd is None else format_usd(forecast.worst_pusd)
    return {"stages": stages_object(forecast), "worst_case_usd": worst}


def forecast_text(forecast: Forecast) -> Text:
    """A forecast in half a dozen lines, and the comparison under it."""
    if forecast.stages:
        return _text_of_stages(forecast)
    estimate = forecast.estimate
    text = Text.assemble((forecast.job, "bold"), f"  {_requests(forecast)}")
    if forecast.reused:
        text.append(f", {formatting.count(forecast.reused)} more are reused from earlier runs")
    if forecast.requests + (forecast.reused or 0) < forecast.rows:
        text.append(f", for {formatting.count(forecast.rows)} rows: duplicates are sent once")
    text.append("\n")
    lines = [
        ("tokens in", _figure(estimate.input_tokens, formatting.count), _input_notes(forecast)),
        ("tokens out", _figure(estimate.output_tokens, formatting.count), _output_notes(forecast)),
        ("cost", _figure(estimate.cost, formatting.short_dollars), _cost_notes(forecast)),
        ("time", _time(forecast), [f"by {forecast.time.held_by}"] if forecast.time.held_by else []),
    ]
    if forecast.lanes:
        first, *others = lanes_text(forecast.lanes)
        lines.append(("lanes", first, others))
    for name, figure, notes in lines:
        text.append(f"\n  {name:<12}{figure}")
        for note in notes:
            text.append(f"\n  {'':<12}{note}", "dim")
    if forecast.compared:
        text.append("\n\n").append_text(_comparison(forecast))
    return text


def _text_of_stages(forecast: Forecast) -> Text:
    text = Text.assemble((forecast.job, "bold"), f"  {formatting.count(forecast.rows)} rows\n\n")
    text.append_text(stages_table(forecast)).append("\n")
    if (words := reuse_words(forecast)) is not None:
        text.append(f"\n{words}", "not bold")
    basis = "as long as earlier ones of each stage, else up to max_output_tokens"
    notes = [_COUNTED[forecast.counting], f"answers {basis}" if forecast.learned_from else _BY_CAP]
    notes += _cost_notes(forecast)
    held_by = f", by {forecast.time.held_by}" if forecast.time.held_by else ""
    for name, lines in (("tokens", notes), ("time", [_time(forecast) + held_by])):
        for index, note in enumerate(lines):
            text.append(f"\n  {'' if index else name:<12}{note}", "not bold")
    if forecast.compared:
        text.append("\n\n").append_text(_comparison(forecast))
    return text


def most_cost(forecast: Forecast) -> Picodollars | None:
    """The most that a run may cost, its budget taken into account; None if nothing bounds it."""
    high = None if forecast.estimate.cost is None else forecast.estimate.cost.high
    bounds = [bound for bound in (high, forecast.budget_pusd) if bound is not None]
    return min(bounds, default=None)


def forecast_line(forecast: Forecast) -> str:
    """The forecast in one line, for above a run."""
    about = "" if forecast.rows_counted else "about "
    rows = f"{about}{_requests(forecast)}"
    estimate = forecast.estimate
    if estimate.cost is None:
        return f"{rows}: their cost is not known, for want of a price"
    if forecast.reused:
        rows += f", {formatting.count(forecast.reused)} more reused from earlier runs"
    elif forecast.reused is None:
        rows += " at most, less what is reused from earlier runs"
    line = f"{rows}: {_figure(estimate.cost, formatting.short_dollars)}"
    budget, high = forecast.budget_pusd, estimate.cost.high
    if budget is not None and (high is None or budget < high):
        line += f"; the budget stops it at {formatting.dollars(budget)}"
    return line


def _requests(forecast: Forecast) -> str:
    word = "request" if forecast.requests == 1 else "requests"
    low = sum(each.requests.low for each in forecast.stages)
    if forecast.stages and low != forecast.requests:
        models = ", ".join(forecast.models) or "no model"
        return f"{formatting.count(low)} to {formatting.count(forecast.requests)} {word} to {models}"
    return f"{formatting.count(forecast.requests)} {word} to {', '.join(forecast.models) or 'no model'}"


def _comparison(forecast: Forecast) -> Text:
    header = ["MODEL", "TIER", "LEAST", "LIKELY", "MOST"]
    rows: list[tuple[str, ...]] = []
    for each in forecast.compared:
        name = each.variant.model or ""
        if each.cost is None:
            rows.append((name, _tier(each.variant), "no known price", "", ""))
        else:
            cost = each.cost
            mark = "~" if each.price_estimated else ""
            figures_of = (_or_dash(figure) for figure in (cost.low, cost.likely, cost.high))
            rows.append((name, _tier(each.variant), *(mark + figure for figure in figures_of)))
    table = columns(header, rows, right=(2, 3, 4))
    if any(each.price_estimated for each in forecast.compared):
        table.append("\n~ the price is inferred, not published for exactly this", "dim")
    return table


def _tier(variant: Variant) -> str:
    return f"within {variant.window}" if variant.window else variant.tier or "default"


def _or_dash(amount: int | None) -> str:
    return "-" if amount is None else formatting.short_dollars(amount)


def _range(span: Span, write: Callable[[int], str]) -> str:
    if span.high is None:
        return f"at least {write(span.low)}, no upper bound"
    low, high = write(span.low), write(span.high)
    return low if low == high else f"{low} to {high}"


def _figure(span: Span | None, write: Callable[[int], str]) -> str:
    if span is None:
        return "not known: a price is missing; give it in prices.yaml"
    return _range(span, write) if span.likely is None else f"{write(span.likely)}  ({_range(span, write)})"


def _input_notes(forecast: Forecast) -> list[str]:
    notes = [_COUNTED[forecast.counting]]
    if forecast.measured < forecast.requests:
        notes.append(f"from a sample of {formatting.count(forecast.measured)} requests")
    return notes


def _output_notes(forecast: Forecast) -> list[str]:
    match forecast.basis:
        case Basis.PAST:
            who = f" of {forecast.learned_model}" if forecast.learned_model else ""
            return [f"as long as the answers{who} in {', '.join(forecast.learned_from)}"]
        case Basis.CAP:
            again = forecast.raised_to
            most = f", and once more up to {formatting.count(again)} where all are cut off" if again else ""
            return [f"up to max_output_tokens{most}", "a run of some rows (--pilot 20) estimates it more closely"]
        case Basis.NOTHING:
            return ["nothing bounds an answer: give request.max_output_tokens"]


def _cost_notes(forecast: Forecast) -> list[str]:
    notes = []
    if forecast.estimate.price_estimated:
        notes.append("by a price that is inferred, not published for exactly this model")
    if forecast.budget_pusd is not None:
        notes.append(f"the job's budget stops it at {formatting.dollars(forecast.budget_pusd)}")
    return notes


def _time(forecast: Forecast) -> str:
    if forecast.time.seconds is None:
        return "not known: give the limits of your account in the config"
    return f"at least {formatting.duration(forecast.time.seconds)}"
