"""What every store promises about runs and planning."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from orchestrator.core.errors import RunBusy
from orchestrator.core.model import PlanMark, SkippedRow
from orchestrator.core.states import RunState, State
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Duplicate, SharedCaps
from orchestrator.stores.writes import Counts

from .builders import NOW, Harness, a_row, a_run, mark, rows

pytestmark = pytest.mark.anyio


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_read_as_it_was_created(store: Store, reader: Reader) -> None:
    created = await store.create_run(a_run("first", budget_pusd=5 * 10**12, deadline_at=NOW + 60, simulated=True))
    assert await reader.run("first") == created
    assert created.state is RunState.ACTIVE
    assert created.plan == PlanMark(position=0, complete=False)
    assert await reader.run("no such run") is None


async def test_runs_come_newest_first(store: Store, reader: Reader) -> None:
    names = ["first", "second", "third"]
    for name in names:
        await store.create_run(a_run(name))
    assert [run.name for run in await reader.runs()] == names[::-1]


async def test_a_name_is_taken_once(harness: Harness) -> None:
    with pytest.raises(RunBusy, match="'demo'"):
        await harness.store.create_run(a_run())
    assert await harness.reader.runs() == [harness.run]


async def test_a_run_ends_with_a_reason_and_opens_again(harness: Harness) -> None:
    await harness.store.set_run_state(harness.run.id, RunState.HALTED, "budget", NOW + 5)
    halted = await harness.current_run()
    assert (halted.state, halted.reason, halted.ended_at) == (RunState.HALTED, "budget", NOW + 5)
    await harness.store.set_run_state(harness.run.id, RunState.ACTIVE, None, NOW + 6)
    assert await harness.current_run() == harness.run


async def test_a_run_is_adapted_when_it_is_resumed(harness: Harness) -> None:
    await harness.store.adapt_run(harness.run.id, budget_pusd=7, deadline_at=NOW + 3, input_identity="fixed")
    assert await harness.current_run() == replace(
        harness.run, budget_pusd=7, deadline_at=NOW + 3, input_identity="fixed"
    )


async def test_counts_add_up(harness: Harness) -> None:
    for _ in range(3):
        await harness.store.add_counts(harness.run.id, Counts(polls=2, rate_limited=1, elapsed_s=0.5))
    await harness.flush()
    summary = await harness.summary()
    assert (summary.polls, summary.rate_limited, summary.elapsed_s) == (6, 3, 1.5)


async def test_the_latest_value_is_recalled(harness: Harness) -> None:
    assert await harness.reader.recall("latency") is None
    await harness.store.remember("latency", b"\x00old")
    await harness.store.remember("latency", b"\x00new")
    assert await harness.reader.recall("latency") == b"\x00new"


async def test_the_latest_at_is_that_of_the_latest_move(harness: Harness) -> None:
    first, second = await harness.add(2)
    assert await harness.reader.latest_at(harness.run.id) is None
    await harness.succeed(first)
    assert await harness.reader.latest_at(harness.run.id) == NOW + 10
    await harness.claim(second, at=NOW + 5)
    assert await harness.reader.latest_at(harness.run.id) == NOW + 10


async def test_a_run_that_does_not_exist_has_nothing_to_read(harness: Harness) -> None:
    absent = harness.run.id + 1_000
    assert await harness.reader.fresh(absent, after_id=0, limit=1) == []
    assert await harness.reader.delayed(absent, limit=1) == []
    assert await harness.reader.open_attempts(absent) == []
    assert [record async for record in harness.reader.results(absent, list(State))] == []
    assert await harness.reader.costs(absent, []) == []
    assert await harness.reader.request(absent, "row-0") is None


# ── planning ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_rows_become_pending_requests_in_order(harness: Harness) -> None:
    await harness.store.add_rows(harness.run.id, rows(3), [], mark(3))
    await harness.store.add_rows(harness.run.id, rows(2, start=3), [], mark(5, complete=True))
    fresh = await harness.reader.fresh(harness.run.id, after_id=0, limit=4)
    assert [(request.key, request.where, request.row) for request in fresh] == [
        (f"row-{n}", f"rows.jsonl:{n + 1}", b'{"n":%d}' % n) for n in range(4)
    ]
    rest = await harness.reader.fresh(harness.run.id, after_id=fresh[-1].id, limit=4)
    assert [request.key for request in rest] == ["row-4"]
    assert (await harness.current_run()).plan == PlanMark(position=5, complete=True)


async def test_fresh_requests_and_past_use_are_read_by_stage(harness: Harness) -> None:
    both = [a_row(0, key="same"), a_row(1, key="same", stage="review")]
    await harness.store.add_rows(harness.run.id, both, [], mark(2, complete=True))
    [main], [review] = (
        await harness.fresh(),
        await harness.reader.fresh(harness.run.id, stage="review", after_id=0, limit=9),
    )
    assert (main.stage, review.stage) == ("main", "review")
    await harness.succeed(main)
    await harness.submit(review)
    assert [attempt.stage for attempt in await harness.open_attempts()] == ["review"]
    assert (await harness.reader.past_use(harness.run.id, most=9)).requests == 1
    assert (await harness.reader.past_use(harness.run.id, stage="review", most=9)).requests == 0


@pytest.mark.parametrize("size", [0, 511, 512, 100_000])
async def test_a_row_of_any_size_comes_back_byte_for_byte(harness: Harness, size: int) -> None:
    row = b'{"text":"%s"}' % ("é" * (size // 2)).encode()
    await harness.store.add_rows(harness.run.id, [a_row(0, row=row)], [], mark(1))
    [request] = await harness.fresh()
    assert request.row == (await harness.request("row-0")).row == row


async def test_planning_twice_adds_nothing(harness: Harness) -> None:
    for _ in range(2):
        assert await harness.store.add_rows(harness.run.id, rows(5), [], mark(5, complete=True)) == []
    assert await harness.states() == {State.PENDING: 5}


async def test_an_old_batch_does_not_move_the_mark_back(harness: Harness) -> None:
    await harness.store.add_rows(harness.run.id, rows(5), [], mark(5, complete=True))
    await harness.store.add_rows(harness.run.id, rows(2), [], mark(2))
    assert (await harness.current_run()).plan == PlanMark(position=5, complete=True)


async def test_a_key_that_another_row_has_keeps_the_batch_out(harness: Harness) -> None:
    await harness.store.add_rows(harness.run.id, rows(3), [], mark(3))
    again = a_row(3, key="row-1")
    for _ in range(2):
        assert await harness.store.add_rows(harness.run.id, [a_row(4), again], [], mark(5)) == [again]
    assert await harness.states() == {State.PENDING: 3}
    assert (await harness.current_run()).plan == mark(3)
    assert await harness.reader.skipped(harness.run.id) == []


async def test_a_key_that_another_row_has_can_be_skipped(harness: Harness) -> None:
    await harness.store.add_rows(harness.run.id, rows(3), [], mark(3))
    batch = [a_row(3, key="row-1"), a_row(4, key="new"), a_row(5, key="new"), a_row(6)]
    for _ in range(2):
        taken = await harness.store.add_rows(harness.run.id, batch, [], mark(7), skip_taken=True)
        assert taken == [batch[0], batch[2]]
    assert [request.key for request in await harness.fresh()] == ["row-0", "row-1", "row-2", "new", "row-6"]
    assert await harness.states() == {State.PENDING: 5}
    skipped = await harness.reader.skipped(harness.run.id)
    assert [(row.where, row.reason) for row in skipped] == [
        ("rows.jsonl:4", "an earlier row has the key 'row-1'"),
        ("rows.jsonl:6", "an earlier row has the key 'new'"),
    ]


async def test_the_same_key_may_be_in_two_runs_and_two_stages(harness: Harness) -> None:
    other = await harness.store.create_run(a_run("other"))
    for run, stage in ((harness.run, "main"), (harness.run, "repair"), (other, "main")):
        assert await harness.store.add_rows(run.id, [a_row(0, stage=stage)], [], mark(1)) == []
    assert await harness.states() == {State.PENDING: 2}
    repair = await harness.reader.request(harness.run.id, "row-0", stage="repair")
    assert repair is not None
    assert repair.stage == "repair"
    assert await harness.reader.request(harness.run.id, "row-0", stage="absent") is None


async def test_skipped_rows_are_kept_and_counted_once(harness: Harness) -> None:
    skipped = [SkippedRow(position=n, where=f"rows.jsonl:{n + 1}", reason="not JSON") for n in (4, 2)]
    for _ in range(2):
        await harness.store.add_rows(harness.run.id, [], skipped, mark(5))
    assert await harness.reader.skipped(harness.run.id) == skipped[::-1]
    assert (await harness.summary()).skipped_rows == 2


# ── a run that begins again ───────────────────────────────────────────────────────────────────────────────────


async def test_a_run_of_which_nothing_was_accepted_begins_again_as_another(harness: Harness) -> None:
    store, run = harness.store, harness.run
    skipped = SkippedRow(position=3, where="rows.jsonl:4", reason="bad")
    await store.add_rows(run.id, rows(3), [skipped], mark(4, complete=True))
    [request, *_] = await harness.fresh()
    await store.fail_pending(request.id, "over_budget", "too much", NOW)
    await store.set_run_state(run.id, RunState.HALTED, "model_not_found", NOW + 1)
    other = a_run("ignored", uid="ignored", job="corrected", fingerprint="g" * 64, spec_json='{"name": "corrected"}')
    assert await store.replace_run(run.id, other)
    summary = await harness.summary()
    assert (summary.run.name, summary.run.uid) == (run.name, run.uid)
    assert (summary.run.job, summary.run.fingerprint) == ("corrected", "g" * 64)
    assert (summary.run.state, summary.run.plan) == (RunState.ACTIVE, mark(0))
    assert (sum(summary.requests.values()), summary.skipped_rows, summary.attempts) == (0, 0, 0)
    assert await store.add_rows(run.id, rows(2), [], mark(2, complete=True)) == []
    assert [each.key for each in await harness.fresh()] == ["row-0", "row-1"]


async def test_a_run_with_a_response_never_begins_again(harness: Harness) -> None:
    [request, _] = await harness.add(2)
    assert not await harness.reader.has_accepted(harness.run.id)
    await harness.submit(request)
    assert await harness.reader.has_accepted(harness.run.id)
    before = await harness.summary()
    assert not await harness.store.replace_run(harness.run.id, a_run("other"))
    assert await harness.summary() == before


async def test_a_plan_is_opened_again_with_another_job(harness: Harness) -> None:
    store, run = harness.store, harness.run
    await store.add_rows(run.id, rows(2), [], mark(2, complete=True))
    await store.set_run_state(run.id, RunState.FINISHED, None, NOW)
    await store.keep_spec(run.id, '{"name": "more"}', reopen_plan=False)
    assert (await harness.current_run()).plan == mark(2, complete=True)
    await store.keep_spec(run.id, '{"name": "all"}', reopen_plan=True)
    opened = await harness.current_run()
    assert (opened.spec_json, opened.state, opened.plan) == ('{"name": "all"}', RunState.ACTIVE, mark(2))
    assert opened.ended_at is None


# ── a run that is removed ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_removed_run_leaves_nothing_but_what_it_spent(harness: Harness) -> None:
    store, reader = harness.store, harness.reader
    caps = SharedCaps(run_id=harness.run.id, simulated=False, day_pusd=10**12, month_pusd=None)
    done, failed, _ = await harness.add(3)
    await harness.succeed(done)
    await harness.fail(failed)
    await store.add_rows(harness.run.id, [], [SkippedRow(position=9, where="rows.jsonl:10", reason="bad")], mark(10))
    await store.remember("about:it", b"x")
    await store.remember("about:others", b"y")
    spent = await reader.spending(caps, NOW)
    assert spent.day_pusd > 0
    await store.remove_run(harness.run.id, names=["about:it"])
    assert await reader.runs() == []
    assert await reader.run(harness.run.name) is None
    assert (await reader.recall("about:it"), await reader.recall("about:others")) == (None, b"y")
    assert (await reader.spending(caps, NOW)).day_pusd == spent.day_pusd
    again = Harness(store, reader, await store.create_run(a_run()))
    assert await again.results() == []
    assert sum((await again.summary()).requests.values()) == 0
    await again.succeed((await again.add(1))[0])


async def test_another_run_keeps_the_answer_that_it_shares(harness: Harness) -> None:
    store, reader = harness.store, harness.reader
    [original] = await harness.add(1)
    await harness.succeed(original)
    other = Harness(store, reader, await store.create_run(a_run("other")))
    [request] = await other.add(1)
    await store.join(request.id, Duplicate(request_id=original.id, here=False), b"f" * 16, NOW)
    [before] = await other.results()
    await store.remove_run(harness.run.id)
    [after] = await other.results()
    assert (after.output_text, after.response_id, after.reused) == (before.output_text, before.response_id, True)
    assert (after.cost_pusd, after.state) == (before.cost_pusd, State.SUCCEEDED)
    assert (await other.summary()).reused == 1


# ── single rows ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_what_is_not_sent_is_cancelled_at_once(harness: Harness) -> None:
    waiting, sent = await harness.add(2)
    attempt_id = await harness.submit(sent)
    assert await harness.store.cancel_unsent(waiting.id, NOW) == []
    assert await harness.store.cancel_unsent(sent.id, NOW) is None
    assert await harness.store.cancel_unsent(waiting.id, NOW) is None
    cancelled = await harness.request("row-0")
    assert (cancelled.state, cancelled.code, cancelled.settled_at) == (State.CANCELLED, "cancelled", NOW)
    assert await harness.end(sent, attempt_id, State.SUCCEEDED)


async def test_a_cancelled_duplicate_no_longer_waits_for_its_original(harness: Harness) -> None:
    original, copy = await harness.add(2)
    attempt_id = await harness.submit(original)
    await harness.store.join(copy.id, Duplicate(request_id=original.id, here=True), b"f" * 16, NOW)
    assert await harness.store.cancel_unsent(copy.id, NOW) == []
    await harness.settle(original, attempt_id, State.SUCCEEDED)
    assert (await harness.request("row-1")).state is State.CANCELLED


async def test_a_run_stands_for_a_day_and_a_halt_may_be_over_at_a_known_time(harness: Harness) -> None:
    run = await harness.store.create_run(replace(a_run("dated", uid="dated"), day=date(2026, 11, 29)))
    assert run.day == date(2026, 11, 29)
    await harness.store.set_run_state(run.id, RunState.HALTED, "budget", NOW, resume_at=NOW + 600)
    stored = await harness.reader.run("dated")
    assert stored is not None
    assert (stored.day, stored.resume_at) == (run.day, NOW + 600)
    await harness.store.set_run_state(run.id, RunState.ACTIVE, None, NOW)
    stored = await harness.reader.run("dated")
    assert stored is not None
    assert stored.resume_at is None
