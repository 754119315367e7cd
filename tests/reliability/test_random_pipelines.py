"""Random pipelines ask what a naive evaluation asks, whatever fails and wherever they are killed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orchestrator.core.states import RunState
from orchestrator.stores.sql.transaction import Transaction
from tests.stores.sqlite.audit import audit

from .naive_pipeline import Stored
from .random_pipelines import RandomPipeline
from .rehearsal import RUN, Rehearse
from .test_pipelines import interrupted, with_stages

pytestmark = pytest.mark.anyio

FAULTS = {"content_filter": 0.1, "failed_invalid_prompt": 0.05, "server_error": 0.1}
COUNTED_WRONGLY = """
    SELECT id FROM request WHERE level IS NOT NULL AND state = 'blocked' AND awaits <> (
      SELECT count(*) FROM member JOIN request AS each ON each.id = member.request_id
      WHERE member.group_id = request.id AND each.settled_at IS NULL
    )
"""
ASKED_EARLY = "SELECT id FROM request WHERE level IS NOT NULL AND awaits > 0 AND state <> 'blocked'"


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Checks what groups count whenever something is committed; returns a list with a number for each commit."""
    seen: list[int] = []
    write_sums = Transaction.write_sums

    def checked(tx: Transaction) -> None:
        write_sums(tx)
        seen.append(len(seen))
        for query in (COUNTED_WRONGLY, ASKED_EARLY):
            assert tx.execute(query, {}).fetchall() == []

    monkeypatch.setattr(Transaction, "write_sums", checked)
    return seen


async def play(rehearse: Rehearse, seed: int, rows: int) -> dict[str, int]:
    rng = random.Random(seed)
    pipeline = RandomPipeline(rng, rows)
    rehearsal: Any = await rehearse(faults=FAULTS, sandbox={"seed": seed})
    with_stages(rehearsal, pipeline.sections(), pipeline.input, retry={"attempts": 2})
    for after in sorted(rng.sample(range(1, 3 * rows), 3)):
        await interrupted(rehearsal, after)
    async with rehearsal.orchestrator() as orchestrator:
        summary = await orchestrator.run(rehearsal.job, name=RUN)
    if summary.run.state is RunState.HALTED:
        await rehearsal.retry(states=(), resolve_in_doubt="resend")
        async with rehearsal.orchestrator() as orchestrator:
            summary = await orchestrator.run(rehearsal.job, name=RUN)
    assert summary.run.state is RunState.FINISHED
    audit(rehearsal.folder / "runs.db")
    stored = Stored.read(rehearsal.folder / "runs.db")
    wanted, asked = pipeline.wanted(stored), pipeline.asked(stored)
    for stage in pipeline.stages:
        assert asked[stage] == wanted[stage], (stage, pipeline.sections())
    return {stage: asked[stage].total() for stage in pipeline.stages}


@pytest.mark.parametrize("seed", range(3))
async def test_random_pipelines_ask_what_a_naive_evaluation_asks(
    rehearse: Rehearse, commits: list[int], seed: int
) -> None:
    assert sum((await play(rehearse, seed, 6)).values())
    assert len(commits) > 10


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 160))
async def test_many_random_pipelines_ask_what_a_naive_evaluation_asks(
    rehearse: Rehearse, commits: list[int], seed: int
) -> None:
    asked = await play(rehearse, seed, 12)
    print(f"seed {seed}: {asked}, {len(commits)} commits checked")  # noqa: T201
