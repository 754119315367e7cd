"""Batches: their lines are claimed together, accepted together, and each one ends by itself."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.states import Event, State
from orchestrator.stores.base import Backend
from orchestrator.stores.provider_batches import BatchNote, NewProviderBatch
from orchestrator.stores.reads import PendingRequest, SharedCaps, Spending
from orchestrator.stores.writes import Ending, Release

from .builders import NOW, Harness, a_charge, a_claim, an_unknown_charge

pytestmark = pytest.mark.anyio


def a_batch(harness: Harness, uid: str = "b-1") -> NewProviderBatch:
    return NewProviderBatch(run_id=harness.run.id, stage="main", model="gpt-5-mini", uid=uid, tokens=300, made_at=NOW)


async def batch_of(harness: Harness, requests: list[PendingRequest], uid: str = "b-1") -> tuple[int, list[int]]:
    claims = [a_claim(request.id, run_id=harness.run.id, number=request.number + 1) for request in requests]
    batch, claimed = await harness.store.claim_batch(a_batch(harness, uid), claims)
    assert batch is not None
    return batch, [each for each in claimed if isinstance(each, int)]


async def states(harness: Harness) -> dict[State, int]:
    return {state: number for state, number in (await harness.summary()).requests.items() if number}


def an_ending(request: PendingRequest, attempt_id: int, event: Event, **changes: Any) -> Ending:
    values: dict[str, Any] = {"from_state": State.SUBMITTED, "event": event, "at": NOW + 9, "renew_idempotency": True}
    return Ending(request_id=request.id, attempt_id=attempt_id, **(values | changes))


async def test_lines_are_claimed_accepted_and_answered(harness: Harness) -> None:
    requests = await harness.add(3)
    batch, attempts = await batch_of(harness, requests)
    assert await states(harness) == {State.SUBMITTING: 3}
    assert (await harness.summary()).reserved_pusd == 15_000 == await harness.reader.reserved_for_batch(batch)
    [stored] = await harness.reader.batches(harness.run.id, unfinished=True)
    assert (stored.id, stored.lines, stored.tokens, stored.uid, stored.batch_id) == (batch, 3, 300, "b-1", None)

    assert await harness.store.attach_batch(batch, "batch_1", "validating", NOW + 1) == 3
    assert await harness.store.attach_batch(batch, "batch_1", "validating", NOW + 2) == 0
    assert await states(harness) == {State.SUBMITTED: 3}
    [stored] = await harness.reader.batches(harness.run.id, unfinished=True)
    assert (stored.batch_id, stored.status, stored.submitted_at) == ("batch_1", "validating", NOW + 1)

    answer = {"status": "completed", "output_text": "Hello", "body": b"{}", "charge": a_charge(700)}
    ending = an_ending(requests[1], attempts[1], Event.SUCCEED, response_id="resp_1", **answer)
    assert await harness.store.end(ending) == []
    assert await harness.store.end(ending) is None, "a line that is read again changes nothing"
    summary = await harness.summary()
    assert (summary.cost_pusd, summary.reserved_pusd) == (700, 10_000)
    result = [each async for each in harness.reader.results(harness.run.id, [*State])][1]
    assert (result.response_id, result.output_text, result.cost_pusd) == ("resp_1", "Hello", 700)
    left = await harness.reader.open_lines(batch, limit=10)
    assert [each.attempt_id for each in left] == [attempts[0], attempts[2]]


async def test_lines_are_found_by_their_attempts(harness: Harness) -> None:
    requests = await harness.add(3)
    batch, attempts = await batch_of(harness, requests)
    other, others = await batch_of(harness, await harness.add(1, start=3), "b-2")
    found = await harness.reader.open_lines(batch, attempt_ids=[attempts[2], others[0], 77], limit=10)
    assert [each.attempt_id for each in found] == [attempts[2]]
    assert len(await harness.reader.open_lines(batch, limit=2)) == 2
    assert [each.key for each in await harness.reader.open_lines(other, limit=9)] == ["row-3"]
    assert await harness.reader.line_attempts(batch, [1, 3, 9]) == {1: attempts[0], 3: attempts[2]}


async def test_the_lines_of_batches_are_not_resumed_one_by_one(harness: Harness) -> None:
    single, *lines = await harness.add(3)
    await harness.claim(single)
    batch, attempts = await batch_of(harness, lines)
    assert [each.request_id for each in await harness.reader.open_attempts(harness.run.id)] == [single.id]
    await harness.store.attach_batch(batch, "batch_1", "validating", NOW)
    assert [each.request_id for each in await harness.reader.open_attempts(harness.run.id)] == [single.id]
    calls = an_ending(lines[0], attempts[0], Event.CALL, response_id="resp_1", charge=a_charge())
    await harness.store.end(calls)
    found = {each.request_id for each in await harness.reader.open_attempts(harness.run.id)}
    assert found == {single.id, lines[0].id}, "its response has ended, and its tools are run as ever"


async def test_one_response_in_two_lines_is_charged_once(harness: Harness) -> None:
    requests = await harness.add(2)
    batch, attempts = await batch_of(harness, requests)
    await harness.store.attach_batch(batch, "batch_1", "validating", NOW)
    for request, attempt_id in zip(requests, attempts, strict=True):
        answer = {"response_id": "resp_1", "body": b"{}", "charge": a_charge(700)}
        ending = an_ending(request, attempt_id, Event.SUCCEED, **answer)
        assert await harness.store.end(ending) is not None
    assert (await harness.summary()).cost_pusd == 700


async def test_lines_of_a_batch_that_was_not_created_are_released(harness: Harness) -> None:
    requests = await harness.add(2)
    batch, attempts = await batch_of(harness, requests)
    for request, attempt_id in zip(requests, attempts, strict=True):
        assert await harness.store.release(Release(request_id=request.id, attempt_id=attempt_id, not_before=NOW + 5))
    assert await states(harness) == {State.PENDING: 2}
    assert (await harness.summary()).reserved_pusd == 0
    assert await harness.reader.open_lines(batch, limit=9) == []
    assert await harness.store.attach_batch(batch, "batch_1", "validating", NOW) == 0


async def test_lines_that_are_in_no_file_may_have_been_paid_for(harness: Harness) -> None:
    [request] = await harness.add(1)
    batch, [attempt_id] = await batch_of(harness, [request])
    await harness.store.attach_batch(batch, "batch_1", "validating", NOW)
    lost = an_ending(
        request, attempt_id, Event.RETRY, possible_duplicate=True, charge=an_unknown_charge(5_000), code="x"
    )
    assert await harness.store.end(lost) == []
    summary = await harness.summary()
    assert (summary.possible_duplicates, summary.cost_unknown, summary.reserved_pusd) == (1, 1, 0)


async def test_what_cannot_be_claimed_is_no_line(harness: Harness) -> None:
    first, second, third = await harness.add(3)
    await harness.store.cancel_unsent(second.id, NOW)
    caps = SharedCaps(run_id=harness.run.id, simulated=False, day_pusd=20_000, month_pusd=None)
    claims = [a_claim(each.id, run_id=harness.run.id) for each in (first, second)]
    claims.append(a_claim(third.id, run_id=harness.run.id, caps=caps, worst_case_pusd=18_000))
    batch, claimed = await harness.store.claim_batch(a_batch(harness), claims)
    assert batch is not None
    assert [type(each) for each in claimed] == [int, type(None), Spending]
    [stored] = await harness.reader.batches(harness.run.id, unfinished=False)
    assert stored.lines == 1
    assert await harness.store.claim_batch(a_batch(harness, "b-2"), claims[:2]) == (None, [None, None])
    assert len(await harness.reader.batches(harness.run.id, unfinished=False)) == 1


async def test_a_batch_is_unfinished_until_its_file_is_deleted(harness: Harness) -> None:
    batch, _ = await batch_of(harness, await harness.add(1))
    store, reader, run_id = harness.store, harness.reader, harness.run.id
    await store.note_batch(batch, BatchNote(input_file="file-1", asked_at=NOW))
    await store.note_batch(batch, BatchNote(status="completed", ended_at=NOW + 5))
    [stored] = await reader.batches(run_id, unfinished=True)
    assert (stored.input_file, stored.asked_at, stored.status, stored.ended_at) == (
        "file-1",
        NOW,
        "completed",
        NOW + 5,
    )
    await store.note_batch(batch, BatchNote(collected_at=NOW + 6))
    assert len(await reader.batches(run_id, unfinished=True)) == 1
    await store.note_batch(batch, BatchNote(file_deleted_at=NOW + 7))
    assert await reader.batches(run_id, unfinished=True) == []
    assert len(await reader.batches(run_id, unfinished=False)) == 1


async def test_batches_outlive_the_process(harness: Harness, backend: Backend) -> None:
    requests = await harness.add(2)
    batch, attempts = await batch_of(harness, requests)
    await harness.store.attach_batch(batch, "batch_1", "validating", NOW)
    async with backend.open_reader() as reader:
        [stored] = await reader.batches(harness.run.id, unfinished=True)
        assert stored.batch_id == "batch_1"
        assert [each.attempt_id for each in await reader.open_lines(batch, limit=9)] == attempts
