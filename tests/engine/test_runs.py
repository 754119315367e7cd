"""Which run a job means: a named one, an unfinished one of the same job, or a new one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from orchestrator.core.errors import RunChanged, UsageError
from orchestrator.core.states import RunState
from orchestrator.engine.runs import JobIdentity, choose_run, find_run, resume
from orchestrator.stores.reads import Run
from tests.stores.builders import mark

from .builders import NOW, Rig

pytestmark = pytest.mark.anyio

JOB = JobIdentity(
    job="speeches",
    spec={"name": "speeches", "request": {"model": "gpt-5-mini"}, "budget": {"usd": 1}},
    fingerprint="a" * 64,
    input_identity="rows.jsonl 1",
    budget_pusd=100,
    deadline_s=None,
    free_to_change=("budget",),
)


async def choose(rig: Rig, job: JobIdentity = JOB, *, name: str | None = None, new: bool = False) -> tuple[Run, bool]:
    return await choose_run(rig.store, rig.reader, job, name=name, new=new, now=NOW)


async def test_new_runs_are_numbered(rig: Rig) -> None:
    names = [(await choose(rig, new=True))[0].name for _ in range(3)]
    assert names == ["speeches-1", "speeches-2", "speeches-3"]


async def test_the_newest_unfinished_run_is_resumed(rig: Rig) -> None:
    runs = [(await choose(rig, new=True))[0] for _ in range(3)]
    await rig.store.set_run_state(runs[2].id, RunState.FINISHED, None, NOW)
    await rig.store.set_run_state(runs[1].id, RunState.HALTED, "budget", NOW)
    run, existed = await choose(rig)
    assert (run.name, existed) == ("speeches-2", True)


@pytest.mark.parametrize(
    "changed",
    [
        replace(JOB, fingerprint="b" * 64),
        replace(JOB, input_identity="rows.jsonl 2"),
        replace(JOB, simulated=True),
    ],
    ids=["request", "input", "sandbox"],
)
async def test_another_job_begins_a_new_run(rig: Rig, changed: JobIdentity) -> None:
    await choose(rig)
    assert await find_run(rig.reader, changed, name=None, new=False) is None
    with pytest.raises(RunChanged):
        await choose(rig, changed, name="speeches-1")


async def test_an_input_that_halted_at_a_bad_row_may_be_fixed(rig: Rig) -> None:
    run, _ = await choose(rig)
    await rig.store.set_run_state(run.id, RunState.HALTED, "bad_row", NOW)
    fixed = replace(JOB, input_identity="rows.jsonl 2")
    assert (await choose(rig, fixed))[0].id == run.id
    await rig.store.add_rows(run.id, [], [], mark(1, complete=True))
    assert (await choose(rig, fixed))[0].id != run.id


async def test_a_name_creates_a_run_and_then_means_it(rig: Rig) -> None:
    assert [(await choose(rig, name="mine"))[1] for _ in range(2)] == [False, True]
    with pytest.raises(UsageError, match=re.escape("a run named 'mine' exists already")):
        await choose(rig, name="mine", new=True)


async def test_a_changed_job_is_refused_by_field_and_never_by_value(rig: Rig) -> None:
    await choose(rig, name="mine")
    changed = replace(
        JOB, fingerprint="b" * 64, spec={"name": "speeches", "request": {"model": "SECRET"}, "budget": {"usd": 2}}
    )
    with pytest.raises(RunChanged) as refused:
        await choose(rig, changed, name="mine")
    assert "request.model changed" in str(refused.value)
    assert "budget" not in str(refused.value)
    assert "SECRET" not in str(refused.value)


async def test_a_resumed_run_takes_over_budget_and_keeps_its_deadline(rig: Rig) -> None:
    run, _ = await choose(rig, replace(JOB, deadline_s=60.0))
    again = replace(JOB, budget_pusd=200, deadline_s=60.0)
    resumed = await resume(rig.store, rig.reader, run, again, NOW + 30)
    assert (resumed.budget_pusd, resumed.deadline_at) == (200, NOW + 60)


async def test_a_run_that_its_deadline_halted_gets_a_new_one(rig: Rig) -> None:
    run, _ = await choose(rig, replace(JOB, deadline_s=60.0))
    await rig.store.set_run_state(run.id, RunState.HALTED, "deadline", NOW + 60)
    halted, _ = await choose(rig)
    resumed = await resume(rig.store, rig.reader, halted, replace(JOB, deadline_s=60.0), NOW + 100)
    assert (resumed.state, resumed.reason, resumed.deadline_at) == (RunState.ACTIVE, None, NOW + 160)
    without = await resume(rig.store, rig.reader, resumed, JOB, NOW + 101)
    assert without.deadline_at is None
