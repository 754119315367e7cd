"""What an operator asks of a whole run: retry, resolve, cancel."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import UsageError
from orchestrator.core.states import RunState, State
from orchestrator.stores.reads import AttemptRecord
from orchestrator.stores.sqlite import bulk_updates
from orchestrator.stores.writes import Requeue

from .builders import NOW, Desk, a_charge, a_run, mark, rows

pytestmark = pytest.mark.anyio

FAILED = [State.FAILED]


async def finish(desk: Desk) -> None:
    """Four requests, one of each end: succeeded, failed twice with different codes, cancelled."""
    requests = await desk.add(4)
    await desk.succeed(requests[0])
    for request, code in zip(requests[1:3], ("server_error", "refusal"), strict=True):
        await desk.end(request, await desk.submit(request), State.FAILED, code=code, charge=a_charge())
    await desk.end(requests[3], await desk.submit(requests[3]), State.CANCELLED, code="cancelled")
    await desk.store.set_run_state(desk.run.id, RunState.FINISHED, None, NOW + 20)


async def requeue(desk: Desk, states: list[State], *, code: str | None = None, doubt: str | None = None) -> int:
    return await desk.store.requeue(
        Requeue(run_id=desk.run.id, states=states, code=code, resolve_in_doubt=doubt, at=NOW + 30)
    )


async def only_attempt(desk: Desk) -> AttemptRecord:
    record = await desk.reader.request(desk.run.id, "row-0")
    assert record is not None
    [attempt] = await desk.reader.attempts(record.id)
    return attempt


async def test_failed_requests_go_back_with_fresh_attempts_and_their_history(desk: Desk) -> None:
    await finish(desk)
    assert await requeue(desk, FAILED) == 2
    assert await desk.states() == {State.PENDING: 2, State.SUCCEEDED: 1, State.CANCELLED: 1}
    again = await desk.reader.fresh(desk.run.id, after_id=0, limit=9)
    assert [(request.key, request.attempts, request.number) for request in again] == [
        ("row-1", 0, 1),
        ("row-2", 0, 1),
    ]
    [attempt] = await desk.reader.attempts(again[0].id)
    assert (attempt.code, attempt.charge) == ("server_error", a_charge())
    run = await desk.reader.run("demo")
    assert run is not None
    assert (run.state, run.ended_at) == (RunState.ACTIVE, None)
    assert await desk.submit(again[0]) == attempt.id + 1


async def test_only_what_failed_with_a_code_goes_back(desk: Desk) -> None:
    await finish(desk)
    assert await requeue(desk, FAILED, code="refusal") == 1
    assert [request.key for request in await desk.reader.fresh(desk.run.id, after_id=0, limit=9)] == ["row-2"]


async def test_cancelled_requests_go_back_when_asked(desk: Desk) -> None:
    await finish(desk)
    assert await requeue(desk, [State.CANCELLED, State.FAILED]) == 3
    assert await desk.states() == {State.PENDING: 3, State.SUCCEEDED: 1}


async def test_nothing_to_retry_leaves_the_run_as_it_is(desk: Desk) -> None:
    await finish(desk)
    assert await requeue(desk, FAILED, code="no such code") == 0
    run = await desk.reader.run("demo")
    assert run is not None
    assert run.state is RunState.FINISHED
    empty = await desk.store.create_run(a_run("empty"))
    assert await desk.store.requeue(Requeue(run_id=empty.id, states=FAILED, resolve_in_doubt="fail", at=NOW)) == 0


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.PENDING, State.SUBMITTED, State.IN_DOUBT])
async def test_only_failed_and_cancelled_can_be_tried_again(desk: Desk, state: State) -> None:
    await finish(desk)
    with pytest.raises(UsageError, match=f"requests that are {state} cannot be tried again"):
        await requeue(desk, [State.FAILED, state])
    with pytest.raises(UsageError, match="not by 'guess'"):
        await requeue(desk, FAILED, doubt="guess")


async def test_held_requests_are_left_alone_unless_resolved(desk: Desk) -> None:
    [request] = await desk.add(1)
    await desk.lose(request)
    assert await requeue(desk, FAILED) == 0
    assert await desk.states() == {State.IN_DOUBT: 1}


async def test_doubt_resolved_by_sending_again(desk: Desk) -> None:
    [request] = await desk.add(1)
    await desk.lose(request)
    assert await requeue(desk, [], doubt="resend") == 1
    [again] = await desk.reader.fresh(desk.run.id, after_id=0, limit=9)
    # The same epoch: a provider that honours idempotency keys must see the same key.
    assert (again.attempts, again.number, again.epoch) == (0, 1, 0)
    attempt = await only_attempt(desk)
    assert (attempt.possible_duplicate, attempt.ended_at) == (True, NOW + 30)
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.possible_duplicates, summary.possible_duplicates_upper_bound_pusd) == (1, 5_000)
    assert (summary.cost_unknown, summary.cost_unknown_upper_bound_pusd, summary.reserved_pusd) == (1, 5_000, 0)


async def test_doubt_resolved_by_giving_up(desk: Desk) -> None:
    [request] = await desk.add(1)
    await desk.lose(request, message="the reply was lost")
    assert await requeue(desk, [], doubt="fail") == 1
    assert await desk.states() == {State.FAILED: 1}
    record = await desk.reader.request(desk.run.id, "row-0")
    assert record is not None
    assert (record.code, record.message, record.settled_at) == ("submit_in_doubt", "the reply was lost", NOW + 30)
    assert not (await only_attempt(desk)).possible_duplicate
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.possible_duplicates, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (0, 1, 5_000)


async def test_cancelling_takes_what_is_pending_and_flags_the_rest(desk: Desk) -> None:
    requests = await desk.add(5)
    await desk.submit(requests[0])
    await desk.succeed(requests[1])
    await desk.end(requests[2], await desk.submit(requests[2]), State.PENDING, not_before=NOW + 60)
    for _ in range(2):
        await desk.store.request_cancel(desk.run.id, NOW + 9)
    assert await desk.states() == {State.SUBMITTED: 1, State.SUCCEEDED: 1, State.CANCELLED: 3}
    run = await desk.reader.run("demo")
    assert run is not None
    assert run.cancel_requested
    record = await desk.reader.request(desk.run.id, "row-4")
    assert record is not None
    assert (record.code, record.settled_at) == ("cancelled", NOW + 9)
    assert await requeue(desk, [State.CANCELLED]) == 3
    run = await desk.reader.run("demo")
    assert run is not None
    assert not run.cancel_requested


async def test_a_run_without_rows_can_be_cancelled(desk: Desk) -> None:
    await desk.store.request_cancel(desk.run.id, NOW)
    run = await desk.reader.run("demo")
    assert run is not None
    assert run.cancel_requested


async def test_large_runs_are_moved_slice_by_slice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_updates, "_SLICE", 7)
    other = await desk.store.create_run(a_run("other"))
    for start in range(0, 40, 20):
        await desk.store.add_rows(desk.run.id, rows(20, start), [], mark(start + 20))
        await desk.store.add_rows(other.id, rows(20, start), [], mark(start + 20))
    await desk.store.request_cancel(desk.run.id, NOW)
    assert await desk.states() == {State.CANCELLED: 40}
    assert (await desk.reader.summary(other.id)).requests[State.PENDING] == 40
    assert await requeue(desk, [State.CANCELLED], code="cancelled") == 40
    assert await desk.states() == {State.PENDING: 40}
