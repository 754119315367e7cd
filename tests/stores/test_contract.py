"""What every store promises: runs, planning, and the moves of a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

from orchestrator.core.errors import RunBusy
from orchestrator.core.model import PlanMark, SkippedRow
from orchestrator.core.states import SETTLED, TRANSITIONS, RunState, State
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Run
from orchestrator.stores.writes import Acceptance, Counts, Ending, Release

from .builders import NOW, Desk, a_charge, a_claim, a_row, a_run, mark, rows

pytestmark = pytest.mark.anyio


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_read_as_it_was_made(store: Store, reader: Reader) -> None:
    made = await store.create_run(a_run("first", budget_pusd=5 * 10**12, deadline_at=NOW + 60))
    assert await reader.run("first") == made
    assert made.state is RunState.ACTIVE
    assert made.plan == PlanMark(position=0, complete=False)
    assert await reader.run("no such run") is None


async def test_runs_come_newest_first(store: Store, reader: Reader) -> None:
    names = ["first", "second", "third"]
    made = [await store.create_run(a_run(name)) for name in names]
    await store.set_run_state(made[0].id, RunState.HALTED, "budget", NOW + 1)
    await store.set_run_state(made[1].id, RunState.FINISHED, None, NOW + 2)
    assert [run.name for run in await reader.runs()] == names[::-1]


async def test_a_name_taken_a_moment_ago_is_told(store: Store, desk: Desk) -> None:
    with pytest.raises(RunBusy, match="a run named 'demo'"):
        await store.create_run(a_run())


async def test_a_run_ends_with_a_reason_and_opens_again(desk: Desk) -> None:
    await desk.store.set_run_state(desk.run.id, RunState.HALTED, "budget", NOW + 5)
    halted = await desk.reader.run("demo")
    assert halted is not None
    assert (halted.state, halted.reason, halted.ended_at) == (RunState.HALTED, "budget", NOW + 5)
    await desk.store.set_run_state(desk.run.id, RunState.ACTIVE, None, NOW + 6)
    assert await desk.reader.run("demo") == desk.run


async def test_a_run_is_adapted_when_it_is_resumed(desk: Desk) -> None:
    await desk.store.adapt_run(desk.run.id, budget_pusd=7, deadline_at=NOW + 3, input_identity="mended")
    assert await desk.reader.run("demo") == replace(
        desk.run, budget_pusd=7, deadline_at=NOW + 3, input_identity="mended"
    )


async def test_counts_add_up(desk: Desk) -> None:
    for _ in range(3):
        await desk.store.add_counts(desk.run.id, Counts(polls=2, rate_limited=1, elapsed_s=0.5))
    await desk.store.remember("anything that is waited for", b"")
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.polls, summary.rate_limited, summary.elapsed_s) == (6, 3, 1.5)


async def test_what_is_learnt_is_recalled(desk: Desk) -> None:
    assert await desk.reader.recall("latency") is None
    await desk.store.remember("latency", b"\x00old")
    await desk.store.remember("latency", b"\x00new")
    assert await desk.reader.recall("latency") == b"\x00new"


# ── planning ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_rows_become_pending_requests_in_order(desk: Desk) -> None:
    await desk.store.add_rows(desk.run.id, rows(3), [], mark(3))
    await desk.store.add_rows(desk.run.id, rows(2, start=3), [], mark(5, complete=True))
    fresh = await desk.reader.fresh(desk.run.id, after_id=0, limit=4)
    assert [(request.key, request.where, request.row) for request in fresh] == [
        (f"row-{n}", f"rows.jsonl:{n + 1}", b'{"n":%d}' % n) for n in range(4)
    ]
    assert [request.key for request in await desk.reader.fresh(desk.run.id, after_id=fresh[-1].id, limit=4)] == [
        "row-4"
    ]
    run = await desk.reader.run("demo")
    assert run is not None
    assert run.plan == PlanMark(position=5, complete=True)


@pytest.mark.parametrize("size", [0, 511, 512, 100_000])
async def test_a_row_of_any_size_comes_back_byte_for_byte(desk: Desk, size: int) -> None:
    row = b'{"text":"%s"}' % ("é" * (size // 2)).encode()
    await desk.store.add_rows(desk.run.id, [a_row(0, row=row)], [], mark(1))
    [request] = await desk.reader.fresh(desk.run.id, after_id=0, limit=1)
    record = await desk.reader.request(desk.run.id, "row-0")
    assert record is not None
    assert request.row == record.row == row


async def test_planning_twice_adds_nothing(desk: Desk) -> None:
    for _ in range(2):
        assert await desk.store.add_rows(desk.run.id, rows(5), [], mark(5, complete=True)) == []
    assert await desk.states() == {State.PENDING: 5}


async def test_an_old_batch_does_not_move_the_mark_back(desk: Desk) -> None:
    await desk.store.add_rows(desk.run.id, rows(5), [], mark(5, complete=True))
    await desk.store.add_rows(desk.run.id, rows(2), [], mark(2))
    run = await desk.reader.run("demo")
    assert run is not None
    assert run.plan == PlanMark(position=5, complete=True)


async def test_a_key_that_another_row_has_keeps_the_batch_out(desk: Desk) -> None:
    await desk.store.add_rows(desk.run.id, rows(3), [], mark(3))
    again = a_row(3, key="row-1")
    for _ in range(2):
        assert await desk.store.add_rows(desk.run.id, [a_row(4), again], [], mark(5)) == [again]
    assert await desk.states() == {State.PENDING: 3}
    run = await desk.reader.run("demo")
    assert run is not None
    assert run.plan == mark(3)
    assert await desk.reader.skipped(desk.run.id) == []


async def test_a_key_that_another_row_has_can_be_skipped(desk: Desk) -> None:
    await desk.store.add_rows(desk.run.id, rows(3), [], mark(3))
    batch = [a_row(3, key="row-1"), a_row(4, key="new"), a_row(5, key="new"), a_row(6)]
    for _ in range(2):
        taken = await desk.store.add_rows(desk.run.id, batch, [], mark(7), skip_taken=True)
        assert taken == [batch[0], batch[2]]
    fresh = await desk.reader.fresh(desk.run.id, after_id=0, limit=10)
    assert [request.key for request in fresh] == ["row-0", "row-1", "row-2", "new", "row-6"]
    assert await desk.states() == {State.PENDING: 5}
    skipped = await desk.reader.skipped(desk.run.id)
    assert [(row.where, row.reason) for row in skipped] == [
        ("rows.jsonl:4", "an earlier row has the key 'row-1'"),
        ("rows.jsonl:6", "an earlier row has the key 'new'"),
    ]


async def test_the_same_key_may_be_in_two_runs_and_two_stages(desk: Desk) -> None:
    other = await desk.store.create_run(a_run("other"))
    for run, stage in ((desk.run, "main"), (desk.run, "repair"), (other, "main")):
        assert await desk.store.add_rows(run.id, [a_row(0, stage=stage)], [], mark(1)) == []
    assert await desk.states() == {State.PENDING: 2}
    repair = await desk.reader.request(desk.run.id, "row-0", stage="repair")
    assert repair is not None
    assert repair.stage == "repair"
    assert await desk.reader.request(desk.run.id, "row-0", stage="unheard of") is None


async def test_skipped_rows_are_kept_and_counted_once(desk: Desk) -> None:
    skipped = [SkippedRow(position=n, where=f"rows.jsonl:{n + 1}", reason="not JSON") for n in (4, 2)]
    for _ in range(2):
        await desk.store.add_rows(desk.run.id, [], skipped, mark(5))
    assert await desk.reader.skipped(desk.run.id) == skipped[::-1]
    assert (await desk.reader.summary(desk.run.id)).skipped_rows == 2


# ── the moves of a request ────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_is_claimed_once(desk: Desk) -> None:
    [request] = await desk.add(1)
    claim = a_claim(request.id)
    won = [await desk.store.claim(claim) for _ in range(2)]
    assert won[0] is not None
    assert won[1] is None
    assert await desk.states() == {State.SUBMITTING: 1}
    assert await desk.reader.fresh(desk.run.id, after_id=0, limit=1) == []
    assert await desk.pending(request.id) is None


@pytest.mark.parametrize("elsewhere", [{"run_id": 2}, {"stage": "other"}])
async def test_a_request_is_claimed_where_it_belongs(desk: Desk, elsewhere: dict[str, Any]) -> None:
    await desk.store.create_run(a_run("second"))
    [request] = await desk.add(1)
    assert await desk.store.claim(a_claim(request.id, **elsewhere)) is None
    assert await desk.states() == {State.PENDING: 1}


async def test_of_many_claims_at_once_one_wins(desk: Desk) -> None:
    [request] = await desk.add(1)
    won: list[object] = []

    async def claim() -> None:
        won.append(await desk.store.claim(a_claim(request.id)))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(claim)
    assert len([attempt for attempt in won if attempt is not None]) == 1
    assert (await desk.reader.summary(desk.run.id)).attempts == 1


async def test_intent_is_there_before_the_response_id(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.store.claim(
        a_claim(request.id, model="gpt-5", service_tier="flex", window="1h", worst_case_pusd=7)
    )
    [open_] = await desk.reader.open_attempts(desk.run.id)
    assert (open_.attempt_id, open_.request_id, open_.key, open_.number) == (attempt_id, request.id, "row-0", 1)
    assert (open_.state, open_.response_id, open_.sent_at, open_.accepted_at) == (State.SUBMITTING, None, NOW, None)
    assert (open_.model, open_.service_tier, open_.window, open_.worst_case_pusd) == ("gpt-5", "flex", "1h", 7)


async def test_the_oldest_open_response_comes_first(desk: Desk) -> None:
    requests = await desk.add(4)
    await desk.claim(requests[0])
    for request, at in zip(requests[1:], (NOW + 3, NOW + 1, NOW + 2), strict=True):
        await desk.submit(request, at=at)
    keys = [open_.key for open_ in await desk.reader.open_attempts(desk.run.id)]
    assert keys == ["row-2", "row-3", "row-1", "row-0"]


async def test_a_row_goes_all_the_way(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    assert await desk.end(
        request,
        attempt_id,
        State.SUCCEEDED,
        model="gpt-5-mini-2025-08-07",
        service_tier="default",
        completed_at=NOW + 9,
        body=b'{"id": "resp_1", "output": []}',
    )
    assert await desk.states() == {State.SUCCEEDED: 1}
    [result] = [result async for result in desk.reader.results(desk.run.id, [State.SUCCEEDED])]
    assert (result.key, result.output_text, result.attempts) == ("row-0", "An answer.", 1)
    assert (result.response_id, result.status) == (f"resp_{attempt_id}", "completed")
    assert (result.model, result.service_tier) == ("gpt-5-mini-2025-08-07", "default")
    assert (result.submitted_at, result.settled_at) == (NOW, NOW + 10)
    [attempt] = await desk.reader.attempts(request.id)
    assert (attempt.id, attempt.number, attempt.counted) == (attempt_id, 1, True)
    assert attempt.body == b'{"id": "resp_1", "output": []}'
    assert attempt.charge == a_charge()
    assert (attempt.sent_at, attempt.accepted_at, attempt.completed_at, attempt.ended_at) == (
        NOW,
        NOW,
        NOW + 9,
        NOW + 10,
    )


async def test_a_request_settles_once(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.succeed(request)
    for to in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.PENDING):
        assert not await desk.end(request, attempt_id, to, charge=a_charge(9))
    summary = await desk.reader.summary(desk.run.id)
    assert summary.requests[State.SUCCEEDED] == 1
    assert summary.cost_pusd == 1_000


async def test_an_earlier_attempt_cannot_end_a_later_one(desk: Desk) -> None:
    [request] = await desk.add(1)
    first = await desk.submit(request)
    assert await desk.end(request, first, State.PENDING, charge=a_charge())
    second = await desk.submit(request)
    assert second != first
    assert not await desk.end(request, first, State.FAILED)
    assert not await desk.accept(request, first)
    assert await desk.end(request, second, State.SUCCEEDED)


async def test_a_retry_waits_and_counts(desk: Desk) -> None:
    first, second = await desk.add(2)
    attempt_id = await desk.submit(first)
    await desk.end(
        first,
        attempt_id,
        State.PENDING,
        code="server_error",
        charge=a_charge(),
        not_before=NOW + 30,
        renew_idempotency=True,
        max_output_tokens=2000,
    )
    assert [request.key for request in await desk.reader.fresh(desk.run.id, after_id=0, limit=9)] == [second.key]
    [waiting] = await desk.reader.delayed(desk.run.id, limit=9)
    assert (waiting.key, waiting.not_before) == (first.key, NOW + 30)
    assert (waiting.attempts, waiting.number, waiting.epoch, waiting.max_output_tokens) == (1, 1, 1, 2000)
    [attempt] = await desk.reader.attempts(first.id)
    assert (attempt.code, attempt.ended_at) == ("server_error", NOW + 10)


async def test_an_outage_counts_no_attempt_and_keeps_the_key(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.claim(request)
    await desk.end(request, attempt_id, State.PENDING, from_state=State.SUBMITTING, count_attempt=False)
    [waiting] = await desk.reader.delayed(desk.run.id, limit=9)
    assert (waiting.attempts, waiting.number, waiting.epoch) == (0, 1, 0)
    [attempt] = await desk.reader.attempts(request.id)
    assert not attempt.counted


async def test_what_is_due_at_once_is_found_among_the_delayed(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    await desk.end(request, attempt_id, State.PENDING, not_before=0.0)
    assert await desk.reader.fresh(desk.run.id, after_id=request.id, limit=9) == []
    [waiting] = await desk.reader.delayed(desk.run.id, limit=9)
    assert waiting.not_before == NOW + 10


async def test_the_soonest_delayed_comes_first(desk: Desk) -> None:
    requests = await desk.add(3)
    for request, wait in zip(requests, (30, 10, 20), strict=True):
        attempt_id = await desk.submit(request)
        await desk.end(request, attempt_id, State.PENDING, not_before=NOW + wait)
    assert [request.key for request in await desk.reader.delayed(desk.run.id, limit=2)] == ["row-1", "row-2"]


async def test_a_released_claim_leaves_no_trace(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.claim(request)
    bounce = Release(request_id=request.id, attempt_id=attempt_id, not_before=NOW + 1, rate_limited=True)
    assert await desk.store.release(bounce)
    assert not await desk.store.release(bounce)
    [waiting] = await desk.reader.delayed(desk.run.id, limit=9)
    assert (waiting.attempts, waiting.number) == (0, 0)
    assert await desk.reader.attempts(request.id) == []
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.attempts, summary.rate_limited, summary.reserved_pusd) == (0, 1, 0)
    assert await desk.claim(request) == attempt_id


async def test_a_submitted_request_cannot_be_released(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    assert not await desk.store.release(Release(request_id=request.id, attempt_id=attempt_id, not_before=NOW))
    assert await desk.states() == {State.SUBMITTED: 1}


async def test_doubt_is_held_until_it_is_resolved(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.lose(request)
    [open_] = await desk.reader.open_attempts(desk.run.id)
    assert (open_.state, open_.attempts) == (State.IN_DOUBT, 0)
    [attempt] = await desk.reader.attempts(request.id)
    assert attempt.ended_at is None
    assert await desk.end(request, attempt_id, State.PENDING, from_state=State.IN_DOUBT, possible_duplicate=True)
    [waiting] = await desk.reader.delayed(desk.run.id, limit=9)
    assert (waiting.attempts, waiting.number) == (1, 1)
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.possible_duplicates, summary.possible_duplicates_upper_bound_pusd) == (1, 5_000)


async def test_a_lost_response_that_is_found_is_followed(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.lose(request)
    assert await desk.accept(request, attempt_id, response_id="resp_found")
    assert await desk.states() == {State.SUBMITTED: 1}
    [record] = [result async for result in desk.reader.results(desk.run.id, [State.SUBMITTED])]
    assert (record.response_id, record.code) == ("resp_found", None)


async def test_a_request_that_cannot_be_sent_fails_without_an_attempt(desk: Desk) -> None:
    [request] = await desk.add(1)
    assert await desk.store.fail_pending(request.id, "request_too_large", "it never fits", NOW) == []
    assert await desk.store.fail_pending(request.id, "request_too_large", "it never fits", NOW) is None
    [result] = [result async for result in desk.reader.results(desk.run.id, [State.FAILED])]
    assert (result.code, result.message, result.attempts) == ("request_too_large", "it never fits", 0)
    assert (result.cost_pusd, result.usage, result.settled_at) == (0, None, NOW)


async def test_only_moves_of_the_state_table_are_made(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    ending = (State.SUBMITTING, State.SUBMITTED, State.IN_DOUBT)
    legal = {(source, target) for (source, _), target in TRANSITIONS.items() if source in ending}
    for source in State:
        for target in State:
            if (source, target) not in legal or target in (State.SUBMITTING, State.SUBMITTED):
                with pytest.raises(ValueError, match=f"from {source} to {target}"):
                    await desk.end(request, attempt_id, target, from_state=source)
    assert await desk.states() == {State.SUBMITTED: 1}


@pytest.mark.parametrize("to", sorted(SETTLED))
async def test_a_settled_request_is_in_no_queue(desk: Desk, to: State) -> None:
    [request] = await desk.add(1)
    await desk.end(request, await desk.submit(request), to)
    assert await desk.states() == {to: 1}
    assert await desk.reader.fresh(desk.run.id, after_id=0, limit=9) == []
    assert await desk.reader.delayed(desk.run.id, limit=9) == []
    assert await desk.reader.open_attempts(desk.run.id) == []
    record = await desk.reader.request(desk.run.id, request.key)
    assert record is not None
    assert (record.state, record.settled_at) == (to, NOW + 10)


async def test_the_latest_word_of_the_provider_is_kept(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    for status in ("queued", "in_progress"):
        await desk.store.note_status(attempt_id, status)
    await desk.store.remember("anything that is waited for", b"")
    [open_] = await desk.reader.open_attempts(desk.run.id)
    assert open_.status == "in_progress"
    await desk.end(request, attempt_id, State.SUCCEEDED)
    await desk.store.note_status(attempt_id, "queued")
    await desk.store.remember("anything that is waited for", b"")
    [attempt] = await desk.reader.attempts(request.id)
    assert attempt.status == "completed"


# ── results ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_results_come_in_the_order_of_the_input(desk: Desk) -> None:
    other = await desk.store.create_run(a_run("other"))
    requests = []
    for start in (0, 3):  # two runs planned at the same time lie between each other
        requests = await desk.add(3, start)
        await desk.store.add_rows(other.id, rows(3, start), [], mark(start + 3))
    for request in reversed(requests):
        await desk.succeed(request)
    assert [record.key async for record in desk.reader.results(desk.run.id, list(State))] == [
        f"row-{n}" for n in range(6)
    ]
    assert [record.key async for record in desk.reader.results(other.id, [State.PENDING])] == [
        f"row-{n}" for n in range(6)
    ]


async def test_results_are_read_slice_by_slice(desk: Desk) -> None:
    await desk.add(2_500)
    keys = [record.key async for record in desk.reader.results(desk.run.id, [State.PENDING])]
    assert keys == [f"row-{n}" for n in range(2_500)]
    assert [record async for record in desk.reader.results(desk.run.id, [State.FAILED])] == []


async def test_long_results_are_read_in_shorter_slices(desk: Desk) -> None:
    requests = await desk.add(300)
    for request in requests[:130]:
        await desk.succeed(request, output_text=request.key * 4_000)
    keys = [record.key async for record in desk.reader.results(desk.run.id, [State.SUCCEEDED, State.PENDING])]
    assert keys == [f"row-{n}" for n in range(300)]


async def test_a_run_without_rows_has_no_results(desk: Desk) -> None:
    assert [record async for record in desk.reader.results(desk.run.id, list(State))] == []
    assert await desk.states() == {}
    assert await desk.reader.costs(desk.run.id, ["model"]) == []


async def test_odd_texts_are_kept(desk: Desk) -> None:
    requests = await desk.add(3)
    await desk.succeed(requests[0], output_text="nul \x00 inside, ünïcödé, \U0001f600")
    await desk.succeed(requests[1], output_text="half a pair \ud83d", body=b"\xff not UTF-8")
    attempt_id = await desk.submit(requests[2])
    await desk.end(requests[2], attempt_id, State.FAILED, code="server_error", message="half \udc00")
    texts = [record.output_text async for record in desk.reader.results(desk.run.id, [State.SUCCEEDED])]
    assert texts == ["nul \x00 inside, ünïcödé, \U0001f600", "half a pair ?"]
    [attempt] = await desk.reader.attempts(requests[1].id)
    assert attempt.body == b"\xff not UTF-8"
    record = await desk.reader.request(desk.run.id, requests[2].key)
    assert record is not None
    assert record.message == "half ?"


async def test_an_acceptance_needs_a_claim(desk: Desk) -> None:
    [request] = await desk.add(1)
    acceptance = Acceptance(
        request_id=request.id, attempt_id=request.id * 1_000_000 + 1, response_id="resp", status="queued", at=NOW
    )
    assert not await desk.store.accept(acceptance)
    ending = Ending(
        request_id=request.id,
        attempt_id=acceptance.attempt_id,
        from_state=State.SUBMITTED,
        to=State.SUCCEEDED,
        at=NOW,
    )
    assert await desk.store.end(ending) is None


async def test_reading_needs_no_run_to_be_there(reader: Reader, desk: Desk) -> None:
    nobody = Run(
        id=99,
        name="nobody",
        uid="",
        job="",
        spec_json="",
        fingerprint="",
        input_identity="",
        state=RunState.ACTIVE,
        reason=None,
        budget_pusd=None,
        deadline_at=None,
        created_at=0,
        ended_at=None,
        cancel_requested=False,
        plan=mark(0),
    )
    assert await reader.fresh(nobody.id, after_id=0, limit=1) == []
    assert [record async for record in reader.results(nobody.id, list(State))] == []
    assert await reader.costs(nobody.id, []) == []
