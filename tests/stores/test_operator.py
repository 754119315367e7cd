"""What every store promises about the requests of an operator: retry, resolve, cancel."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import UsageError
from orchestrator.core.states import RunState, State
from orchestrator.stores.reads import AttemptRecord

from .builders import NOW, Harness, a_charge, a_run

pytestmark = pytest.mark.anyio


async def finish(harness: Harness) -> None:
    """Settle four requests: one succeeded, two failed with different codes, one cancelled."""
    requests = await harness.add(4)
    await harness.succeed(requests[0])
    for request, code in zip(requests[1:3], ("server_error", "refusal"), strict=True):
        await harness.fail(request, code=code, charge=a_charge())
    await harness.end(requests[3], await harness.submit(requests[3]), State.CANCELLED, code="cancelled")
    await harness.store.set_run_state(harness.run.id, RunState.FINISHED, None, NOW + 20)


async def only_attempt(harness: Harness) -> AttemptRecord:
    [attempt] = await harness.reader.attempts((await harness.request("row-0")).id)
    return attempt


# ── retry ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_failed_requests_go_back_with_new_attempts_and_their_history(harness: Harness) -> None:
    await finish(harness)
    assert await harness.requeue(State.FAILED) == 2
    assert await harness.states() == {State.PENDING: 2, State.SUCCEEDED: 1, State.CANCELLED: 1}
    again = await harness.fresh()
    assert [(each.key, each.attempts, each.number) for each in again] == [("row-1", 0, 1), ("row-2", 0, 1)]
    [attempt] = await harness.reader.attempts(again[0].id)
    assert (attempt.code, attempt.charge) == ("server_error", a_charge())
    run = await harness.current_run()
    assert (run.state, run.ended_at) == (RunState.ACTIVE, None)
    await harness.submit(again[0])
    assert [attempt.number for attempt in await harness.reader.attempts(again[0].id)] == [1, 2]


async def test_only_requests_that_failed_with_the_code_go_back(harness: Harness) -> None:
    await finish(harness)
    assert await harness.requeue(State.FAILED, code="refusal") == 1
    assert [request.key for request in await harness.fresh()] == ["row-2"]


async def test_cancelled_requests_go_back_if_asked(harness: Harness) -> None:
    await finish(harness)
    assert await harness.requeue(State.CANCELLED, State.FAILED) == 3
    assert await harness.states() == {State.PENDING: 3, State.SUCCEEDED: 1}


async def test_nothing_to_retry_leaves_the_run_as_it_is(harness: Harness) -> None:
    await finish(harness)
    assert await harness.requeue(State.FAILED, code="no such code") == 0
    assert (await harness.current_run()).state is RunState.FINISHED
    empty = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("empty")))
    assert await empty.requeue(State.FAILED, in_doubt="fail") == 0


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.PENDING, State.SUBMITTED, State.IN_DOUBT])
async def test_only_failed_and_cancelled_requests_go_back(harness: Harness, state: State) -> None:
    await finish(harness)
    with pytest.raises(UsageError, match=f"requests that are {state} cannot be tried again"):
        await harness.requeue(State.FAILED, state)
    assert await harness.states() == {State.SUCCEEDED: 1, State.FAILED: 2, State.CANCELLED: 1}


# ── resolve in doubt ──────────────────────────────────────────────────────────────────────────────────────────


async def test_requests_in_doubt_stay_unless_resolved(harness: Harness) -> None:
    [request] = await harness.add(1)
    await harness.lose(request)
    assert await harness.requeue(State.FAILED) == 0
    assert await harness.states() == {State.IN_DOUBT: 1}


async def test_a_request_in_doubt_can_be_sent_again(harness: Harness) -> None:
    [request] = await harness.add(1)
    await harness.lose(request)
    assert await harness.requeue(in_doubt="resend") == 1
    [again] = await harness.fresh()
    # The same epoch: a provider that honors idempotency keys must receive the same key.
    assert (again.attempts, again.number, again.epoch) == (0, 1, 0)
    attempt = await only_attempt(harness)
    assert (attempt.possible_duplicate, attempt.ended_at) == (True, NOW + 30)
    summary = await harness.summary()
    assert (summary.possible_duplicates, summary.possible_duplicates_upper_bound_pusd) == (1, 5_000)
    assert (summary.cost_unknown, summary.cost_unknown_upper_bound_pusd, summary.reserved_pusd) == (1, 5_000, 0)


async def test_a_request_in_doubt_can_be_given_up(harness: Harness) -> None:
    [request] = await harness.add(1)
    await harness.lose(request, message="the reply was lost")
    assert await harness.requeue(in_doubt="fail") == 1
    assert await harness.states() == {State.FAILED: 1}
    record = await harness.request("row-0")
    assert (record.code, record.message, record.settled_at) == ("submit_in_doubt", "the reply was lost", NOW + 30)
    assert not (await only_attempt(harness)).possible_duplicate
    summary = await harness.summary()
    assert (summary.possible_duplicates, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (0, 1, 5_000)


# ── cancel ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancel_takes_what_is_pending_and_flags_the_run(harness: Harness) -> None:
    requests = await harness.add(5)
    await harness.submit(requests[0])
    await harness.succeed(requests[1])
    await harness.retry(requests[2], not_before=NOW + 60)
    for _ in range(2):
        await harness.store.request_cancel(harness.run.id, NOW + 9)
    assert await harness.states() == {State.SUBMITTED: 1, State.SUCCEEDED: 1, State.CANCELLED: 3}
    assert (await harness.current_run()).cancel_requested
    record = await harness.request("row-4")
    assert (record.code, record.settled_at) == ("cancelled", NOW + 9)
    assert await harness.requeue(State.CANCELLED) == 3
    assert not (await harness.current_run()).cancel_requested


async def test_a_run_without_rows_can_be_cancelled(harness: Harness) -> None:
    await harness.store.request_cancel(harness.run.id, NOW)
    assert (await harness.current_run()).cancel_requested


async def test_a_cancel_leaves_other_runs_alone(harness: Harness) -> None:
    other = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("other")))
    for start in (0, 3):
        await harness.add(3, start)
        await other.add(3, start)
    await harness.store.request_cancel(harness.run.id, NOW)
    assert await harness.states() == {State.CANCELLED: 6}
    assert await other.states() == {State.PENDING: 6}
    assert await harness.requeue(State.CANCELLED, code="cancelled") == 6
    assert await harness.states() == {State.PENDING: 6}
