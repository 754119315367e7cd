"""Reports: their figures are those of the commands, their size is bounded, and nothing in them runs or asks."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.run_browser import RunBrowser
from orchestrator.core.increments import Change, Changes
from orchestrator.report.costs import costs_object
from orchestrator.report.summary import summary_object
from orchestrator.stores.pulses import Pulse
from orchestrator.testing import FakeClock
from orchestrator.web import report_charts
from orchestrator.web.job_settings import settings_of
from orchestrator.web.report_figures import bins_of, intervals_of, percentile
from orchestrator.web.run_report import ReportOptions, dataset_report, report_html, run_report
from tests.stores.builders import NOW, Harness, a_charge, a_row, a_run, an_unknown_charge, mark

from .conftest import SPEC, fill
from .hostile_texts import HOSTILE

pytestmark = pytest.mark.anyio

DRAWS = report_charts.can_draw()
# What would run, or ask for something; words in texts are escaped.
ACTIVE = re.compile(
    r"<(?:script|img|iframe|object|embed|link|base|form|audio|video)\b|\s(?:src|href|on\w+)=|url\(|@import"
)


async def html_of(database: Path, name: str, **options: Any) -> str:
    async with RunBrowser.open(database, clock=FakeClock(NOW + 100)) as browser:
        return report_html(await run_report(browser, await browser.run(name), ReportOptions(**options)))


async def add_pulses(harness: Harness, number: int) -> None:
    for second in range(number):
        await harness.store.add_pulse(harness.run.id, NOW + second)
        # A sample is in the database with the next verb that is waited for.
        await harness.store.remember("second", str(second).encode())


def values(html: str, attribute: str) -> dict[str, str]:
    return dict(re.findall(rf'<data data-{attribute}="([^"]*)" value="([^"]*)">', html))


async def test_the_figures_are_those_of_status_and_costs(harness: Harness, database: Path) -> None:
    await fill(harness, rows=20)
    *_, more = await harness.add(1, start=20)
    await harness.fail(more, code="server_error", charge=an_unknown_charge(70_000_000))
    async with RunBrowser.open(database) as browser:
        status = summary_object(await browser.summary(harness.run), browser.database)
        costs = costs_object(await browser.slow.costs(harness.run.id, ["model", "tier"]), ["model", "tier"])
    html = await html_of(database, harness.run.name)
    shown = values(html, "figure")
    for name in ("cost_usd", "cost_unknown", "attempts", "polls", "rate_limited", "possible_duplicates"):
        assert shown[name] == str(status[name]), name
    assert shown["total_cost_usd"] == costs["total"]["cost_usd"] == status["cost_usd"]
    assert shown["input_tokens"] == str(costs["total"]["usage"]["input_tokens"])
    assert shown["output_tokens"] == str(costs["total"]["usage"]["output_tokens"])
    states = {state: str(number) for state, number in status["requests"].items() if number and state != "total"}
    assert values(html, "state") == states
    assert values(html, "code") == {"refusal": "1", "server_error": "1"}
    assert "gpt-5-mini" in html
    assert "row-0" in html


async def test_texts_are_shown_only_if_they_are_wanted(harness: Harness, database: Path) -> None:
    await fill(harness)
    assert "The answer to row-2" not in await html_of(database, harness.run.name)
    assert "The answer to row-2" in await html_of(database, harness.run.name, with_texts=True)


async def test_hostile_texts_are_inert_and_the_file_stays_small(harness: Harness, database: Path) -> None:
    texts = (*HOSTILE, "y" * 5_000_000)
    rows = [
        a_row(place, key=f"{text}{number}", where=f"{text[:200]}:1", row=b"{}")
        for number in range(4)
        for place, text in enumerate(texts, start=number * len(texts))
    ]
    await harness.store.add_rows(harness.run.id, rows, [], mark(len(rows), complete=True))
    for place, request in enumerate(await harness.fresh()):
        if place % 3:
            await harness.succeed(request, output_text=request.key, model=HOSTILE[place % len(HOSTILE)][:300])
        else:
            await harness.fail(request, code=f"{request.key[:300]}{place}", message=request.key)
    html = await html_of(database, harness.run.name, with_texts=True, steps=HOSTILE)
    assert len(html.encode()) < 500_000
    body = html.partition("</style>")[2]
    tags = re.sub(r'"[^"]*"', '""', "".join(re.findall(r"<[^>]*>", body)))
    assert ACTIVE.findall(tags.replace('""', "")) == []
    assert re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", body) is None
    assert "default-src 'none'" in html


async def test_without_the_extra_there_are_tables_and_bars(
    harness: Harness, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(harness, rows=10)
    await add_pulses(harness, 40)
    monkeypatch.setattr(report_charts, "can_draw", lambda: False)
    html = await html_of(database, harness.run.name)
    assert 'class="chart"' not in html
    assert html.count("<details open>") == 2
    assert html.count('class="bar thin"') > 10


@pytest.mark.skipif(not DRAWS, reason="the extra `report` is not installed")
async def test_with_the_extra_there_are_charts_without_names_that_clash(harness: Harness, database: Path) -> None:
    await fill(harness, rows=10)
    await add_pulses(harness, 5)
    html = await html_of(database, harness.run.name)
    assert html.count('<svg role="img" aria-label="') == 5
    assert html.count('class="chart"') == 5
    assert re.findall(r'\sid="', html) == []


async def test_a_run_without_rows_and_one_of_a_dataset_have_reports(harness: Harness, database: Path) -> None:
    assert "No row was answered" in await html_of(database, harness.run.name)
    dataset_id = await harness.store.open_dataset("reviews", simulated=False)
    for name, cost in (("night-1", 2_000_000), ("night-2", 5_000_000)):
        night = Harness(harness.store, harness.reader, await harness.store.create_run(a_run(name, spec_json=SPEC)))
        await night.store.begin_night(night.run.id, dataset_id)
        await night.store.count_changes(night.run.id, Changes({Change.NEW: 3, Change.CHANGED: 2}))
        [row] = await night.add(1)
        await night.succeed(row, charge=a_charge(cost))
    async with RunBrowser.open(database, clock=FakeClock(NOW + 100)) as browser:
        html = report_html(await dataset_report(browser, "reviews", ReportOptions()))
    assert values(html, "run") == {"night-2": "0.000005", "night-1": "0.000002"}
    assert values(html, "figure")["cost_usd"] == "0.000007"
    assert html.count('class="chart"') == (3 if DRAWS else 0)


def test_percentiles_and_bins_hold_every_value() -> None:
    counts = {0.0: 1, 0.5: 60, 3.0: 34, 90.0: 4, 10.0**9: 1}
    assert [percentile(counts, share) for share in (0.5, 0.95, 0.99, 1)] == [0.5, 3.0, 90.0, 10.0**9]
    assert percentile({}, 0.5) is None
    for fine in (False, True):
        bins = bins_of(counts, fine=fine)
        assert sum(each.rows for each in bins) == 100
        assert all(one.high == other.low for one, other in pairwise(bins))
    [only] = bins_of({3.0: 2}, fine=False)
    assert (only.low, only.high, only.rows) == (2.0, 5.0, 2)
    assert bins_of({}, fine=True) == []


def test_intervals_keep_the_ends_and_never_count_backward() -> None:
    def pulse(at: float, settled: int) -> Pulse:
        return Pulse(
            at=at,
            settled=settled,
            failed=0,
            in_flight=3,
            attempts=settled,
            polls=0,
            rate_limited=0,
            cost_pusd=settled,
        )

    intervals = intervals_of([pulse(float(n), 10 * n) for n in range(100)], 12)
    assert len(intervals) <= 12
    assert (intervals[0].begin, intervals[-1].end, intervals[-1].all_settled) == (0.0, 99.0, 990)
    assert sum(each.settled for each in intervals) == 990
    assert {round(each.a_minute(each.settled)) for each in intervals} == {600}
    [retried] = intervals_of([pulse(1.0, 5), pulse(2.0, 3)], 12)
    assert retried.settled == 0
    assert intervals_of([pulse(1.0, 5)], 12) == intervals_of([], 12) == []


def test_settings_show_no_prompt_no_header_and_no_key() -> None:
    spec = {
        "name": "digest",
        "input": {"path": "rows.jsonl", "key": "id", "columns": ["a", "b"]},
        "request": {
            "model": "m", "instructions": "Be secret", "input": "{{ secret }}", "max_output_tokens": 300,
            "background": True, "prompt_cache_key": "shared",
            "tools": [{"type": "mcp", "headers": {"Authorization": "Bearer hush"}}],
        },
        "stages": {"read": {"request": {"instructions": "hush", "model": "n"}}},
        "api_key": "hush",
        "fields": {f"f{n}": n for n in range(200)},
    }  # fmt: skip
    found = dict(settings_of(json.dumps(spec)))
    assert found["input.path"] == "rows.jsonl"
    assert found["input.columns"] == "a, b"
    assert found["request.model"] == "m"
    assert found["request.max_output_tokens"] == "300"
    assert found["request.background"] == "yes"
    assert found["request.instructions"] == "9 characters"
    assert found["request.tools"] == "1 of them"
    assert len(found) == 81
    assert not any("hush" in value or "ecret" in value for value in found.values())
