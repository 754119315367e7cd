"""What every store promises about charges: one for each response, exact sums, and an unknown cost is never zero."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.lanes import Lane
from orchestrator.core.model import PastUse, ToolUse, Usage
from orchestrator.core.money import Bound
from orchestrator.core.states import State
from orchestrator.stores.base import Backend
from orchestrator.stores.reads import ResultRecord, SharedCaps, Wasted
from orchestrator.stores.writes import Acceptance

from .builders import NOW, PRICE, Harness, a_charge, a_run, an_unknown_charge

pytestmark = pytest.mark.anyio

USAGE = a_charge().usage or Usage()
DAY = 86_400


async def spent_on(harness: Harness, at: float) -> tuple[int, int]:
    """What is spent in the day and the month of a time."""
    caps = SharedCaps(run_id=harness.run.id, simulated=False, day_pusd=None, month_pusd=None)
    spent = await harness.reader.spending(caps, at)
    return spent.day_pusd, spent.month_pusd


async def result_of(harness: Harness, key: str) -> ResultRecord:
    [found] = [record for record in await harness.results() if record.key == key]
    return found


async def test_a_charge_is_kept_whole(harness: Harness) -> None:
    [request] = await harness.add(1)
    price = replace(PRICE, tier="flex", estimated=True, fee_web_search=7)
    charge = a_charge(10**18, tool_use=ToolUse(web_searches=3, file_searches=2, code_sessions=1), price=price)
    await harness.succeed(request, charge=charge)
    [attempt] = await harness.reader.attempts(request.id)
    assert attempt.charge == charge


async def test_sums_are_exact_to_the_picodollar(harness: Harness) -> None:
    costs = [10**15 + 1, 1, 999_999_999_999]
    for request, cost in zip(await harness.add(3), costs, strict=True):
        await harness.succeed(request, charge=a_charge(cost))
    summary = await harness.summary()
    assert summary.cost_pusd == sum(costs)
    assert summary.usage == USAGE + USAGE + USAGE
    assert [row.cost_pusd for row in await harness.reader.costs(harness.run.id, [])] == [sum(costs)]


async def test_what_is_set_aside_is_that_of_open_attempts(harness: Harness) -> None:
    claimed, submitted, in_doubt, done, unpriced = await harness.add(5)
    await harness.claim(claimed, worst_case_pusd=1)
    await harness.submit(submitted, worst_case_pusd=10)
    attempt_id = await harness.claim(in_doubt, worst_case_pusd=100)
    await harness.end(in_doubt, attempt_id, State.IN_DOUBT, from_state=State.SUBMITTING)
    await harness.succeed(done)
    await harness.claim(unpriced, worst_case_pusd=None)
    assert (await harness.summary()).reserved_pusd == 111


async def test_unknown_costs_have_an_upper_bound_and_are_not_summed_as_zero(harness: Harness) -> None:
    known, bounded, unbounded = await harness.add(3)
    await harness.succeed(known)
    await harness.succeed(bounded, charge=an_unknown_charge(700))
    await harness.succeed(unbounded, charge=an_unknown_charge(None))
    summary = await harness.summary()
    assert (summary.cost_pusd, summary.cost_unknown, summary.cost_unknown_bound) == (1_000, 2, Bound(700, 1))
    assert summary.cost_unknown_upper_bound_pusd is None
    [total] = await harness.reader.costs(harness.run.id, [])
    assert total.unknown_bound == Bound(700, 1)
    results = await harness.results()
    assert [(each.cost_pusd, each.upper_bound_pusd) for each in results] == [(1_000, None), (None, 700), (None, None)]
    assert [each.usage for each in results] == [USAGE, None, None]


async def test_an_open_request_may_cost_its_worst_case(harness: Harness) -> None:
    [request] = await harness.add(1)
    await harness.retry(request, charge=a_charge(30))
    await harness.submit(request)
    record = await result_of(harness, "row-0")
    assert (record.cost_pusd, record.upper_bound_pusd) == (None, 5_030)


async def test_a_retried_request_costs_the_sum_of_its_attempts(harness: Harness) -> None:
    request, other = await harness.add(2)
    await harness.retry(request, charge=a_charge(30))
    await harness.retry(request, charge=None)
    await harness.succeed(request, charge=a_charge(4))
    await harness.succeed(other, charge=a_charge(500))
    record = await result_of(harness, "row-0")
    assert (record.attempts, record.cost_pusd, record.usage) == (3, 34, USAGE + USAGE)
    summary = await harness.summary()
    assert (summary.attempts, summary.cost_pusd) == (4, 534)


async def test_one_unknown_attempt_makes_the_whole_request_unknown(harness: Harness) -> None:
    request, other = await harness.add(2)
    await harness.retry(request, charge=an_unknown_charge(600))
    await harness.succeed(request, charge=a_charge(50))
    await harness.retry(other, charge=an_unknown_charge(None))
    await harness.succeed(other, charge=an_unknown_charge(8))
    first, second = await harness.results()
    assert (first.cost_pusd, first.upper_bound_pusd) == (None, 650)
    assert (second.cost_pusd, second.upper_bound_pusd) == (None, None)


async def test_a_lost_reply_that_is_sent_again_is_a_possible_duplicate_of_unknown_cost(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.claim(request)
    again = {"from_state": State.SUBMITTING, "possible_duplicate": True, "charge": an_unknown_charge(5_000)}
    await harness.end(request, attempt_id, State.PENDING, **again)
    await harness.succeed(request, charge=a_charge(50))
    summary = await harness.summary()
    assert (summary.possible_duplicates, summary.possible_duplicates_upper_bound_pusd) == (1, 5_000)
    assert (summary.cost_pusd, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (50, 1, 5_000)
    record = await result_of(harness, "row-0")
    assert (record.cost_pusd, record.upper_bound_pusd, record.possible_duplicates) == (None, 5_050, 1)


async def test_a_known_cost_needs_a_response_id(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.claim(request)
    with pytest.raises(ValueError, match="needs a response id"):
        await harness.end(request, attempt_id, State.FAILED, from_state=State.SUBMITTING, charge=a_charge())
    assert await harness.states() == {State.SUBMITTING: 1}


async def test_a_response_that_several_attempts_of_a_request_hold_is_charged_once(harness: Harness) -> None:
    [request] = await harness.add(1)
    first = await harness.submit(request, response_id="resp_replayed")
    await harness.end(request, first, State.PENDING, charge=an_unknown_charge(700))
    again = await harness.submit(request, number=2, response_id="resp_replayed")
    await harness.end(request, again, State.SUCCEEDED)
    summary = await harness.summary()
    assert (summary.requests[State.SUCCEEDED], summary.cost_pusd, summary.cost_unknown) == (1, 0, 1)
    assert await harness.reader.holder("resp_replayed") == first
    assert not await harness.store.late_charge(again, a_charge(), "completed", None)


async def test_a_response_of_another_request_is_not_accepted(harness: Harness) -> None:
    first, second = await harness.add(2)
    held = await harness.submit(first, response_id="resp_1")
    attempt_id = await harness.claim(second)
    assert not await harness.accept(second, attempt_id, response_id="resp_1")
    assert await harness.states() == {State.SUBMITTED: 1, State.SUBMITTING: 1}
    assert await harness.reader.holder("resp_1") == held
    assert await harness.reader.holder("resp_2") is None
    unknown = an_unknown_charge(700)
    assert await harness.end(second, attempt_id, State.FAILED, from_state=State.SUBMITTING, charge=unknown)
    await harness.end(first, held, State.SUCCEEDED)
    summary = await harness.summary()
    assert (summary.cost_pusd, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (1_000, 1, 700)


async def test_an_adopted_response_is_shared_and_charged_once(harness: Harness) -> None:
    first, second = await harness.add(2)
    await harness.end(first, await harness.submit(first, response_id="resp_1"), State.SUCCEEDED)
    attempt_id = await harness.claim(second)
    acceptance = Acceptance(
        request_id=second.id, attempt_id=attempt_id, response_id="resp_1", status="queued", at=NOW, adopted=True
    )
    assert await harness.store.accept(acceptance)
    await harness.end(second, attempt_id, State.SUCCEEDED)
    assert [record.cost_pusd for record in await harness.results()] == [1_000, 0]


async def test_another_process_ends_what_this_one_submitted(harness: Harness, backend: Backend) -> None:
    [request] = await harness.add(1)
    await harness.end(request, await harness.submit(request, response_id="resp_replayed"), State.PENDING)
    attempt_id = await harness.submit(request, number=2, response_id="resp_replayed")
    body = b'{"id":"resp_replayed","output":[{"text":"An answer."}]}'
    async with backend.open_store() as store:
        later = replace(harness, store=store)
        assert await later.end(request, attempt_id, State.SUCCEEDED, body=body)
    summary = await harness.summary()
    assert (summary.requests[State.SUCCEEDED], summary.reserved_pusd) == (1, 0)
    attempt = (await harness.reader.attempts(request.id))[-1]
    assert (attempt.body, attempt.charge) == (body, None)


# ── late charges ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_late_charge_makes_an_unknown_cost_known(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    await harness.end(request, attempt_id, State.CANCELLED, status="cancelled", charge=an_unknown_charge(700))
    body = b'{"status": "completed"}'
    assert await harness.store.late_charge(attempt_id, a_charge(30), "completed", body)
    assert not await harness.store.late_charge(attempt_id, a_charge(31), "completed", None)
    summary = await harness.summary()
    assert (summary.cost_pusd, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (30, 0, 0)
    assert summary.usage == USAGE
    [attempt] = await harness.reader.attempts(request.id)
    assert (attempt.status, attempt.charge, attempt.body) == ("completed", a_charge(30), body)
    assert await spent_on(harness, NOW + 10) == (30, 30)


async def test_a_late_charge_of_unknown_cost_can_lower_the_bound(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    await harness.end(request, attempt_id, State.CANCELLED, charge=an_unknown_charge(700))
    assert await harness.store.late_charge(attempt_id, an_unknown_charge(200), "cancelled", None)
    summary = await harness.summary()
    assert (summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (1, 200)


async def test_a_late_charge_replaces_the_body_beside_the_text(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.succeed(request, charge=an_unknown_charge(700))
    assert await harness.store.late_charge(attempt_id, a_charge(), "completed", b'{"usage": {}}')
    [attempt] = await harness.reader.attempts(request.id)
    assert (attempt.output_text, attempt.body) == ("An answer.", b'{"usage": {}}')


async def test_a_late_charge_can_be_the_first(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.fail(request, code="response_expired")
    assert await harness.store.late_charge(attempt_id, a_charge(30), "completed", None)
    assert (await harness.summary()).cost_pusd == 30
    assert await spent_on(harness, NOW + 10) == (30, 30)
    assert not await harness.store.late_charge(99_999, a_charge(30), "completed", None)


async def test_given_up_attempts_of_unknown_cost_are_found_until_it_is_known(harness: Harness) -> None:
    timed_out, queued, refused, done = await harness.add(4)
    attempts = [
        await harness.fail(request, code=code, charge=an_unknown_charge(700))
        for request, code in ((timed_out, "run_timeout"), (queued, "queued_timeout"), (refused, "refusal"))
    ]
    await harness.succeed(done)
    found = await harness.reader.uncosted(harness.run.id, limit=9)
    assert [each.attempt_id for each in found] == [attempts[1], attempts[0]]
    assert await harness.reader.uncosted(harness.run.id, limit=1) == found[:1]
    assert (found[0].response_id, found[0].model) == (f"resp_{attempts[1]}", "gpt-5-mini")
    assert (found[0].sent_at, found[0].upper_bound_pusd) == (NOW, 700)
    await harness.store.late_charge(attempts[1], a_charge(), "completed", None)
    assert await harness.reader.uncosted(harness.run.id, limit=9) == found[1:]


# ── sums ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_costs_are_summed_by_any_grouping(harness: Harness) -> None:
    first, second, third = await harness.add(3)
    await harness.succeed(first, charge=a_charge(1), model="gpt-5", service_tier="flex", at=NOW)
    await harness.succeed(second, charge=a_charge(20), model="gpt-5", service_tier="default", at=NOW + DAY)
    await harness.fail(third, charge=an_unknown_charge(9), at=NOW, model="gpt-5-mini")
    other = replace(harness, run=await harness.store.create_run(a_run("other")))
    [request] = await other.add(1)
    await other.succeed(request, charge=a_charge(300), model="gpt-5", service_tier="flex", at=NOW)

    async def costs(run_id: int | None, *by: str) -> dict[tuple[str, ...], tuple[int, int, int, int]]:
        found = await harness.reader.costs(run_id, by)
        return {
            row.group: (row.responses, row.cost_pusd, row.cost_unknown, row.unknown_bound.bounded_pusd)
            for row in found
        }

    assert await costs(harness.run.id) == {(): (3, 21, 1, 9)}
    assert await costs(None) == {(): (4, 321, 1, 9)}
    assert await costs(None, "run") == {("demo",): (3, 21, 1, 9), ("other",): (1, 300, 0, 0)}
    assert await costs(harness.run.id, "model") == {("gpt-5",): (2, 21, 0, 0), ("gpt-5-mini",): (1, 0, 1, 9)}
    assert await costs(harness.run.id, "state", "tier") == {
        ("failed", "unknown"): (1, 0, 1, 9),
        ("succeeded", "default"): (1, 20, 0, 0),
        ("succeeded", "flex"): (1, 1, 0, 0),
    }
    assert await costs(harness.run.id, "day") == {("2026-09-21",): (2, 1, 1, 9), ("2026-09-22",): (1, 20, 0, 0)}
    assert await costs(other.run.id, "stage") == {("main",): (1, 300, 0, 0)}
    [total] = await harness.reader.costs(None, [])
    assert total.usage == USAGE + USAGE + USAGE


async def test_each_attempt_keeps_its_lane(harness: Harness) -> None:
    held, batched = await harness.add(2)
    await harness.end(held, await harness.submit(held, lane=Lane.SYNC), State.SUCCEEDED, charge=a_charge(10))
    # Its first attempt came to nothing in one lane, and its second succeeds in another.
    lost = await harness.submit(batched, lane=Lane.WINDOW_8H)
    [attempt] = [each for each in await harness.reader.open_attempts(harness.run.id) if each.attempt_id == lost]
    assert attempt.lane is Lane.WINDOW_8H
    await harness.end(batched, lost, State.PENDING, charge=a_charge(200))
    await harness.succeed(batched, charge=a_charge(3_000))
    rows = await harness.reader.costs(harness.run.id, by=["lane"])
    assert {row.group: row.cost_pusd for row in rows} == {("sync",): 10, ("window-8h",): 200, ("background",): 3_000}
    assert [each.lane for each in await harness.reader.attempts(batched.id)] == [Lane.WINDOW_8H, Lane.BACKGROUND]
    assert [each.lane for each in await harness.results()] == [Lane.SYNC, Lane.BACKGROUND]


async def test_costs_are_summed_by_the_users_own_metadata(harness: Harness) -> None:
    pairs = ['{"customer": "a", "a.b": "1"}', '{"customer": "b"}', None, '{"customer": "a"}']
    for request, metadata, cost in zip(await harness.add(4), pairs, (1, 20, 300, 4_000), strict=True):
        attempt_id = await harness.submit(request, metadata=metadata)
        await harness.end(request, attempt_id, State.SUCCEEDED, charge=a_charge(cost))

    async def costs(*by: str) -> dict[tuple[str, ...], int]:
        return {row.group: row.cost_pusd for row in await harness.reader.costs(None, by)}

    assert await costs("metadata.customer") == {("a",): 4_001, ("b",): 20, ("(none)",): 300}
    assert await costs("metadata.a.b", "run", "metadata.customer") == {
        ("1", "demo", "a"): 1,
        ("(none)", "demo", "a"): 4_000,
        ("(none)", "demo", "b"): 20,
        ("(none)", "demo", "(none)"): 300,
    }


async def test_the_cost_of_attempts_without_an_answer_is_wasted(harness: Harness) -> None:
    useful, cut, empty, refused, kept, lost = await harness.add(6)
    await harness.succeed(useful, charge=a_charge(1))
    await harness.fail(cut, status="incomplete", code="max_output_tokens", charge=a_charge(20))
    await harness.fail(empty, code="empty_output", charge=a_charge(300))
    await harness.fail(refused, code="refusal", charge=a_charge(4_000))
    await harness.succeed(kept, charge=a_charge(50_000), status="incomplete")
    again = {"code": "response_expired", "possible_duplicate": True, "charge": an_unknown_charge(5_000)}
    attempt_id = await harness.retry(lost, **again)
    [total] = await harness.reader.costs(harness.run.id, [])
    assert total.wasted == Wasted(failed=4_000, incomplete=20, empty=300)
    assert (total.cost_pusd, total.wasted.total) == (54_321, 4_320)
    assert (total.cost_unknown, total.unknown_bound.pusd) == (1, 5_000)
    assert (total.possible_duplicates, total.possible_duplicates_bound.pusd) == (1, 5_000)
    # A late poll finds that the lost one ran.
    assert await harness.store.late_charge(attempt_id, a_charge(7), "completed", None)
    [total] = await harness.reader.costs(harness.run.id, [])
    assert (total.wasted.duplicate, total.cost_unknown, total.unknown_bound.pusd) == (7, 0, 0)
    assert (total.possible_duplicates, total.possible_duplicates_bound.pusd) == (1, 0)
    summary = await harness.summary()
    assert (summary.possible_duplicates, summary.possible_duplicates_upper_bound_pusd) == (1, 0)


async def test_a_possible_duplicate_without_a_bound_is_counted_until_its_cost_is_found(harness: Harness) -> None:
    [lost] = await harness.add(1)
    again = {"code": "response_expired", "possible_duplicate": True, "charge": an_unknown_charge(None)}
    attempt_id = await harness.submit(lost, worst_case_pusd=None)
    assert await harness.end(lost, attempt_id, State.PENDING, **again)
    assert (await harness.summary()).possible_duplicates_bound == Bound(0, 1)
    [total] = await harness.reader.costs(harness.run.id, [])
    assert total.possible_duplicates_bound == Bound(0, 1)
    assert await harness.store.late_charge(attempt_id, a_charge(7), "completed", None)
    assert (await harness.summary()).possible_duplicates_bound == Bound()
    assert (await harness.summary()).cost_unknown_bound == Bound()


async def test_an_estimated_cost_is_summed_and_marked(harness: Harness) -> None:
    certain, guessed = await harness.add(2)
    await harness.succeed(certain)
    await harness.succeed(guessed, charge=a_charge(30, price=replace(PRICE, estimated=True)))
    assert ((await harness.summary()).cost_pusd, (await harness.summary()).cost_estimated_pusd) == (1_030, 30)
    [total] = await harness.reader.costs(harness.run.id, [])
    assert total.estimated_pusd == 30
    assert [each.cost_estimated for each in await harness.results()] == [False, True]


async def test_what_the_cache_saved_is_summed(harness: Harness) -> None:
    read, written = await harness.add(2)
    # 40 of 100 input tokens were read from the cache, 10 written: at prices of 250,000, 25,000 and, for writing, 0.
    await harness.succeed(read, charge=a_charge())
    expensive = replace(PRICE, cache_write=312_500)
    charge = a_charge(price=expensive, usage=Usage(100, 0, 80, 20, 5, 120))
    await harness.succeed(written, charge=charge, model="other")
    by_model = {row.group: row.cache_saved_pusd for row in await harness.reader.costs(None, ["model"])}
    assert by_model == {("gpt-5-mini",): 40 * 225_000 + 10 * 250_000, ("other",): -80 * 62_500}


async def test_simulated_costs_can_be_left_out(harness: Harness) -> None:
    [request] = await harness.add(1)
    await harness.succeed(request, charge=a_charge(1))
    simulated = replace(harness, run=await harness.store.create_run(a_run("sandbox", simulated=True)))
    [request] = await simulated.add(1)
    await simulated.succeed(request, charge=a_charge(20))
    assert [row.cost_pusd for row in await harness.reader.costs(None, [])] == [21]
    assert [row.cost_pusd for row in await harness.reader.costs(None, [], with_simulated=False)] == [1]


async def test_spending_is_summed_by_day_and_month(harness: Harness) -> None:
    times = [NOW, NOW + 9 * 3600, NOW + 10 * 3600, NOW + 10 * DAY]  # NOW is 21 September 2026, 14:13 UTC
    for request, at, cost in zip(await harness.add(4), times, (1, 20, 300, 4_000), strict=True):
        await harness.succeed(request, charge=an_unknown_charge(cost) if cost == 20 else a_charge(cost), at=at)
    spent = [await spent_on(harness, at) for at in (NOW - DAY, *times)]
    # What was charged after the time that is asked about counts in its month, too.
    assert spent == [(0, 4_321), (21, 4_321), (21, 4_321), (300, 4_321), (4_000, 4_000)]


async def test_past_use_sums_what_settled_requests_took(harness: Harness) -> None:
    retried, failed, open_, later = await harness.add(4)
    price = replace(PRICE, fee_web_search=1_000)
    await harness.retry(retried, charge=a_charge())
    await harness.succeed(retried, charge=a_charge(price=price, tool_use=ToolUse(web_searches=2)), at=NOW + 30)
    await harness.fail(failed, charge=an_unknown_charge(9))
    await harness.retry(open_, charge=a_charge())
    await harness.succeed(later)
    one = PastUse(
        requests=1, responses=2, input_tokens=200, cached_tokens=80, cache_write_tokens=20, output_tokens=40,
        output_squares=1_600, fees_pusd=2_000, seconds=40.0,
    )  # fmt: skip
    assert await harness.reader.past_use(harness.run.id, most=3) == one
    rest = PastUse(
        requests=1, responses=1, input_tokens=100, cached_tokens=40, cache_write_tokens=10, output_tokens=20,
        output_squares=400, seconds=10.0,
    )  # fmt: skip
    assert await harness.reader.past_use(harness.run.id, most=9) == one + rest
