"""The state of a run: the object that scripts read, and the table for people at its end."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from orchestrator.core.increments import Change, Changes
from orchestrator.core.model import Usage
from orchestrator.core.money import format_usd
from orchestrator.core.states import OPEN, SETTLED, RunState, State
from orchestrator.report import formatting
from orchestrator.report.table import columns
from orchestrator.stores.reads import Summary

__all__ = ["changes_object", "closing_table", "runs_table", "summary_object", "usage_object"]

# Of the causes of doubt, which a server may word as it likes.
_MOST_REASONS = 3
_LONGEST_REASON = 100

_STYLES = {
    RunState.ACTIVE: "cyan",
    RunState.PAUSED: "yellow",
    RunState.FINISHED: "green",
    RunState.HALTED: "red",
    RunState.CANCELLED: "yellow",
}


def summary_object(summary: Summary, database: str) -> dict[str, Any]:
    """Returns what ``run --json`` and ``status --json`` print: counts, tokens, and money as decimal strings."""
    run = summary.run
    return {
        "run": run.name,
        "job": run.job,
        "state": run.state.value,
        "reason": run.reason,
        "requests": _requests_object(summary.requests),
        "attempts": summary.attempts,
        "polls": summary.polls,
        "rate_limited": summary.rate_limited,
        "possible_duplicates": summary.possible_duplicates,
        "reused": summary.reused,
        "skipped": summary.skipped_rows,
        "usage": usage_object(summary.usage),
        "cost_usd": format_usd(summary.cost_pusd),
        "cost_unknown": summary.cost_unknown,
        "cost_unknown_upper_bound_usd": summary.cost_unknown_bound.usd,
        "reserved_usd": format_usd(summary.reserved_pusd),
        "budget_usd": None if run.budget_pusd is None else format_usd(run.budget_pusd),
        "elapsed_s": round(summary.elapsed_s, 3),
        "database": database,
        "cost_unbounded": summary.cost_unknown_bound.unbounded,
        "cost_estimated_usd": format_usd(summary.cost_estimated_pusd),
        "date": None if run.day is None else run.day.isoformat(),
        "resume_at": formatting.stamp(run.resume_at),
        **({} if summary.changes is None else {"increment": changes_object(summary.changes)}),
        **({"stages": stages_object(summary)} if summary.stages else {}),
    }


def stages_object(summary: Summary) -> dict[str, Any]:
    """Returns the counts and the cost of each stage, by name, in their order."""
    return {
        name: {
            "requests": _requests_object(stage.requests),
            "cost_usd": format_usd(stage.cost_pusd),
            "cost_unknown": stage.cost_unknown,
            "partial": stage.partial,
            "outdated": stage.outdated,
        }
        for name, stage in summary.stages.items()
    }


def _requests_object(requests: Mapping[State, int]) -> dict[str, int]:
    return {"total": sum(requests.values()), **{state.value: requests.get(state, 0) for state in State}}


def changes_object(changes: Changes) -> dict[str, int]:
    """Returns how many rows were new, changed, unchanged and so on."""
    return {change.value: changes[change] for change in Change}


def usage_object(usage: Usage) -> dict[str, int]:
    """Returns tokens under the names that the export and the summary share."""
    return {
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "total_tokens": usage.total_tokens,
        "cache_write_12h_tokens": usage.cache_write_12h_tokens,
    }


def closing_table(
    summary: Summary,
    *,
    places: Mapping[str, str],
    failures: Mapping[str, int],
    doubts: Mapping[str, int] | None = None,
    reason: str | None = None,
) -> Text:
    """Returns a run in a dozen lines.

    ``places`` names files to open (``results``, ``database``); ``failures`` counts failed requests by code;
    ``doubts`` counts those in doubt by what was seen of them; ``reason`` explains the stored reason in a sentence.
    """
    run = summary.run
    text = Text.assemble((run.name, "bold"), "  ", (run.state.value, _STYLES[run.state]))
    text.append(f" after {formatting.duration(summary.elapsed_s)}" if summary.elapsed_s else "")
    reason = reason or run.reason
    text.append(f"\n{reason}" if reason else "")
    lines = [
        ("rows", *_compared(summary.changes)),
        ("requests", formatting.count(sum(summary.requests.values())), _request_notes(summary)),
        ("failures", "", [f"{code} {formatting.count(number)}" for code, number in failures.items()]),
        ("in doubt", "", _commonest(doubts or {})),
        ("attempts", formatting.count(summary.attempts), _attempt_notes(summary)),
        ("tokens in", formatting.count(summary.usage.input_tokens), _part(summary.usage.cached_tokens, "cached")),
        (
            "tokens out",
            formatting.count(summary.usage.output_tokens),
            _part(summary.usage.reasoning_tokens, "reasoning"),
        ),
        ("cost", formatting.dollars(summary.cost_pusd), _cost_notes(summary)),
    ]
    width = max(len(figure) for _, figure, _ in lines)
    text.append("\n")
    for name, figure, notes in lines:
        if figure or notes:
            text.append(f"\n  {name:<12}{figure:>{width}}   {' · '.join(notes)}".rstrip())
    text.append_text(_stage_lines(summary))
    text.append("\n" if places else "")
    for name, place in places.items():
        text.append(f"\n  {name:<12}{place}")
    return text


def _commonest(reasons: Mapping[str, int]) -> list[str]:
    """The most frequent sentences; of others, which may differ by a number only, how many there are."""
    shown = list(reasons.items())[:_MOST_REASONS]
    others = sum(reasons.values()) - sum(number for _, number in shown)
    more = [f"otherwise {formatting.count(others)}"] if others else []
    return [
        f"{textwrap.shorten(reason, _LONGEST_REASON)} {formatting.count(number)}" for reason, number in shown
    ] + more


def runs_table(summaries: Sequence[Summary]) -> Text:
    """Returns one line per run, in the given order."""
    header = ("RUN", "JOB", "STATE", "SETTLED", "OF", "FAILED", "COST", "STARTED (UTC)")
    rows = [
        (
            summary.run.name,
            summary.run.job,
            summary.run.state.value,
            formatting.count(sum(summary.requests.get(state, 0) for state in SETTLED)),
            formatting.count(sum(summary.requests.values())),
            formatting.count(summary.requests.get(State.FAILED, 0)),
            formatting.dollars(summary.cost_pusd) + ("+" if summary.cost_unknown else ""),
            formatting.date_time(summary.run.created_at),
        )
        for summary in summaries
    ]
    return columns(header, rows, right=range(3, 7))


def _compared(changes: Changes | None) -> tuple[str, list[str]]:
    """How many rows the input of a job with increments has, and how they compare with its dataset."""
    if changes is None:
        return "", []
    notes = [f"{formatting.count(changes[each])} {each.value.replace('_', ' ')}" for each in Change if changes[each]]
    return formatting.count(changes.total() - changes[Change.REMOVED]), notes


def _request_notes(summary: Summary) -> list[str]:
    return _state_notes(summary.requests, reused=summary.reused, skipped=summary.skipped_rows)


def _state_notes(counts: Mapping[State, int], *, reused: int = 0, skipped: int = 0) -> list[str]:
    in_flight = sum(counts.get(state, 0) for state in OPEN - {State.IN_DOUBT})
    parts = [
        ("succeeded", counts.get(State.SUCCEEDED, 0)),
        ("reused", reused),
        ("failed", counts.get(State.FAILED, 0)),
        ("cancelled", counts.get(State.CANCELLED, 0)),
        ("in doubt", counts.get(State.IN_DOUBT, 0)),
        ("in flight", in_flight),
        ("waiting", counts.get(State.PENDING, 0)),
        ("blocked", counts.get(State.BLOCKED, 0)),
        ("bad rows skipped", skipped),
    ]
    return [f"{formatting.count(number)} {word}" for word, number in parts if number]


def _attempt_notes(summary: Summary) -> list[str]:
    notes = [f"{formatting.count(summary.polls)} polls"]
    if summary.rate_limited:
        notes.append(f"{formatting.count(summary.rate_limited)} rate-limited (429)")
    if summary.possible_duplicates:
        bound = formatting.at_most(summary.possible_duplicates_bound)
        notes.append(f"{formatting.count(summary.possible_duplicates)} possibly sent twice ({bound})")
    return notes


def _stage_lines(summary: Summary) -> Text:
    """A line for each stage, and what is wrong with its groups."""
    text = Text()
    if not summary.stages:
        return text
    rows = [
        (
            f"  {name}",
            formatting.count(sum(stage.requests.values())),
            formatting.dollars(stage.cost_pusd) + ("+" if stage.cost_unknown else ""),
            " · ".join(_state_notes(stage.requests)),
        )
        for name, stage in summary.stages.items()
    ]
    text.append("\n\n").append_text(columns(("  STAGE", "REQUESTS", "COST", ""), rows, right=(1, 2)))
    for name, stage in summary.stages.items():
        for number, what in (
            (stage.partial, "answered without rows that failed"),
            (stage.outdated, "answered without rows that are there now; a new run asks them again"),
        ):
            if number:
                groups = f"group of {name} was" if number == 1 else f"groups of {name} were"
                text.append(f"\n  {formatting.count(number)} {groups} {what}")
    return text


def _part(number: int, word: str) -> list[str]:
    return [f"{formatting.count(number)} {word}"] if number else []


def _cost_notes(summary: Summary) -> list[str]:
    notes = []
    if summary.cost_estimated_pusd:
        notes.append(f"{formatting.dollars(summary.cost_estimated_pusd)} of it estimated")
    if summary.cost_unknown:
        bound = formatting.at_most(summary.cost_unknown_bound)
        notes.append(f"plus {formatting.count(summary.cost_unknown)} of unknown cost ({bound})")
    if summary.run.budget_pusd is not None:
        notes.append(f"budget {formatting.dollars(summary.run.budget_pusd)}")
    if summary.reserved_pusd:
        notes.append(f"{formatting.dollars(summary.reserved_pusd)} reserved")
    return notes
