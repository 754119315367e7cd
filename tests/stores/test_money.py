"""Charges: one a response, exact sums, and what is unknown is never zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.core.model import ToolUse, Usage
from orchestrator.core.states import State
from orchestrator.stores.reads import ResultRecord, SharedCaps, Wasted
from orchestrator.stores.sqlite import SqliteStore

from .builders import NOW, PRICE, Desk, a_charge, a_claim, a_run, an_unknown_charge, ask, mark, rows

pytestmark = pytest.mark.anyio

USAGE = a_charge().usage or Usage()


async def spent_on(desk: Desk, at: float) -> tuple[int, int]:
    """What is spent in the day and the month of a moment."""
    caps = SharedCaps(run_id=desk.run.id, simulated=False, day_pusd=None, month_pusd=None)
    spent = await desk.reader.spending(caps, at)
    return spent.day_pusd, spent.month_pusd


async def the_result(desk: Desk, key: str) -> ResultRecord:
    [found] = [record async for record in desk.reader.results(desk.run.id, list(State)) if record.key == key]
    return found


async def test_a_charge_is_kept_whole(desk: Desk) -> None:
    [request] = await desk.add(1)
    charge = a_charge(10**18, tool_use=ToolUse(web_searches=3, file_searches=2, code_sessions=1))
    await desk.succeed(request, charge=charge)
    [attempt] = await desk.reader.attempts(request.id)
    assert attempt.charge == charge


async def test_equal_prices_are_kept_once(desk: Desk, database: Path) -> None:
    other = replace(PRICE, tier="flex", estimated=True)
    for request, price in zip(await desk.add(4), (PRICE, other, replace(PRICE), other), strict=True):
        await desk.succeed(request, charge=a_charge(price=price))
    assert ask(database, "SELECT tier, estimated FROM price ORDER BY id") == [("default", 0), ("flex", 1)]


async def test_sums_are_exact_to_the_picodollar(desk: Desk) -> None:
    costs = [10**15 + 1, 1, 999_999_999_999]
    for request, cost in zip(await desk.add(3), costs, strict=True):
        await desk.succeed(request, charge=a_charge(cost))
    summary = await desk.reader.summary(desk.run.id)
    assert summary.cost_pusd == sum(costs)
    assert summary.usage == USAGE + USAGE + USAGE
    assert [row.cost_pusd for row in await desk.reader.costs(desk.run.id, [])] == [sum(costs)]


async def test_what_is_set_aside_is_that_of_open_attempts(desk: Desk) -> None:
    claimed, submitted, doubted, done, unpriced = await desk.add(5)
    await desk.claim(claimed, worst_case_pusd=1)
    await desk.accept(submitted, await desk.claim(submitted, worst_case_pusd=10))
    await desk.end(
        doubted,
        await desk.claim(doubted, worst_case_pusd=100),
        State.IN_DOUBT,
        from_state=State.SUBMITTING,
    )
    await desk.succeed(done)
    await desk.claim(unpriced, worst_case_pusd=None)
    assert (await desk.reader.summary(desk.run.id)).reserved_pusd == 111


async def test_unknown_costs_have_an_upper_bound_and_are_not_summed_as_zero(desk: Desk) -> None:
    known, bounded, unbounded = await desk.add(3)
    await desk.succeed(known)
    await desk.succeed(bounded, charge=an_unknown_charge(700))
    await desk.succeed(unbounded, charge=an_unknown_charge(None))
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.cost_pusd, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (1_000, 2, 700)
    costs = [await the_result(desk, key) for key in ("row-0", "row-1", "row-2")]
    assert [(record.cost_pusd, record.upper_bound_pusd) for record in costs] == [
        (1_000, None),
        (None, 700),
        (None, None),
    ]
    assert [record.usage for record in costs] == [USAGE, None, None]


async def test_an_open_request_may_cost_its_worst_case(desk: Desk) -> None:
    [request] = await desk.add(1)
    await desk.end(request, await desk.submit(request), State.PENDING, charge=a_charge(30))
    await desk.submit(request)
    record = await the_result(desk, "row-0")
    assert (record.cost_pusd, record.upper_bound_pusd) == (None, 5_030)


async def test_a_retried_request_costs_the_sum_of_its_attempts(desk: Desk) -> None:
    request, other = await desk.add(2)
    await desk.end(request, await desk.submit(request), State.PENDING, charge=a_charge(30))
    await desk.end(request, await desk.submit(request), State.PENDING, charge=None)
    await desk.succeed(request, charge=a_charge(4))
    await desk.succeed(other, charge=a_charge(500))
    record = await the_result(desk, "row-0")
    assert (record.attempts, record.cost_pusd, record.usage) == (3, 34, USAGE + USAGE)
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.attempts, summary.cost_pusd) == (4, 534)


async def test_one_unknown_attempt_makes_the_whole_request_unknown(desk: Desk) -> None:
    request, other = await desk.add(2)
    await desk.end(request, await desk.submit(request), State.PENDING, charge=an_unknown_charge(600))
    await desk.succeed(request, charge=a_charge(50))
    await desk.end(other, await desk.submit(other), State.PENDING, charge=an_unknown_charge(None))
    await desk.succeed(other, charge=an_unknown_charge(8))
    first, second = await the_result(desk, "row-0"), await the_result(desk, "row-1")
    assert (first.cost_pusd, first.upper_bound_pusd) == (None, 650)
    assert (second.cost_pusd, second.upper_bound_pusd) == (None, None)


async def test_a_lost_reply_that_is_sent_again_is_a_possible_duplicate_of_unknown_cost(desk: Desk) -> None:
    [request] = await desk.add(1)
    await desk.end(
        request,
        await desk.claim(request),
        State.PENDING,
        from_state=State.SUBMITTING,
        possible_duplicate=True,
        charge=an_unknown_charge(5_000),
    )
    await desk.succeed(request, charge=a_charge(50))
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.possible_duplicates, summary.possible_duplicates_upper_bound_pusd) == (1, 5_000)
    assert (summary.cost_pusd, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (50, 1, 5_000)
    record = await the_result(desk, "row-0")
    assert (record.cost_pusd, record.upper_bound_pusd, record.possible_duplicates) == (None, 5_050, 1)


async def test_a_known_cost_needs_a_response_id(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.claim(request)
    with pytest.raises(ValueError, match="needs a response id"):
        await desk.end(request, attempt_id, State.FAILED, from_state=State.SUBMITTING, charge=a_charge())
    assert await desk.states() == {State.SUBMITTING: 1}


async def test_a_response_that_two_attempts_were_given_is_charged_once(desk: Desk) -> None:
    first, second, third = await desk.add(3)
    attempts = [await desk.submit(request, response_id="resp_cached") for request in (first, second)]
    await desk.end(second, attempts[1], State.SUCCEEDED)
    await desk.end(first, attempts[0], State.SUCCEEDED)
    attempts.append(await desk.submit(third, response_id="resp_cached"))
    await desk.end(third, attempts[2], State.SUCCEEDED)
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.requests[State.SUCCEEDED], summary.cost_pusd, summary.usage) == (3, 1_000, USAGE)
    assert [(await the_result(desk, f"row-{n}")).cost_pusd for n in range(3)] == [1_000, 0, 0]
    assert not await desk.store.late_charge(attempts[1], a_charge(), "completed", None)


async def test_what_another_process_was_given_ends_as_it_would_there(desk: Desk, database: Path) -> None:
    requests = await desk.add(2)
    attempts = [await desk.submit(request, response_id="resp_cached") for request in requests]
    body = b'{"id":"resp_cached","output":[{"text":"An answer."}]}'
    async with SqliteStore.open(database) as store:
        later = replace(desk, store=store)
        for request, attempt_id in zip(requests, attempts, strict=True):
            assert await later.end(request, attempt_id, State.SUCCEEDED, body=body)
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.requests[State.SUCCEEDED], summary.cost_pusd, summary.reserved_pusd) == (2, 1_000, 0)
    [attempt] = await desk.reader.attempts(requests[1].id)
    assert (attempt.body, attempt.charge) == (body, None)


# ── late ones ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_late_look_makes_an_unknown_cost_known(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    await desk.end(request, attempt_id, State.CANCELLED, status="cancelled", charge=an_unknown_charge(700))
    assert await desk.store.late_charge(attempt_id, a_charge(30), "completed", b'{"status": "completed"}')
    assert not await desk.store.late_charge(attempt_id, a_charge(31), "completed", None)
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.cost_pusd, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (30, 0, 0)
    assert summary.usage == USAGE
    [attempt] = await desk.reader.attempts(request.id)
    assert (attempt.status, attempt.charge, attempt.body) == ("completed", a_charge(30), b'{"status": "completed"}')
    assert await spent_on(desk, NOW + 10) == (30, 30)


async def test_a_late_look_that_knows_no_more_can_still_lower_the_bound(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    await desk.end(request, attempt_id, State.CANCELLED, charge=an_unknown_charge(700))
    assert await desk.store.late_charge(attempt_id, an_unknown_charge(200), "cancelled", None)
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (1, 200)


async def test_a_late_look_replaces_the_body_beside_the_text(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.succeed(request, charge=an_unknown_charge(700))
    assert await desk.store.late_charge(attempt_id, a_charge(), "completed", b'{"usage": {}}')
    [attempt] = await desk.reader.attempts(request.id)
    assert (attempt.output_text, attempt.body) == ("An answer.", b'{"usage": {}}')


async def test_a_late_look_can_charge_what_had_no_charge(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    await desk.end(request, attempt_id, State.FAILED, code="response_expired")
    assert await desk.store.late_charge(attempt_id, a_charge(30), "completed", None)
    assert (await desk.reader.summary(desk.run.id)).cost_pusd == 30
    assert await spent_on(desk, NOW + 10) == (30, 30)
    assert not await desk.store.late_charge(999, a_charge(30), "completed", None)


# ── sums by anything ──────────────────────────────────────────────────────────────────────────────────────────


async def test_costs_are_summed_by_any_grouping(desk: Desk) -> None:
    first, second, third = await desk.add(3)
    await desk.succeed(first, charge=a_charge(1), model="gpt-5", service_tier="flex", at=NOW)
    await desk.succeed(second, charge=a_charge(20), model="gpt-5", service_tier="default", at=NOW + 86_400)
    await desk.end(
        third, await desk.submit(third), State.FAILED, charge=an_unknown_charge(9), at=NOW, model="gpt-5-mini"
    )
    other = await desk.store.create_run(a_run("other"))
    await desk.store.add_rows(other.id, rows(1), [], mark(1))
    elsewhere = Desk(desk.store, desk.reader, other)
    [request] = await desk.reader.fresh(other.id, after_id=0, limit=1)
    await elsewhere.succeed(request, charge=a_charge(300), model="gpt-5", service_tier="flex", at=NOW)

    async def costs(run_id: int | None, *by: str) -> dict[tuple[str, ...], tuple[int, int, int, int]]:
        found = await desk.reader.costs(run_id, by)
        return {row.group: (row.responses, row.cost_pusd, row.cost_unknown, row.upper_bound_pusd) for row in found}

    assert await costs(desk.run.id) == {(): (3, 21, 1, 9)}
    assert await costs(None) == {(): (4, 321, 1, 9)}
    assert await costs(None, "run") == {("demo",): (3, 21, 1, 9), ("other",): (1, 300, 0, 0)}
    assert await costs(desk.run.id, "model") == {("gpt-5",): (2, 21, 0, 0), ("gpt-5-mini",): (1, 0, 1, 9)}
    assert await costs(desk.run.id, "state", "tier") == {
        ("failed", "unknown"): (1, 0, 1, 9),
        ("succeeded", "default"): (1, 20, 0, 0),
        ("succeeded", "flex"): (1, 1, 0, 0),
    }
    assert await costs(desk.run.id, "day") == {("2026-09-21",): (2, 1, 1, 9), ("2026-09-22",): (1, 20, 0, 0)}
    assert await costs(other.id, "stage") == {("main",): (1, 300, 0, 0)}
    [total] = await desk.reader.costs(None, [])
    assert total.usage == USAGE + USAGE + USAGE


async def test_costs_are_summed_by_the_users_own_metadata(desk: Desk) -> None:
    pairs = ['{"customer": "a", "a.b": "1"}', '{"customer": "b"}', None, '{"customer": "a"}']
    for request, metadata, cost in zip(await desk.add(4), pairs, (1, 20, 300, 4_000), strict=True):
        claimed = await desk.store.claim(a_claim(request.id, metadata=metadata))
        assert isinstance(claimed, int)
        await desk.accept(request, claimed)
        await desk.end(request, claimed, State.SUCCEEDED, charge=a_charge(cost))

    async def costs(*by: str) -> dict[tuple[str, ...], int]:
        return {row.group: row.cost_pusd for row in await desk.reader.costs(None, by)}

    assert await costs("metadata.customer") == {("a",): 4_001, ("b",): 20, ("(none)",): 300}
    assert await costs("metadata.a.b", "run", "metadata.customer") == {
        ("1", "demo", "a"): 1,
        ("(none)", "demo", "a"): 4_000,
        ("(none)", "demo", "b"): 20,
        ("(none)", "demo", "(none)"): 300,
    }


async def test_what_brought_no_answer_is_wasted(desk: Desk) -> None:
    useful, cut, empty, refused, kept, *_ = requests = await desk.add(6)
    await desk.succeed(useful, charge=a_charge(1))
    for request, status, code, cost in (
        (cut, "incomplete", "max_output_tokens", 20),
        (empty, "completed", "empty_output", 300),
        (refused, "completed", "refusal", 4_000),
    ):
        changes = {"status": status, "code": code, "charge": a_charge(cost)}
        await desk.end(request, await desk.submit(request), State.FAILED, **changes)
    await desk.succeed(kept, charge=a_charge(50_000), status="incomplete")
    lost = await desk.claim(requests[5])
    await desk.end(
        requests[5],
        lost,
        State.PENDING,
        from_state=State.SUBMITTING,
        code="submit_in_doubt",
        status=None,
        charge=an_unknown_charge(5_000),
        possible_duplicate=True,
    )
    [total] = await desk.reader.costs(desk.run.id, [])
    assert total.wasted == Wasted(failed=4_000, incomplete=20, empty=300)
    assert (total.cost_pusd, total.wasted.total) == (54_321, 4_320)
    assert (total.cost_unknown, total.upper_bound_pusd) == (1, 5_000)
    assert (total.possible_duplicates, total.possible_duplicates_upper_bound_pusd) == (1, 5_000)  # of the unknown
    # A late look finds that the lost one ran.
    assert await desk.store.late_charge(lost, a_charge(7), "completed", None)
    [total] = await desk.reader.costs(desk.run.id, [])
    assert (total.wasted.duplicate, total.cost_unknown, total.upper_bound_pusd) == (7, 0, 0)
    assert (total.possible_duplicates, total.possible_duplicates_upper_bound_pusd) == (1, 0)
    summary = await desk.reader.summary(desk.run.id)
    assert (summary.possible_duplicates, summary.possible_duplicates_upper_bound_pusd) == (1, 0)


async def test_what_the_cache_saved_is_summed(desk: Desk) -> None:
    read, written = await desk.add(2)
    # 40 of 100 input tokens were read from the cache, 10 written: at prices of 250,000, 25,000 and, for writing, 0.
    await desk.succeed(read, charge=a_charge())
    dear = replace(PRICE, cache_write=312_500)
    await desk.succeed(written, charge=a_charge(price=dear, usage=Usage(100, 0, 80, 20, 5, 120)), model="other")
    by_model = {row.group: row.cache_saved_pusd for row in await desk.reader.costs(None, ["model"])}
    assert by_model == {("gpt-5-mini",): 40 * 225_000 + 10 * 250_000, ("other",): -80 * 62_500}


async def test_play_money_can_be_left_out(desk: Desk) -> None:
    [request] = await desk.add(1)
    await desk.succeed(request, charge=a_charge(1))
    rehearsal = Desk(desk.store, desk.reader, await desk.store.create_run(a_run("play", simulated=True)))
    await desk.store.add_rows(rehearsal.run.id, rows(1), [], mark(1))
    [request] = await desk.reader.fresh(rehearsal.run.id, after_id=0, limit=1)
    await rehearsal.succeed(request, charge=a_charge(20))
    assert [row.cost_pusd for row in await desk.reader.costs(None, [])] == [21]
    assert [row.cost_pusd for row in await desk.reader.costs(None, [], with_simulated=False)] == [1]


async def test_what_all_runs_spent_in_a_day_and_a_month(desk: Desk) -> None:
    day = 86_400  # NOW is 21 September 2026, 14:13 UTC
    moments = [NOW, NOW + 9 * 3600, NOW + 10 * 3600, NOW + 10 * day]
    for request, at, cost in zip(await desk.add(4), moments, (1, 20, 300, 4_000), strict=True):
        await desk.succeed(request, charge=an_unknown_charge(cost) if cost == 20 else a_charge(cost), at=at)
    spent = [await spent_on(desk, at) for at in (NOW - day, *moments)]
    # What was charged after the moment that is asked about counts in its month, too.
    assert spent == [(0, 4_321), (21, 4_321), (21, 4_321), (300, 4_321), (4_000, 4_000)]
