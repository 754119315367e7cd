"""Which run a job means: a named one, an unfinished one of the same job, or a new one."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from orchestrator.core.errors import RunChanged, UsageError
from orchestrator.core.states import RunState
from orchestrator.engine.runs import JobIdentity, choose_run, find_run, grows, resume
from orchestrator.stores.reads import Run
from tests.stores.builders import Harness, a_row, a_run, mark

from .builders import NOW, Rig

pytestmark = pytest.mark.anyio

JOB = JobIdentity(
    job="speeches",
    spec={"name": "speeches", "request": {"model": "gpt-5-mini"}, "budget": {"usd": 1}},
    fingerprint="a" * 64,
    input_identity="rows.jsonl 1",
    budget_pusd=100,
    free_to_change=("budget",),
)


def in_a_minute(now: float) -> float:
    return now + 60


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


async def planned(rig: Rig, job: JobIdentity, rows: int, state: RunState, reason: str | None = None) -> Run:
    """A run that has read its input as far as it should, and is in a state."""
    run, _ = await choose(rig, job)
    await rig.store.add_rows(run.id, [a_row(n) for n in range(rows)], [], mark(rows, complete=True))
    await rig.store.set_run_state(run.id, state, reason, NOW)
    return run


def limited(limit: int | None) -> JobIdentity:
    return replace(JOB, spec={**JOB.spec, "input": {"path": "rows.jsonl", "limit": limit}})


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.HALTED, RunState.ACTIVE])
@pytest.mark.parametrize("wanted", [None, 20])
async def test_a_run_of_the_first_rows_grows(rig: Rig, state: RunState, wanted: int | None) -> None:
    run = await planned(rig, limited(10), 10, state)
    found, existed = await choose(rig, limited(wanted))
    assert (found.id, existed) == (run.id, True)
    grown = await resume(rig.store, rig.reader, found, limited(wanted), NOW)
    assert (grown.state, grown.plan) == (RunState.ACTIVE, mark(10, complete=False))
    assert not grows(grown, limited(wanted))


async def test_a_grown_run_has_a_deadline_of_its_own(rig: Rig) -> None:
    first = replace(limited(10), deadline=in_a_minute)
    run = await planned(rig, first, 10, RunState.FINISHED)
    grown = await resume(
        rig.store, rig.reader, await current(rig, run), replace(limited(None), deadline=in_a_minute), NOW + 99
    )
    assert grown.deadline_at == NOW + 159


async def test_fewer_rows_change_nothing(rig: Rig) -> None:
    run = await planned(rig, limited(10), 10, RunState.HALTED)
    found, _ = await choose(rig, limited(5))
    assert found.id == run.id
    same = await resume(rig.store, rig.reader, found, limited(5), NOW)
    assert (same.plan, json.loads(same.spec_json)["input"]["limit"]) == (mark(10, complete=True), 10)
    await rig.store.set_run_state(run.id, RunState.FINISHED, None, NOW)
    assert not grows(await current(rig, run), limited(5))
    assert (await choose(rig, limited(5), name=run.name))[0].id == run.id


async def test_a_trial_beside_a_run_of_all_rows_is_another_run(rig: Rig) -> None:
    everything = await planned(rig, limited(None), 100, RunState.HALTED)
    trial = await planned(rig, limited(5), 5, RunState.FINISHED)
    assert trial.id != everything.id
    # All rows: the unfinished run, rather than the trial grown.
    assert (await choose(rig, limited(None)))[0].id == everything.id


async def test_only_the_latest_run_grows(rig: Rig) -> None:
    trial = await planned(rig, limited(5), 5, RunState.FINISHED)
    later, _ = await choose(rig, limited(None), new=True)
    await rig.store.set_run_state(later.id, RunState.FINISHED, None, NOW)
    assert (await choose(rig, limited(None)))[0].id not in (trial.id, later.id)


CORRECTED = replace(JOB, fingerprint="b" * 64, spec={**JOB.spec, "request": {"model": "gpt-5"}})


@pytest.mark.parametrize("name", [None, "speeches-1"])
async def test_a_corrected_job_continues_a_run_of_which_nothing_was_accepted(rig: Rig, name: str | None) -> None:
    run = await planned(rig, JOB, 3, RunState.HALTED, "model_not_found")
    found, existed = await choose(rig, CORRECTED, name=name)
    assert (found.id, existed) == (run.id, True)
    began = await resume(rig.store, rig.reader, found, CORRECTED, NOW)
    assert (began.name, began.uid, began.fingerprint, began.state) == (run.name, run.uid, "b" * 64, RunState.ACTIVE)
    assert began.plan == mark(0, complete=False)
    assert sum((await rig.reader.summary(run.id)).requests.values()) == 0
    taken = await rig.store.add_rows(run.id, [a_row(n) for n in range(3)], [], mark(3, complete=True))
    assert taken == []


async def test_a_run_of_which_something_was_accepted_is_kept(rig: Rig) -> None:
    run = await planned(rig, JOB, 3, RunState.HALTED, "budget")
    harness = Harness(rig.store, rig.reader, run)
    [request, *_] = await harness.fresh()
    await harness.submit(request)
    assert await rig.reader.has_accepted(run.id)
    assert not await rig.store.replace_run(run.id, a_run())
    assert (await choose(rig, CORRECTED))[0].id != run.id
    with pytest.raises(RunChanged, match=r"request\.model changed"):
        await choose(rig, CORRECTED, name=run.name)
    with pytest.raises(RunChanged):
        await resume(rig.store, rig.reader, run, CORRECTED, NOW)


async def test_a_changed_input_is_refused_with_the_two_ways(rig: Rig) -> None:
    run = await planned(rig, JOB, 3, RunState.HALTED, "budget")
    with pytest.raises(RunChanged) as refused:
        await choose(rig, replace(JOB, input_identity="rows.jsonl 2"), name=run.name)
    assert "orchestrator resume speeches-1" in str(refused.value)
    assert "reuse: same-request" in str(refused.value)


async def current(rig: Rig, run: Run) -> Run:
    found = await rig.reader.run(run.name)
    assert found is not None
    return found


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
    run, _ = await choose(rig, replace(JOB, deadline=in_a_minute))
    again = replace(JOB, budget_pusd=200, deadline=in_a_minute)
    resumed = await resume(rig.store, rig.reader, run, again, NOW + 30)
    assert (resumed.budget_pusd, resumed.deadline_at) == (200, NOW + 60)


async def test_a_run_that_its_deadline_halted_gets_a_new_one(rig: Rig) -> None:
    run, _ = await choose(rig, replace(JOB, deadline=in_a_minute))
    await rig.store.set_run_state(run.id, RunState.HALTED, "deadline", NOW + 60)
    halted, _ = await choose(rig)
    resumed = await resume(rig.store, rig.reader, halted, replace(JOB, deadline=in_a_minute), NOW + 100)
    assert (resumed.state, resumed.reason, resumed.deadline_at) == (RunState.ACTIVE, None, NOW + 160)
    without = await resume(rig.store, rig.reader, resumed, JOB, NOW + 101)
    assert without.deadline_at is None
