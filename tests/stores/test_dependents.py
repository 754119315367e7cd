"""Requests of several turns, chains, and requests that share an answer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.core.states import State
from orchestrator.stores.reads import Continuation, Dependent, Duplicate, PendingRequest, ToolCall
from orchestrator.stores.sqlite.database import migrate
from orchestrator.stores.sqlite.queries import migrations
from orchestrator.stores.writes import Leaving, Requeue

from .builders import NOW, Desk, a_charge, a_claim, a_row, a_run, mark

pytestmark = pytest.mark.anyio

ASK = b"the same in 16 b"
NEXT = Continuation(fields=b'{"input": []}', context_tokens=120)


async def chain(desk: Desk, *places: float, name: str = "interview", start: int = 0) -> list[PendingRequest]:
    """A chain with a row for each place, linked; the rows in the order of the input."""
    planned = [a_row(position, chain=name, place=place) for position, place in enumerate(places, start=start)]
    await desk.store.add_rows(desk.run.id, planned, [], mark(start + len(places), complete=True))
    await desk.store.link_chains(desk.run.id, NOW)
    records = [await desk.reader.request(desk.run.id, row.key) for row in planned]
    return [
        PendingRequest(
            id=record.id, key=record.key, stage="main", where=record.where, attempts=0, number=0, epoch=0,
            not_before=0, max_output_tokens=None, row=record.row,
        )
        for record in records
        if record is not None
    ]  # fmt: skip


async def due(desk: Desk) -> list[PendingRequest]:
    return await desk.reader.delayed(desk.run.id, limit=99)


async def succeed(desk: Desk, request: PendingRequest) -> list[Dependent] | None:
    attempt_id = await desk.submit(request)
    values = {"from_state": State.SUBMITTED, "at": NOW + 10, "status": "completed", "charge": a_charge()}
    ending = desk.ending(request, attempt_id, State.SUCCEEDED, **values, output_text="An answer.")
    return await desk.store.end(ending)


async def fail(desk: Desk, request: PendingRequest, to: State = State.FAILED) -> list[Dependent] | None:
    attempt_id = await desk.submit(request)
    values = {"from_state": State.SUBMITTED, "at": NOW + 10, "code": "content_filter", "message": "it was filtered"}
    return await desk.store.end(desk.ending(request, attempt_id, to, **values))


def migrate_again(database: Path, version: int, *newer: str) -> None:
    """Take a database back to a version that had not these columns of ``run_total``, and migrate it."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for column in newer:
            connection.execute(f"ALTER TABLE run_total DROP COLUMN {column}")
        connection.execute(f"PRAGMA user_version = {version}")
        migrate(connection, migrations(), path=database)


# ── chains ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_the_first_turn_of_a_chain_may_go(desk: Desk) -> None:
    first, second, third = await chain(desk, 1, 2, 3)
    assert [request.id for request in await due(desk)] == [first.id]
    assert await desk.states() == {State.PENDING: 1, State.BLOCKED: 2}
    assert await succeed(desk, first) == [Dependent(second.key, State.PENDING)]
    [next_] = await due(desk)
    assert (next_.id, next_.chain, next_.follows) == (second.id, "interview", first.id)
    assert (next_.earlier_response_id, next_.earlier_tokens) == (f"resp_{first.id}000001", 120)
    await succeed(desk, second)
    assert [turn.where for turn in await desk.reader.earlier_turns(third.id, limit=9)] == [second.where, first.where]
    assert [turn.output_text for turn in await desk.reader.earlier_turns(third.id, limit=1)] == ["An answer."]


async def test_turns_are_ordered_by_their_place_not_by_the_input(desk: Desk) -> None:
    last, first, middle = await chain(desk, 30, 4, 5)
    order = []
    while requests := await due(desk):
        order.append(requests[0].id)
        await succeed(desk, requests[0])
    assert order == [first.id, middle.id, last.id]
    assert await desk.states() == {State.SUCCEEDED: 3}


async def test_chains_do_not_wait_for_each_other(desk: Desk) -> None:
    await chain(desk, 1, 2)
    await chain(desk, 1, 2, name="another", start=2)
    assert [request.chain for request in await due(desk)] == ["interview", "another"]


async def test_linking_again_changes_nothing(desk: Desk) -> None:
    first, *_ = await chain(desk, 1, 2, 3)
    await succeed(desk, first)
    assert await desk.store.link_chains(desk.run.id, NOW) == 0
    assert await desk.states() == {State.SUCCEEDED: 1, State.PENDING: 1, State.BLOCKED: 1}


@pytest.mark.parametrize(
    ("to", "code"), [(State.FAILED, "chain_broken"), (State.CANCELLED, "cancelled")], ids=["failed", "cancelled"]
)
async def test_a_turn_that_ends_badly_takes_all_later_ones_with_it(desk: Desk, to: State, code: str) -> None:
    first, second, third, fourth = await chain(desk, 1, 2, 3, 4)
    await succeed(desk, first)
    assert await fail(desk, second, to) == [Dependent(third.key, to, code), Dependent(fourth.key, to, code)]
    record = await desk.reader.request(desk.run.id, fourth.key)
    assert record is not None
    assert (record.state, record.code) == (to, code)
    assert await desk.states() == {State.SUCCEEDED: 1, to: 3}


async def test_a_turn_that_can_never_be_sent_breaks_its_chain(desk: Desk) -> None:
    first, second = await chain(desk, 1, 2)
    moved = await desk.store.fail_pending(first.id, "row_invalid", "no such column", NOW)
    assert moved == [Dependent(second.key, State.FAILED, "chain_broken")]


async def test_retry_continues_a_broken_chain(desk: Desk) -> None:
    first, second, third, fourth = await chain(desk, 1, 2, 3, 4)
    await succeed(desk, first)
    await fail(desk, second)
    requeued = await desk.store.requeue(Requeue(run_id=desk.run.id, states=[State.FAILED], at=NOW + 20))
    assert requeued == 3
    assert [request.id for request in await due(desk)] == [second.id]
    assert await desk.states() == {State.SUCCEEDED: 1, State.PENDING: 1, State.BLOCKED: 2}
    for request in (second, third, fourth):
        await succeed(desk, request)
    assert await desk.states() == {State.SUCCEEDED: 4}


@pytest.mark.parametrize("word", [None, "resend"], ids=["failed", "in doubt"])
async def test_the_first_turn_that_is_tried_again_is_still_one_of_its_chain(desk: Desk, word: str | None) -> None:
    first, _ = await chain(desk, 1, 2)
    if word is None:
        await fail(desk, first)
    else:
        await desk.lose(first)
    states = [State.FAILED] if word is None else []
    await desk.store.requeue(Requeue(run_id=desk.run.id, states=states, code=None, resolve_in_doubt=word, at=NOW))
    assert [(request.id, request.chain) for request in await due(desk)] == [(first.id, "interview")]
    assert await desk.reader.fresh(desk.run.id, after_id=0, limit=9) == []


async def test_a_further_turn_that_was_in_doubt_goes_on_where_it_was(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    await desk.end(request, attempt_id, State.PENDING, charge=a_charge(), continuation=NEXT, not_before=NOW)
    await desk.lose(request)
    await desk.store.requeue(Requeue(run_id=desk.run.id, states=[], resolve_in_doubt="resend", at=NOW))
    [again] = await due(desk)
    assert again.continuation == NEXT


async def test_a_turn_behind_a_failed_one_is_not_tried_by_itself(desk: Desk) -> None:
    first, _ = await chain(desk, 1, 2)
    await fail(desk, first)
    requeued = await desk.store.requeue(
        Requeue(run_id=desk.run.id, states=[State.FAILED], code="chain_broken", at=NOW + 20)
    )
    assert requeued == 0
    assert await desk.states() == {State.FAILED: 2}


async def test_a_cancel_reaches_blocked_requests(desk: Desk) -> None:
    await chain(desk, 1, 2, 3)
    await desk.store.request_cancel(desk.run.id, NOW)
    assert await desk.states() == {State.CANCELLED: 3}


async def test_a_conversation_is_kept_for_its_chain(desk: Desk) -> None:
    await chain(desk, 1, 2)
    await desk.store.keep_conversation(desk.run.id, "interview", "conv_1")
    await desk.store.keep_conversation(desk.run.id, "interview", "conv_2")
    [request] = await due(desk)
    assert request.conversation_id == "conv_1"


# ── turns of one request ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_goes_on_after_its_tools(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    assert await desk.end(
        request, attempt_id, State.AWAITING_TOOLS, charge=a_charge(), body=b'{"id": "resp"}', renew_idempotency=True
    )
    [acting] = await desk.reader.open_attempts(desk.run.id)
    assert (acting.state, acting.response_id, acting.turn) == (State.AWAITING_TOOLS, f"resp_{attempt_id}", 0)
    assert (await desk.reader.summary(desk.run.id)).reserved_pusd == 0
    assert await desk.reader.body(attempt_id) == b'{"id": "resp"}'
    call = ToolCall(
        attempt_id=attempt_id, call_id="call_1", place=0, name="look_up", arguments="{}", output="42", failed=False,
        started_at=NOW, ended_at=NOW + 1,
    )  # fmt: skip
    await desk.store.add_tool_call(call)
    await desk.store.add_tool_call(replace(call, output="43"))
    assert await desk.reader.tool_calls(attempt_id) == [call]
    leaving = Leaving(request_id=request.id, attempt_id=attempt_id, to=State.PENDING, at=NOW + 2, continuation=NEXT)
    assert await desk.store.leave(leaving) == []
    assert await desk.store.leave(leaving) is None
    [again] = await due(desk)
    assert (again.turn, again.attempts, again.number, again.epoch) == (1, 0, 1, 1)
    assert again.continuation == NEXT
    await succeed(desk, request)
    [result] = [record async for record in desk.reader.results(desk.run.id, [State.SUCCEEDED])]
    assert (result.attempts, result.cost_pusd) == (2, 2_000)


async def test_a_request_that_cannot_go_on_fails(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    await desk.end(request, attempt_id, State.AWAITING_TOOLS, charge=a_charge())
    leaving = Leaving(
        request_id=request.id, attempt_id=attempt_id, to=State.FAILED, at=NOW, code="max_turns", message="8 turns"
    )
    assert await desk.store.leave(leaving) == []
    [result] = [record async for record in desk.reader.results(desk.run.id, [State.FAILED])]
    assert (result.code, result.message, result.cost_pusd) == ("max_turns", "8 turns", 1_000)


async def test_an_answer_that_is_to_be_mended_begins_a_turn(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    mend = {"charge": a_charge(), "code": "output_invalid", "continuation": NEXT, "not_before": NOW}
    await desk.end(request, attempt_id, State.PENDING, **mend)
    [again] = await due(desk)
    assert (again.turn, again.repairs, again.attempts, again.continuation) == (1, 1, 0, NEXT)
    await desk.submit(again)
    [open_] = await desk.reader.open_attempts(desk.run.id)
    assert (open_.turn, open_.repairs) == (1, 1)


async def test_turns_of_tools_and_repairs_are_told_apart(desk: Desk) -> None:
    [request] = await desk.add(1)
    for number, (code, turn, repairs) in enumerate([(None, 1, 0), ("output_invalid", 2, 1), (None, 3, 1)], start=1):
        attempt_id = await desk.submit(request)
        going_on = {"charge": a_charge(), "code": code, "continuation": NEXT, "not_before": NOW}
        await desk.end(request, attempt_id, State.PENDING, **going_on)
        [request] = await due(desk)
        assert (request.number, request.turn, request.repairs) == (number, turn, repairs)
    # What an attempt fails with for good is no repair, however often it is tried again.
    for _ in range(3):
        await desk.end(request, await desk.submit(request), State.FAILED, charge=a_charge(), code="output_invalid")
        await desk.store.requeue(Requeue(run_id=desk.run.id, states=[State.FAILED], at=NOW))
        [request] = await due(desk)
        assert request.repairs <= request.turn == 3


@pytest.mark.parametrize(
    ("code", "continuation"), [("server_error", NEXT), ("previous_response_not_found", None)], ids=["kept", "anew"]
)
async def test_retry_goes_on_where_the_responses_are_still_there(
    desk: Desk, code: str, continuation: Continuation | None
) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    await desk.end(request, attempt_id, State.PENDING, charge=a_charge(), continuation=NEXT, not_before=NOW)
    await desk.end(request, await desk.submit(request), State.FAILED, code=code)
    await desk.store.requeue(Requeue(run_id=desk.run.id, states=[State.FAILED], at=NOW))
    again = await desk.pending(request.id)
    assert again is not None
    assert again.continuation == continuation
    # What is begun anew has all its turns before it; what goes on is not read as a fresh one.
    assert (again.turn, await due(desk)) == ((1, [again]) if continuation else (0, []))


# ── equal requests ────────────────────────────────────────────────────────────────────────────────────────────


async def ask(desk: Desk, request: PendingRequest) -> int:
    """Send a request whose fingerprint is ``ASK``."""
    attempt_id = await desk.store.claim(a_claim(request.id, fingerprint=ASK))
    assert isinstance(attempt_id, int)
    await desk.accept(request, attempt_id)
    return attempt_id


async def test_an_equal_request_waits_for_the_answer_and_shares_it(desk: Desk) -> None:
    first, second, third = await desk.add(3)
    attempt_id = await ask(desk, first)
    equals = await desk.reader.duplicates(desk.run.id, [ASK, b"another"], here=True, since=NOW)
    assert equals == {ASK: Duplicate(first.id, here=True)}
    assert await desk.store.join(second.id, equals[ASK], ASK, NOW) == Dependent("row-1", State.BLOCKED)
    assert await desk.store.join(second.id, equals[ASK], ASK, NOW) is None
    values = {"from_state": State.SUBMITTED, "at": NOW + 10, "status": "completed", "charge": a_charge()}
    moved = await desk.store.end(
        desk.ending(first, attempt_id, State.SUCCEEDED, output_text="An answer.", body=b"{}", **values)
    )
    assert moved == [Dependent(second.key, State.SUCCEEDED)]
    assert await desk.store.join(third.id, equals[ASK], ASK, NOW + 11) == Dependent(third.key, State.SUCCEEDED)
    results = [record async for record in desk.reader.results(desk.run.id, [State.SUCCEEDED])]
    assert [record.output_text for record in results] == ["An answer."] * 3
    assert [record.reused for record in results] == [False, True, True]
    assert [record.cost_pusd for record in results] == [1_000, 0, 0]
    assert [record.response_id for record in results] == [f"resp_{attempt_id}"] * 3
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.cost_pusd, summary.reused) == (1_000, 2)


async def test_a_database_from_before_it_was_counted_learns_how_many_answers_were_reused(
    desk: Desk, database: Path
) -> None:
    first, second, _ = await desk.add(3)
    attempt_id = await ask(desk, first)
    await desk.store.join(second.id, Duplicate(first.id, here=True), ASK, NOW)
    await desk.end(first, attempt_id, State.SUCCEEDED)
    migrate_again(database, 4, "reused", "latest_at")
    assert (await desk.reader.summary(desk.run.id)).reused == 1


async def test_a_database_from_before_it_was_kept_learns_when_something_last_happened(
    desk: Desk, database: Path
) -> None:
    await desk.add(2)
    assert await desk.reader.latest_at(desk.run.id) is None
    first, second = await desk.reader.fresh(desk.run.id, after_id=0, limit=2)
    await desk.succeed(first)
    await desk.claim(second, at=NOW + 5)
    assert await desk.reader.latest_at(desk.run.id) == NOW + 10
    migrate_again(database, 5, "latest_at")
    assert await desk.reader.latest_at(desk.run.id) == NOW + 10


async def test_an_equal_request_shares_a_failure_and_comes_back_with_retry(desk: Desk) -> None:
    first, second, late = await desk.add(3)
    attempt_id = await ask(desk, first)
    equal = Duplicate(first.id, here=True)
    await desk.store.join(second.id, equal, ASK, NOW)
    await desk.end(first, attempt_id, State.FAILED, code="content_filter", message="it was filtered")
    moved = await desk.store.join(late.id, equal, ASK, NOW)
    assert moved == Dependent(late.key, State.FAILED, "content_filter")
    results = [record async for record in desk.reader.results(desk.run.id, [State.FAILED])]
    assert [(record.code, record.message, record.cost_pusd) for record in results] == [
        ("content_filter", "it was filtered", 0)
    ] * 3
    await desk.store.requeue(Requeue(run_id=desk.run.id, states=[State.FAILED], at=NOW))
    assert await desk.states() == {State.PENDING: 3}


async def test_the_answer_of_an_earlier_run_is_found_where_it_is_young_enough(desk: Desk) -> None:
    [first] = await desk.add(1)
    attempt_id = await ask(desk, first)
    await desk.end(first, attempt_id, State.SUCCEEDED)
    later = replace(desk, run=await desk.store.create_run(a_run("later")))
    await later.store.add_rows(later.run.id, [a_row(0)], [], mark(1))
    [same] = await later.reader.fresh(later.run.id, after_id=0, limit=9)
    assert await later.reader.duplicates(later.run.id, [ASK], here=True, since=NOW + 11) == {}
    equals = await later.reader.duplicates(later.run.id, [ASK], here=True, since=NOW)
    assert equals == {ASK: Duplicate(first.id, here=False)}
    assert await later.store.join(same.id, equals[ASK], ASK, NOW + 20) == Dependent(same.key, State.SUCCEEDED)
    [result] = [record async for record in later.reader.results(later.run.id, [State.SUCCEEDED])]
    assert (result.reused, result.output_text, result.cost_pusd) == (True, "An answer.", 0)


async def test_where_each_is_asked_an_equal_request_of_the_run_is_not_found(desk: Desk) -> None:
    [first] = await desk.add(1)
    await desk.end(first, await ask(desk, first), State.SUCCEEDED)
    assert await desk.reader.duplicates(desk.run.id, [ASK], here=False, since=0) == {}


async def test_a_part_of_an_answer_is_not_taken_over_by_another_run(desk: Desk) -> None:
    [first] = await desk.add(1)
    await desk.end(first, await ask(desk, first), State.SUCCEEDED, status="incomplete")
    later = await desk.store.create_run(a_run("later"))
    assert await desk.reader.duplicates(later.id, [ASK], here=True, since=0) == {}


async def test_what_a_request_asks_is_known_through_all_of_its_turns(desk: Desk) -> None:
    [first] = await desk.add(1)
    await desk.end(first, await ask(desk, first), State.PENDING, charge=a_charge(), continuation=NEXT, not_before=NOW)
    await succeed(desk, first)
    assert await desk.reader.duplicates(desk.run.id, [ASK], here=True, since=NOW) == {
        ASK: Duplicate(first.id, here=True)
    }


@pytest.mark.parametrize(
    ("word", "states"), [("fail", {State.FAILED: 2}), ("resend", {State.PENDING: 1, State.BLOCKED: 1})]
)
async def test_who_waits_for_a_request_in_doubt_hears_of_the_decision(
    desk: Desk, word: str, states: dict[State, int]
) -> None:
    first, second = await desk.add(2)
    await desk.lose(first)
    await desk.store.join(second.id, Duplicate(first.id, here=True), ASK, NOW)
    await desk.store.requeue(Requeue(run_id=desk.run.id, states=[], resolve_in_doubt=word, at=NOW))
    assert await desk.states() == states


async def test_a_chain_hears_of_the_decision_on_its_turn_in_doubt(desk: Desk) -> None:
    first, *_ = await chain(desk, 1, 2, 3)
    await desk.lose(first)
    await desk.store.requeue(Requeue(run_id=desk.run.id, states=[], resolve_in_doubt="fail", at=NOW))
    assert await desk.states() == {State.FAILED: 3}
