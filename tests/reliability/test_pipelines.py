"""Pipelines ask what a naive evaluation in memory would ask, whatever fails and wherever they are interrupted."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio
import pytest

from orchestrator.app.api import Orchestrator
from orchestrator.core.errors import UsageError
from orchestrator.core.events import RunEvent, Settled
from orchestrator.core.states import RunState, State
from orchestrator.job.spec import Job
from tests.stores.sqlite.audit import audit

from .naive_pipeline import DIGEST, Stored, asked, naive, some_rows, three_stages
from .rehearsal import RUN, Rehearsal, Rehearse

pytestmark = pytest.mark.anyio


def with_stages(rehearsal: Rehearsal, stages: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> None:
    """Replace the job of a rehearsal by one with stages."""
    path = rehearsal.folder / "pipeline.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    job = {"name": "pipeline", "input": {"path": str(path), "key": "id"}, "stages": stages, **more}
    rehearsal.job = Job.model_validate(job)


def check(rehearsal: Rehearsal, rows: list[dict[str, Any]]) -> Stored:
    database = rehearsal.folder / "runs.db"
    audit(database)
    stored, wanted = Stored.read(database), naive(rows, Stored.read(database))
    for stage in ("facts", "article", "digest"):
        assert stored.asked(stage) == wanted[stage], stage
    return stored


async def interrupted(rehearsal: Rehearsal, after: int) -> None:
    """Work on the run like a process that is killed when so many requests were settled."""
    scope, settled = anyio.CancelScope(), 0

    def observe(event: RunEvent) -> None:
        nonlocal settled
        settled += isinstance(event, Settled)
        if settled >= after:
            scope.cancel()

    with scope:
        async with Orchestrator(
            rehearsal.config,
            database=rehearsal.folder / "runs.db",
            observers=[observe, rehearsal.events.append],
            clock=rehearsal.clock,
        ) as orchestrator:
            await orchestrator.run(rehearsal.job, name=RUN)
    audit(rehearsal.folder / "runs.db")


async def test_every_stage_asks_what_its_rows_ask(rehearse: Rehearse) -> None:
    rehearsal, rows = await rehearse(), some_rows(random.Random(1), 12)
    with_stages(rehearsal, three_stages(), rows)
    account = await rehearsal.run()
    assert account.summary.run.state is RunState.FINISHED
    assert set(account.states) == {"succeeded"}
    check(rehearsal, rows)


@pytest.mark.parametrize("seed", range(3))
async def test_failures_and_kills_change_no_request(rehearse: Rehearse, seed: int) -> None:
    rng = random.Random(seed)
    rows = some_rows(rng, 10)
    faults = {"content_filter": 0.1, "failed_invalid_prompt": 0.1, "server_error": 0.1}
    rehearsal = await rehearse(faults=faults, sandbox={"seed": seed})
    with_stages(rehearsal, three_stages(), rows, retry={"attempts": 2})
    total = sum(len(row["parts"]) for row in rows)
    for after in sorted(rng.sample(range(1, total + len(rows)), 4)):
        await interrupted(rehearsal, after)
    async with rehearsal.orchestrator() as orchestrator:
        summary = await orchestrator.run(rehearsal.job, name=RUN)
    if summary.run.state is RunState.HALTED:
        await rehearsal.retry(states=(), resolve_in_doubt="resend")
        async with rehearsal.orchestrator() as orchestrator:
            summary = await orchestrator.run(rehearsal.job, name=RUN)
    assert summary.run.state is RunState.FINISHED
    check(rehearsal, rows)


async def test_a_group_that_lacks_a_row_fails_and_is_asked_after_a_retry(rehearse: Rehearse) -> None:
    rows = [{"id": "r", "title": "t", "section": "a", "parts": ["one", "two"]}]
    rehearsal = await rehearse()
    stages = three_stages("fail")
    with_stages(rehearsal, {**stages, "facts": {**stages["facts"], "request": asked("F {{ oops[item] }}")}}, rows)
    account = await rehearsal.run()
    assert account.codes == {"row_invalid": 2, "group_incomplete": 2}
    assert account.creates == 0
    assert await rehearsal.retry() == 4


async def test_nothing_is_asked_of_an_empty_input_but_the_run_ends(rehearse: Rehearse) -> None:
    rehearsal = await rehearse()
    with_stages(rehearsal, three_stages(), [{"id": "r", "title": "t", "section": "a", "parts": []}])
    account = await rehearsal.run()
    assert (account.states, account.creates, account.summary.run.state) == ({}, 0, RunState.FINISHED)


async def test_a_large_group_becomes_a_tree(rehearse: Rehearse) -> None:
    rows = [{"id": f"r{n}", "title": "t" * 60, "section": "a", "parts": [f"p{n}"]} for n in range(8)]
    rehearsal = await rehearse()
    merge = {"input": "M{% for row in rows %}|{{ row.digest }}{% endfor %}"}
    small = {**asked(DIGEST), "max_output_tokens": 60, "reasoning": {"effort": "minimal"}}
    last: dict[str, Any] = {"max_input_tokens": 220, "merge": merge, "request": small, "on_incomplete": "keep"}
    with_stages(rehearsal, three_stages(**last), rows)
    account = await rehearsal.run()
    assert account.summary.run.state is RunState.FINISHED
    stored = Stored.read(rehearsal.folder / "runs.db")
    parts = [key for stage, key in stored.rows if stage == "digest" and "/0." in key]
    if stored.states["digest", "a"] is State.SUCCEEDED:
        assert stored.rows["digest", "a"]["merges_parts"] is True
        assert sum(len(stored.rows["digest", key]["rows"]) for key in parts) == 8
    else:
        assert not parts


async def test_another_last_prompt_sends_only_the_last_stage(rehearse: Rehearse) -> None:
    rehearsal, rows = await rehearse(), some_rows(random.Random(3), 6)
    with_stages(rehearsal, three_stages(), rows, reuse="same-request")
    before = await rehearsal.run()
    stages = three_stages()
    stages["digest"]["request"] = asked("Again " + DIGEST)
    with_stages(rehearsal, stages, rows, reuse="same-request")
    async with rehearsal.orchestrator() as orchestrator:
        again = await orchestrator.run(rehearsal.job, name="again")
    digests = len({row["section"] for row in rows if row["parts"]})
    assert again.run.state is RunState.FINISHED
    assert again.attempts == digests
    assert again.reused == before.summary.requests.total - digests


async def test_the_rows_of_one_stage_can_be_read_by_themselves(rehearse: Rehearse) -> None:
    rehearsal, rows = await rehearse(), some_rows(random.Random(5), 4)
    with_stages(rehearsal, three_stages(), rows)
    await rehearsal.run()
    async with rehearsal.orchestrator() as orchestrator:
        digests = [result.key async for result in orchestrator.results(RUN, stage="digest")]
        assert sorted(digests) == sorted({row["section"] for row in rows if row["parts"]})
        assert (await orchestrator.show(RUN, digests[0])).request.stage == "digest"
        sent = await orchestrator.request_sent(RUN, digests[0])
        assert sent is not None
        assert sent["input"].startswith(f"D {digests[0]}")
        with pytest.raises(UsageError, match="no stage"):
            [result async for result in orchestrator.results(RUN, stage="summary")]


async def test_a_cancelled_pipeline_has_nothing_left(rehearse: Rehearse) -> None:
    rehearsal, rows = await rehearse(), some_rows(random.Random(4), 6)
    with_stages(rehearsal, three_stages(), rows)
    await interrupted(rehearsal, 3)
    async with rehearsal.orchestrator() as orchestrator:
        summary = await orchestrator.cancel(RUN)
    assert summary.run.state is RunState.CANCELLED
    left = {state for state, number in summary.requests.items() if number}
    assert left <= {State.SUCCEEDED, State.FAILED, State.CANCELLED}
    audit(rehearsal.folder / "runs.db")
