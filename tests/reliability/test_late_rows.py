"""Rows that come late, by a retry: groups that failed without them are asked, those that were answered stay."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.states import RunState, State
from orchestrator.report.summary import closing_table
from tests.stores.sqlite.audit import audit

from .naive_pipeline import three_stages
from .rehearsal import RUN, Rehearsal, Rehearse
from .test_pipelines import with_stages

pytestmark = pytest.mark.anyio

ROWS = [{"id": f"r{n}", "title": f"t{n}", "section": "a", "parts": [f"p{n}-{m}" for m in range(3)]} for n in range(5)]


async def lossy(rehearse: Rehearse, missing: str) -> Rehearsal:
    """A run of which some rows of the first stage failed."""
    # One at a time: faults strike creates by their order.
    rehearsal = await rehearse(faults={"server_error": 0.3}, sandbox={"seed": 4}, limits={"max_in_flight": 1})
    with_stages(rehearsal, three_stages(missing), ROWS, retry={"attempts": 1})
    return rehearsal


async def again(rehearsal: Rehearsal, stage: str) -> Any:
    """Retry one stage until nothing of it is failed, and run to the end."""
    async with rehearsal.orchestrator() as orchestrator:
        summary = await orchestrator.status(RUN)
        for _ in range(20):
            if not summary.stages[stage].requests.get(State.FAILED, 0):
                break
            assert await orchestrator.retry(RUN, stage=stage)
            summary = await orchestrator.run(rehearsal.job, name=RUN)
    audit(rehearsal.folder / "runs.db")
    return summary


async def test_a_group_that_was_answered_keeps_its_answer_and_is_reported(rehearse: Rehearse) -> None:
    rehearsal = await lossy(rehearse, "any")
    account = await rehearsal.run()
    first = account.summary.stages
    assert first["facts"].requests.get(State.FAILED, 0)
    assert first["article"].partial
    assert not first["article"].outdated
    answers = {key: each.output_text for key, each in account.results.items() if each.stage == "article"}
    summary = await again(rehearsal, "facts")
    assert summary.run.state is RunState.FINISHED
    assert summary.stages["article"].outdated == first["article"].partial
    words = closing_table(summary, places={}, failures={}).plain
    assert "of article w" in words
    assert "answered without rows that are there now; a new run asks them again" in words
    async with rehearsal.orchestrator() as orchestrator:
        after = {each.key: each.output_text async for each in orchestrator.results(RUN, stage="article")}
    assert {key: after[key] for key, text in answers.items() if text} == {k: t for k, t in answers.items() if t}


async def test_a_group_that_failed_for_want_of_rows_is_asked_when_they_are_there(rehearse: Rehearse) -> None:
    rehearsal = await lossy(rehearse, "fail")
    account = await rehearsal.run()
    assert account.codes["group_incomplete"]
    summary = await again(rehearsal, "facts")
    assert not summary.stages["facts"].requests.get(State.FAILED, 0)
    async with rehearsal.orchestrator() as orchestrator:
        codes = [each.code async for each in orchestrator.results(RUN, stage="article")]
    assert "group_incomplete" not in codes
    summary = await again(rehearsal, "article")
    summary = await again(rehearsal, "digest")
    assert {state for state, number in summary.requests.items() if number} == {State.SUCCEEDED}
    assert all(not stage.partial for stage in summary.stages.values())
