"""What an estimate and a dry run say of a job with stages is what the run then does."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from orchestrator.app.forecast.estimates import Forecast, Span
from orchestrator.app.forecast.stages_text import reuse_words
from orchestrator.core.errors import BadRow
from orchestrator.stores.reads import ResultRecord

from .naive_pipeline import asked, some_rows, three_stages
from .rehearsal import Rehearsal, Rehearse
from .test_pipelines import with_stages

pytestmark = pytest.mark.anyio

MERGE = {"input": "M{% for row in rows %}|{{ row.digest }}{% endfor %}"}


def lies_in(figure: int, span: Span | None) -> bool:
    assert span is not None
    return span.low <= figure and (span.high is None or figure <= span.high)


async def forecast_of(rehearsal: Rehearsal) -> Forecast:
    async with rehearsal.orchestrator() as orchestrator:
        return await orchestrator.estimate(rehearsal.job)


async def results_of(rehearsal: Rehearsal, run: str) -> list[ResultRecord]:
    async with rehearsal.orchestrator() as orchestrator:
        return [each async for each in orchestrator.results(run)]


@pytest.mark.parametrize(
    ("seed", "last"),
    [(1, {}), (2, {"where": "{{ article | length > 200 }}"}), (3, {"max_input_tokens": 700, "merge": MERGE})],
)
async def test_a_run_stays_within_the_ranges_of_its_estimate(rehearse: Rehearse, seed: int, last: Any) -> None:
    rehearsal, rows = await rehearse(), some_rows(random.Random(seed), 7)
    small = {**asked("D{% for row in rows %}|{{ row.article }}{% endfor %}"), "max_output_tokens": 300}
    with_stages(rehearsal, three_stages(**last, request=small, on_incomplete="keep"), rows)
    forecast = await forecast_of(rehearsal)
    account = await rehearsal.run()
    sent = [each for each in await results_of(rehearsal, account.summary.name) if each.attempts]
    counts = Counter(each.stage for each in sent)
    for stage in forecast.stages:
        usage = [each.usage for each in sent if each.stage == stage.name and each.usage]
        cost = sum(each.cost_pusd or 0 for each in sent if each.stage == stage.name)
        assert lies_in(counts[stage.name], stage.requests), stage.name
        assert lies_in(sum(each.input_tokens for each in usage), stage.estimate.input_tokens), stage.name
        assert lies_in(sum(each.output_tokens for each in usage), stage.estimate.output_tokens), stage.name
        assert lies_in(cost, stage.estimate.cost), stage.name
    assert lies_in(account.summary.cost_pusd, forecast.estimate.cost)
    # The first stage depends on no answer, and neither does the number of those that wait for all of its parts.
    parts = sum(len(row["parts"]) for row in rows)
    assert forecast.stages[0].requests == Span(low=parts, likely=parts, high=parts)
    assert forecast.stages[1].requests.high == sum(bool(row["parts"]) for row in rows)


async def test_a_dry_run_announces_that_only_the_changed_stage_is_sent(rehearse: Rehearse) -> None:
    rehearsal, rows = await rehearse(), some_rows(random.Random(3), 6)
    with_stages(rehearsal, three_stages(), rows, reuse="same-request")
    before = await rehearsal.run()
    stages = three_stages()
    stages["digest"]["request"] = asked("Again " + stages["digest"]["request"]["input"])
    with_stages(rehearsal, stages, rows, reuse="same-request")
    async with rehearsal.orchestrator() as orchestrator:
        dry = await orchestrator.dry_run(rehearsal.job)
        again = await orchestrator.run(rehearsal.job, name="again")
        repeated = await orchestrator.dry_run(rehearsal.job)
    assert dry.forecast is not None
    facts, article, digest = dry.forecast.stages
    assert (facts.requests.high, article.requests.high) == (0, 0)
    assert digest.requests == Span(low=again.attempts, likely=again.attempts, high=again.attempts)
    assert dry.reused == again.reused == before.summary.requests.total - again.attempts
    assert reuse_words(dry.forecast) == (
        "only digest is asked: the answers of facts, article are there from earlier runs"
    )
    assert lies_in(again.cost_pusd, dry.forecast.estimate.cost)
    assert dry.forecast.estimate.cost is not None
    assert dry.forecast.estimate.cost.high is not None
    assert 0 < dry.forecast.estimate.cost.high < before.summary.cost_pusd + again.cost_pusd * 20
    assert repeated.forecast is not None
    assert repeated.forecast.estimate.cost == Span(low=0, likely=0, high=0)
    assert (
        reuse_words(repeated.forecast)
        == f"nothing is asked: all {repeated.reused} answers are there from earlier runs"
    )


async def test_a_changed_first_stage_makes_what_follows_a_range(rehearse: Rehearse) -> None:
    rehearsal, rows = await rehearse(), some_rows(random.Random(3), 6)
    with_stages(rehearsal, three_stages(), rows, reuse="same-request")
    await rehearsal.run()
    rows[0]["parts"] = ["another part"]
    with_stages(rehearsal, three_stages(), rows, reuse="same-request")
    async with rehearsal.orchestrator() as orchestrator:
        dry = await orchestrator.dry_run(rehearsal.job)
        again = await orchestrator.run(rehearsal.job, name="again")
    assert dry.forecast is not None
    facts, article, digest = dry.forecast.stages
    assert facts.requests == article.requests == digest.requests == Span(low=1, likely=1, high=1)
    assert again.attempts == 3
    assert lies_in(again.cost_pusd, dry.forecast.estimate.cost)


async def test_a_row_that_cannot_be_asked_is_reported_with_its_place(rehearse: Rehearse) -> None:
    rehearsal, rows = await rehearse(), [{"id": "r", "title": "t", "section": "a", "parts": ["one", "two"]}]
    stages = three_stages("fail")
    with_stages(rehearsal, {**stages, "facts": {**stages["facts"], "request": asked("F {{ oops[item] }}")}}, rows)
    async with rehearsal.orchestrator() as orchestrator:
        dry = await orchestrator.dry_run(rehearsal.job)
    assert dry.forecast is not None
    assert [each.failing for each in dry.forecast.stages] == [2, 1, 1]
    assert [each.requests.high for each in dry.forecast.stages] == [0, 0, 0]
    assert len(dry.invalid) == 2
    assert dry.first_request is None
    with_stages(rehearsal, stages, [*rows, *rows])
    async with rehearsal.orchestrator() as orchestrator:
        with pytest.raises(BadRow, match="another row has the key"):
            await orchestrator.dry_run(rehearsal.job)


async def test_the_estimate_before_a_run_loads_no_vocabulary(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        pytest.fail("half a second and 80 MB, for a job that needs no count")

    rehearsal = await rehearse()
    monkeypatch.setattr("orchestrator.policy.pricing.tokens._batch_count", load)
    with_stages(rehearsal, three_stages(), some_rows(random.Random(2), 3))
    async with rehearsal.orchestrator() as orchestrator:
        forecast = await orchestrator.glance(rehearsal.job)
    assert forecast is not None
    assert forecast.requests
