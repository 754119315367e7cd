"""What every store promises about chains, requests of several turns, and duplicates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.states import Event, State
from orchestrator.stores.reads import Continuation, Dependent, Duplicate, OtherRequest, PendingRequest, ToolCall
from orchestrator.stores.writes import Leaving

from .builders import NOW, Harness, a_charge, a_row, a_run, mark

pytestmark = pytest.mark.anyio

FINGERPRINT = b"the same in 16 b"
NEXT = Continuation(fields=b'{"input": []}', context_tokens=120)
# Ends an attempt whose response the request continues from.
CONTINUED = {"charge": a_charge(), "continuation": NEXT, "not_before": NOW}
FILTERED = {"code": "content_filter", "message": "it was filtered"}


async def chain(
    harness: Harness, *places: float | str, name: str = "interview", start: int = 0
) -> list[PendingRequest]:
    """A linked chain with a row for each place; returns the rows in the order of the input."""
    planned = [a_row(position, chain=name, place=place) for position, place in enumerate(places, start=start)]
    await harness.store.add_rows(harness.run.id, planned, [], mark(start + len(places), complete=True))
    await harness.store.link_chains(harness.run.id, NOW)
    records = [await harness.request(row.key) for row in planned]
    return [
        PendingRequest(
            id=record.id, key=record.key, stage="main", where=record.where, attempts=0, number=0, epoch=0,
            not_before=0, max_output_tokens=None, row=record.row,
        )
        for record in records
    ]  # fmt: skip


async def succeed(harness: Harness, request: PendingRequest) -> list[Dependent] | None:
    return await harness.settle(request, await harness.submit(request), State.SUCCEEDED)


async def fail(harness: Harness, request: PendingRequest, to: State = State.FAILED) -> list[Dependent] | None:
    return await harness.settle(request, await harness.submit(request), to, **FILTERED)


# ── chains ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_the_first_turn_of_a_chain_is_pending(harness: Harness) -> None:
    first, second, third = await chain(harness, 1, 2, 3)
    assert [request.id for request in await harness.delayed()] == [first.id]
    assert await harness.states() == {State.PENDING: 1, State.BLOCKED: 2}
    attempt_id = await harness.submit(first)
    assert await harness.settle(first, attempt_id, State.SUCCEEDED) == [Dependent(second.key, State.PENDING)]
    [next_] = await harness.delayed()
    assert (next_.id, next_.chain, next_.follows) == (second.id, "interview", first.id)
    assert (next_.earlier_response_id, next_.earlier_tokens) == (f"resp_{attempt_id}", 120)
    record = await harness.request(second.key)
    assert (record.chain, record.follows) == ("interview", first.key)
    assert record.earlier_response_id == f"resp_{attempt_id}"
    await succeed(harness, second)
    turns = await harness.reader.earlier_turns(third.id, limit=9)
    assert [(turn.row, turn.where) for turn in turns] == [(each.row, each.where) for each in (second, first)]
    assert [turn.output_text for turn in await harness.reader.earlier_turns(third.id, limit=1)] == ["An answer."]


@pytest.mark.parametrize("places", [(30, 4, 5), ("c", "a", "b")], ids=["numbers", "texts"])
async def test_turns_are_ordered_by_their_place_not_by_the_input(
    harness: Harness, places: tuple[float | str, ...]
) -> None:
    last, first, middle = await chain(harness, *places)
    order = []
    while requests := await harness.delayed():
        order.append(requests[0].id)
        await succeed(harness, requests[0])
    assert order == [first.id, middle.id, last.id]
    assert await harness.states() == {State.SUCCEEDED: 3}


async def test_chains_do_not_wait_for_each_other(harness: Harness) -> None:
    await chain(harness, 1, 2)
    await chain(harness, 1, 2, name="another", start=2)
    assert [request.chain for request in await harness.delayed()] == ["interview", "another"]


async def test_linking_again_changes_nothing(harness: Harness) -> None:
    first, *_ = await chain(harness, 1, 2, 3)
    await succeed(harness, first)
    assert await harness.store.link_chains(harness.run.id, NOW) == 0
    assert await harness.states() == {State.SUCCEEDED: 1, State.PENDING: 1, State.BLOCKED: 1}


@pytest.mark.parametrize(
    ("to", "code"), [(State.FAILED, "chain_broken"), (State.CANCELLED, "cancelled")], ids=["failed", "cancelled"]
)
async def test_a_turn_that_does_not_succeed_settles_all_later_ones(harness: Harness, to: State, code: str) -> None:
    first, second, third, fourth = await chain(harness, 1, 2, 3, 4)
    await succeed(harness, first)
    assert await fail(harness, second, to) == [Dependent(third.key, to, code), Dependent(fourth.key, to, code)]
    record = await harness.request(fourth.key)
    assert (record.state, record.code) == (to, code)
    assert await harness.states() == {State.SUCCEEDED: 1, to: 3}


async def test_a_turn_that_can_never_be_sent_breaks_its_chain(harness: Harness) -> None:
    first, second = await chain(harness, 1, 2)
    moved = await harness.store.fail_pending(first.id, "row_invalid", "no such column", NOW)
    assert moved == [Dependent(second.key, State.FAILED, "chain_broken")]


async def test_retry_continues_a_broken_chain(harness: Harness) -> None:
    first, second, third, fourth = await chain(harness, 1, 2, 3, 4)
    await succeed(harness, first)
    await fail(harness, second)
    assert await harness.requeue(State.FAILED) == 3
    assert [request.id for request in await harness.delayed()] == [second.id]
    assert await harness.states() == {State.SUCCEEDED: 1, State.PENDING: 1, State.BLOCKED: 2}
    for request in (second, third, fourth):
        await succeed(harness, request)
    assert await harness.states() == {State.SUCCEEDED: 4}


@pytest.mark.parametrize("in_doubt", [None, "resend"], ids=["failed", "in doubt"])
async def test_the_first_turn_that_is_tried_again_is_read_with_its_chain(
    harness: Harness, in_doubt: str | None
) -> None:
    first, _ = await chain(harness, 1, 2)
    if in_doubt is None:
        await fail(harness, first)
    else:
        await harness.lose(first)
    await harness.requeue(*([] if in_doubt else [State.FAILED]), in_doubt=in_doubt)
    assert [(request.id, request.chain) for request in await harness.delayed()] == [(first.id, "interview")]
    assert await harness.fresh() == []


async def test_a_turn_after_a_failed_one_is_not_tried_by_itself(harness: Harness) -> None:
    first, _ = await chain(harness, 1, 2)
    await fail(harness, first)
    assert await harness.requeue(State.FAILED, code="chain_broken") == 0
    assert await harness.states() == {State.FAILED: 2}


async def test_a_cancel_reaches_blocked_requests(harness: Harness) -> None:
    await chain(harness, 1, 2, 3)
    await harness.store.request_cancel(harness.run.id, NOW)
    assert await harness.states() == {State.CANCELLED: 3}


async def test_the_first_conversation_of_a_chain_is_kept(harness: Harness) -> None:
    await chain(harness, 1, 2)
    for conversation_id in ("conv_1", "conv_2"):
        await harness.store.keep_conversation(harness.run.id, "interview", conversation_id)
    [request] = await harness.delayed()
    assert request.conversation_id == "conv_1"
    assert (await harness.request(request.key)).conversation_id == "conv_1"


async def test_a_chain_fails_with_its_turn_in_doubt(harness: Harness) -> None:
    first, *_ = await chain(harness, 1, 2, 3)
    await harness.lose(first)
    await harness.requeue(in_doubt="fail")
    assert await harness.states() == {State.FAILED: 3}


# ── turns of one request ──────────────────────────────────────────────────────────────────────────────────────


async def await_tools(harness: Harness) -> tuple[PendingRequest, int]:
    """A request whose response asks for tools."""
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    asked = {"charge": a_charge(), "body": b'{"id": "resp"}', "renew_idempotency": True}
    assert await harness.end(request, attempt_id, State.AWAITING_TOOLS, **asked)
    return request, attempt_id


async def test_a_request_continues_after_its_tools(harness: Harness) -> None:
    request, attempt_id = await await_tools(harness)
    [open_] = await harness.open_attempts()
    assert (open_.state, open_.response_id, open_.turn) == (State.AWAITING_TOOLS, f"resp_{attempt_id}", 0)
    assert (await harness.summary()).reserved_pusd == 0
    assert await harness.reader.body(attempt_id) == b'{"id": "resp"}'
    leaving = Leaving(
        request_id=request.id, attempt_id=attempt_id, event=Event.CONTINUE, at=NOW + 2, continuation=NEXT
    )
    assert await harness.store.leave(leaving) == []
    assert await harness.store.leave(leaving) is None
    [again] = await harness.delayed()
    assert (again.turn, again.attempts, again.number, again.epoch) == (1, 0, 1, 1)
    assert again.continuation == NEXT
    assert (await harness.request(request.key)).continuation == NEXT.fields
    await succeed(harness, request)
    [result] = await harness.results(State.SUCCEEDED)
    assert (result.attempts, result.cost_pusd) == (2, 2_000)


async def test_the_first_result_of_a_tool_call_is_kept(harness: Harness) -> None:
    _, attempt_id = await await_tools(harness)
    calls = [
        ToolCall(
            attempt_id=attempt_id, call_id=f"call_{place}", place=place, name="look_up", arguments="{}", output="42",
            failed=place == 1, started_at=NOW, ended_at=NOW + 1,
        )
        for place in (0, 1)
    ]  # fmt: skip
    for call in (calls[1], calls[0], replace(calls[0], output="43")):
        await harness.store.add_tool_call(call)
    assert await harness.reader.tool_calls(attempt_id) == calls


async def test_a_request_that_cannot_continue_fails(harness: Harness) -> None:
    request, attempt_id = await await_tools(harness)
    leaving = Leaving(
        request_id=request.id, attempt_id=attempt_id, event=Event.FAIL, at=NOW, code="max_turns", message="8 turns"
    )
    assert await harness.store.leave(leaving) == []
    [result] = await harness.results(State.FAILED)
    assert (result.code, result.message, result.cost_pusd) == ("max_turns", "8 turns", 1_000)


async def test_the_repair_of_an_answer_is_a_turn(harness: Harness) -> None:
    [request] = await harness.add(1)
    await harness.retry(request, **CONTINUED, code="output_invalid")
    [again] = await harness.delayed()
    assert (again.turn, again.repairs, again.attempts, again.continuation) == (1, 1, 0, NEXT)
    await harness.submit(again)
    [open_] = await harness.open_attempts()
    assert (open_.turn, open_.repairs) == (1, 1)


async def test_turns_after_tools_are_no_repairs(harness: Harness) -> None:
    [request] = await harness.add(1)
    for number, (code, turn, repairs) in enumerate([(None, 1, 0), ("output_invalid", 2, 1), (None, 3, 1)], start=1):
        await harness.retry(request, **CONTINUED, code=code)
        [request] = await harness.delayed()
        assert (request.number, request.turn, request.repairs) == (number, turn, repairs)
    # The attempt with which a request fails is no repair, however often it is tried again.
    for _ in range(3):
        await harness.fail(request, charge=a_charge(), code="output_invalid")
        await harness.requeue(State.FAILED)
        [request] = await harness.delayed()
        assert request.repairs <= request.turn == 3


@pytest.mark.parametrize(
    ("code", "continuation"), [("server_error", NEXT), ("previous_response_not_found", None)], ids=["there", "gone"]
)
async def test_retry_continues_if_the_responses_are_still_there(
    harness: Harness, code: str, continuation: Continuation | None
) -> None:
    [request] = await harness.add(1)
    await harness.retry(request, **CONTINUED)
    await harness.fail(request, code=code)
    await harness.requeue(State.FAILED)
    # A request that begins again is fresh; one that continues is read with what it continues.
    [again] = await harness.delayed() if continuation else await harness.fresh()
    assert (again.turn, again.continuation) == (1 if continuation else 0, continuation)
    assert await harness.states() == {State.PENDING: 1}


async def test_a_turn_in_doubt_that_is_sent_again_continues(harness: Harness) -> None:
    [request] = await harness.add(1)
    await harness.retry(request, **CONTINUED)
    await harness.lose(request)
    await harness.requeue(in_doubt="resend")
    [again] = await harness.delayed()
    assert again.continuation == NEXT


# ── duplicates ────────────────────────────────────────────────────────────────────────────────────────────────


async def ask(harness: Harness, request: PendingRequest) -> int:
    """Send a request that has the fingerprint."""
    return await harness.submit(request, fingerprint=FINGERPRINT)


async def duplicates(harness: Harness) -> dict[bytes, Duplicate]:
    return await harness.reader.duplicates(harness.run.id, [FINGERPRINT, b"another"])


async def others(harness: Harness, *, since: float = 0.0) -> list[OtherRequest]:
    found = await harness.reader.others(harness.run.id, {FINGERPRINT: since, b"another": since})
    assert found.keys() <= {FINGERPRINT}
    return found.get(FINGERPRINT, [])


async def join(harness: Harness, request: PendingRequest, first: PendingRequest) -> list[Dependent] | None:
    return await harness.store.join(request.id, Duplicate(first.id, here=True), FINGERPRINT, NOW)


async def test_a_duplicate_waits_for_the_answer_and_shares_it(harness: Harness) -> None:
    first, second, third = await harness.add(3)
    attempt_id = await ask(harness, first)
    assert await duplicates(harness) == {FINGERPRINT: Duplicate(first.id, here=True)}
    assert await join(harness, second, first) == [Dependent("row-1", State.BLOCKED)]
    assert await join(harness, second, first) is None
    moved = await harness.settle(first, attempt_id, State.SUCCEEDED)
    assert moved == [Dependent(second.key, State.SUCCEEDED)]
    assert await join(harness, third, first) == [Dependent(third.key, State.SUCCEEDED)]
    results = await harness.results(State.SUCCEEDED)
    assert [record.output_text for record in results] == ["An answer."] * 3
    assert [record.reused for record in results] == [False, True, True]
    assert [record.cost_pusd for record in results] == [1_000, 0, 0]
    assert [record.response_id for record in results] == [f"resp_{attempt_id}"] * 3
    record = await harness.request(second.key)
    assert (record.answered_by, record.answered_in, record.answered_as) == (attempt_id, "demo", first.key)
    summary = await harness.summary()
    assert (summary.cost_pusd, summary.reused) == (1_000, 2)


async def test_a_duplicate_shares_a_failure_and_comes_back_with_retry(harness: Harness) -> None:
    first, second, late = await harness.add(3)
    attempt_id = await ask(harness, first)
    await join(harness, second, first)
    await harness.end(first, attempt_id, State.FAILED, **FILTERED)
    assert await join(harness, late, first) == [Dependent(late.key, State.FAILED, "content_filter")]
    results = await harness.results(State.FAILED)
    assert [(each.code, each.message, each.cost_pusd) for each in results] == [(*FILTERED.values(), 0)] * 3
    await harness.requeue(State.FAILED)
    assert await harness.states() == {State.PENDING: 3}


async def test_a_recent_answer_of_an_earlier_run_is_found(harness: Harness) -> None:
    [first] = await harness.add(1)
    await harness.end(first, await ask(harness, first), State.SUCCEEDED)
    later = replace(harness, run=await harness.store.create_run(a_run("later")))
    [same] = await later.add(1)
    assert await others(later, since=NOW + 11) == []
    [original] = await others(later, since=NOW)
    assert (original.request_id, original.run, original.state) == (first.id, "demo", State.SUCCEEDED)
    moved = await later.store.join(same.id, Duplicate(first.id, here=False), FINGERPRINT, NOW + 20)
    assert moved == [Dependent(same.key, State.SUCCEEDED)]
    [result] = await later.results(State.SUCCEEDED)
    assert (result.reused, result.output_text, result.cost_pusd) == (True, "An answer.", 0)


async def test_the_own_run_is_no_other_run(harness: Harness) -> None:
    [first] = await harness.add(1)
    await harness.end(first, await ask(harness, first), State.SUCCEEDED)
    assert await others(harness) == []


async def test_a_part_of_an_answer_is_not_shared_with_another_run(harness: Harness) -> None:
    [first] = await harness.add(1)
    await harness.end(first, await ask(harness, first), State.SUCCEEDED, status="incomplete")
    later = replace(harness, run=await harness.store.create_run(a_run("later")))
    assert await others(later) == []


async def test_a_fingerprint_lasts_for_all_turns(harness: Harness) -> None:
    [first] = await harness.add(1)
    await harness.end(first, await ask(harness, first), State.PENDING, **CONTINUED)
    await succeed(harness, first)
    assert await duplicates(harness) == {FINGERPRINT: Duplicate(first.id, here=True)}


@pytest.mark.parametrize(
    ("in_doubt", "states"), [("fail", {State.FAILED: 2}), ("resend", {State.PENDING: 1, State.BLOCKED: 1})]
)
async def test_a_duplicate_of_a_request_in_doubt_ends_with_it(
    harness: Harness, in_doubt: str, states: dict[State, int]
) -> None:
    first, second = await harness.add(2)
    await harness.lose(first, message="the reply was lost")
    await join(harness, second, first)
    await harness.requeue(in_doubt=in_doubt)
    assert await harness.states() == states
    lost = {("submit_in_doubt", "the reply was lost")}
    assert {(each.code, each.message) for each in await harness.results(State.FAILED)} <= lost


async def test_a_duplicate_keeps_the_possible_duplicate_that_it_has_itself(harness: Harness) -> None:
    first, second = await harness.add(2)
    await harness.lose(second)
    await harness.requeue(in_doubt="resend")
    await harness.end(first, await ask(harness, first), State.SUCCEEDED)
    await join(harness, second, first)
    results = await harness.results()
    assert [(each.reused, each.possible_duplicates) for each in results] == [(False, 0), (True, 1)]
