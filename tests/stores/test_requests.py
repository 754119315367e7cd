"""What every store promises about the moves of one request."""

from __future__ import annotations

import anyio
import pytest

from orchestrator.core.states import SETTLED, State
from orchestrator.stores.writes import Release

from .builders import NOW, Harness, a_charge, a_run, an_unknown_charge

pytestmark = pytest.mark.anyio


# ── claim ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_is_claimed_once(harness: Harness) -> None:
    [request] = await harness.add(1)
    claims = [await harness.try_claim(request) for _ in range(2)]
    assert claims[0] is not None
    assert claims[1] is None
    assert await harness.states() == {State.SUBMITTING: 1}
    assert await harness.fresh() == []
    assert await harness.delayed() == []


async def test_a_request_is_claimed_where_it_belongs(harness: Harness) -> None:
    other = await harness.store.create_run(a_run("second"))
    [request] = await harness.add(1)
    assert await harness.try_claim(request, run_id=other.id) is None
    assert await harness.try_claim(request, stage="other") is None
    assert await harness.states() == {State.PENDING: 1}


async def test_of_many_claims_at_once_one_wins(harness: Harness) -> None:
    [request] = await harness.add(1)
    claims: list[object] = []

    async def claim() -> None:
        claims.append(await harness.try_claim(request))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(claim)
    assert len([claim for claim in claims if claim is not None]) == 1
    assert (await harness.summary()).attempts == 1


async def test_the_intent_is_stored_before_the_response_id(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.claim(request, model="gpt-5", service_tier="flex", window="1h", worst_case_pusd=7)
    [open_] = await harness.open_attempts()
    assert (open_.attempt_id, open_.request_id, open_.key, open_.number) == (attempt_id, request.id, "row-0", 1)
    assert (open_.state, open_.response_id, open_.sent_at, open_.accepted_at) == (State.SUBMITTING, None, NOW, None)
    assert (open_.model, open_.service_tier, open_.window, open_.worst_case_pusd) == ("gpt-5", "flex", "1h", 7)


async def test_the_oldest_open_response_comes_first(harness: Harness) -> None:
    requests = await harness.add(4)
    await harness.claim(requests[0])
    for request, at in zip(requests[1:], (NOW + 3, NOW + 1, NOW + 2), strict=True):
        await harness.submit(request, at=at)
    assert [open_.key for open_ in await harness.open_attempts()] == ["row-2", "row-3", "row-1", "row-0"]


# ── accept and end ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_row_goes_all_the_way(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    body = b'{"id": "resp_1", "output": []}'
    changes = {"model": "gpt-5-mini-2025-08-07", "service_tier": "default", "completed_at": NOW + 9, "body": body}
    assert await harness.end(request, attempt_id, State.SUCCEEDED, **changes)
    assert await harness.states() == {State.SUCCEEDED: 1}
    [result] = await harness.results(State.SUCCEEDED)
    assert (result.key, result.output_text, result.attempts) == ("row-0", "An answer.", 1)
    assert (result.response_id, result.status) == (f"resp_{attempt_id}", "completed")
    assert (result.model, result.service_tier) == ("gpt-5-mini-2025-08-07", "default")
    assert (result.submitted_at, result.settled_at) == (NOW, NOW + 10)
    [attempt] = await harness.reader.attempts(request.id)
    assert await harness.reader.attempt(attempt_id) == attempt
    assert (attempt.id, attempt.number, attempt.counted, attempt.charge) == (attempt_id, 1, True, a_charge())
    assert attempt.body == await harness.reader.body(attempt_id) == body
    assert (attempt.sent_at, attempt.accepted_at) == (NOW, NOW)
    assert (attempt.completed_at, attempt.ended_at) == (NOW + 9, NOW + 10)


async def test_a_request_settles_once(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.succeed(request)
    for to in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.PENDING):
        assert not await harness.end(request, attempt_id, to, charge=a_charge(9))
    assert await harness.states() == {State.SUCCEEDED: 1}
    assert (await harness.summary()).cost_pusd == 1_000


async def test_an_earlier_attempt_cannot_end_a_later_one(harness: Harness) -> None:
    [request] = await harness.add(1)
    first = await harness.retry(request, charge=a_charge())
    second = await harness.submit(request)
    assert second != first
    assert not await harness.end(request, first, State.FAILED)
    assert not await harness.accept(request, first)
    assert await harness.end(request, second, State.SUCCEEDED)


async def test_an_acceptance_and_an_ending_need_a_claim(harness: Harness) -> None:
    [request, other] = await harness.add(2)
    assert not await harness.accept(request, 12_345)
    assert not await harness.end(request, 12_345, State.SUCCEEDED)
    attempt_id = await harness.claim(other)
    assert not await harness.accept(request, attempt_id)
    assert await harness.states() == {State.PENDING: 1, State.SUBMITTING: 1}


@pytest.mark.parametrize("to", sorted(SETTLED))
async def test_a_settled_request_is_in_no_queue(harness: Harness, to: State) -> None:
    [request] = await harness.add(1)
    await harness.end(request, await harness.submit(request), to)
    assert await harness.states() == {to: 1}
    assert await harness.fresh() == await harness.delayed() == []
    assert await harness.open_attempts() == []
    record = await harness.request(request.key)
    assert (record.state, record.settled_at) == (to, NOW + 10)


async def test_the_latest_status_is_kept(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    for status in ("queued", "in_progress"):
        await harness.store.note_status(attempt_id, status)
    await harness.flush()
    assert [open_.status for open_ in await harness.open_attempts()] == ["in_progress"]
    await harness.end(request, attempt_id, State.SUCCEEDED)
    await harness.store.note_status(attempt_id, "queued")
    await harness.flush()
    assert [attempt.status for attempt in await harness.reader.attempts(request.id)] == ["completed"]


async def test_a_status_noted_before_the_end_is_kept(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    await harness.store.note_status(attempt_id, "in_progress")
    await harness.end(request, attempt_id, State.FAILED, status=None, code="run_timeout")
    assert [attempt.status for attempt in await harness.reader.attempts(request.id)] == ["in_progress"]


# ── back to the queue ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_retry_waits_and_counts(harness: Harness) -> None:
    first, second = await harness.add(2)
    changes = {"code": "server_error", "charge": a_charge(), "not_before": NOW + 30, "renew_idempotency": True}
    await harness.retry(first, **changes, max_output_tokens=2000)
    assert [request.key for request in await harness.fresh()] == [second.key]
    [waiting] = await harness.delayed()
    assert (waiting.key, waiting.not_before) == (first.key, NOW + 30)
    assert (waiting.attempts, waiting.number, waiting.epoch, waiting.max_output_tokens) == (1, 1, 1, 2000)
    [attempt] = await harness.reader.attempts(first.id)
    assert (attempt.code, attempt.ended_at) == ("server_error", NOW + 10)


async def test_an_outage_counts_no_attempt_and_keeps_the_key(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.claim(request)
    await harness.end(request, attempt_id, State.PENDING, from_state=State.SUBMITTING, count_attempt=False)
    [waiting] = await harness.delayed()
    assert (waiting.attempts, waiting.number, waiting.epoch) == (0, 1, 0)
    [attempt] = await harness.reader.attempts(request.id)
    assert not attempt.counted


async def test_a_retry_that_is_due_at_once_is_among_the_delayed(harness: Harness) -> None:
    [request] = await harness.add(1)
    await harness.retry(request, not_before=0.0)
    assert await harness.fresh() == []
    [waiting] = await harness.delayed()
    assert waiting.not_before == NOW + 10


async def test_the_delayed_request_that_is_due_first_comes_first(harness: Harness) -> None:
    for request, wait in zip(await harness.add(3), (30, 10, 20), strict=True):
        await harness.retry(request, not_before=NOW + wait)
    due = await harness.reader.delayed(harness.run.id, limit=2)
    assert [request.key for request in due] == ["row-1", "row-2"]


async def test_a_released_claim_leaves_no_trace(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.claim(request)
    release = Release(request_id=request.id, attempt_id=attempt_id, not_before=NOW + 1, rate_limited=True)
    assert await harness.store.release(release)
    assert not await harness.store.release(release)
    [waiting] = await harness.delayed()
    assert (waiting.attempts, waiting.number) == (0, 0)
    assert await harness.reader.attempts(request.id) == []
    summary = await harness.summary()
    assert (summary.attempts, summary.rate_limited, summary.reserved_pusd) == (0, 1, 0)
    await harness.submit(request)
    assert [attempt.number for attempt in await harness.reader.attempts(request.id)] == [1]


async def test_a_submitted_request_cannot_be_released(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    assert not await harness.store.release(Release(request_id=request.id, attempt_id=attempt_id, not_before=NOW))
    assert await harness.states() == {State.SUBMITTED: 1}


# ── in doubt, and never sent ──────────────────────────────────────────────────────────────────────────────────


async def test_a_request_in_doubt_is_held_until_it_is_resolved(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.lose(request)
    [open_] = await harness.open_attempts()
    assert (open_.state, open_.attempts) == (State.IN_DOUBT, 0)
    [attempt] = await harness.reader.attempts(request.id)
    assert attempt.ended_at is None
    again = {"from_state": State.IN_DOUBT, "possible_duplicate": True, "charge": an_unknown_charge(5_000)}
    assert await harness.end(request, attempt_id, State.PENDING, **again)
    [waiting] = await harness.delayed()
    assert (waiting.attempts, waiting.number) == (1, 1)
    summary = await harness.summary()
    assert (summary.possible_duplicates, summary.possible_duplicates_upper_bound_pusd) == (1, 5_000)


async def test_a_request_in_doubt_accepts_no_response(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.lose(request)
    assert not await harness.accept(request, attempt_id, response_id="resp_late")
    assert await harness.states() == {State.IN_DOUBT: 1}


async def test_a_request_that_cannot_be_sent_fails_without_an_attempt(harness: Harness) -> None:
    [request] = await harness.add(1)
    assert await harness.store.fail_pending(request.id, "request_too_large", "it never fits", NOW) == []
    assert await harness.store.fail_pending(request.id, "request_too_large", "it never fits", NOW) is None
    [result] = await harness.results(State.FAILED)
    assert (result.code, result.message, result.attempts) == ("request_too_large", "it never fits", 0)
    assert (result.cost_pusd, result.usage, result.settled_at) == (0, None, NOW)
