"""What the report of a run or of a dataset shows, and the file that it becomes: bounded, whatever the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.app.run_browser import RunBrowser
from orchestrator.app.sent_request import limits_learned
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.increments import Change
from orchestrator.core.money import format_usd, parse_usd
from orchestrator.core.states import State
from orchestrator.report.costs import costs_object
from orchestrator.report.formatting import duration
from orchestrator.report.summary import summary_object
from orchestrator.stores.pulses import Pulse
from orchestrator.stores.reads import ResultRecord, Run
from orchestrator.stores.row_pages import RowFilter, RowOrder, RowPlace
from orchestrator.web import report_charts
from orchestrator.web.job_settings import settings_of
from orchestrator.web.page_addresses import STATE_GROUPS
from orchestrator.web.rendering import render
from orchestrator.web.report_figures import Interval, bins_of, intervals_of, percentile
from orchestrator.web.row_listing import record_object
from orchestrator.web.run_pages import bar_of, pulse_of
from orchestrator.web.visible_text import shortened

__all__ = ["ReportOptions", "dataset_report", "report_html", "run_report"]

_CODES, _KEYS_OF_A_CODE, _TOP, _GROUPS, _STAGES, _SKIPPED, _PRICES = 12, 3, 20, 30, 40, 12, 20
_CHARTED, _LISTED = 240, 12
_NIGHTS = 60
_EXCERPT = 300
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_COUNTED = (Change.NEW, Change.CHANGED, Change.REMOVED)


@fast_dataclass
class ReportOptions:
    """What a report has beside figures: the commands to type next, and the beginnings of texts if they are wanted."""

    steps: Sequence[str] = ()
    with_texts: bool = False


async def run_report(browser: RunBrowser, run: Run, options: ReportOptions) -> dict[str, Any]:
    """The figures of a run; ``summary`` and ``costs`` are those of ``status --json`` and ``costs --json``."""
    reader = browser.slow
    summary = await browser.summary_with_stages(run)
    figures = summary_object(summary, browser.database)
    costs = costs_object(await reader.costs(run.id, ["model", "tier"]), ["model", "tier"])
    pulses = await _pulses(browser, run, await reader.pulses(run.id))
    latencies = await reader.latencies(run.id)
    codes = await reader.failures_by_code(run.id)
    prices = await reader.prices_used(run.id)
    skipped = await reader.skipped(run.id) if summary.skipped_rows else []
    return {
        "made_at": browser.clock.now(),
        "run": run.name,
        "job": run.job,
        "state": summary.run.state.value,
        "reason": summary.run.reason,
        "simulated": run.simulated,
        "created_at": run.created_at,
        "ended_at": summary.run.ended_at,
        "summary": figures,
        "settled": sum(figures["requests"][state.value] for state in STATE_GROUPS["settled"]),
        "in_flight": summary.requests.open,
        "bar": bar_of(summary),
        "stages": dict(list(figures.get("stages", {}).items())[:_STAGES]),
        "costs": {**costs, "rows": costs["rows"][:_GROUPS], "left_out": max(0, len(costs["rows"]) - _GROUPS)},
        "peaks": _peaks(intervals_of(pulses, _CHARTED), pulses),
        "course": intervals_of(pulses, _LISTED) if summary.attempts else [],
        "latency": {
            "rows": sum(latencies.values()),
            "percentiles": {name: percentile(latencies, share) for name, share in _SHARES.items()},
            "bins": bins_of(latencies, fine=False),
        },
        "failures": [
            {"code": code, "rows": rows, "keys": await _first_keys(browser, run, code)}
            for code, rows in list(codes.items())[:_CODES]
        ],
        "other_codes": max(0, len(codes) - _CODES),
        "slowest": await _top(browser, run, RowOrder.LATENCY, options),
        "most_expensive": await _top(browser, run, RowOrder.COST, options),
        "with_texts": options.with_texts,
        "skipped": [{"where": each.where, "reason": each.reason} for each in skipped[:_SKIPPED]],
        "prices": prices[:_PRICES],
        "limits": dict(list((await limits_learned(reader, run)).items())[:_PRICES]),
        "settings": settings_of(run.spec_json),
        "steps": list(options.steps),
        "charts": _charts(run, pulses, latencies),
    }


async def dataset_report(browser: RunBrowser, name: str, options: ReportOptions) -> dict[str, Any]:
    """The figures of the latest nights of a dataset; raises ``RunNotFound`` if there is none."""
    found = {each.name: each for each in await browser.slow.datasets()}
    nights = await browser.nights(name, limit=_NIGHTS)
    shown = [
        {
            **summary_object(each.summary, browser.database),
            "created_at": each.summary.run.created_at,
            "changes": {change.value: each.record.changes[change] for change in Change},
            "failed": each.summary.requests.get(State.FAILED, 0),
        }
        for each in nights
    ]
    return {
        "made_at": browser.clock.now(),
        "dataset": name,
        "database": browser.database,
        "rows": found[name].rows,
        "simulated": found[name].simulated,
        "changes": [
            each.value for each in Change if each in _COUNTED or any(night["changes"][each.value] for night in shown)
        ],
        "nights": shown,
        "cost_usd": _sum_usd(shown),
        "most": _NIGHTS,
        "steps": list(options.steps),
        "charts": _charts_of_nights(shown[::-1]),
    }


def report_html(report: Mapping[str, Any]) -> str:
    """A report as one file without scripts, which asks for nothing."""
    return render("report_dataset.html" if "dataset" in report else "report_run.html", report)


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def _pulses(browser: RunBrowser, run: Run, pulses: list[Pulse]) -> list[Pulse]:
    """The samples with the beginning and the end of the run, which lie between two of them."""
    summary = await browser.summary(run)
    begin = Pulse(
        at=run.created_at, settled=0, failed=0, in_flight=0, attempts=0, polls=0, rate_limited=0, cost_pusd=0
    )
    before = [begin] if not pulses or pulses[0].at > run.created_at else []
    last = pulse_of(summary, summary.run.ended_at or browser.clock.now())
    after = [last] if not pulses or last.at > pulses[-1].at else []
    return [*before, *pulses, *after]


def _peaks(intervals: Sequence[Interval], pulses: Sequence[Pulse]) -> dict[str, float]:
    return {
        "rows_per_minute": max((each.a_minute(each.settled) for each in intervals), default=0.0),
        "polls_per_minute": max((each.a_minute(each.polls) for each in intervals), default=0.0),
        "in_flight": max((each.in_flight for each in pulses), default=0),
    }


async def _first_keys(browser: RunBrowser, run: Run, code: str) -> list[str]:
    chosen = RowFilter(states=STATE_GROUPS["failed"], code=code)
    page = await browser.slow.row_page(run.id, chosen, RowPlace(), limit=_KEYS_OF_A_CODE, within_s=1.0)
    return [each.key for each in page.rows]


async def _top(browser: RunBrowser, run: Run, order: RowOrder, options: ReportOptions) -> list[dict[str, Any]]:
    chosen = RowFilter(states=STATE_GROUPS["settled"])
    return [_row(each, options) for each in await browser.slow.top_rows(run.id, chosen, order, limit=_TOP)]


def _row(record: ResultRecord, options: ReportOptions) -> dict[str, Any]:
    text = shortened(record.output_text or record.message, _EXCERPT) if options.with_texts else None
    return {**record_object(record), "excerpt": text}


def _charts(run: Run, pulses: Sequence[Pulse], latencies: Mapping[float, int]) -> dict[str, Any]:
    """Drawings by their titles; none without the extra, or without anything to draw."""
    intervals = intervals_of(pulses, _CHARTED)
    if not report_charts.can_draw() or len(intervals) < 2 or not pulses[-1].attempts:
        return {}
    specs = report_charts.time_charts(intervals, run.budget_pusd)
    if latencies:
        marks = {
            f"{name} {duration(value)}": value
            for name, share in _SHARES.items()
            if (value := percentile(latencies, share)) is not None
        }
        specs["Seconds from sending a row to its answer"] = report_charts.latency_chart(
            bins_of(latencies, fine=True), marks
        )
    return {title: report_charts.drawn(spec, title) for title, spec in specs.items()}


def _charts_of_nights(nights: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not report_charts.can_draw() or len(nights) < 2:
        return {}
    rows = [
        {**night["changes"], "failed": night["failed"], "dollars": parse_usd(night["cost_usd"]) / 10**12}
        for night in nights
    ]
    specs = {
        "Rows new and changed, each run a bar": report_charts.nights_chart(
            rows, {"new": report_charts.BLUE, "changed": report_charts.AMBER}
        ),
        "Rows that failed, each run a bar": report_charts.nights_chart(rows, {"failed": report_charts.RED}),
        "Cost in dollars, each run a bar": report_charts.nights_chart(rows, {"dollars": report_charts.BLUE}),
    }
    return {title: report_charts.drawn(spec, title) for title, spec in specs.items()}


def _sum_usd(nights: Sequence[Mapping[str, Any]]) -> str:
    return format_usd(sum(parse_usd(night["cost_usd"]) for night in nights))
